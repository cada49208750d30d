//! A network's static rules: written where its configuration has changed. What it had and does not want any more goes,
//! unless somebody else wants it: networks that share a bridge share its elements and its wall, whoever made them.

use std::collections::HashSet;

use nix::errno::Errno;

use crate::firewall::NetworkRules;
use crate::firewall::nft::{self, Element, Set};
use crate::model::{FirewallBackend, Network};
use crate::plan;
use crate::store::Deadline;

use super::firewall::refused;
use super::ruleset::Ruleset;
use super::{ApplyError, Cause, Kernel};

impl Kernel {
    /// Writes the static rules of a network as its record is going to say, anew where `old`, its record until now, has
    /// some there; what only the old ones had goes.
    ///
    /// # Errors
    /// Where the firewall refuses.
    pub fn write_network_rules(&mut self, old: Option<&Network>, new: &Network) -> Result<(), ApplyError> {
        let outcome = match new.backend {
            FirewallBackend::Iptables => self.write_iptables_network(new),
            FirewallBackend::Nftables => self.write_nftables_network(old, new),
        };
        let what = || format!("the {} rules of network {}", new.backend, new.name);
        outcome.map_err(|cause| ApplyError::new(what(), cause))
    }

    fn write_iptables_network(&mut self, new: &Network) -> Result<(), Cause> {
        let _lock = self.state.iptables_lock(Deadline::default())?;
        let wanted = self.ruleset_with(new)?;
        self.rebuild_iptables(&wanted, None)
    }

    fn write_nftables_network(&mut self, old: Option<&Network>, new: &Network) -> Result<(), Cause> {
        let had = old.map(|old| on_nftables(old)).unwrap_or_default();
        if let Some(rules) = plan::written(new) {
            self.write_nftables_chains(!had.is_empty(), &rules)?;
        }
        if had.is_empty() {
            return Ok(());
        }
        let wanted = self.ruleset_with(new)?;
        self.keep_walls(&had, new, &wanted)?;
        let elements = wanted.elements();
        let kept: HashSet<(Set, &[u8])> = elements.iter().map(|e| (e.set, e.key.as_slice())).collect();
        let outdated: Vec<Element> = had
            .iter()
            .flat_map(nft::network_elements)
            .filter(|element| !kept.contains(&(element.set, &element.key)))
            .collect();
        self.remove_shared_elements(&outdated)
    }

    fn write_nftables_chains(&mut self, is_there: bool, rules: &NetworkRules) -> Result<(), Cause> {
        self.make_nftables_base(rules)?;
        let wanted = nft::network_elements(rules);
        let mut messages = if is_there { nft::network_replacing(rules) } else { nft::network(rules) };
        messages.extend(nft::add(&wanted));
        match self.nft()?.commit(&messages) {
            Ok(()) => Ok(()),
            // Left by an earlier life of this network, whose record is gone.
            Err(error) if error.errno == Errno::EEXIST => {
                let mut messages = nft::network_replacing(rules);
                messages.extend(nft::add(&wanted));
                let outcome = self.nft()?.commit(&messages);
                outcome.map_err(|error| refused("write the network's chain", &error))
            }
            Err(error) => Err(refused("write the network's chain", &error)),
        }
    }

    /// A wall whose chain said what a network wants that has none there any more says what is wanted by those who
    /// still have it.
    fn keep_walls(&mut self, had: &[NetworkRules], new: &Network, wanted: &Ruleset) -> Result<(), Cause> {
        for old in had.iter().filter(|old| old.isolation.is_walled()) {
            let mut heirs = wanted
                .networks
                .iter()
                .filter(|rules| rules.bridge == old.bridge && rules.isolation.is_walled());
            // Where the network itself has it still, it is as it was, or has just been written.
            let Some(heir) = heirs.next() else { continue };
            if heir.network == new.name || heirs.any(|heir| heir.network == new.name) {
                continue;
            }
            let outcome = self.nft()?.commit(&nft::wall_replacing(heir));
            outcome.map_err(|error| refused("write a shared wall", &error))?;
        }
        Ok(())
    }

    /// Deletes elements that nobody wants any more, whichever network's name they carry.
    fn remove_shared_elements(&mut self, elements: &[Element]) -> Result<(), Cause> {
        let mut present = Vec::new();
        for element in elements {
            if self.nft()?.get(&nft::get(element))?.is_some() {
                present.push(element.clone());
            }
        }
        if present.is_empty() {
            return Ok(());
        }
        let outcome = self.nft()?.commit(&nft::remove(&present));
        outcome.map_err(|error| refused("delete the network's elements", &error))
    }

    /// What the records of this host want, once a network's is this one.
    fn ruleset_with(&self, new: &Network) -> Result<Ruleset, Cause> {
        let (mut networks, _) = self.state.networks()?;
        networks.retain(|network| network.name != new.name);
        networks.push(new.clone());
        self.ruleset_of(&networks)
    }
}

/// What a network has there.
fn on_nftables(network: &Network) -> Vec<NetworkRules> {
    let current = plan::written(network).filter(|_| network.backend == FirewallBackend::Nftables);
    current.into_iter().collect()
}
