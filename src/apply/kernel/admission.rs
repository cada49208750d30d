//! Foreign chains that drop what is forwarded.
//!
//! A verdict of our own table cannot overrule another's drop. Where that is the FORWARD chain of iptables, whose
//! policy Docker and administrators set to DROP, the host offers a place for exceptions: `DOCKER-USER`, else the
//! chain's own head. The exception is written once a network, and only where it is needed; any other chain is told of
//! by STATUS.

use crate::firewall::iptables::{self, Family, LegacyFilter};
use crate::firewall::{NetworkRules, nft};
use crate::model::{FirewallBackend, Network};
use crate::plan::Firewall;
use crate::sys::xtables;

use super::chains::Chains;
use super::iptables::{Variant, is_installed, restore, save};
use super::ruleset::Ruleset;
use super::{ApplyError, Cause, Drift, Kernel};

/// The chain of our exceptions, and where it is.
pub(super) const ADMIT: &str = "LINKSPAN-ADMIT";
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const NF_FAMILIES: [(Family, u8); 2] = [(Family::V4, 2), (Family::V6, 10)];

impl Kernel {
    /// Lets a network through the FORWARD chain of iptables-nft where that drops. No process in the usual case.
    pub(super) fn admit_through_drop(&mut self, rules: &NetworkRules, chains: &Chains) -> Result<(), Cause> {
        // Nothing enters or leaves an internal network.
        if rules.internal {
            return Ok(());
        }
        for ((family, number), (forward, admit)) in NF_FAMILIES.into_iter().zip(&chains.forward) {
            let drops = forward.as_ref().is_some_and(nft::Chain::drops_forwarded);
            // Made because of a rule that rejects, and flushed since; that rule is not looked for again.
            let is_lost = admit.as_ref().is_some_and(|chain| chain.uses <= 2);
            if !drops && !is_lost {
                continue;
            }
            let mut network = self.state.network(&rules.network)?;
            let recorded = network.as_ref().is_some_and(|network| network.admitted.contains(&number));
            if !drops && !recorded {
                continue;
            }
            // Two rules for a network, and the jump to them.
            if recorded && admit.as_ref().is_some_and(|chain| chain.uses > 2) {
                continue;
            }
            Self::admit_by_iptables(family, Variant::Nft, rules)?;
            if let Some(network) = &mut network
                && !recorded
            {
                network.admitted.push(number);
                self.state.put_network(network)?;
            }
        }
        Ok(())
    }

    /// Lets a network whose rules have just been written through the FORWARD chains of iptables-nft that accept by
    /// their policy and reject by a rule, as the default ruleset of Red Hat's `iptables-services` does. Gives the
    /// families (`NFPROTO_*`) of which that was needed.
    ///
    /// # Errors
    /// Where the kernel cannot be asked, or iptables refuses.
    pub fn admit_past_rules(&mut self, rules: &NetworkRules) -> Result<Vec<u8>, ApplyError> {
        let outcome = self.admit_where_rules_reject(rules);
        outcome
            .map_err(|cause| ApplyError::new(format!("the exception for network {}", rules.network), cause))
    }

    fn admit_where_rules_reject(&mut self, rules: &NetworkRules) -> Result<Vec<u8>, Cause> {
        let mut admitted = Vec::new();
        if rules.internal || rules.bridge.is_empty() {
            return Ok(admitted);
        }
        let chains = self.look_at_chains(&[])?;
        for ((family, number), (forward, _)) in NF_FAMILIES.into_iter().zip(&chains.forward) {
            let Some(forward) = forward.as_ref().filter(|forward| has_rules_and_accepts(forward)) else {
                continue;
            };
            if self.rejects_forwarded(forward, &rules.bridge)? {
                Self::admit_by_iptables(family, Variant::Nft, rules)?;
                admitted.push(number);
            }
        }
        Ok(admitted)
    }

    /// The same for legacy iptables, of which nf_tables knows nothing, for the families of an attachment.
    pub(super) fn admit_through_legacy_drop(&mut self, step: &Firewall) -> Result<(), Cause> {
        let network = &step.network;
        if network.internal {
            return Ok(());
        }
        for family in Family::BOTH {
            if has_family(step, family)
                && self.uses_legacy(family == Family::V6, "filter")?
                && legacy_drops(family, &network.bridge)?
            {
                Self::admit_by_iptables(family, Variant::Legacy, network)?;
            }
        }
        Ok(())
    }

    /// Says which networks, and which interfaces without a bridge, a FORWARD chain of iptables that drops has lost its
    /// exception for, and with `repair` makes it again. No process where nothing is missing, and none where nothing
    /// drops.
    pub(super) fn mend_admissions(
        &mut self,
        networks: &[Network],
        wanted: &Ruleset,
        repair: bool,
    ) -> Result<Vec<Drift>, Cause> {
        let mut drifts = Vec::new();
        if wanted.networks.is_empty() {
            return Ok(drifts);
        }
        let chains = self.look_at_chains(&[])?;
        for ((family, number), (forward, _)) in NF_FAMILIES.into_iter().zip(&chains.forward) {
            let Some(forward) = forward.as_ref().filter(|f| f.drops_forwarded() || has_rules_and_accepts(f))
            else {
                continue;
            };
            let is_admitted = |rules: &&NetworkRules| {
                networks.iter().any(|n| n.name == rules.network && n.admitted.contains(&number))
                    || wanted.firewalls.iter().any(|step| step.admit && step.network.network == rules.network)
            };
            // Nothing enters or leaves an internal network.
            let bridges = wanted.networks.iter().filter(|rules| !rules.internal && !rules.bridge.is_empty());
            let mut admitted: Vec<NetworkRules> = bridges.filter(is_admitted).cloned().collect();
            admitted.extend(wanted.firewalls.iter().filter_map(interface_exception));
            // Networks and parts that share an interface share its exception.
            admitted.sort_by(|a, b| a.bridge.cmp(&b.bridge));
            admitted.dedup_by(|a, b| a.bridge == b.bridge);
            if admitted.is_empty()
                || forward.drops_forwarded() && self.has_exceptions(number, admitted.len())?
            {
                continue;
            }
            for rules in &admitted {
                if forward.drops_forwarded() || self.rejects_forwarded(forward, &rules.bridge)? {
                    Self::mend_admission(family, Variant::Nft, rules, repair, &mut drifts)?;
                    if repair {
                        self.remember_admission(&rules.network, number)?;
                    }
                }
            }
        }
        for family in Family::BOTH {
            let mut ways: Vec<NetworkRules> = Vec::new();
            for firewall in &wanted.firewalls {
                let Some(rules) = legacy_exception(firewall, family) else { continue };
                if !ways.iter().any(|known| known.bridge == rules.bridge) {
                    ways.push(rules);
                }
            }
            for rules in &ways {
                if legacy_drops(family, &rules.bridge)? {
                    Self::mend_admission(family, Variant::Legacy, rules, repair, &mut drifts)?;
                }
            }
        }
        Ok(drifts)
    }

    /// Writes down that a network has its exception, so that an ADD need not look for it.
    fn remember_admission(&self, network: &str, family: u8) -> Result<(), Cause> {
        if let Some(mut network) = self.state.network(network)?
            && !network.bridge.is_empty()
            && !network.admitted.contains(&family)
        {
            network.admitted.push(family);
            self.state.put_network(&network)?;
        }
        Ok(())
    }

    fn mend_admission(
        family: Family,
        variant: Variant,
        rules: &NetworkRules,
        repair: bool,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        if Self::lacks_admission(family, variant, rules)? {
            drifts.push(Drift::missing(format!(
                "exception for {} in FORWARD of {family} ({variant})",
                rules.bridge
            )));
            if repair {
                Self::admit_by_iptables(family, variant, rules)?;
            }
        }
        Ok(())
    }

    /// Whether the chain of our exceptions has rules for so many networks, and something of the table jumps to it.
    fn has_exceptions(&mut self, family: u8, networks: usize) -> Result<bool, Cause> {
        let mut count = |chain: &str, filter: &dyn Fn(&[u8]) -> bool| -> Result<usize, Cause> {
            let replies = self.nft()?.dump(&nft::dump_rules(family, "filter", chain))?;
            Ok(replies.iter().filter(|reply| nft::is_rule(reply) && filter(reply)).count())
        };
        // The name of the chain that a rule jumps to stands in it as it is.
        let to_ours = |reply: &[u8]| reply.windows(ADMIT.len()).any(|window| window == ADMIT.as_bytes());
        if count(ADMIT, &|_| true)? < 2 * networks {
            return Ok(false);
        }
        Ok(count("DOCKER-USER", &to_ours)? + count("FORWARD", &to_ours)? > 0)
    }

    /// Lets one container's host interface through, where it has no bridge: of either iptables that drops.
    pub(super) fn admit_interface(&mut self, network: &NetworkRules, interface: &str) -> Result<(), Cause> {
        if interface.is_empty() {
            return Ok(());
        }
        let rules = by_interface(network, interface);
        for (family, number) in NF_FAMILIES {
            let forward =
                self.ask_chain(number, "FORWARD")?.and_then(|reply| nft::parse_chain(number, &reply));
            let Some(forward) = forward else { continue };
            let rejects = has_rules_and_accepts(&forward) && self.rejects_forwarded(&forward, interface)?;
            if forward.drops_forwarded() || rejects {
                Self::admit_by_iptables(family, Variant::Nft, &rules)?;
            }
        }
        for family in Family::BOTH {
            if legacy_drops(family, interface)? {
                Self::admit_by_iptables(family, Variant::Legacy, &rules)?;
            }
        }
        Ok(())
    }

    /// Takes that back: unlike a bridge, the interface goes with its container.
    pub(super) fn retract_interface(&mut self, interface: &str) -> Result<(), Cause> {
        if interface.is_empty() {
            return Ok(());
        }
        let mut places = Vec::new();
        for (family, number) in NF_FAMILIES {
            if self.ask_chain(number, ADMIT)?.is_some() {
                places.push((family, Variant::Nft));
            }
        }
        for family in Family::BOTH {
            if self.uses_legacy(family == Family::V6, "filter")? {
                places.push((family, Variant::Legacy));
            }
        }
        // Who is not installed has made no exception either.
        for (family, variant) in
            places.into_iter().filter(|(family, variant)| is_installed(*family, *variant))
        {
            if let Some(text) = iptables::retraction(&save(family, variant)?, interface) {
                restore(family, variant, &text)?;
            }
        }
        Ok(())
    }

    fn ask_chain(&mut self, family: u8, chain: &str) -> Result<Option<Vec<u8>>, Cause> {
        Ok(self.nft()?.get(&nft::chain_policy(family, "filter", chain))?)
    }
}

/// Whether a chain lets pass what none of its rules stops, and has some that may.
fn has_rules_and_accepts(forward: &nft::Chain) -> bool {
    forward.uses > 0 && forward.sees_forwarded() && !forward.drops_forwarded()
}

/// A part of the face `firewall` names no address: its network's are of either family.
fn has_family(step: &Firewall, family: Family) -> bool {
    let addresses = &step.attachment.addresses;
    addresses.is_empty() || addresses.iter().any(|address| address.is_ipv4() == (family == Family::V4))
}

/// What is let through where one container has an interface of the host to itself.
fn by_interface(network: &NetworkRules, interface: &str) -> NetworkRules {
    NetworkRules { bridge: interface.to_owned(), ..network.clone() }
}

/// That of an attachment without a bridge; `None` of all others.
fn interface_exception(step: &Firewall) -> Option<NetworkRules> {
    let interface = &step.attachment.host_interface;
    let own = step.backend == FirewallBackend::Nftables
        && step.admit
        && step.network.bridge.is_empty()
        && !interface.is_empty();
    own.then(|| by_interface(&step.network, interface))
}

/// What an attachment may need to be let through legacy iptables.
fn legacy_exception(step: &Firewall, family: Family) -> Option<NetworkRules> {
    let network = &step.network;
    let by_bridge = step.backend == FirewallBackend::Nftables
        && step.admit
        && !network.bridge.is_empty()
        && !network.internal
        && has_family(step, family);
    if by_bridge { Some(network.clone()) } else { interface_exception(step) }
}

/// Whether the FORWARD chain of legacy iptables drops what this bridge forwards.
pub(super) fn legacy_drops(family: Family, bridge: &str) -> Result<bool, Cause> {
    let Some(table) = xtables::filter_table(family == Family::V6)? else { return Ok(false) };
    let filter = LegacyFilter::new(family, &table.entries, (table.forward_start, table.forward_policy));
    Ok(filter.drops_forwarded() && !filter.admits(bridge))
}

/// Whether it does so by a rule for every packet, whatever its policy.
pub(super) fn legacy_rejects(family: Family) -> Result<bool, Cause> {
    let Some(table) = xtables::filter_table(family == Family::V6)? else { return Ok(false) };
    let forward = (table.forward_start, table.forward_policy);
    Ok(LegacyFilter::new(family, &table.entries, forward).rejects_forwarded())
}
