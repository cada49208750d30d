//! The iptables backend's rules on their way out, and what is left of them where the programs do not work.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::firewall::iptables::{self, Family, Saved};
use crate::firewall::nft;
use crate::model::{AttachmentKey, FirewallBackend, Network};
use crate::plan::{self, Firewall};
use crate::store::Deadline;
use crate::sys::xtables;

use super::iptables::{Variant, guards, has_v6, is_installed, restore, save};
use super::reference::FAMILIES;
use super::{Cause, Kernel, unless_lacking};

/// What iptables has of attachments without a record.
#[derive(Debug, Default)]
pub(super) struct OrphanRules {
    /// Whose, each with a family.
    pub(super) owners: Vec<(Family, AttachmentKey)>,
    /// The chains of networks, recorded or not, named as nf_tables has them: `net-web`.
    pub(super) networks: Vec<String>,
    /// Families that could not be asked, and why.
    pub(super) unseen: Vec<(Family, Cause)>,
}

/// A program that takes longer than this to fail is not run once more in a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// The families whose programs have failed in a batch, and are not tried again in it: each may take a minute to fail.
#[derive(Debug, Default)]
struct Broken {
    why: Vec<(Family, Cause)>,
}

impl Broken {
    fn of(&self, family: Family) -> Option<&Cause> {
        self.why.iter().find(|(of, _)| *of == family).map(|(_, cause)| cause)
    }

    /// What fails at once is about one attachment; what takes its time would with each.
    fn note_slow<T>(&mut self, family: Family, begun: Instant, outcome: &Result<T, Cause>) {
        if let Err(cause) = outcome
            && begun.elapsed() > PATIENCE
        {
            self.why.push((family, again(cause)));
        }
    }
}

/// The same failure, of another attachment.
fn again(cause: &Cause) -> Cause {
    Cause::Firewall(cause.to_string())
}

fn alike(count: usize, cause: &Cause) -> Vec<Result<(), Cause>> {
    (0..count).map(|_| Err(again(cause))).collect()
}

impl Kernel {
    /// Takes the rules of attachments away, each for itself: what came of each, in their order.
    pub(super) fn detach_by_iptables(&mut self, steps: &[&Firewall]) -> Vec<Result<(), Cause>> {
        if steps.is_empty() {
            return Vec::new();
        }
        let mut outcomes = match self.state.iptables_lock(Deadline::default()) {
            Ok(_lock) => self.detach_each(steps),
            Err(error) => return alike(steps.len(), &Cause::from(error)),
        };
        let elements: Vec<_> = steps.iter().flat_map(|step| guards(step)).collect();
        if let Err(cause) = self.remove_elements(&elements) {
            for (step, outcome) in steps.iter().zip(&mut outcomes) {
                if outcome.is_ok() && !guards(step).is_empty() {
                    *outcome = Err(again(&cause));
                }
            }
        }
        outcomes
    }

    fn detach_each(&mut self, steps: &[&Firewall]) -> Vec<Result<(), Cause>> {
        let mut broken = Broken::default();
        steps.iter().map(|step| self.detach_one(step, &mut broken)).collect()
    }

    /// Of both families, whatever comes of the first.
    fn detach_one(&mut self, step: &Firewall, broken: &mut Broken) -> Result<(), Cause> {
        let texts = iptables::detach(&step.network, &step.attachment);
        let of_v4 = self.detach_family(Family::V4, texts.v4, step, broken);
        let of_v6 = self.detach_family(Family::V6, texts.v6, step, broken);
        of_v4.and(of_v6)
    }

    fn detach_family(
        &mut self,
        family: Family,
        text: Option<String>,
        step: &Firewall,
        broken: &mut Broken,
    ) -> Result<(), Cause> {
        let Some(text) = text else { return Ok(()) };
        // A host without IPv6 may lack ip6tables: the ADD has written nothing there either.
        let may_lack = family == Family::V6 && !has_v6(&step.attachment);
        if let Some(cause) = broken.of(family) {
            return if may_lack { Ok(()) } else { Err(again(cause)) };
        }
        let begun = Instant::now();
        let owner = &step.attachment.owner;
        if restore(family, Variant::Default, &text).is_ok() {
            // One that has published nothing leaves nothing that leads to the next with its address.
            let published = !step.attachment.publications.is_empty();
            return if published { self.require_unpublished(family, owner) } else { Ok(()) };
        }
        let saved = self.saved(family);
        broken.note_slow(family, begun, &saved);
        let outcome = match saved {
            Err(_) if may_lack => Ok(()),
            Err(cause) => Err(cause),
            Ok(saved) => match iptables::detach_from(&saved, owner) {
                Some(text) => restore(family, Variant::Default, &text),
                // The host may call another variant iptables by now, and who publishes nothing has rules as well.
                None => self.detach_where(family, owner, &iptables::ENTRY_CHAINS),
            },
        };
        broken.note_slow(family, begun, &outcome);
        outcome
    }

    /// Refuses to believe a program that says that it has closed an attachment's ports where they are still there: its
    /// addresses are about to be somebody else's. The kernel is asked, by no process.
    fn require_unpublished(&mut self, family: Family, owner: &AttachmentKey) -> Result<(), Cause> {
        if !self.is_published(family, owner)? {
            return Ok(());
        }
        // Another variant's program may be the one that works.
        self.unpublish_by_iptables(family, owner)?;
        if !self.is_published(family, owner)? {
            return Ok(());
        }
        let chain = iptables::chain(owner);
        Err(Cause::Firewall(format!(
            "{family}-restore said that it was done, and the chain {chain} is there still: see whether \
             '{family}-restore' is the program that it should be"
        )))
    }

    /// Whether the chain of an attachment's ports is seen, in either variant.
    fn is_published(&mut self, family: Family, owner: &AttachmentKey) -> Result<bool, Cause> {
        let chain = iptables::chain(owner);
        Ok(self.has_any_chain(family, &[("nat", &chain)])? || has_legacy(family, "nat", &[&chain])?)
    }

    /// Takes away what an attachment has in iptables of either variant, where it publishes ports there: its own chain says
    /// so, and no program is run where that is not there. No more than three system calls for a variant.
    pub(super) fn unpublish_by_iptables(&mut self, family: Family, key: &AttachmentKey) -> Result<(), Cause> {
        let chain = iptables::chain(key);
        self.detach_where(family, key, &[("nat", &chain)])
    }

    /// The same where a variant has any of these chains; of both, whatever comes of the first.
    fn detach_where(
        &mut self,
        family: Family,
        key: &AttachmentKey,
        chains: &[(&str, &str)],
    ) -> Result<(), Cause> {
        let over_nft = match self.has_any_chain(family, chains) {
            // Who may not even ask could take nothing away.
            Err(Cause::Sys(error)) if error.errno() == Some(Errno::EPERM) => Ok(false),
            found => found,
        };
        let legacy = chains.iter().any(|(table, chain)| may_have_legacy(family, table, &[chain]))
            && is_installed(family, Variant::Legacy);
        let detach = |variant| match iptables::detach_from(&save(family, variant)?, key) {
            Some(text) => restore(family, variant, &text),
            None => Ok(()),
        };
        let of_nft = over_nft.and_then(|is_there| if is_there { detach(Variant::Nft) } else { Ok(()) });
        let of_legacy = if legacy { detach(Variant::Legacy) } else { Ok(()) };
        of_nft.and(of_legacy)
    }

    /// The same of an attachment that has no record; of both families, whatever comes of the first.
    pub(super) fn remove_stray_iptables(&mut self, key: &AttachmentKey) -> Result<(), Cause> {
        let outcomes = Family::BOTH.map(|family| self.unpublish_by_iptables(family, key));
        outcomes.into_iter().fold(Ok(()), Result::and)
    }

    /// Rules of ours whose owner has no record. A host without iptables has none. A family that cannot be asked is told of
    /// with what the other has.
    pub(super) fn orphan_iptables(&mut self, known: &HashSet<AttachmentKey>) -> Result<OrphanRules, Cause> {
        let mut orphans = OrphanRules::default();
        let (networks, _) = self.state.networks()?;
        let is_there = |network: &Network| !plan::written_on(network, FirewallBackend::Iptables).is_empty();
        if !networks.iter().any(|n| n.backend == FirewallBackend::Iptables || is_there(n)) {
            return Ok(orphans);
        }
        for family in Family::BOTH {
            let saved = match self.saved(family) {
                Ok(saved) => saved,
                Err(cause) => {
                    orphans.unseen.push((family, cause));
                    continue;
                }
            };
            let owners = saved.owners().into_iter().filter_map(|owner| AttachmentKey::parse(&owner));
            orphans.owners.extend(owners.filter(|owner| !known.contains(owner)).map(|owner| (family, owner)));
            orphans.networks.extend(saved.network_chains().map(str::to_owned));
        }
        Ok(orphans)
    }

    /// Takes away what has no record, each for itself. Gives the first failure.
    pub(super) fn remove_iptables(&mut self, orphans: &OrphanRules) -> Result<(), Cause> {
        if orphans.owners.is_empty() {
            return Ok(());
        }
        let _lock = self.state.iptables_lock(Deadline::default())?;
        let (mut outcome, mut broken) = (Ok(()), Broken::default());
        for (family, owner) in &orphans.owners {
            // Its failure is in the outcome already.
            if broken.of(*family).is_some() {
                continue;
            }
            let begun = Instant::now();
            // Each removal changes what is there for the next.
            let removed = self.saved(*family).and_then(|saved| match iptables::detach_from(&saved, owner) {
                Some(text) => restore(*family, Variant::Default, &text),
                None => Ok(()),
            });
            broken.note_slow(*family, begun, &removed);
            outcome = outcome.and(removed);
        }
        outcome
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
        self.has_any_chain(family, &iptables::ENTRY_CHAINS).unwrap_or(true)
    }

    /// Whether nf_tables has any of these chains, each in a table of iptables. A kernel without nf_tables has none.
    fn has_any_chain(&mut self, family: Family, chains: &[(&str, &str)]) -> Result<bool, Cause> {
        let number = FAMILIES.into_iter().find(|(of, _)| *of == family).map_or(0, |(_, number)| number);
        let asked: Vec<_> =
            chains.iter().map(|(table, chain)| nft::chain_policy(number, table, chain)).collect();
        let found = self.nft().and_then(|nft| Ok(nft.get_each(&asked)?));
        Ok(unless_lacking(found)?.unwrap_or_default().iter().any(Option::is_some))
    }
}

/// Whether a table of legacy iptables may have a chain of one of these names: it may where it cannot be asked.
fn may_have_legacy(family: Family, table: &str, chains: &[&str]) -> bool {
    match xtables::look_in_use(family == Family::V6) {
        Ok(names) => names.lists(table) && has_legacy(family, table, chains).unwrap_or(true),
        Err(_) => true,
    }
}

/// Whether it is seen there: the kernel tells names among the entries.
fn has_legacy(family: Family, table: &str, chains: &[&str]) -> Result<bool, Cause> {
    Ok(xtables::table(family == Family::V6, table)?.is_some_and(|found| names_any(&found.entries, chains)))
}

fn names_any(entries: &[u8], chains: &[&str]) -> bool {
    chains.iter().any(|name| entries.windows(name.len()).any(|bytes| bytes == name.as_bytes()))
}
