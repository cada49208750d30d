//! Foreign chains that drop what is forwarded.
//!
//! A verdict of our own table cannot overrule another's drop. Where that is the FORWARD chain of iptables, whose
//! policy Docker and administrators set to DROP, the host offers a place for exceptions: `DOCKER-USER`, else the
//! chain's own head. The exception is written once a network, and only where it is needed; any other chain is told of
//! by STATUS.

use crate::firewall::iptables::{self, Family, LegacyFilter};
use crate::firewall::{NetworkRules, nft};
use crate::plan::Firewall;
use crate::sys::xtables;

use super::chains::Chains;
use super::iptables::{Variant, restore, save};
use super::{Cause, Kernel};

/// The chain of our exceptions, and where it is.
pub(super) const ADMIT: &str = "LINKSPAN-ADMIT";
/// Tables of legacy iptables that are in use; the file is not there where none is.
pub(super) const LEGACY_TABLES: [(Family, &str); 2] =
    [(Family::V4, "/proc/net/ip_tables_names"), (Family::V6, "/proc/net/ip6_tables_names")];
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
            if !forward.as_ref().is_some_and(nft::Chain::drops_forwarded) {
                continue;
            }
            let mut network = self.state.network(&rules.network)?;
            let recorded = network.as_ref().is_some_and(|network| network.admitted.contains(&number));
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

    /// The same for legacy iptables, of which nf_tables knows nothing, for the families of an attachment.
    pub(super) fn admit_through_legacy_drop(step: &Firewall) -> Result<(), Cause> {
        let (network, addresses) = (&step.network, &step.attachment.addresses);
        for family in Family::BOTH {
            // A part of the face `firewall` names none: its network's are of either family.
            let has_family = addresses.is_empty()
                || addresses.iter().any(|address| address.is_ipv4() == (family == Family::V4));
            if has_family && !network.internal && legacy_drops(family, &network.bridge)? {
                Self::admit_by_iptables(family, Variant::Legacy, network)?;
            }
        }
        Ok(())
    }

    /// Lets one container's host interface through, where it has no bridge: of either iptables that drops.
    pub(super) fn admit_interface(&mut self, network: &NetworkRules, interface: &str) -> Result<(), Cause> {
        if interface.is_empty() {
            return Ok(());
        }
        let rules = NetworkRules { bridge: interface.to_owned(), ..network.clone() };
        for (family, number) in NF_FAMILIES {
            let forward =
                self.ask_chain(number, "FORWARD")?.and_then(|reply| nft::parse_chain(number, &reply));
            if forward.is_some_and(|chain| chain.drops_forwarded()) {
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
        let legacy = LEGACY_TABLES.into_iter().filter(|(_, file)| uses_filter(file));
        places.extend(legacy.map(|(family, _)| (family, Variant::Legacy)));
        for (family, variant) in places {
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

/// Whether the FORWARD chain of legacy iptables drops what this bridge forwards.
pub(super) fn legacy_drops(family: Family, bridge: &str) -> Result<bool, Cause> {
    let Some(table) = xtables::filter_table(family == Family::V6)? else { return Ok(false) };
    let filter = LegacyFilter::new(family, &table.entries, table.forward_policy);
    Ok(filter.drops_forwarded() && !filter.admits(bridge))
}

fn uses_filter(file: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}
