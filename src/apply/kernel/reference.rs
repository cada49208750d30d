//! What the reference plugins made, in our hands: looked for where an attachment has no record of ours.
//!
//! The kernel is asked first, in a few messages, whether anything of theirs is there at all. A process is started only
//! where it is: then one to read and one to write, for a family.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::firewall::iptables::{Family, Saved};
use crate::firewall::nft;
use crate::firewall::reference::{self as theirs, Kind, Names, Table};
use crate::model::{AttachmentKey, Publication};
use crate::plan::Sandbox;
use crate::store::Deadline;
use crate::sys::rtnl;

use super::firewall::refused;
use super::iptables::{Variant, is_installed, restore, save};
use super::{ApplyError, Cause, Drift, Kernel};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const FAMILIES: [(Family, u8); 2] = [(Family::V4, 2), (Family::V6, 10)];

impl Kernel {
    /// Takes away what theirs left of an attachment in chains of one kind, on either backend.
    ///
    /// # Errors
    /// Where the firewall refuses, or the tool that is needed is missing.
    pub fn remove_theirs(
        &mut self,
        kind: Kind,
        network: &str,
        key: &AttachmentKey,
    ) -> Result<(), ApplyError> {
        let names = Names::of(network, key);
        let outcome = self.remove_their_attachment(kind, &names);
        outcome.map_err(|cause| ApplyError::new(format!("what the reference plugin left of {key}"), cause))
    }

    fn remove_their_attachment(&mut self, kind: Kind, names: &Names) -> Result<(), Cause> {
        let chains: Vec<&str> = match kind {
            Kind::Masquerade => vec![&names.masquerade],
            Kind::Published => vec![&names.published, &names.masquerade_ports],
        };
        let mut udp: Vec<Publication> = Vec::new();
        self.change_their_iptables("nat", &chains, |saved| {
            udp.extend(chains.iter().flat_map(|chain| theirs::published(saved, chain)));
            theirs::remove_chains(saved, &chains)
        })?;
        self.remove_their_rules(kind == Kind::Published, |comment| match kind {
            Kind::Masquerade => comment.starts_with(&names.masquerade_comment),
            Kind::Published => comment == names.published_comment,
        })?;
        self.forget_flows(&udp)
    }

    /// Takes away what their `bridge` guards an attachment's hardware address with (`macspoofchk`).
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn remove_their_guard(&mut self, key: &AttachmentKey) -> Result<(), ApplyError> {
        let outcome = self.remove_guard(key);
        outcome.map_err(|cause| ApplyError::new(format!("what the reference plugin left of {key}"), cause))
    }

    fn remove_guard(&mut self, key: &AttachmentKey) -> Result<(), Cause> {
        let theirs::Table { family, name, .. } = theirs::GUARD;
        let chains = theirs::guard_chains(key);
        let mut there = Vec::new();
        for chain in &chains {
            if self.has_chain(family, name, chain)? {
                there.push(chain.as_str());
            }
        }
        if there.is_empty() {
            return Ok(());
        }
        let comment = theirs::guard_comment(key);
        let mut messages = Vec::new();
        for chain in theirs::GUARD.chains {
            let replies = self.nft()?.dump(&nft::dump_rules(family, name, chain))?;
            let rules = replies.iter().filter_map(|reply| theirs::parse_rule(theirs::GUARD, reply));
            let jumps: Vec<theirs::Rule> = rules.filter(|rule| rule.comment == comment).collect();
            messages.extend(theirs::remove_rules(theirs::GUARD, chain, &jumps));
        }
        messages.extend(theirs::remove_guard(&there));
        self.nft()?.commit(&messages).map_err(|error| refused("delete the reference plugin's guard", &error))
    }

    /// Takes away the rules of their `firewall` for some addresses.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn remove_their_admission(&mut self, addresses: &[IpAddr]) -> Result<(), ApplyError> {
        let outcome = self.change_their_iptables("filter", &[theirs::ADMITTED], |saved| {
            theirs::remove_admitted(saved, addresses)
        });
        outcome.map_err(|cause| ApplyError::new(format!("the rules in {}", theirs::ADMITTED), cause))
    }

    /// Takes away the chains of one kind of a network's attachments that are not valid.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn remove_their_orphans(
        &mut self,
        kind: Kind,
        network: &str,
        valid: &HashSet<&AttachmentKey>,
    ) -> Result<(), ApplyError> {
        let is_valid = |id: &str| valid.iter().any(|key| key.container_id == id);
        let outcome = self
            .change_their_iptables("nat", &[], |saved| {
                let owners = theirs::owners(saved, kind);
                let stale = owners.iter().filter(|owner| owner.network == network && !is_valid(&owner.id));
                theirs::remove_chains(saved, &stale.map(|owner| owner.name.as_str()).collect::<Vec<_>>())
            })
            .and_then(|()| match kind {
                Kind::Masquerade => {
                    let of_network = theirs::network_digits(network);
                    let kept: Vec<String> = valid.iter().map(|key| theirs::attachment_digits(key)).collect();
                    self.remove_their_rules(false, |comment| {
                        let rest = comment.strip_prefix(&of_network).and_then(|rest| rest.strip_prefix('-'));
                        rest.is_some_and(|rest| !kept.iter().any(|digits| rest.starts_with(digits)))
                    })
                }
                // Their comments do not tell the network: another's containers would lose their ports.
                Kind::Published => Ok(()),
            });
        outcome.map_err(|cause| {
            ApplyError::new(format!("what the reference plugins left of network {network}"), cause)
        })
    }

    /// The addresses that their `firewall` does not let through; `None` where it never ran here.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn probe_their_admission(&mut self, addresses: &[IpAddr]) -> Result<Option<Vec<Drift>>, ApplyError> {
        let (mut any, mut drifts) = (false, Vec::new());
        let outcome = self.change_their_iptables("filter", &[theirs::ADMITTED], |saved| {
            for address in addresses {
                let count = theirs::admitted(saved, *address).count();
                any |= count > 0;
                if count == 1 {
                    drifts.push(Drift::new(format!("rules of {address} in {}", theirs::ADMITTED), "2", "1"));
                }
            }
            None
        });
        outcome.map_err(|cause| ApplyError::new(format!("the rules in {}", theirs::ADMITTED), cause))?;
        Ok(any.then_some(drifts))
    }

    /// Takes an interface of a container away, as their `bridge`, `ptp` and `macvlan` do. What is of another kind stays,
    /// and a namespace that is gone has taken it along.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_link_in(&mut self, sandbox: &Sandbox, name: &str, kind: &str) -> Result<(), ApplyError> {
        let outcome = self.sandbox(sandbox).and_then(|open| {
            let Some(open) = open else { return Ok(()) };
            match rtnl::link_by_name(&mut open.socket, name)? {
                Some(link) if link.kind.as_deref() == Some(kind) => {
                    open.socket.transact(&[rtnl::delete_link(link.index)])
                }
                _ => Ok(()),
            }
        });
        outcome.map_err(|error| ApplyError::new(format!("interface {name} in {}", sandbox.path), error))
    }

    /// Changes their rules of one table, in each family and variant of iptables that has any of `chains` (none named:
    /// that has the table): one process to read, and one to write where `text` has something to write.
    pub(super) fn change_their_iptables(
        &mut self,
        table: &'static str,
        chains: &[&str],
        mut text: impl FnMut(&Saved) -> Option<String>,
    ) -> Result<(), Cause> {
        let mut lock = None;
        for (variant, family) in self.where_theirs_are(table, chains)? {
            if lock.is_none() {
                lock = Some(self.state.iptables_lock(Deadline::default())?);
            }
            let saved = save(family, variant)?;
            if let Some(text) = text(&saved) {
                restore(family, variant, &text)?;
            }
        }
        Ok(())
    }

    fn where_theirs_are(&mut self, table: &str, chains: &[&str]) -> Result<Vec<(Variant, Family)>, Cause> {
        let mut places = Vec::new();
        for (family, number) in FAMILIES {
            let built_in = if table == "nat" { "POSTROUTING" } else { "FORWARD" };
            let asked = if chains.is_empty() { &[built_in] } else { chains };
            for chain in asked {
                if self.has_chain(number, table, chain)? {
                    places.push((Variant::Nft, family));
                    break;
                }
            }
        }
        for family in Family::BOTH {
            // Theirs would have needed the program too.
            if self.uses_legacy(family == Family::V6, table)? && is_installed(family, Variant::Legacy) {
                places.push((Variant::Legacy, family));
            }
        }
        Ok(places)
    }

    /// The rules of one of their chains of nf_tables; none where that is not there.
    pub(super) fn their_rules_in(&mut self, table: Table, chain: &str) -> Result<Vec<theirs::Rule>, Cause> {
        let replies = self.dump_nftables(&nft::dump_rules(table.family, table.name, chain))?;
        Ok(replies.iter().filter_map(|reply| theirs::parse_rule(table, reply)).collect())
    }

    fn remove_their_rules(&mut self, publishes: bool, is_stale: impl Fn(&str) -> bool) -> Result<(), Cause> {
        let mut messages = Vec::new();
        for (table, chain) in theirs::chains_of(publishes) {
            let rules = self.their_rules_in(table, chain)?;
            let stale: Vec<theirs::Rule> = rules.into_iter().filter(|rule| is_stale(&rule.comment)).collect();
            messages.extend(theirs::remove_rules(table, chain, &stale));
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.nft()?.commit(&messages).map_err(|error| refused("delete the reference plugin's rules", &error))
    }
}
