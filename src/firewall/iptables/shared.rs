//! The rules of the chains that all networks share, and those that a network has.

use std::net::{IpAddr, SocketAddr};

use crate::firewall::NetworkRules;
use crate::model::{IngressPolicy, Isolation, chains, names};

use super::rule::{Family, Rule};

pub(crate) const PUBLISH: &str = "LINKSPAN-PUBLISH";
/// What no published port takes: the name service at networks' gateways.
pub(crate) const NAMES: &str = "LINKSPAN-NAMES";
pub(crate) const POST: &str = "LINKSPAN-POST";
pub(crate) const FORWARD: &str = "LINKSPAN-FORWARD";
pub(crate) const WALL: &str = "LINKSPAN-WALL";
/// What stays on one bridge, one rule a network.
pub(crate) const WITHIN: &str = "LINKSPAN-WITHIN";
/// What happens between containers of a network that keeps them apart.
pub(crate) const APART: &str = "LINKSPAN-APART";
/// What may not pass even where it is published: internal and strict networks.
pub(crate) const SEALED: &str = "LINKSPAN-SEALED";
/// Drops what comes from any network's bridge.
pub(crate) const FROM: &str = "LINKSPAN-FROM";
/// Drops what goes to any network's bridge.
pub(crate) const TO: &str = "LINKSPAN-TO";
/// The walls that let in what is trusted.
pub(crate) const INTO: &str = "LINKSPAN-INTO";
pub(crate) const LOCALNET: &str = "LINKSPAN-LOCALNET";
pub(crate) const ADMIT: &str = "LINKSPAN-ADMIT";

/// The chains that built-in ones of both families jump to, with their tables: where none of them is, no packet comes to
/// ours, but to `LINKSPAN-LOCALNET` of IPv4's table raw, which is made with them and is no attachment's.
pub const ENTRY_CHAINS: [(&str, &str); 3] = [("nat", PUBLISH), ("nat", POST), ("filter", FORWARD)];

/// The chains that all networks share, with their tables.
pub(crate) fn chains(family: Family) -> Vec<(&'static str, &'static str)> {
    let mut chains = vec![("nat", PUBLISH), ("nat", NAMES), ("nat", POST)];
    chains.extend([FORWARD, WALL, WITHIN, APART, SEALED, FROM, TO, INTO].map(|chain| ("filter", chain)));
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
    rules.push(Rule::new("nat", PUBLISH, &format!("-j {NAMES}")));
    rules.extend(admin_chains.iter().map(|admin| Rule::new("filter", FORWARD, &format!("-j {admin}"))));
    let forward = |text: &str| Rule::new("filter", FORWARD, text);
    let apart = |text: &str| Rule::new("filter", APART, text);
    rules.extend([
        forward("-m conntrack --ctstate ESTABLISHED -j ACCEPT"),
        forward(&format!("-j {WITHIN}")),
        // Before what is related: an ICMP error about somebody else's connection would be a way out of a sealed
        // network, and it may carry anything.
        forward(&format!("-j {SEALED}")),
        forward("-m conntrack --ctstate RELATED -j ACCEPT"),
        forward("-m conntrack --ctstate DNAT -j ACCEPT"),
        forward(&format!("-j {INTO}")),
        apart("-m conntrack --ctstate DNAT -j ACCEPT"),
        apart("-m conntrack --ctstate RELATED -j ACCEPT"),
        apart("-j DROP"),
    ]);
    rules
}

/// The chain of a network, of one name in tables nat and filter: 28 bytes at most (`XT_EXTENSION_MAXNAMELEN`).
pub(crate) fn network_chain(network: &str) -> String {
    format!("LKS-{}", names::chain(network))
}

/// The chain that says what a network's wall lets in; 27 bytes at most.
pub(crate) fn wall_chain(network: &str) -> String {
    let chain = names::chain(network);
    format!("{}{}", chains::WALLS[1], chain.strip_prefix("net-").unwrap_or(&chain))
}

/// The chain of what a routed network's attachments publish at their own addresses; 27 bytes at most.
pub(crate) fn open_chain(network: &str) -> String {
    format!("LKS-op{}", names::chain(network).trim_start_matches("net"))
}

/// The rules of networks. One that comes again, with the rules of a bridge that it has left, has its own chains
/// already: what is new is that bridge's place in the shared ones, and a wall where it has none now.
pub(crate) fn networks(family: Family, networks: &[NetworkRules]) -> Vec<Rule> {
    let mut all = Vec::new();
    for (at, rules) in networks.iter().enumerate() {
        let mut of_network = network(family, rules);
        let before = || networks[..at].iter().filter(|known| known.network == rules.network);
        if before().next().is_some() {
            let own = network_chain(&rules.network);
            of_network.retain(|rule| rule.chain != own);
        }
        if before().any(|known| known.isolation.is_walled()) {
            let wall = wall_chain(&rules.network);
            of_network.retain(|rule| rule.chain != wall);
        }
        all.extend(of_network);
    }
    all
}

/// A network's rules, in its own chains and in the shared ones.
fn network(family: Family, rules: &NetworkRules) -> Vec<Rule> {
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
        let outbound = match family {
            Family::V4 => rules.outbound4.map(IpAddr::V4),
            Family::V6 => rules.outbound6.map(IpAddr::V6),
        };
        all.push(nat(match outbound {
            Some(address) => format!("-j SNAT --to-source {address}"),
            None => "-j MASQUERADE".to_owned(),
        }));
    }
    // Without a bridge nothing tells the network's published ports from another's.
    if rules.masquerade_all && own_masquerade && !bridge.is_empty() {
        all.push(Rule::new("nat", POST, &published).owned(&owner));
    }
    let of_family = |at: &SocketAddr| at.is_ipv4() == (family == Family::V4);
    for (protocol, at) in rules.name_service().filter(|(_, at)| of_family(at)) {
        let text = format!("-d {} -p {protocol} --dport {} -j ACCEPT", at.ip(), at.port());
        all.push(Rule::new("nat", NAMES, &text).owned(&owner));
    }
    if bridge.is_empty() {
        return all;
    }
    if rules.ingress != IngressPolicy::Open {
        all.push(filter(format!("-j {WALL}")));
        all.push(Rule::new("filter", WALL, &format!("-o {bridge} -j DROP")).owned(&owner));
    }
    all.extend(walls(family, rules).into_iter().map(|rule| rule.owned(&owner)));
    all.push(filter("-j ACCEPT".to_owned()));
    all.push(Rule::new("filter", FORWARD, &format!("-i {bridge} -j {chain}")).owned(&owner));
    all
}

/// Who may reach the network, and whom it may reach.
fn walls(family: Family, rules: &NetworkRules) -> Vec<Rule> {
    let bridge = &rules.bridge;
    let rule = |chain: &str, text: String| Rule::new("filter", chain, &text);
    let mut all = vec![rule(FROM, format!("-i {bridge} -j DROP")), rule(TO, format!("-o {bridge} -j DROP"))];
    if rules.knows_siblings() {
        let target = if rules.keeps_apart() { APART } else { "ACCEPT" };
        all.push(rule(WITHIN, format!("-i {bridge} -o {bridge} -j {target}")));
    }
    if rules.internal {
        all.extend(["-i", "-o"].map(|flag| rule(SEALED, format!("{flag} {bridge} -j DROP"))));
    }
    if rules.isolation == Isolation::Strict {
        all.push(rule(SEALED, format!("-i {bridge} -j {TO}")));
        all.push(rule(SEALED, format!("-o {bridge} -j {FROM}")));
    }
    if rules.isolation.is_walled() {
        all.extend(wall(family, rules));
    }
    all
}

/// A wall: interfaces that are trusted by name, never other networks by a wildcard; where the network is routed, echo
/// requests and what is published; and at the end nobody.
fn wall(family: Family, rules: &NetworkRules) -> Vec<Rule> {
    let chain = wall_chain(&rules.network);
    let rule = |text: String| Rule::new("filter", chain.clone(), &text);
    let names = rules.trusted.iter().filter_map(|pattern| pattern.exact());
    let mut all: Vec<Rule> = names.map(|name| rule(format!("-i {name} -j ACCEPT"))).collect();
    let prefixes: Vec<&str> = rules.trusted.iter().filter_map(|pattern| pattern.prefix()).collect();
    if !prefixes.is_empty() || rules.routed {
        all.push(rule(format!("-j {FROM}")));
    }
    all.extend(prefixes.into_iter().map(|prefix| match prefix {
        "" => rule("-j ACCEPT".to_owned()),
        prefix => rule(format!("-i {prefix}+ -j ACCEPT")),
    }));
    if rules.routed {
        let echo = match family {
            Family::V4 => "-p icmp -m icmp --icmp-type 8",
            Family::V6 => "-p ipv6-icmp -m icmp6 --icmpv6-type 128",
        };
        all.push(rule(format!("{echo} -j ACCEPT")));
        all.push(rule(format!("-j {}", open_chain(&rules.network))));
    }
    all.push(rule("-j DROP".to_owned()));
    all.push(Rule::new("filter", INTO, &format!("-o {} -j {chain}", rules.bridge)));
    all
}
