//! Foreign chains that drop what is forwarded.
//!
//! A verdict of our own table cannot overrule another's drop. Where that is the FORWARD chain of iptables, whose
//! policy Docker and administrators set to DROP, the host offers a place for exceptions: `DOCKER-USER`, else the
//! chain's own head. The exception is written once a network, and only where it is needed; any other chain is told of
//! by STATUS.

use nix::errno::Errno;

use crate::firewall::iptables::{self, Family};
use crate::firewall::{NetworkRules, nft};

use super::facts::ChainDropping;
use super::iptables::{Variant, restore, save};
use super::{Cause, Kernel};

/// The chain of our exceptions, and where it is.
const ADMIT: &str = "LINKSPAN-ADMIT";
/// Tables of legacy iptables that are in use; the file is not there where none is.
pub(super) const LEGACY_TABLES: [(Family, &str); 2] =
    [(Family::V4, "/proc/net/ip_tables_names"), (Family::V6, "/proc/net/ip6_tables_names")];
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const NF_FAMILIES: [(Family, u8); 2] = [(Family::V4, 2), (Family::V6, 10)];

impl Kernel {
    /// Lets a network through the FORWARD chain of iptables-nft where that drops: two small questions to the kernel
    /// in the usual case, and no process.
    pub(super) fn admit_through_drop(&mut self, rules: &NetworkRules) -> Result<(), Cause> {
        // Nothing enters or leaves an internal network.
        if rules.internal {
            return Ok(());
        }
        for (family, number) in NF_FAMILIES {
            if !self.forward_drops(number)? {
                continue;
            }
            let mut network = self.state.network(&rules.network)?;
            let recorded = network.as_ref().is_some_and(|network| network.admitted.contains(&number));
            if recorded && self.chain_exists(number, ADMIT)? {
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

    /// The same for legacy iptables, which nf_tables cannot be asked about: once, when a network's rules are written.
    pub(super) fn admit_through_legacy_drop(&mut self, rules: &NetworkRules) -> Result<(), Cause> {
        for (family, file) in LEGACY_TABLES {
            if !rules.internal && uses_filter(file) {
                Self::admit_by_iptables(family, Variant::Legacy, rules)?;
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
            if self.forward_drops(number)? {
                Self::admit_by_iptables(family, Variant::Nft, &rules)?;
            }
        }
        for (family, file) in LEGACY_TABLES {
            if uses_filter(file) {
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
            if self.chain_exists(number, ADMIT)? {
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

    fn forward_drops(&mut self, family: u8) -> Result<bool, Cause> {
        let reply = self.ask_chain(family, "FORWARD")?;
        Ok(reply
            .and_then(|reply| nft::parse_chain(family, &reply))
            .is_some_and(|chain| chain.drops_forwarded()))
    }

    fn chain_exists(&mut self, family: u8, chain: &str) -> Result<bool, Cause> {
        Ok(self.ask_chain(family, chain)?.is_some())
    }

    fn ask_chain(&mut self, family: u8, chain: &str) -> Result<Option<Vec<u8>>, Cause> {
        match self.nft()?.get(&nft::chain_policy(family, "filter", chain)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            other => Ok(other?),
        }
    }

    /// Foreign chains that drop what is forwarded by their policy.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn foreign_drops(&mut self) -> Result<Vec<ChainDropping>, Cause> {
        let (mut chains, mut admitted) = (Vec::new(), Vec::new());
        for family in nft::ROUTED_FAMILIES {
            let replies = self.nft()?.dump(&nft::dump_chains(family))?;
            chains.extend(nft::parse_chains(family, &replies));
        }
        for (_, family) in NF_FAMILIES {
            if self.chain_exists(family, ADMIT)? {
                admitted.push(family);
            }
        }
        let mut dropping = Vec::new();
        for chain in chains.iter().filter(|chain| chain.drops_forwarded()) {
            let rules = self.nft()?.dump(&nft::dump_rules(chain.family, &chain.table, &chain.name))?;
            let is_iptables = chain.table == "filter"
                && chain.name == "FORWARD"
                && NF_FAMILIES.iter().any(|(_, number)| *number == chain.family);
            dropping.push(ChainDropping {
                chain: chain.to_string(),
                has_rules: rules.iter().any(|reply| nft::is_rule(reply)),
                admits_us: is_iptables && admitted.contains(&chain.family),
                is_iptables,
            });
        }
        Ok(dropping)
    }
}

fn uses_filter(file: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}
