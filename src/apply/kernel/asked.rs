//! Tables of nf_tables as the kernel tells of them when a packet comes there.

use std::collections::HashMap;

use crate::firewall::nft::{self, ForeignRule, ForeignSet};
use crate::sys::SysError;
use crate::sys::nfnetlink::NftSocket;

/// A table of anybody's: chains and sets are asked for once, when a packet comes to them.
#[derive(Debug)]
pub struct Asked<'a> {
    nft: &'a mut NftSocket,
    family: u8,
    table: String,
    known: Known,
}

/// What was asked for of one table.
#[derive(Debug, Default)]
pub struct Known {
    rules: HashMap<String, Vec<ForeignRule>>,
    sets: HashMap<String, ForeignSet>,
}

impl<'a> Asked<'a> {
    /// A table of a family (`NFPROTO_*`).
    pub fn new(nft: &'a mut NftSocket, family: u8, table: &str) -> Self {
        Self::knowing(nft, family, table, Known::default())
    }

    /// The same, with what was asked for before.
    pub fn knowing(nft: &'a mut NftSocket, family: u8, table: &str, known: Known) -> Self {
        Self { nft, family, table: table.to_owned(), known }
    }

    /// What was asked for, for [`Asked::knowing`].
    pub fn into_known(self) -> Known {
        self.known
    }
}

impl nft::Table for Asked<'_> {
    type Error = SysError;

    fn rules(&mut self, chain: &str) -> Result<Vec<ForeignRule>, SysError> {
        if let Some(known) = self.known.rules.get(chain) {
            return Ok(known.clone());
        }
        let replies = self.nft.dump(&nft::dump_rules(self.family, &self.table, chain))?;
        let rules: Vec<ForeignRule> =
            replies.iter().filter_map(|reply| nft::parse_foreign_rule(reply)).collect();
        self.known.rules.insert(chain.to_owned(), rules.clone());
        Ok(rules)
    }

    fn set(&mut self, set: &str) -> Result<ForeignSet, SysError> {
        if let Some(known) = self.known.sets.get(set) {
            return Ok(known.clone());
        }
        let about = self.nft.get(&nft::about_set(self.family, &self.table, set))?;
        let replies = self.nft.dump(&nft::dump_foreign(self.family, &self.table, set))?;
        let found = ForeignSet::parse(about.as_deref(), &replies);
        self.known.sets.insert(set.to_owned(), found.clone());
        Ok(found)
    }
}
