//! Networks that another state directory keeps the records of: what has no record here may have one there.

use std::collections::HashSet;

use crate::firewall::nft;
use crate::model::names;
use crate::store::StoreError;
use crate::sys::rtnl::{self, Link};

use super::firewall::INET;
use super::iptables_gone::OrphanRules;
use super::{Cause, Kernel};

/// Whose orphans are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of a host whose networks are all recorded in this state directory.
    Recorded,
    /// All of them: records are lost, and somebody who knows has said so.
    Lost,
}

impl Kernel {
    /// Refuses where something on the host is a network's that has no record in this directory.
    pub(super) fn refuse_elsewhere(&mut self, links: &[Link], rules: &OrphanRules) -> Result<(), Cause> {
        let (recorded, broken) = self.state.networks()?;
        // A record that cannot be read is one.
        let unread = broken.iter().filter_map(|error| match error {
            StoreError::Broken { path, .. } => path.file_stem()?.to_str(),
            _ => None,
        });
        let names: HashSet<&str> = recorded.iter().map(|network| &*network.name).chain(unread).collect();
        let directory = self.state.root().display().to_string();
        let elsewhere = |what: String| Err(Cause::Elsewhere { what, directory: directory.clone() });
        if names.is_empty() {
            return elsewhere("no network at all".to_owned());
        }
        if let Some(network) = self.strange_chain(&names, rules)? {
            return elsewhere(format!("no network {network}"));
        }
        let mut bridges: HashSet<String> = names.iter().map(|name| names::bridge(name, 0)).collect();
        bridges.extend(recorded.into_iter().map(|network| network.bridge));
        match self.strange_bridge(&bridges, links)? {
            Some(bridge) => elsewhere(format!("no network on the bridge {bridge}")),
            None => Ok(()),
        }
    }

    /// The network of a chain of ours that none of these networks has.
    fn strange_chain(&mut self, names: &HashSet<&str>, rules: &OrphanRules) -> Result<Option<String>, Cause> {
        let replies = self.dump_nftables(&nft::dump_chains(INET))?;
        let ours = replies
            .iter()
            .filter_map(|reply| nft::parse_chain(INET, reply))
            .filter(|chain| chain.table == nft::TABLE);
        let known: HashSet<String> = names.iter().map(|name| names::chain(name)).collect();
        let mut chains = ours.map(|chain| chain.name).chain(rules.networks.iter().cloned());
        // The name of a long network is cut: so much of it as there is tells which.
        Ok(chains.find_map(|chain| {
            Some(chain.strip_prefix("net-").filter(|_| !known.contains(&chain))?.to_owned())
        }))
    }

    /// A bridge that one of these links is a port of, and none of the known.
    fn strange_bridge(&mut self, known: &HashSet<String>, links: &[Link]) -> Result<Option<String>, Cause> {
        for master in links.iter().filter_map(|link| link.master).collect::<HashSet<u32>>() {
            let bridge = rtnl::link_by_index(self.host()?, master)?;
            if let Some(bridge) = bridge.filter(|bridge| !known.contains(&bridge.name)) {
                return Ok(Some(bridge.name));
            }
        }
        Ok(None)
    }
}
