//! The rules of the chains that all networks share, and those that a network has.

use crate::firewall::NetworkRules;
use crate::model::{IngressPolicy, names};

use super::rule::{Family, Rule};

pub(crate) const PUBLISH: &str = "LINKSPAN-PUBLISH";
pub(crate) const POST: &str = "LINKSPAN-POST";
pub(crate) const FORWARD: &str = "LINKSPAN-FORWARD";
pub(crate) const WALL: &str = "LINKSPAN-WALL";
pub(crate) const LOCALNET: &str = "LINKSPAN-LOCALNET";
pub(crate) const ADMIT: &str = "LINKSPAN-ADMIT";

/// The chains that all networks share, with their tables.
pub(crate) fn chains(family: Family) -> Vec<(&'static str, &'static str)> {
    let mut chains = vec![("nat", PUBLISH), ("nat", POST), ("filter", FORWARD), ("filter", WALL)];
    if family == Family::V4 {
        chains.insert(0, ("raw", LOCALNET));
    }
    chains
}

/// The jumps out of built-in chains, and whether each must come before what is there.
pub(crate) fn entries(family: Family) -> Vec<(Rule, bool)> {
    let local = format!("-m addrtype --dst-type LOCAL -j {PUBLISH}");
    let mut entries = vec![
        (Rule::new("nat", "PREROUTING", &local), false),
        (Rule::new("nat", "OUTPUT", &local), false),
        (Rule::new("nat", "POSTROUTING", &format!("-j {POST}")), true),
        (Rule::new("filter", "FORWARD", &format!("-j {FORWARD}")), true),
    ];
    if family == Family::V4 {
        entries.insert(0, (Rule::new("raw", "PREROUTING", &format!("-j {LOCALNET}")), true));
    }
    entries
}

/// What the shared chains start with, whatever networks there are; `admin_chains` each once.
pub(crate) fn first(family: Family, admin_chains: &[&str]) -> Vec<Rule> {
    let mut rules = Vec::new();
    match family {
        Family::V4 => rules.extend([
            Rule::new("raw", LOCALNET, "! -i lo -d 127.0.0.0/8 -j DROP"),
            Rule::new("raw", LOCALNET, "! -i lo -s 127.0.0.0/8 -j DROP"),
            Rule::new("nat", POST, "-s 127.0.0.0/8 ! -o lo -m conntrack --ctstate DNAT -j MASQUERADE"),
        ]),
        // The kernel cannot route a packet from ::1 off the host: leave [::1] to whoever listens there.
        Family::V6 => rules.push(Rule::new("nat", PUBLISH, "-d ::1/128 -j RETURN")),
    }
    rules.extend(admin_chains.iter().map(|admin| Rule::new("filter", FORWARD, &format!("-j {admin}"))));
    rules.extend([
        Rule::new("filter", FORWARD, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        Rule::new("filter", FORWARD, "-m conntrack --ctstate DNAT -j ACCEPT"),
    ]);
    rules
}

/// The chain of a network, of one name in tables nat and filter: 28 bytes at most (`XT_EXTENSION_MAXNAMELEN`).
pub(crate) fn network_chain(network: &str) -> String {
    format!("LKS-{}", names::chain(network))
}

/// A network's rules, in its own chains and in the shared ones.
pub(crate) fn network(family: Family, rules: &NetworkRules) -> Vec<Rule> {
    let owner = format!("network {}", rules.network);
    let (bridge, chain) = (&rules.bridge, network_chain(&rules.network));
    let nat = |text: String| Rule::new("nat", chain.clone(), &text);
    let filter = |text: String| Rule::new("filter", chain.clone(), &text);
    let mut all = Vec::new();
    // Where an administrator's chain sets the mark, his rules masquerade by it.
    let own_masquerade = rules.mark_chain.is_none();
    let out = if bridge.is_empty() { String::new() } else { format!("-o {bridge} ") };
    let published = format!("{out}-m conntrack --ctstate DNAT -j MASQUERADE");
    if rules.hairpin && own_masquerade {
        all.push(nat(published.clone()));
    }
    if !bridge.is_empty() {
        all.push(nat(format!("-o {bridge} -j RETURN")));
    }
    if rules.masquerade {
        let of_family = rules.inside.iter().filter(|subnet| subnet.is_ipv4() == (family == Family::V4));
        all.extend(of_family.map(|subnet| nat(format!("-d {subnet} -j RETURN"))));
        let kept: &[&str] = match family {
            Family::V4 => &["224.0.0.0/4", "255.255.255.255/32"],
            Family::V6 => &["ff00::/8", "fe80::/10"],
        };
        all.extend(kept.iter().map(|range| nat(format!("-d {range} -j RETURN"))));
        all.push(nat("-j MASQUERADE".to_owned()));
    }
    // Without a bridge nothing tells the network's published ports from another's.
    if rules.masquerade_all && own_masquerade && !bridge.is_empty() {
        all.push(Rule::new("nat", POST, &published).owned(&owner));
    }
    if bridge.is_empty() {
        return all;
    }
    let walled = rules.ingress != IngressPolicy::Open;
    if walled {
        let target = if rules.ingress == IngressPolicy::Isolated { "DROP" } else { "ACCEPT" };
        all.push(filter(format!("-o {bridge} -j {target}")));
        all.push(filter(format!("-j {WALL}")));
        all.push(Rule::new("filter", WALL, &format!("-o {bridge} -j DROP")).owned(&owner));
    }
    all.push(filter("-j ACCEPT".to_owned()));
    all.push(Rule::new("filter", FORWARD, &format!("-i {bridge} -j {chain}")).owned(&owner));
    all
}
