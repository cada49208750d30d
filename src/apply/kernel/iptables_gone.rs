//! The iptables backend's rules on their way out, and what is left of them where the programs do not work.

use std::collections::HashSet;

use crate::firewall::iptables::{self, Family, Saved};
use crate::firewall::nft;
use crate::model::{AttachmentKey, FirewallBackend, Network};
use crate::plan::{self, Firewall};
use crate::store::Deadline;
use crate::sys::xtables;

use super::iptables::{Variant, guards, has_v6, is_installed, restore, save};
use super::reference::FAMILIES;
use super::{Cause, Kernel, lacks_nftables};

/// What iptables has of attachments without a record.
#[derive(Debug, Default)]
pub(super) struct OrphanRules {
    /// Whose, each with a family.
    pub(super) owners: Vec<(Family, AttachmentKey)>,
    /// The chains of networks, recorded or not, named as nf_tables has them: `net-web`.
    pub(super) networks: Vec<String>,
}

impl Kernel {
    pub(super) fn detach_by_iptables(&mut self, steps: &[&Firewall]) -> Result<(), Cause> {
        if steps.is_empty() {
            return Ok(());
        }
        let _lock = self.state.iptables_lock(Deadline::default())?;
        // After a refusal none is tried: each program may take a minute to fail.
        let detached = steps.iter().try_for_each(|step| self.detach_one(step));
        let elements: Vec<_> = steps.iter().flat_map(|step| guards(step)).collect();
        self.remove_elements(&elements)?;
        detached
    }

    fn detach_one(&mut self, step: &Firewall) -> Result<(), Cause> {
        let texts = iptables::detach(&step.network, &step.attachment);
        for (family, text) in [(Family::V4, texts.v4), (Family::V6, texts.v6)] {
            let Some(text) = text else { continue };
            if restore(family, Variant::Default, &text).is_ok() {
                continue;
            }
            let saved = match self.saved(family) {
                Ok(saved) => saved,
                // A host without IPv6 may lack ip6tables: the ADD has written nothing there either.
                Err(_) if family == Family::V6 && !has_v6(&step.attachment) => continue,
                Err(cause) => return Err(cause),
            };
            match iptables::detach_from(&saved, &step.attachment.owner) {
                Some(text) => restore(family, Variant::Default, &text)?,
                // The host may call another variant iptables by now.
                None => self.unpublish_by_iptables(family, &step.attachment.owner)?,
            }
        }
        Ok(())
    }

    /// Takes away what an attachment has in iptables of either variant, where it publishes ports there: its own chain says
    /// so, and no program is run where that is not there. No more than three system calls for a variant.
    pub(super) fn unpublish_by_iptables(&mut self, family: Family, key: &AttachmentKey) -> Result<(), Cause> {
        let chain = iptables::chain(key);
        let over_nft = self.has_any_chain(family, &[("nat", &chain)]).unwrap_or(false);
        let legacy = may_have_legacy(family, "nat", &[&chain]) && is_installed(family, Variant::Legacy);
        for (variant, is_there) in [(Variant::Nft, over_nft), (Variant::Legacy, legacy)] {
            if is_there && let Some(text) = iptables::detach_from(&save(family, variant)?, key) {
                restore(family, variant, &text)?;
            }
        }
        Ok(())
    }

    /// The same of an attachment that has no record.
    pub(super) fn remove_stray_iptables(&mut self, key: &AttachmentKey) -> Result<(), Cause> {
        Family::BOTH.into_iter().try_for_each(|family| self.unpublish_by_iptables(family, key))
    }

    /// Rules of ours whose owner has no record. A host without iptables has none.
    pub(super) fn orphan_iptables(&mut self, known: &HashSet<AttachmentKey>) -> Result<OrphanRules, Cause> {
        let mut orphans = OrphanRules::default();
        let (networks, _) = self.state.networks()?;
        let is_there = |network: &Network| !plan::written_on(network, FirewallBackend::Iptables).is_empty();
        if !networks.iter().any(|n| n.backend == FirewallBackend::Iptables || is_there(n)) {
            return Ok(orphans);
        }
        for family in Family::BOTH {
            let saved = self.saved(family)?;
            let owners = saved.owners().into_iter().filter_map(|owner| AttachmentKey::parse(&owner));
            orphans.owners.extend(owners.filter(|owner| !known.contains(owner)).map(|owner| (family, owner)));
            orphans.networks.extend(saved.network_chains().map(str::to_owned));
        }
        Ok(orphans)
    }

    pub(super) fn remove_iptables(&mut self, orphans: &OrphanRules) -> Result<(), Cause> {
        if orphans.owners.is_empty() {
            return Ok(());
        }
        let _lock = self.state.iptables_lock(Deadline::default())?;
        for (family, owner) in &orphans.owners {
            // Each removal changes what is there for the next.
            if let Some(text) = iptables::detach_from(&self.saved(*family)?, owner) {
                restore(*family, Variant::Default, &text)?;
            }
        }
        Ok(())
    }

    /// What a family has. A program that does not work is no refusal where the kernel has no chain of ours: then nothing
    /// is there, as after a flush of a host whose iptables was uninstalled.
    fn saved(&mut self, family: Family) -> Result<Saved, Cause> {
        match save(family, Variant::Default) {
            Err(cause) if self.may_have_chains(family) => Err(cause),
            Err(_) => Ok(Saved::default()),
            saved => saved,
        }
    }

    /// Whether the kernel has chains of the iptables backend, asked without a program. Where it cannot be asked it may.
    fn may_have_chains(&mut self, family: Family) -> bool {
        let names = iptables::ENTRY_CHAINS.map(|(_, chain)| chain);
        if ["nat", "filter"].iter().any(|table| may_have_legacy(family, table, &names)) {
            return true;
        }
        match self.has_any_chain(family, &iptables::ENTRY_CHAINS) {
            Ok(found) => found,
            Err(Cause::Sys(error)) => !lacks_nftables(error.errno()),
            Err(_) => true,
        }
    }

    /// Whether nf_tables has any of these chains, each in a table of iptables.
    fn has_any_chain(&mut self, family: Family, chains: &[(&str, &str)]) -> Result<bool, Cause> {
        let number = FAMILIES.into_iter().find(|(of, _)| *of == family).map_or(0, |(_, number)| number);
        let asked: Vec<_> =
            chains.iter().map(|(table, chain)| nft::chain_policy(number, table, chain)).collect();
        Ok(self.nft()?.get_each(&asked)?.iter().any(Option::is_some))
    }
}

/// Whether a table of legacy iptables has a chain of one of these names: the kernel tells names among the entries.
fn may_have_legacy(family: Family, table: &str, chains: &[&str]) -> bool {
    let ipv6 = family == Family::V6;
    match xtables::look_in_use(ipv6).map(|names| names.lists(table)) {
        Ok(false) => false,
        Ok(true) => match xtables::table(ipv6, table) {
            Ok(found) => found.is_some_and(|found| names_any(&found.entries, chains)),
            Err(_) => true,
        },
        Err(_) => true,
    }
}

fn names_any(entries: &[u8], chains: &[&str]) -> bool {
    chains.iter().any(|name| entries.windows(name.len()).any(|bytes| bytes == name.as_bytes()))
}
