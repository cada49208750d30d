//! Published ports, masquerade and walls: one transaction for an attachment, on either backend.

use std::collections::HashSet;

use nix::errno::Errno;

use crate::firewall::nft::{self, Element, Set};
use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::nft::NftMessage;
use crate::model::{AttachmentKey, FirewallBackend};
use crate::plan::{Firewall, Step};
use crate::sys::nfnetlink::NftError;

use super::whole::Added;
use super::{ApplyError, Attempt, Cause, Drift, Kernel};

/// `NFPROTO_INET`.
pub(super) const INET: u8 = 1;
/// `NFPROTO_BRIDGE`.
const BRIDGE: u8 = 7;

impl Kernel {
    pub(super) fn ensure_firewall(&mut self, step: &Firewall) -> Result<(), Cause> {
        match step.backend {
            FirewallBackend::Iptables => self.attach_by_iptables(step)?,
            FirewallBackend::Nftables => {
                let elements = nft::attachment_elements(&step.network, &step.attachment);
                let added = self.add_to_seen(step, &elements)?;
                if added == Added::Nothing {
                    self.add_elements(&elements)?;
                }
                if added != Added::ToWhole {
                    let chains = self.look_at_chains(&[&step.network])?;
                    if !chains.short.is_empty() {
                        self.rebuild_nftables()?;
                    }
                    if step.admit && !step.network.bridge.is_empty() {
                        self.admit_through_drop(&step.network, &chains)?;
                    }
                    self.note_whole(step, &chains)?;
                }
                if step.admit && !step.network.bridge.is_empty() {
                    self.admit_through_legacy_drop(step)?;
                } else if step.admit {
                    self.admit_interface(&step.network, &step.attachment.host_interface)?;
                }
            }
        }
        self.forget_stale_flows(&step.attachment)
    }

    /// Adds an attachment's elements; what keeps them from being added is mended first.
    pub(super) fn add_elements(&mut self, elements: &[Element]) -> Result<(), Cause> {
        if elements.is_empty() {
            return Ok(());
        }
        let refusal = match self.nft()?.commit(&nft::add_new(elements)) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        match refusal.errno {
            // The ruleset is not there: nobody made it yet, or somebody flushed it.
            Errno::ENOENT => {
                // Or only what few attachments need.
                if self.make_beside(elements).is_ok() && self.nft()?.commit(&nft::add_new(elements)).is_ok() {
                    return Ok(());
                }
                self.rebuild_nftables()?;
                self.make_beside(elements)?;
                self.replace_elements(elements)
            }
            Errno::EEXIST | Errno::EBUSY => self.replace_elements(elements),
            _ => Err(refused("add the attachment's elements", &refusal)),
        }
    }

    /// Adds elements of which some are there: our own stay, those of nobody give way, another's are an error.
    fn replace_elements(&mut self, elements: &[Element]) -> Result<(), Cause> {
        let mut known: Option<HashSet<String>> = None;
        let (mut missing, mut stale) = (Vec::new(), Vec::new());
        for element in elements {
            let Some(reply) = self.nft()?.get(&nft::get(element)).map_err(Cause::from)? else {
                missing.push(element.clone());
                continue;
            };
            let Some(difference) = element.differs(&reply) else { continue };
            let owner = nft::parse_elements(element.set, &reply).into_iter().next().map(|found| found.owner);
            let known = match &mut known {
                Some(known) => known,
                None => known.insert(self.owners()?),
            };
            let owner = owner.unwrap_or_default();
            if owner != element.owner && known.contains(&owner) {
                return Err(Cause::Firewall(format!("{difference}; DEL or GC of {owner} frees it")));
            }
            stale.push(element.clone());
            missing.push(element.clone());
        }
        let mut messages = nft::remove(&stale);
        messages.extend(nft::add_new(&missing));
        if messages.is_empty() {
            return Ok(());
        }
        self.nft()?.commit(&messages).map_err(|error| refused("add the attachment's elements", &error))
    }

    /// The comments of all attachments that have a record.
    fn owners(&self) -> Result<HashSet<String>, Cause> {
        Ok(self.state.keys()?.iter().map(nft::owner_comment).collect())
    }

    /// The table and the administrator's chain; made where they are not there, mended where they are not whole.
    pub(super) fn make_nftables_base(&mut self, rules: &NetworkRules) -> Result<(), Cause> {
        // Where others should have something in it, all of that comes back with it.
        if self.state.has_networks()? && self.nft()?.get(&nft::probe_table())?.is_none() {
            self.rebuild_nftables()?;
        }
        match self.nft()?.commit(&nft::base(&rules.admin_chain)) {
            Ok(()) => return Ok(()),
            Err(error) if error.errno == Errno::EEXIST => {}
            Err(error) => return Err(refused("make the base chains", &error)),
        }
        let recorded = self.recorded_ruleset()?;
        let mut admins: Vec<&str> = vec![&rules.admin_chain];
        admins.extend(recorded.networks.iter().map(|network| network.admin_chain.as_str()));
        admins.sort_unstable();
        admins.dedup();
        self.mend_nftables_base(&admins)?;
        self.make_each(&[nft::admin(&rules.admin_chain)])
    }

    /// The table that guards what containers claim to be; where an earlier release made it, its rules are written
    /// anew.
    pub(super) fn make_guard(&mut self) -> Result<(), Cause> {
        match self.nft()?.commit(&nft::guard_base()) {
            Ok(()) => return Ok(()),
            Err(error) if error.errno == Errno::EEXIST => {}
            Err(error) => return Err(refused("make the base chains", &error)),
        }
        if self.nft()?.get(&nft::probe_layout(BRIDGE))?.is_some() {
            return Ok(());
        }
        let messages = nft::guard_replacing();
        self.nft()?.commit(&messages).map_err(|error| refused("write the base chains anew", &error))
    }

    /// What only these elements need, besides the base chains: made where it is not there.
    pub(super) fn make_beside(&mut self, elements: &[Element]) -> Result<(), Cause> {
        let some = |sets: &[Set]| elements.iter().any(|element| sets.contains(&element.set));
        if some(&Set::BRIDGE) {
            self.make_guard()?;
        }
        if some(&Set::SHIFTED) {
            self.make_each(&[nft::shift_base()])?;
        }
        Ok(())
    }

    /// Transactions of which one that finds its work done is as good.
    pub(super) fn make_each(&mut self, transactions: &[Vec<NftMessage>]) -> Result<(), Cause> {
        for messages in transactions {
            match self.nft()?.commit(messages) {
                Err(error) if error.errno != Errno::EEXIST => {
                    return Err(refused("make the base chains", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes elements; those that are not there are as good. One transaction where all are there. To be called where
    /// nobody else can have got any of them since: the kernel deletes by key.
    pub(super) fn remove_elements(&mut self, elements: &[Element]) -> Result<(), Cause> {
        if elements.is_empty() {
            return Ok(());
        }
        match self.nft()?.commit(&nft::remove(elements)) {
            Ok(()) => Ok(()),
            // EINVAL: somebody else's set of that name, of another type.
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EINVAL) => {
                self.remove_own_elements(elements)
            }
            Err(error) => Err(refused("delete the attachment's elements", &error)),
        }
    }

    /// Deletes those elements that are there and have the owner that they should.
    pub(super) fn remove_own_elements(&mut self, elements: &[Element]) -> Result<(), Cause> {
        // An element that another owns by now is not ours to delete.
        self.remove_present(elements, "delete the attachment's elements", |element, reply| {
            let found = nft::parse_elements(element.set, reply);
            found.iter().any(|found| found.same_key(element) && found.owner == element.owner)
        })
    }

    /// Deletes those elements that are there and, as the kernel tells them, are to go; `what` that is, for a refusal.
    pub(super) fn remove_present(
        &mut self,
        elements: &[Element],
        what: &str,
        is_to_go: impl Fn(&Element, &[u8]) -> bool,
    ) -> Result<(), Cause> {
        let mut present = Vec::new();
        for element in elements {
            match self.nft()?.get(&nft::get(element)) {
                Ok(Some(reply)) if is_to_go(element, &reply) => present.push(element.clone()),
                Ok(_) => {}
                // No key of ours can be in a set of another type.
                Err(error) if error.errno() == Some(Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if present.is_empty() {
            return Ok(());
        }
        self.nft()?.commit(&nft::remove(&present)).map_err(|error| refused(what, &error))
    }

    /// Takes the rules of many attachments away, in one transaction a backend.
    pub(super) fn absent_firewalls(
        &mut self,
        plans: &[&[Step]],
        attempt: Attempt,
        errors: &mut [Vec<ApplyError>],
    ) {
        let steps: Vec<(usize, &Step, &Firewall)> = plans
            .iter()
            .enumerate()
            .flat_map(|(plan, steps)| steps.iter().map(move |step| (plan, step)))
            .filter_map(|(plan, step)| match step {
                Step::Firewall(firewall) => Some((plan, step, &**firewall)),
                _ => None,
            })
            .collect();
        let on = |backend| steps.iter().filter(move |(_, _, firewall)| firewall.backend == backend);
        let elements: Vec<Element> = on(FirewallBackend::Nftables)
            .flat_map(|(_, _, firewall)| nft::attachment_elements(&firewall.network, &firewall.attachment))
            .collect();
        let nftables = match attempt {
            Attempt::First => self.remove_from_seen(&elements),
            Attempt::Again => self.remove_own_elements(&elements),
        };
        if let Err(cause) = nftables {
            for (plan, step, _) in on(FirewallBackend::Nftables) {
                errors[*plan].push(ApplyError::new(step, Cause::Firewall(cause.to_string())));
            }
        }
        let by_iptables: Vec<&Firewall> = on(FirewallBackend::Iptables).map(|(_, _, f)| *f).collect();
        let outcomes = self.detach_by_iptables(&by_iptables);
        for ((plan, step, _), outcome) in on(FirewallBackend::Iptables).zip(outcomes) {
            if let Err(cause) = outcome {
                errors[*plan].push(ApplyError::new(step, cause));
            }
        }
        for (plan, step, firewall) in &steps {
            let own = firewall.admit && firewall.network.bridge.is_empty();
            if own && let Err(cause) = self.retract_interface(&firewall.attachment.host_interface) {
                errors[*plan].push(ApplyError::new(step, cause));
            }
        }
    }

    pub(super) fn probe_firewall(&mut self, step: &Firewall, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        // Another plugin of the list, or a changed configuration, may have written the network's rules since.
        let mut current = self.rules_behind(step)?;
        let alone = current.is_empty() && is_guard_alone(step);
        if current.is_empty() {
            current.push(step.network.clone());
        }
        if step.backend == FirewallBackend::Iptables && !alone {
            return self.probe_iptables(step, &current, drifts);
        }
        self.probe_guard(&step.attachment, drifts)?;
        if alone {
            return self.probe_elements(&elements_of(step), drifts);
        }
        for short in self.look_at_chains(&[])?.short {
            let chain = format!("nf_tables chain inet {} {short}", nft::TABLE);
            drifts.push(Drift::new(chain, "as ADD wrote it", "rules or jumps are missing"));
        }
        let mut chains: Vec<(String, usize)> = Vec::new();
        for chain in current.iter().flat_map(nft::network_rule_counts) {
            if !chains.iter().any(|(name, _)| *name == chain.0) {
                chains.push(chain);
            }
        }
        let mut elements = elements_of(step);
        if elements.iter().any(|element| Set::SHIFTED.contains(&element.set)) {
            let (chain, count) = nft::SHIFT_RULES;
            chains.push((chain.to_owned(), count));
        }
        self.probe_chains((INET, "inet"), &chains, drifts)?;
        // Those of the bridge that it stands on.
        elements.extend(current.last().into_iter().flat_map(nft::network_elements));
        self.probe_elements(&elements, drifts)
    }

    fn probe_elements(&mut self, elements: &[Element], drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        for element in elements {
            let found = self.nft()?.get(&nft::get(element)).map_err(Cause::from)?;
            let Some(reply) = found else {
                drifts.push(Drift::missing(format!("nf_tables element: {element}")));
                continue;
            };
            // A network's elements may be shared with another network on the same bridge, whose comment they carry.
            let of_network = element.owner.starts_with("network ");
            if let Some(difference) = element.differs(&reply).filter(|_| !of_network) {
                drifts.push(Drift::new(
                    format!("nf_tables element: {element}"),
                    "as ADD wrote it",
                    difference,
                ));
            }
        }
        Ok(())
    }

    /// The chains that guard what an attachment claims to be, on either backend.
    pub(super) fn probe_guard(
        &mut self,
        rules: &AttachmentRules,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        if rules.only_mac.is_none() && rules.only_ips.is_empty() {
            return Ok(());
        }
        let chains: Vec<(String, usize)> =
            nft::guard_rule_counts().into_iter().map(|(chain, count)| (chain.to_owned(), count)).collect();
        self.probe_chains((BRIDGE, "bridge"), &chains, drifts)
    }

    /// Whether each chain of a table of ours has as many rules as it should.
    fn probe_chains(
        &mut self,
        (family, name): (u8, &str),
        chains: &[(String, usize)],
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        for (chain, count) in chains {
            // An administrator may have added rules of their own; fewer than ours are ours gone.
            let found = self.rules_in(family, chain)?;
            if found < *count {
                let object = format!("nf_tables chain {name} {} {chain}", nft::TABLE);
                drifts.push(Drift::new(object, format!("{count} rules"), format!("{found} rules")));
            }
        }
        Ok(())
    }

    /// The owner's comment of an attachment, for those who look for elements of nobody.
    pub(super) fn comments_of(keys: &HashSet<AttachmentKey>) -> HashSet<String> {
        keys.iter().map(nft::owner_comment).collect()
    }
}

fn elements_of(step: &Firewall) -> Vec<Element> {
    nft::attachment_elements(&step.network, &step.attachment)
}

/// Whether an attachment has a guard and nothing else, so that nobody may have made table `inet linkspan`.
fn is_guard_alone(step: &Firewall) -> bool {
    let elements = elements_of(step);
    !elements.is_empty() && elements.iter().all(|element| Set::BRIDGE.contains(&element.set))
}

/// A refusal of nf_tables, in words.
pub(super) fn refused(what: &str, error: &NftError) -> Cause {
    Cause::Firewall(format!("nf_tables would not {what}: {error}"))
}
