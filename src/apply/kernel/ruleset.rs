//! The firewall as a whole, as the records want it: compared with what is there, and put back where it differs.
//!
//! One walk for all who need it: an ADD that finds the ruleset gone, `linkspan reconcile`, and the agent. What is
//! there and right is not touched, and what is put back is one transaction, so that no packet meets a half-made
//! ruleset. Tracked connections stay.

use std::collections::{HashMap, HashSet};

use nix::errno::Errno;

use crate::firewall::nft::{self, Beside, Element, Set, StaticChain};
use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::nft::NftMessage;
use crate::model::{FirewallBackend, Network};
use crate::plan::{self, Firewall, Plan, Step};
use crate::store::{Listed, Stage};

use super::chains::of_another;
use super::firewall::refused;
use super::{Cause, Drift, Kernel};

/// `NFPROTO_INET` and `NFPROTO_BRIDGE`.
const INET: u8 = 1;
const BRIDGE: u8 = 7;
/// How often a transaction that somebody else's came before is made anew.
const TRIES: usize = 3;

/// What the records want of the firewall.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    /// The static part, on nf_tables. A network that has left a bridge where attachments stand comes again with the
    /// rules of that bridge, after its own.
    pub(super) networks: Vec<NetworkRules>,
    /// The static part, on iptables.
    pub(super) iptables_networks: Vec<NetworkRules>,
    /// The dynamic part, on either backend.
    pub(super) firewalls: Vec<Firewall>,
}

/// How nf_tables differs, and the transaction that mends it.
#[derive(Debug, Default)]
struct Damage {
    drifts: Vec<Drift>,
    messages: Vec<NftMessage>,
    /// Attachments whose ports were closed: UDP flows that passed them by meanwhile are to be forgotten.
    closed: Vec<AttachmentRules>,
}

impl Ruleset {
    /// From the records of networks and of attachments that are ready.
    pub(super) fn new<'a>(networks: &[Network], plans: impl Iterator<Item = &'a Plan>) -> Self {
        let steps = plans.flat_map(|plan| &plan.steps);
        let firewalls: Vec<Firewall> = steps
            .filter_map(|step| match step {
                Step::Firewall(firewall) => Some((**firewall).clone()),
                _ => None,
            })
            .collect();
        let of = |backend| {
            let mut all: Vec<NetworkRules> = Vec::new();
            for network in networks {
                all.extend(plan::written(network).filter(|_| network.backend == backend));
                // What it has left stays as long as somebody stands behind it.
                all.extend(plan::left_on(network, backend).filter(|rules| {
                    firewalls.iter().any(|firewall| plan::is_behind(firewall, backend, rules))
                }));
            }
            // A plugin of a list may have asked for another backend than the one before it: what its attachments
            // have there needs the network's rules as well.
            for firewall in firewalls.iter().filter(|firewall| firewall.backend == backend) {
                if !all.iter().any(|known| known.network == firewall.network.network) {
                    all.push(firewall.network.clone());
                }
            }
            all
        };
        let (networks, iptables_networks) = (of(FirewallBackend::Nftables), of(FirewallBackend::Iptables));
        Self { networks, iptables_networks, firewalls }
    }

    /// The attachments of the iptables backend.
    pub(super) fn by_iptables(&self) -> impl Iterator<Item = (&NetworkRules, &AttachmentRules)> {
        let ours = self.firewalls.iter().filter(|firewall| firewall.backend == FirewallBackend::Iptables);
        ours.map(|firewall| (&firewall.network, &firewall.attachment))
    }

    /// Every element that should be there. Source MACs are guarded in nf_tables on either backend.
    pub(super) fn elements(&self) -> Vec<Element> {
        let mut elements: Vec<Element> = self.networks.iter().flat_map(nft::network_elements).collect();
        for firewall in &self.firewalls {
            let of_attachment = nft::attachment_elements(&firewall.network, &firewall.attachment);
            let whole = firewall.backend == FirewallBackend::Nftables;
            elements.extend(of_attachment.into_iter().filter(|e| whole || Set::BRIDGE.contains(&e.set)));
        }
        // Elements of one set next to each other: fewer messages. Networks on one bridge share some.
        elements.sort_by(|a, b| (a.set, &a.key).cmp(&(b.set, &b.key)));
        elements.dedup_by(|a, b| (a.set, &a.key) == (b.set, &b.key));
        elements
    }
}

impl Kernel {
    /// What the records of this host want.
    pub(super) fn recorded_ruleset(&self) -> Result<Ruleset, Cause> {
        let (networks, _) = self.state.networks()?;
        self.ruleset_of(&networks)
    }

    /// The same with these records of networks.
    pub(super) fn ruleset_of(&self, networks: &[Network]) -> Result<Ruleset, Cause> {
        let Listed { found, .. }: Listed<Plan> = self.state.all()?;
        let ready = found.iter().filter(|found| found.stage == Stage::Ready);
        Ok(Ruleset::new(networks, ready.map(|found| &found.record.plan)))
    }

    /// Base chains, every recorded network's chain and every ready attachment's elements, where they are missing: for
    /// an ADD that finds them gone.
    pub(super) fn rebuild_nftables(&mut self) -> Result<(), Cause> {
        let wanted = self.recorded_ruleset()?;
        self.mend_nftables(&wanted, true).map(drop)
    }

    /// Says how nf_tables differs from what the records want, and with `repair` mends it, in one transaction.
    pub(super) fn mend_nftables(&mut self, wanted: &Ruleset, repair: bool) -> Result<Vec<Drift>, Cause> {
        let (mut said, mut exists) = (Vec::new(), None);
        for _ in 0..TRIES {
            let damage = self.nftables_damage(wanted)?;
            for drift in damage.drifts {
                if !said.contains(&drift) {
                    said.push(drift);
                }
            }
            if damage.messages.is_empty() || !repair {
                return Ok(said);
            }
            match self.nft()?.commit(&damage.messages) {
                Ok(()) => {
                    for rules in &damage.closed {
                        self.forget_stale_flows(rules)?;
                    }
                    return Ok(said);
                }
                // Somebody else was there between the look and the transaction.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EBUSY) => {}
                Err(error) if error.errno == Errno::EEXIST => exists = Some(error),
                Err(error) if matches!(error.errno, Errno::EPERM | Errno::EOPNOTSUPP | Errno::EINVAL) => {
                    return Err(of_another(&error));
                }
                Err(error) => return Err(refused("put the ruleset back", &error)),
            }
        }
        Err(exists.map_or_else(
            || {
                let text = "nf_tables: somebody else changes the tables of linkspan at the same time";
                Cause::Firewall(text.to_owned())
            },
            |error| of_another(&error),
        ))
    }

    fn nftables_damage(&mut self, wanted: &Ruleset) -> Result<Damage, Cause> {
        let elements = wanted.elements();
        let some = |sets: &[Set]| elements.iter().any(|element| sets.contains(&element.set));
        let [shifted, _] = Set::SHIFTED;
        // Made for an attachment that is gone by now, the maps are still there, and so must their rules be.
        let shifts = some(&Set::SHIFTED) || self.nft()?.get(&nft::probe_set(shifted))?.is_some();
        let beside = Beside { guards: some(&Set::BRIDGE), shifts };
        let chains = nft::static_chains(&wanted.networks, beside);
        let mut damage = Damage::default();
        let mut lost: Vec<&StaticChain> = Vec::new();
        for family in [INET, BRIDGE] {
            let of_family: Vec<&StaticChain> = chains.iter().filter(|c| c.family == family).collect();
            if !of_family.is_empty() {
                lost.extend(self.damaged_chains(family, &of_family, &mut damage.drifts)?);
            }
        }
        let (missing, wrong) = self.damaged_elements(&elements, &mut damage.drifts)?;
        if damage.drifts.is_empty() {
            return Ok(damage);
        }
        let families: HashSet<u8> = chains.iter().map(|chain| chain.family).collect();
        let foundation = |family| nft::table_foundation(family, beside);
        damage.messages.extend(families.into_iter().flat_map(foundation));
        // All that a rule or an element may lead to is there before them.
        damage.messages.extend(chains.iter().filter(|chain| chain.family == INET).map(StaticChain::make));
        damage.messages.extend(lost.into_iter().flat_map(StaticChain::refill));
        damage.messages.extend(nft::remove(&wrong));
        damage.messages.extend(nft::add(&missing));
        let owners: HashSet<&str> = missing.iter().map(|element| element.owner.as_str()).collect();
        let reopened =
            wanted.firewalls.iter().filter(|f| owners.contains(&*nft::owner_comment(&f.attachment.owner)));
        damage.closed = reopened.map(|firewall| firewall.attachment.clone()).collect();
        Ok(damage)
    }

    /// How many rules a chain of ours has; none where it is not there.
    pub(super) fn rules_in(&mut self, family: u8, chain: &str) -> Result<usize, Cause> {
        let replies = self.nft()?.dump(&nft::dump_rules(family, nft::TABLE, chain))?;
        Ok(replies.iter().filter(|reply| nft::is_rule(reply)).count())
    }

    /// The chains of a family that have lost rules, or are gone. A table or chain that drops or sleeps is told of, and
    /// set right with the others.
    fn damaged_chains<'a>(
        &mut self,
        family: u8,
        wanted: &[&'a StaticChain],
        drifts: &mut Vec<Drift>,
    ) -> Result<Vec<&'a StaticChain>, Cause> {
        let table =
            format!("nf_tables table {} {}", if family == BRIDGE { "bridge" } else { "inet" }, nft::TABLE);
        let layout = nft::layout(family);
        let ask = if family == BRIDGE { nft::probe_guard_table() } else { nft::probe_table() };
        match self.nft()?.get(&ask)? {
            None => {
                drifts.push(Drift::missing(table));
                return Ok(wanted.to_vec());
            }
            Some(reply) if nft::is_dormant(&reply) => {
                drifts.push(Drift::new(&table, "awake", "dormant"));
            }
            Some(_) => {}
        }
        let replies = self.nft()?.dump(&nft::dump_chains(family))?;
        let found: Vec<nft::Chain> =
            replies.iter().filter_map(|reply| nft::parse_chain(family, reply)).collect();
        if !found.iter().any(|found| found.table == nft::TABLE && found.name == layout) {
            drifts.push(Drift::new(table, layout, "the rules of another release, or none"));
            return Ok(wanted.to_vec());
        }
        let mut damaged = Vec::new();
        for &chain in wanted {
            let object = format!(
                "nf_tables chain {}",
                nft::Chain {
                    family,
                    table: nft::TABLE.to_owned(),
                    name: chain.name.clone(),
                    uses: 0,
                    base: None
                }
            );
            match found.iter().find(|found| found.table == nft::TABLE && found.name == chain.name) {
                None => {
                    drifts.push(Drift::missing(object));
                    damaged.push(chain);
                    continue;
                }
                Some(nft::Chain { base: Some(base), .. }) if base.drops => {
                    drifts.push(Drift::new(&object, "policy accept", "policy drop"));
                }
                Some(_) => {}
            }
            if chain.rule_count() == 0 {
                continue;
            }
            let count = self.rules_in(family, &chain.name)?;
            // An administrator may have added rules of their own; fewer than ours are ours gone.
            if count < chain.rule_count() {
                drifts.push(Drift::new(
                    object,
                    format!("{} rules", chain.rule_count()),
                    format!("{count} rules"),
                ));
                damaged.push(chain);
            }
        }
        Ok(damaged)
    }

    /// The elements that are to be added, and those of them that another value or owner has to make room for.
    fn damaged_elements(
        &mut self,
        wanted: &[Element],
        drifts: &mut Vec<Drift>,
    ) -> Result<(Vec<Element>, Vec<Element>), Cause> {
        let (mut missing, mut wrong) = (Vec::new(), Vec::new());
        for of_set in wanted.chunk_by(|a, b| a.set == b.set) {
            let set = of_set[0].set;
            let replies = self.nft()?.dump(&nft::dump(set))?;
            let found: HashMap<Vec<u8>, Element> = replies
                .iter()
                .flat_map(|reply| nft::parse_elements(set, reply))
                .map(|element| (element.key.clone(), element))
                .collect();
            for element in of_set {
                // A network's elements may be shared with another network on the same bridge, whose comment they carry.
                let of_network = element.owner.starts_with("network ");
                let object = format!("nf_tables element: {element}");
                match found.get(&element.key) {
                    Some(there)
                        if (&there.data, &there.last) == (&element.data, &element.last)
                            && (of_network || there.owner == element.owner) =>
                    {
                        continue;
                    }
                    Some(there) => {
                        drifts.push(Drift::new(object, "as ADD wrote it", there.to_string()));
                        wrong.push(there.clone());
                    }
                    None => drifts.push(Drift::missing(object)),
                }
                missing.push(element.clone());
            }
        }
        Ok((missing, wrong))
    }
}
