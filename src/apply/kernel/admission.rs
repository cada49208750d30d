//! Foreign chains that drop what is forwarded.
//!
//! A verdict of our own table cannot overrule another's drop. Where that is the FORWARD chain of iptables, whose
//! policy Docker and administrators set to DROP, the host offers a place for exceptions: `DOCKER-USER`, else the
//! chain's own head. The exception is written once a network, and only where it is needed; any other chain is told of
//! by STATUS.

use crate::firewall::iptables::Family;
use crate::firewall::{NetworkRules, nft};

use super::chains::Chains;
use super::iptables::Variant;
use super::{Cause, Kernel};

/// The chain of our exceptions, and where it is.
pub(super) const ADMIT: &str = "LINKSPAN-ADMIT";
/// Tables of legacy iptables that are in use; the file is not there where none is.
const LEGACY_TABLES: [(Family, &str); 2] =
    [(Family::V4, "/proc/net/ip_tables_names"), (Family::V6, "/proc/net/ip6_tables_names")];
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const NF_FAMILIES: [(Family, u8); 2] = [(Family::V4, 2), (Family::V6, 10)];

impl Kernel {
    /// Lets a network through the FORWARD chain of iptables-nft where that drops. No process in the usual case.
    pub(super) fn admit_through_drop(&mut self, rules: &NetworkRules, chains: &Chains) -> Result<(), Cause> {
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
            Self::admit_by_iptables(family, Variant::Nft, &rules.bridge)?;
            if let Some(network) = &mut network
                && !recorded
            {
                network.admitted.push(number);
                self.state.put_network(network)?;
            }
        }
        Ok(())
    }

    /// The same for legacy iptables, which nf_tables cannot be asked about: once, when a network's rules are written.
    pub(super) fn admit_through_legacy_drop(&mut self, rules: &NetworkRules) -> Result<(), Cause> {
        for (family, file) in LEGACY_TABLES {
            if uses_filter(file) {
                Self::admit_by_iptables(family, Variant::Legacy, &rules.bridge)?;
            }
        }
        Ok(())
    }
}

fn uses_filter(file: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}
