//! The static ruleset as the records want it, chain by chain, to be compared with what is there and put back.

use crate::firewall::NetworkRules;
use crate::model::attributes::find;
use crate::model::nft::NftMessage;

use super::base::{self, ADMIN, flush_chain, plain_chain};
use super::statement::Statements;
use super::uapi::{BRIDGE, CREATE, INET, table};
use super::{guard, network};

/// A chain of linkspan's tables, with the rules in it that are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticChain {
    /// Its table's family (`NFPROTO_*`).
    pub family: u8,
    /// Its name.
    pub name: String,
    /// Whether somebody else writes its rules: it is made where it is missing, and never emptied.
    pub of_administrator: bool,
    rules: Vec<NftMessage>,
}

impl StaticChain {
    fn new(family: u8, name: &str, rules: Vec<Statements>) -> Self {
        let rules = rules.into_iter().map(|rule| rule.append(family, name)).collect();
        Self { family, name: name.to_owned(), of_administrator: false, rules }
    }

    /// How many rules it has when nobody has touched it.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Makes it where it is missing. Base chains are [`table_foundation`]'s, and need it not.
    pub fn make(&self) -> NftMessage {
        plain_chain(self.family, &self.name, CREATE)
    }

    /// Its rules anew, in the place of what it holds. In one transaction no packet sees it empty.
    pub fn refill(&self) -> Vec<NftMessage> {
        if self.of_administrator {
            return Vec::new();
        }
        let mut messages = vec![flush_chain(self.family, &self.name)];
        messages.extend(self.rules.iter().cloned());
        messages
    }
}

/// What is made only where some attachment needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// The table `bridge linkspan` (see [`super::guard_base`]).
    pub guards: bool,
    /// The maps of shifted ranges of ports and their rules (see [`super::shift_base`]).
    pub shifts: bool,
}

/// Every chain that networks with these rules need.
pub fn static_chains(networks: &[NetworkRules], beside: Beside) -> Vec<StaticChain> {
    let mut chains: Vec<StaticChain> = Vec::new();
    if !networks.is_empty() {
        by_name(&mut chains, INET, base::rules());
        if beside.shifts {
            by_name(&mut chains, INET, base::shift_rules());
        }
        let mut admins: Vec<&str> = networks.iter().map(|rules| rules.admin_chain.as_str()).collect();
        admins.sort_unstable();
        admins.dedup();
        chains.extend(admins.iter().map(|admin| StaticChain {
            of_administrator: true,
            ..StaticChain::new(INET, admin, Vec::new())
        }));
        for (name, rules) in networks.iter().flat_map(network::chains) {
            // Networks that share a bridge share its wall.
            if !chains.iter().any(|chain| chain.name == name) {
                chains.push(StaticChain::new(INET, &name, rules));
            }
        }
        let jumps = admins.into_iter().map(base::jump_to).collect();
        chains.push(StaticChain::new(INET, ADMIN, jumps));
        chains.push(StaticChain::new(INET, layout(INET), Vec::new()));
    }
    if beside.guards {
        by_name(&mut chains, BRIDGE, guard::rules());
        chains.push(StaticChain::new(BRIDGE, layout(BRIDGE), Vec::new()));
    }
    chains
}

/// The chain whose name says which release wrote a table's rules: where it is missing, all of them are to be written.
pub fn layout(family: u8) -> &'static str {
    if family == BRIDGE { guard::LAYOUT } else { base::LAYOUT }
}

fn by_name(chains: &mut Vec<StaticChain>, family: u8, rules: Vec<(&'static str, Statements)>) {
    for (name, rule) in rules {
        match chains.iter_mut().find(|chain| chain.family == family && chain.name == name) {
            Some(chain) => chain.rules.push(rule.append(family, name)),
            None => chains.push(StaticChain::new(family, name, vec![rule])),
        }
    }
}

/// The table of a family (`NFPROTO_INET`, `NFPROTO_BRIDGE`) with its sets and base chains, where they are missing.
pub fn table_foundation(family: u8, beside: Beside) -> Vec<NftMessage> {
    if family == BRIDGE {
        return guard::foundation();
    }
    let mut messages = base::foundation();
    if beside.shifts {
        messages.extend(base::shift_sets());
    }
    messages
}

/// Whether a reply to [`super::probe_table`] tells of a table that is switched off (`NFT_TABLE_F_DORMANT`).
pub fn is_dormant(attributes: &[u8]) -> bool {
    has_flag(attributes, 1)
}

/// Whether it tells of a table that a process has for itself (`NFT_TABLE_F_OWNER`).
pub fn is_owned(attributes: &[u8]) -> bool {
    has_flag(attributes, 2)
}

fn has_flag(attributes: &[u8], flag: u32) -> bool {
    let flags = find(attributes, table::FLAGS).and_then(|flags| <[u8; 4]>::try_from(flags).ok());
    flags.is_some_and(|flags| u32::from_be_bytes(flags) & flag != 0)
}

/// Reads one reply to [`super::dump_tables`]: the name of a table that sleeps.
pub fn dormant_table(attributes: &[u8]) -> Option<String> {
    let name = find(attributes, table::NAME).filter(|_| is_dormant(attributes))?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Some(String::from_utf8_lossy(&name[..end]).into_owned())
}
