//! Texts that follow from what is there: the whole ruleset made anew, one owner's rest, everything gone.

use std::collections::{BTreeSet, HashMap};

use crate::firewall::nft::owner_comment;
use crate::firewall::{AttachmentRules, NetworkRules, opened};
use crate::model::AttachmentKey;

use super::attachment::{chain, rules};
use super::rule::{Family, Rule, Text};
use super::saved::{Saved, SavedRule};
use super::{is_ours, shared};

/// Makes everything of ours as the records say, whatever of it is there: for the first network of a host, another
/// network, a flushed table, the garbage of a crash. One transaction a table; doing it again changes nothing.
///
/// Chains of ours that nobody owns any more go; an administrator's chain is made where it is missing and never
/// emptied. `saved` is what `iptables-save` (all tables) printed, under the lock that writers of ours hold.
pub fn rebuild(
    family: Family,
    saved: &Saved,
    networks: &[NetworkRules],
    attachments: &[(&NetworkRules, &AttachmentRules)],
) -> String {
    let mut text = Text::default();
    let mut kept: BTreeSet<(String, String)> = BTreeSet::new();
    for (table, name) in own_chains(family, networks, attachments) {
        text.empty(table, &name);
        kept.insert((table.to_owned(), name));
    }
    let admins = admin_chains(networks);
    for admin in admins.iter().filter(|admin| saved.policy("filter", admin).is_none()) {
        text.empty("filter", admin);
    }
    all_rules(family, networks, attachments).iter().for_each(|rule| text.append(rule));
    for (entry, at_head) in shared::entries(family) {
        if !has_entry(saved, &entry) {
            text.line(entry.table, entry.line(if at_head { "-I" } else { "-A" }));
        }
    }
    for (table, name) in saved.chains().filter(|(_, name)| is_ours(name) && *name != shared::ADMIT) {
        if !kept.contains(&(table.to_owned(), name.to_owned())) {
            text.remove(table, name);
        }
    }
    text.render().unwrap_or_default()
}

/// What of the whole is missing, in words; nothing where [`rebuild`] would change nothing that matters. A chain of
/// ours with fewer rules than it should have has lost some: more may be an administrator's.
pub fn missing(
    family: Family,
    saved: &Saved,
    networks: &[NetworkRules],
    attachments: &[(&NetworkRules, &AttachmentRules)],
) -> Vec<String> {
    let mut missing = Vec::new();
    for (entry, _) in shared::entries(family) {
        if !has_entry(saved, &entry) {
            let target = entry.words.last().map_or("", String::as_str);
            missing.push(format!("jump from {} to {target} in table {}", entry.chain, entry.table));
        }
    }
    for admin in admin_chains(networks) {
        if saved.policy("filter", admin).is_none() {
            missing.push(format!("chain {admin} in table filter"));
        }
    }
    let all = all_rules(family, networks, attachments);
    let wanted = counted(all.iter().map(|rule| (rule.table, rule.chain.as_str())));
    let lines: Vec<SavedRule<'_>> = saved.rules().collect();
    let there = counted(lines.iter().map(|rule| (rule.table, rule.chain())));
    for (table, name) in own_chains(family, networks, attachments) {
        let of = |counts: &HashMap<(&str, &str), usize>| counts.get(&(table, &*name)).copied().unwrap_or(0);
        let (wanted, found) = (of(&wanted), of(&there));
        if saved.policy(table, &name).is_none() {
            missing.push(format!("chain {name} in table {table}"));
            continue;
        }
        if found < wanted {
            missing.push(format!("{} of {wanted} rules of chain {name} in table {table}", wanted - found));
        }
    }
    missing
}

/// How many rules each chain has, by table and name.
fn counted<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> HashMap<(&'a str, &'a str), usize> {
    let mut counts = HashMap::new();
    for chain in rules {
        *counts.entry(chain).or_default() += 1;
    }
    counts
}

/// The chains of ours, each once, with their tables.
fn own_chains(
    family: Family,
    networks: &[NetworkRules],
    attachments: &[(&NetworkRules, &AttachmentRules)],
) -> BTreeSet<(&'static str, String)> {
    let mut chains: BTreeSet<(&'static str, String)> = BTreeSet::new();
    chains.extend(shared::chains(family).into_iter().map(|(table, name)| (table, name.to_owned())));
    for network in networks {
        chains.extend(["nat", "filter"].map(|table| (table, shared::network_chain(&network.network))));
        if network.isolation.is_walled() {
            chains.insert(("filter", shared::wall_chain(&network.network)));
            if network.routed {
                chains.insert(("filter", shared::open_chain(&network.network)));
            }
        }
    }
    for (network, attachment) in attachments {
        if !rules(family, network, attachment).1.is_empty() {
            chains.insert(("nat", chain(&attachment.owner)));
        }
        // Its network may not be routed any more.
        if !opened(network, attachment).is_empty() {
            chains.insert(("filter", shared::open_chain(&network.network)));
        }
    }
    chains
}

/// The administrators' chains, each once.
fn admin_chains(networks: &[NetworkRules]) -> Vec<&str> {
    let mut admins: Vec<&str> = Vec::new();
    for network in networks {
        if !admins.contains(&&*network.admin_chain) {
            admins.push(&network.admin_chain);
        }
    }
    admins
}

/// Every rule in a chain of ours, in order.
fn all_rules(
    family: Family,
    networks: &[NetworkRules],
    attachments: &[(&NetworkRules, &AttachmentRules)],
) -> Vec<Rule> {
    let mut all: Vec<Rule> = shared::first(family, &admin_chains(networks));
    all.extend(shared::networks(family, networks));
    for (network, attachment) in attachments {
        let (outside, own) = rules(family, network, attachment);
        all.extend(own.into_iter().chain(outside));
    }
    all
}

fn has_entry(saved: &Saved, entry: &Rule) -> bool {
    saved.jumps(entry.table, &entry.chain, entry.words.last().map_or("", String::as_str))
}

/// Takes away what is left of one attachment; `None` where nothing is.
pub fn detach_from(saved: &Saved, owner: &AttachmentKey) -> Option<String> {
    let (own, comment) = (chain(owner), owner_comment(owner));
    let mut text = Text::default();
    for rule in saved.rules().filter(|rule| rule.is_ours() && rule.chain() != own) {
        if rule.comment() == Some(&comment) || rule.target() == Some(&own) {
            text.line(rule.table, rule.deletion());
        }
    }
    for (table, name) in saved.chains().filter(|(_, name)| *name == own) {
        text.remove(table, name);
    }
    text.render()
}

/// The argument vectors that ask `iptables -C` for each rule that an attachment needs: the jumps out of the built-in
/// chains, the shared rules, its network's, its own. Each is an exit status 0, or drift.
#[cfg(test)]
pub(super) fn checks(
    family: Family,
    network: &NetworkRules,
    attachment: &AttachmentRules,
) -> Vec<Vec<String>> {
    [network_checks(family, std::slice::from_ref(network)), attachment_checks(family, network, attachment)]
        .concat()
}

/// The part of it that all attachments of a network need: of its own rules, and of those of bridges that it has left.
pub fn network_checks(family: Family, networks: &[NetworkRules]) -> Vec<Vec<String>> {
    let mut all: Vec<Rule> = shared::entries(family).into_iter().map(|(rule, _)| rule).collect();
    all.extend(shared::first(family, &admin_chains(networks)));
    all.extend(shared::networks(family, networks));
    all.iter().map(Rule::check).collect()
}

/// The part of it that is an attachment's own.
pub fn attachment_checks(
    family: Family,
    network: &NetworkRules,
    attachment: &AttachmentRules,
) -> Vec<Vec<String>> {
    let (outside, own) = rules(family, network, attachment);
    outside.iter().chain(&own).map(Rule::check).collect()
}
