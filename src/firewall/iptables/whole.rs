//! Texts that follow from what is there: the whole ruleset made anew, one owner's rest, everything gone.

use std::collections::BTreeSet;

use crate::firewall::nft::owner_comment;
use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::AttachmentKey;

use super::attachment::{chain, rules};
use super::rule::{Family, Rule, Text};
use super::saved::Saved;
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
    let mut keep = |text: &mut Text, table: &str, name: &str| {
        text.empty(table, name);
        kept.insert((table.to_owned(), name.to_owned()));
    };
    for (table, name) in shared::chains(family) {
        keep(&mut text, table, name);
    }
    let mut admins: Vec<&str> = Vec::new();
    for network in networks {
        for table in ["nat", "filter"] {
            keep(&mut text, table, &shared::network_chain(&network.network));
        }
        if network.isolation.is_walled() {
            keep(&mut text, "filter", &shared::wall_chain(&network.network));
            if network.routed {
                keep(&mut text, "filter", &shared::open_chain(&network.network));
            }
        }
        if !admins.contains(&&*network.admin_chain) {
            admins.push(&network.admin_chain);
        }
    }
    for admin in admins.iter().filter(|admin| saved.policy("filter", admin).is_none()) {
        text.empty("filter", admin);
    }
    let mut all: Vec<Rule> = shared::first(family, &admins);
    all.extend(networks.iter().flat_map(|network| shared::network(family, network)));
    for (network, attachment) in attachments {
        let (outside, own) = rules(family, network, attachment);
        if !own.is_empty() {
            keep(&mut text, "nat", &chain(&attachment.owner));
        }
        all.extend(own.into_iter().chain(outside));
    }
    all.iter().for_each(|rule| text.append(rule));
    for (entry, at_head) in shared::entries(family) {
        let target = entry.words.last().map_or("", String::as_str);
        if !saved.jumps(entry.table, &entry.chain, target) {
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

/// Takes everything of ours away, for uninstalling or a change of backend; administrators' chains stay. `None` where
/// nothing of ours is there.
pub fn remove_all(saved: &Saved) -> Option<String> {
    let mut text = Text::default();
    for rule in saved.rules().filter(|rule| !rule.is_ours() && rule.target().is_some_and(is_ours)) {
        text.line(rule.table, rule.deletion());
    }
    for (table, name) in saved.chains().filter(|(_, name)| is_ours(name)) {
        text.remove(table, name);
    }
    text.render()
}

/// The argument vectors that ask `iptables -C` for each rule that an attachment needs: the jumps out of the built-in
/// chains, the shared rules, its network's, its own. Each is an exit status 0, or drift.
pub fn checks(family: Family, network: &NetworkRules, attachment: &AttachmentRules) -> Vec<Vec<String>> {
    let (outside, own) = rules(family, network, attachment);
    let mut all: Vec<Rule> = shared::entries(family).into_iter().map(|(rule, _)| rule).collect();
    all.extend(shared::first(family, &[&network.admin_chain]));
    all.extend(shared::network(family, network));
    all.extend(outside);
    all.extend(own);
    all.iter().map(Rule::check).collect()
}

/// The argument vectors that ask for what all networks share; one that fails calls for [`rebuild`].
pub fn base_checks(family: Family) -> Vec<Vec<String>> {
    shared::entries(family).iter().map(|(rule, _)| rule.check()).collect()
}
