//! The ruleset from the records: after somebody flushed it, or where it was never there.

use nix::errno::Errno;

use crate::firewall::NetworkRules;
use crate::firewall::nft::{self, Element};
use crate::model::FirewallBackend;
use crate::plan::{self, Firewall, Plan, Step};
use crate::store::{Listed, Stage};

use super::firewall::{INET, refused};
use super::{Cause, Kernel};

impl Kernel {
    /// Writes base chains, every recorded network's chain and every ready attachment's elements, where they are
    /// missing.
    pub(super) fn rebuild_nftables(&mut self) -> Result<(), Cause> {
        let firewalls = self.recorded_firewalls(FirewallBackend::Nftables)?;
        for rules in self.networks_on(FirewallBackend::Nftables, &firewalls)? {
            self.make_nftables_base(&rules)?;
            let elements = nft::add(&nft::network_elements(&rules));
            let mut messages = nft::network(&rules);
            messages.extend(elements.clone());
            match self.nft()?.commit(&messages) {
                Err(error) if error.errno == Errno::EEXIST => {
                    let mut messages = elements;
                    let mut short = false;
                    for (chain, count) in nft::network_rule_counts(&rules) {
                        short |= self.rules_in(INET, &chain)? < count;
                    }
                    if short {
                        messages = nft::network_replacing(&rules);
                        messages.extend(nft::add(&nft::network_elements(&rules)));
                    }
                    self.nft()?.commit(&messages)
                }
                other => other,
            }
            .map_err(|error| refused("write a network's chain", &error))?;
        }
        let mut missing: Vec<Element> = Vec::new();
        for firewall in firewalls {
            for element in nft::attachment_elements(&firewall.network, &firewall.attachment) {
                if self.nft()?.get(&nft::get(&element)).map_err(Cause::from)?.is_none() {
                    missing.push(element);
                }
            }
        }
        self.make_beside(&missing)?;
        // Elements of one set next to each other: fewer messages.
        missing.sort_by_key(|element| element.set as u8);
        if missing.is_empty() {
            return Ok(());
        }
        self.nft()?
            .commit(&nft::add(&missing))
            .map_err(|error| refused("add the elements of the recorded attachments", &error))
    }

    /// The static rules of the networks on one backend. A plugin of a list may have asked for another backend than
    /// the one before it: what its attachments have there needs the network's rules as well.
    pub(super) fn networks_on(
        &self,
        backend: FirewallBackend,
        firewalls: &[Firewall],
    ) -> Result<Vec<NetworkRules>, Cause> {
        let (networks, _) = self.state.networks()?;
        let on_backend = networks.iter().filter(|network| network.backend == backend);
        let mut all: Vec<NetworkRules> = on_backend.filter_map(plan::written).collect();
        for firewall in firewalls {
            if !all.iter().any(|known| known.network == firewall.network.network) {
                all.push(firewall.network.clone());
            }
        }
        Ok(all)
    }

    /// How many rules a chain of ours has; none where it is not there.
    pub(super) fn rules_in(&mut self, family: u8, chain: &str) -> Result<usize, Cause> {
        let replies = self.nft()?.dump(&nft::dump_rules(family, nft::TABLE, chain))?;
        Ok(replies.iter().filter(|reply| nft::is_rule(reply)).count())
    }

    /// The static rules of all recorded networks on one backend.
    pub(super) fn recorded_networks(&self, backend: FirewallBackend) -> Result<Vec<NetworkRules>, Cause> {
        let (networks, _) = self.state.networks()?;
        let on = networks.into_iter().filter(|network| network.backend == backend);
        Ok(on.filter_map(|network| serde_json::from_value(network.rules).ok()).collect())
    }

    /// The firewall steps of all attachments that are ready, on one backend.
    pub(super) fn recorded_firewalls(&self, backend: FirewallBackend) -> Result<Vec<Firewall>, Cause> {
        let Listed { found, .. }: Listed<Plan> = self.state.all()?;
        let ready = found.into_iter().filter(|found| found.stage == Stage::Ready);
        let steps = ready.flat_map(|found| found.record.plan.steps);
        Ok(steps
            .filter_map(|step| match step {
                Step::Firewall(firewall) if firewall.backend == backend => Some(*firewall),
                _ => None,
            })
            .collect())
    }
}
