//! Host ports that the reference plugin `portmap` publishes: for a container whose ports are compared, and for everybody
//! who asks for one that is taken.

use std::net::IpAddr;

use crate::firewall::nft;
use crate::firewall::reference::{self as theirs, Kind, Names};
use crate::model::nft::NftMessage;
use crate::model::{AttachmentKey, Publication};
use crate::sys::xtables;

use super::reference::FAMILIES;
use super::{ApplyError, Cause, Drift, Kernel};

/// A host port that theirs publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TheirPort {
    /// The port.
    pub publication: Publication,
    /// The container's ID.
    pub id: String,
    /// Its network, where the rule tells.
    pub network: Option<String>,
}

impl Kernel {
    /// Compares the published ports that theirs wrote for an attachment with those that are wanted; `None` where
    /// there is nothing of theirs.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn probe_their_ports(
        &mut self,
        network: &str,
        key: &AttachmentKey,
        wanted: &[Publication],
    ) -> Result<Option<Vec<Drift>>, ApplyError> {
        let names = Names::of(network, key);
        let found =
            self.their_ports(&names).map_err(|cause| ApplyError::new("the published ports", cause))?;
        let Some(found) = found else { return Ok(None) };
        let missing = wanted.iter().filter(|publication| !found.contains(publication));
        Ok(Some(missing.map(|publication| Drift::missing(format!("published port {publication}"))).collect()))
    }

    fn their_ports(&mut self, names: &Names) -> Result<Option<Vec<Publication>>, Cause> {
        let mut ports = Vec::new();
        let mut any = false;
        self.change_their_iptables("nat", &[&names.published], |saved| {
            any |= theirs::chain_in_use(saved, &names.published);
            ports.extend(theirs::published(saved, &names.published));
            None
        })?;
        for rule in self.their_rules()?.into_iter().filter(|rule| rule.comment == names.published_comment) {
            any = true;
            ports.extend(rule.published);
        }
        Ok(any.then_some(ports))
    }

    /// What is missing of the masquerade that their `bridge` or `ptp` wrote for an attachment (`ipMasq`): each of its
    /// addresses has a jump to a chain of its own in iptables, or a rule in nf_tables. None of them all is a drift too.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn probe_their_masquerade(
        &mut self,
        network: &str,
        key: &AttachmentKey,
        addresses: &[IpAddr],
    ) -> Result<Vec<Drift>, ApplyError> {
        let names = Names::of(network, key);
        let led = self
            .led_to_masquerade(&names, addresses)
            .map_err(|cause| ApplyError::new("the masquerade of the reference plugin", cause))?;
        let missing = addresses.iter().filter(|address| !led.contains(address));
        Ok(missing.map(|address| Drift::missing(format!("masquerade of {address}"))).collect())
    }

    fn led_to_masquerade(&mut self, names: &Names, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Cause> {
        let mut led: Vec<IpAddr> = Vec::new();
        self.change_their_iptables("nat", &[&names.masquerade], |saved| {
            led.extend(
                addresses.iter().filter(|address| theirs::masquerades(saved, &names.masquerade, **address)),
            );
            None
        })?;
        for (table, chain) in theirs::chains_of(false) {
            let of_attachment = |rule: &theirs::Rule| rule.comment.starts_with(&names.masquerade_comment);
            // A rule for each address, which the comment does not tell.
            let rules = self.their_rules_in(table, chain)?.into_iter();
            led.extend(rules.filter(of_attachment).zip(addresses).map(|(_, address)| *address));
        }
        Ok(led)
    }

    /// The first of some host ports that theirs publishes for another container. The kernel is asked whether there is
    /// anything of theirs at all with two system calls, and no more where there is not.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn taken_by_theirs(
        &mut self,
        publications: &[Publication],
        key: &AttachmentKey,
    ) -> Result<Option<(Publication, TheirPort)>, ApplyError> {
        let has = |v4: bool| publications.iter().any(|publication| publication.host.is_ipv4() == v4);
        let failed = |cause| ApplyError::new("the ports that the reference plugin portmap publishes", cause);
        let taken = self.all_of_theirs([has(true), has(false)], Some(publications)).map_err(failed)?;
        let others = taken.into_iter().filter(|port| port.id != key.container_id);
        Ok(others
            .filter_map(|port| {
                let wanted = publications.iter().find(|wanted| wanted.collides(&port.publication))?;
                Some((*wanted, port))
            })
            .next())
    }

    /// All that theirs publishes, in IPv4 and in IPv6 as is asked.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn published_by_theirs(&mut self, families: [bool; 2]) -> Result<Vec<TheirPort>, ApplyError> {
        let failed = |cause| ApplyError::new("the ports that the reference plugin portmap publishes", cause);
        self.all_of_theirs(families, None).map_err(failed)
    }

    /// Where ports are wanted, those of iptables are read only if one of them may be among them: that takes a program.
    fn all_of_theirs(
        &mut self,
        families: [bool; 2],
        wanted: Option<&[Publication]>,
    ) -> Result<Vec<TheirPort>, Cause> {
        let (iptables, nftables) = self.has_theirs(families)?;
        let mut ports = Vec::new();
        let concerned = match wanted {
            Some(wanted) if iptables => self.iptables_may_hold(families, wanted)?,
            _ => iptables,
        };
        if concerned {
            self.change_their_iptables("nat", &[theirs::PUBLISHED], |saved| {
                for chain in theirs::owners(saved, Kind::Published) {
                    ports.extend(theirs::published(saved, &chain.name).into_iter().map(|publication| {
                        let (id, network) = (chain.id.clone(), Some(chain.network.clone()));
                        TheirPort { publication, id, network }
                    }));
                }
                None
            })?;
        }
        if nftables {
            ports.extend(self.their_rules()?.into_iter().filter_map(|rule| {
                Some(TheirPort { publication: rule.published?, id: rule.comment, network: None })
            }));
        }
        Ok(ports)
    }

    /// Whether their rules in iptables may publish one of these ports, as far as the kernel tells without a program.
    fn iptables_may_hold(&mut self, families: [bool; 2], wanted: &[Publication]) -> Result<bool, Cause> {
        let is_wanted = |port: u16| {
            wanted.iter().any(|w| port.checked_sub(w.host.port()).is_some_and(|above| above < w.count))
        };
        let asked = FAMILIES.into_iter().zip(families).filter(|(_, asked)| *asked);
        for ((_, number), _) in asked {
            let legacy = xtables::table(number == FAMILIES[1].1, "nat")?;
            let name = theirs::PUBLISHED.as_bytes();
            if legacy.is_some_and(|table| table.entries.windows(name.len()).any(|bytes| bytes == name)) {
                return Ok(true);
            }
            let Some(nft) = self.nft_where_there()? else { continue };
            for rule in nft.dump(&nft::dump_rules(number, "nat", theirs::PUBLISHED))? {
                // A rule of another form may be about any port.
                if nft::parse_multiport(&rule).is_none_or(|ports| ports.into_iter().any(is_wanted)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether iptables, and whether nf_tables has anything of theirs.
    fn has_theirs(&mut self, families: [bool; 2]) -> Result<(bool, bool), Cause> {
        let mut questions: Vec<NftMessage> = Vec::new();
        let mut legacy = false;
        for ((_, number), _) in FAMILIES.into_iter().zip(families).filter(|(_, asked)| *asked) {
            questions.push(nft::chain_policy(number, "nat", theirs::PUBLISHED));
            questions.push(nft::chain_policy(number, theirs::PORTS_TABLE, theirs::PORTS_CHAIN));
            legacy |= self.uses_legacy(number == FAMILIES[1].1, "nat")?;
        }
        // A kernel without nf_tables has none of it there.
        let Some(nft) = self.nft_where_there()? else { return Ok((legacy, false)) };
        let answers = nft.get_each(&questions)?;
        let said = |at: usize| answers.iter().skip(at).step_by(2).any(Option::is_some);
        Ok((legacy || said(0), said(1)))
    }

    fn their_rules(&mut self) -> Result<Vec<theirs::Rule>, Cause> {
        let mut rules = Vec::new();
        for (table, chain) in theirs::chains_of(true) {
            rules.extend(self.their_rules_in(table, chain)?);
        }
        Ok(rules)
    }
}
