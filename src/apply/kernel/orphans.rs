//! What carries our mark and belongs to nobody.

use std::collections::HashSet;

use nix::errno::Errno;

use crate::firewall::iptables::Family;
use crate::firewall::nft::{self, Element, Set};
use crate::model::{AttachmentKey, names};
use crate::plan::Plan;
use crate::sys::rtnl::{self, Link, LinkTarget};

use super::departure::delete_together;
use super::elsewhere::Reach;
use super::iptables_gone::OrphanRules;
use super::{ApplyError, Cause, Kernel, lacks_nftables};

/// The interface group of orphans that are about to go.
const ORPHANS_GROUP: u32 = names::LINK_GROUP + 2;

impl Kernel {
    /// Whether the host end of an attachment's link is gone, as it is when the container's namespace has died.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn has_lost_its_link(&mut self, plan: &Plan) -> Result<bool, ApplyError> {
        let Some(link) = plan.link() else { return Ok(false) };
        let found = self.host().and_then(|host| Ok(rtnl::link_by_name(host, &link.host_name)?));
        found.map(|found| found.is_none()).map_err(|cause| ApplyError::new(&link.host_name, cause))
    }

    /// Takes away what an attachment has that has no record: links, whose names follow from it, but for those of another
    /// that has the same names, and what the firewall has with its mark. A runtime calls DEL again for what is gone: where
    /// our table is not there that costs a question.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_stray(&mut self, key: &AttachmentKey) -> Result<(), ApplyError> {
        self.remove_stray_rules(key)?;
        self.remove_named(&[names::host_interface(key), names::shaping_interface(key)], key)
            .map_err(|cause| ApplyError::new(format!("the links of {key}"), cause))
    }

    /// The part of the firewall. Ports that it published must not lead to the next container with its address.
    ///
    /// # Errors
    /// Where the firewall refuses.
    pub fn remove_stray_rules(&mut self, key: &AttachmentKey) -> Result<(), ApplyError> {
        let elements = self.stray_elements(key).and_then(|elements| self.remove_own_elements(&elements));
        let outcome = elements.and(self.remove_stray_iptables(key));
        outcome.map_err(|cause| ApplyError::new(format!("the firewall rules of {key}"), cause))
    }

    /// The elements of one attachment; of the sets of a table that is not there none is looked at.
    fn stray_elements(&mut self, key: &AttachmentKey) -> Result<Vec<Element>, Cause> {
        let mut found = Vec::new();
        let tables = [nft::probe_table(), nft::probe_guard_table()];
        let tables = match self.nft().and_then(|nft| Ok(nft.get_each(&tables)?)) {
            // Without nf_tables, or the right to ask, there is nothing that this process could take away.
            Err(Cause::Sys(error))
                if lacks_nftables(error.errno()) || error.errno() == Some(Errno::EPERM) =>
            {
                return Ok(found);
            }
            tables => tables?,
        };
        let owner = nft::owner_comment(key);
        for set in Set::OF_ATTACHMENTS {
            let is_there = tables.get(usize::from(Set::BRIDGE.contains(&set))).is_some_and(Option::is_some);
            if !is_there {
                continue;
            }
            let replies = self.dump_nftables(&nft::dump(set))?;
            let marked = |reply: &&Vec<u8>| reply.windows(owner.len()).any(|part| part == owner.as_bytes());
            let elements = replies.iter().filter(marked).flat_map(|reply| nft::parse_elements(set, reply));
            found.extend(elements.filter(|element| element.owner == owner));
        }
        Ok(found)
    }

    fn remove_named(&mut self, candidates: &[String], key: &AttachmentKey) -> Result<(), Cause> {
        for name in candidates {
            let Some(link) = rtnl::link_by_name(self.host()?, name)? else { continue };
            if link.group == names::LINK_GROUP && self.owners_of_link(name)?.iter().all(|owner| owner == key)
            {
                self.host()?.transact(&[rtnl::delete_link(link.index)])?;
            }
        }
        Ok(())
    }

    /// Takes away links, claims of host ports and firewall elements of attachments that are not in `known`, which are
    /// all that have a record. Called under the main lock. What could not be taken away is said.
    ///
    /// # Errors
    /// [`Cause::Elsewhere`], before anything is taken away, where some of them are of a network that this state
    /// directory knows nothing of, and `reach` does not say that its records are lost; where that cannot be found out.
    /// That ip6tables cannot be asked is said where it is of interest (`with_v6`).
    pub fn remove_orphans(
        &mut self,
        known: &HashSet<AttachmentKey>,
        reach: Reach,
        with_v6: bool,
    ) -> Result<Vec<String>, ApplyError> {
        let mut failures = Vec::new();
        let mut noted = |cause: Cause| failures.push(cause.to_string());
        let links = self.orphan_links(known).unwrap_or_else(|cause| {
            noted(cause);
            Vec::new()
        });
        let elements = self.orphan_elements(known).unwrap_or_else(|cause| {
            noted(cause);
            Vec::new()
        });
        let mut rules = self.orphan_iptables(known).unwrap_or_else(|cause| {
            noted(cause);
            OrphanRules::default()
        });
        let unseen = std::mem::take(&mut rules.unseen).into_iter();
        unseen.filter(|(family, _)| with_v6 || *family == Family::V4).for_each(|(_, cause)| noted(cause));
        let is_any = !links.is_empty() || !elements.is_empty() || !rules.owners.is_empty();
        if is_any && reach == Reach::Recorded {
            self.refuse_elsewhere(&links, &rules)
                .map_err(|cause| ApplyError::new("what has no record", cause))?;
        }
        let outcomes = [
            self.remove_elements(&elements),
            self.remove_iptables(&rules),
            self.remove_links(&links),
            self.orphan_claims(known),
        ];
        failures.extend(outcomes.into_iter().filter_map(Result::err).map(|cause| cause.to_string()));
        Ok(failures)
    }

    /// Whether [`Self::remove_orphans`] would refuse to take anything away, for what is seen without a program: links and
    /// nf_tables.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn keeps_orphans(&mut self, known: &HashSet<AttachmentKey>) -> Result<bool, Cause> {
        let (links, elements) = (self.orphan_links(known)?, self.orphan_elements(known)?);
        if links.is_empty() && elements.is_empty() {
            return Ok(false);
        }
        match self.refuse_elsewhere(&links, &OrphanRules::default()) {
            Err(Cause::Elsewhere { .. }) => Ok(true),
            other => other.map(|()| false),
        }
    }

    fn orphan_links(&mut self, known: &HashSet<AttachmentKey>) -> Result<Vec<Link>, Cause> {
        let keep: HashSet<String> = known
            .iter()
            .flat_map(|key| [names::host_interface(key), names::shaping_interface(key)])
            .collect();
        let mut ours = rtnl::links_in_group(self.host()?, names::LINK_GROUP)?;
        // Bridges and the gateway links of VLANs belong to networks.
        ours.retain(|link| {
            matches!(link.kind.as_deref(), Some("veth" | "ifb")) && !keep.contains(&link.name)
        });
        Ok(ours)
    }

    fn remove_links(&mut self, orphans: &[Link]) -> Result<(), Cause> {
        if orphans.is_empty() {
            return Ok(());
        }
        let targets = orphans.iter().map(|link| LinkTarget::Index(link.index));
        Ok(self.host()?.transact(&delete_together(targets, ORPHANS_GROUP))?)
    }

    fn orphan_claims(&mut self, known: &HashSet<AttachmentKey>) -> Result<(), Cause> {
        for claim in self.state.claims_of_unknown(|key| known.contains(key))? {
            let waiters = self.state.drop_claim(&claim)?;
            self.note_waiters(waiters);
        }
        Ok(())
    }

    fn orphan_elements(&mut self, known: &HashSet<AttachmentKey>) -> Result<Vec<Element>, Cause> {
        let owners = Self::comments_of(known);
        let mut orphans = Vec::new();
        for set in Set::OF_ATTACHMENTS {
            let replies = self.dump_nftables(&nft::dump(set))?;
            let elements = replies.iter().flat_map(|reply| nft::parse_elements(set, reply));
            let of_nobody = |element: &Element| !element.is_of_network() && !owners.contains(&element.owner);
            orphans.extend(elements.filter(of_nobody));
        }
        Ok(orphans)
    }
}
