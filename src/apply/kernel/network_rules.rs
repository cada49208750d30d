//! A network's static rules: written where its configuration has changed. What it had and does not want any more goes,
//! unless somebody else wants it: networks that share a bridge share its elements and its wall, whoever made them.

use std::collections::HashSet;

use nix::errno::Errno;

use crate::firewall::NetworkRules;
use crate::firewall::iptables::Family;
use crate::firewall::nft::{self, Element, Set};
use crate::model::{FirewallBackend, Network};
use crate::plan::{self, Firewall};
use crate::store::Deadline;

use super::firewall::refused;
use super::iptables::{Variant, is_installed};
use super::ruleset::Ruleset;
use super::{ApplyError, Cause, Kernel};

impl Kernel {
    /// Writes the static rules of a network as its record is going to say, anew where `old`, its record until now, has
    /// some there; what only the old ones had goes.
    ///
    /// # Errors
    /// Where the firewall refuses.
    pub fn write_network_rules(&mut self, old: Option<&Network>, new: &Network) -> Result<(), ApplyError> {
        let refused = |backend: FirewallBackend, cause| {
            ApplyError::new(format!("the {backend} rules of network {}", new.name), cause)
        };
        let is_in =
            |backend: FirewallBackend, network: &Network| !plan::written_on(network, backend).is_empty();
        let nftables = FirewallBackend::Nftables;
        if is_in(nftables, new) || old.is_some_and(|old| is_in(nftables, old)) {
            self.write_nftables_network(old, new).map_err(|cause| refused(nftables, cause))?;
        }
        let iptables = FirewallBackend::Iptables;
        // A network that has left iptables may have done so because its programs are not here any more.
        let was_there =
            old.is_some_and(|old| is_in(iptables, old)) && is_installed(Family::V4, Variant::Default);
        if is_in(iptables, new) || was_there {
            self.write_iptables_network(new).map_err(|cause| refused(iptables, cause))?;
        }
        Ok(())
    }

    /// Takes away what stays of a network when its rules have gone: its chains, and of these bridges the walls, and the
    /// exceptions among the rules of others.
    ///
    /// # Errors
    /// Where the firewall cannot be asked, or refuses.
    pub fn remove_network(&mut self, name: &str, bridges: &[String]) -> Result<(), ApplyError> {
        let chains = self.remove_network_chains(name, bridges);
        let all = chains.and_then(|()| bridges.iter().try_for_each(|bridge| self.retract_interface(bridge)));
        all.map_err(|cause| ApplyError::new(format!("what is left of network {name}"), cause))
    }

    fn remove_network_chains(&mut self, name: &str, bridges: &[String]) -> Result<(), Cause> {
        if !self.has_nftables()? {
            return Ok(());
        }
        for messages in nft::network_removing(name, bridges) {
            match self.nft()?.commit(&messages) {
                // It is not there, or what leads to it has no owner: that is for GC to find.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EBUSY) => {}
                outcome => outcome.map_err(|error| refused("delete a chain of the network", &error))?,
            }
        }
        Ok(())
    }

    /// The rules that an attachment stands behind, as last written: its network's, and where it was made on a bridge
    /// that the network has left, that bridge's after them.
    pub(super) fn rules_behind(&self, step: &Firewall) -> Result<Vec<NetworkRules>, Cause> {
        let Some(network) = self.state.network(&step.network.network)? else { return Ok(Vec::new()) };
        let mut rules = plan::written_on(&network, step.backend);
        let own = usize::from(network.backend == step.backend && plan::written(&network).is_some());
        let left = rules.split_off(own);
        rules.extend(left.into_iter().filter(|left| plan::is_behind(step, step.backend, left)));
        Ok(rules)
    }

    fn write_iptables_network(&mut self, new: &Network) -> Result<(), Cause> {
        let _lock = self.state.iptables_lock(Deadline::default())?;
        let wanted = self.ruleset_with(new)?;
        self.rebuild_iptables(&wanted, None)
    }

    fn write_nftables_network(&mut self, old: Option<&Network>, new: &Network) -> Result<(), Cause> {
        let backend = FirewallBackend::Nftables;
        let had = old.map(|old| plan::written_on(old, backend)).unwrap_or_default();
        if let Some(rules) = plan::written(new).filter(|_| new.backend == backend) {
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
        // Whichever network's name they carry.
        self.remove_present(&outdated, "delete the network's elements", |_, _| true)
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

    /// What the records of this host want, once a network's is this one.
    fn ruleset_with(&self, new: &Network) -> Result<Ruleset, Cause> {
        let (mut networks, _) = self.state.networks()?;
        networks.retain(|network| network.name != new.name);
        networks.push(new.clone());
        self.ruleset_of(&networks)
    }
}
