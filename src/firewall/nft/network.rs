//! What is written once for a network: its chain, and its bridge's place in the shared sets.

use ipnetwork::IpNetwork;

use crate::firewall::{AttachmentRules, NetworkRules, opened};
use crate::model::nft::NftMessage;
use std::net::IpAddr;

use crate::model::{IngressPolicy, Isolation, Publication, names};

use super::TABLE;
use super::base::{flush_chain, plain_chain, remove_chain};
use super::element::{Element, Leads, owner_comment};
use super::expression::Verdict;
use super::set::{Set, interface_key};
use super::shift::{Window, windows};
use super::statement::Statements;
use super::uapi::{CREATE, EXCL, INET};
use super::{key, wall};

/// A network's chains: what it sends is masqueraded as the first says, and what comes in passes as the second says.
///
/// Made with `NLM_F_EXCL`: `EEXIST` says that one is there already, and nothing is doubled. To change them, send
/// [`network_replacing`].
pub fn network(rules: &NetworkRules) -> Vec<NftMessage> {
    let mut messages = Vec::new();
    for (chain, statements) in chains(rules) {
        messages.push(plain_chain(INET, &chain, CREATE | EXCL));
        messages.extend(statements.into_iter().map(|statements| statements.append(INET, &chain)));
    }
    messages
}

/// The same whether or not the chains are there: what they held is gone, elements that lead to them stay. It deletes,
/// so closing the socket afterwards waits some milliseconds.
pub fn network_replacing(rules: &NetworkRules) -> Vec<NftMessage> {
    chains(rules).into_iter().flat_map(|(chain, statements)| replacing(&chain, statements)).collect()
}

/// The wall of the network's bridge as this network wants it, in the place of what it says now.
pub fn wall_replacing(rules: &NetworkRules) -> Vec<NftMessage> {
    replacing(&wall::chain(&rules.bridge), wall::rules(rules))
}

/// What deletes the chains of a network, and the walls of bridges: a transaction for each chain, since one may not be there,
/// or be led to still.
pub fn network_removing(network: &str, bridges: &[String]) -> Vec<Vec<NftMessage>> {
    // The first of them leads to the second.
    let own = [names::chain(network), names::chain_end(network)];
    let all = own.into_iter().chain(bridges.iter().map(|bridge| wall::chain(bridge)));
    all.map(|chain| vec![flush_chain(INET, &chain), remove_chain(INET, TABLE, &chain)]).collect()
}

/// A chain with these rules in the place of what it holds, whether or not it is there.
fn replacing(chain: &str, rules: Vec<Statements>) -> Vec<NftMessage> {
    let mut messages = vec![plain_chain(INET, chain, CREATE), flush_chain(INET, chain)];
    messages.extend(rules.into_iter().map(|statements| statements.append(INET, chain)));
    messages
}

/// What the kernel counts at least of chains of the network that nobody has emptied: rules, and what leads to it. Of the chain that elements of attachments lead to that says nothing: the one at its end tells instead.
pub fn network_uses(rules: &NetworkRules) -> Vec<(String, u32)> {
    let mut uses = Vec::new();
    if !chain_rules(rules).is_empty() {
        uses.push((names::chain_end(&rules.network), 1));
    }
    if rules.isolation.is_walled() && !rules.bridge.is_empty() {
        // The element of the bridge leads to it, and its last rule is there whatever else a network on the bridge wants.
        uses.push((wall::chain(&rules.bridge), 2));
    }
    uses
}

/// The network's chains, and how many rules each has when nobody has touched it.
pub fn network_rule_counts(rules: &NetworkRules) -> Vec<(String, usize)> {
    chains(rules).into_iter().map(|(chain, statements)| (chain, statements.len())).collect()
}

pub(super) fn chains(rules: &NetworkRules) -> Vec<(String, Vec<Statements>)> {
    let mut own = chain_rules(rules);
    let mut chains = Vec::with_capacity(3);
    if !own.is_empty() {
        // A chain without rules that the last rule leads to: how much leads there tells of the rules, in one answer of
        // the kernel's, what the count of their own chain does not, which every element of an attachment adds to.
        let end = names::chain_end(&rules.network);
        own.push(Statements::new().then(&Verdict::Goto(end.clone())));
        chains.push((end, Vec::new()));
    }
    chains.push((names::chain(&rules.network), own));
    if rules.isolation.is_walled() {
        chains.push((wall::chain(&rules.bridge), wall::rules(rules)));
    }
    chains
}

fn chain_rules(rules: &NetworkRules) -> Vec<Statements> {
    let back = |statements: Statements| statements.then(&Verdict::Return);
    let has_bridge = !rules.bridge.is_empty();
    let mut chain = Vec::with_capacity(7);
    if rules.hairpin {
        // Without it a container would answer its neighbour directly, from an address that the neighbour never asked.
        let out = if has_bridge { Statements::new().to(&rules.bridge) } else { Statements::new() };
        chain.push(out.published().masquerade());
    }
    if has_bridge {
        chain.push(back(Statements::new().to(&rules.bridge)));
    }
    if rules.masquerade {
        chain.extend(rules.inside.iter().map(|subnet| back(to_subnet(*subnet))));
        let link_local = [&[0xfe, 0x80][..], &[0; 14]].concat();
        let ten_bits = [&[0xff, 0xc0][..], &[0; 14]].concat();
        chain.extend([
            back(Statements::new().destination4([224, 0, 0, 0], Some([0xf0, 0, 0, 0]))),
            back(Statements::new().destination4([255; 4], None)),
            back(Statements::new().destination6(&[0xff], None)),
            back(Statements::new().destination6(&link_local, Some(&ten_bits))),
        ]);
        let outbound = [rules.outbound4.map(IpAddr::V4), rules.outbound6.map(IpAddr::V6)];
        chain.extend(outbound.into_iter().flatten().map(|address| Statements::new().source_nat(address)));
        chain.push(Statements::new().masquerade());
    }
    chain
}

fn to_subnet(subnet: IpNetwork) -> Statements {
    match subnet {
        IpNetwork::V4(v4) => Statements::new().destination4(v4.network().octets(), Some(v4.mask().octets())),
        IpNetwork::V6(v6) => {
            Statements::new().destination6(&v6.network().octets(), Some(&v6.mask().octets()))
        }
    }
}

/// The bridge's elements of the shared sets. They stay when attachments go, and networks on one bridge share them.
pub fn network_elements(rules: &NetworkRules) -> Vec<Element> {
    if rules.bridge.is_empty() {
        return Vec::new();
    }
    let owner = format!("network {}", rules.network);
    let mut elements = interface_elements(rules, &rules.bridge, &owner);
    // Translated to where it goes anyway, which is looked up before a port that is published on all addresses.
    elements.extend(rules.name_service().map(|(protocol, at)| {
        let (set, key) = key::published(&Publication { protocol, host: at, target: at, count: 1 });
        Element::new(set, key, Leads::To(key::target(at)), &owner)
    }));
    elements
}

/// The elements of a bridge, or of the host interface of one attachment.
fn interface_elements(rules: &NetworkRules, interface: &str, owner: &str) -> Vec<Element> {
    let bridge = interface_key(interface);
    let element = |set: Set, key: &[u8]| Element::new(set, key.to_vec(), Leads::Nowhere, owner);
    let pair = [bridge, bridge].concat();
    let mut elements = vec![element(Set::Bridges, &bridge)];
    if rules.knows_siblings() {
        let set = if rules.keeps_apart() { Set::Apart } else { Set::Within };
        elements.push(element(set, &pair));
    }
    if rules.ingress != IngressPolicy::Open {
        elements.push(element(Set::Walled, &bridge));
    }
    if rules.internal {
        elements.push(element(Set::Internal, &bridge));
    }
    if rules.isolation == Isolation::Strict {
        elements.push(element(Set::Strict, &bridge));
    }
    if rules.isolation.is_walled() {
        let wall = Leads::Goto(wall::chain(&rules.bridge));
        elements.push(Element::new(Set::Walls, bridge.to_vec(), wall, owner));
    }
    if rules.masquerade_all {
        elements.push(element(Set::MasqueradeAll, &bridge));
    }
    elements
}

/// Everything that an attachment adds: its published ports, its way out, its guarded MAC.
///
/// Empty where the attachment publishes nothing, is not masqueraded and not guarded: such an ADD does not notice
/// that the network's chain is missing.
pub fn attachment_elements(network: &NetworkRules, attachment: &AttachmentRules) -> Vec<Element> {
    let owner = owner_comment(&attachment.owner);
    let mut elements = Vec::with_capacity(attachment.publications.len() + 4);
    for publication in &attachment.publications {
        if publication.is_range() {
            elements.extend(range_elements(publication, &owner));
            continue;
        }
        let (set, key) = key::published(publication);
        elements.push(Element::new(set, key, Leads::To(key::target(publication.target)), &owner));
    }
    for run in opened(network, attachment) {
        let (set, first, last) = key::open(&run);
        elements.push(Element::new(set, first, Leads::Nowhere, &owner).up_to(last));
    }
    if network.masquerade || network.hairpin {
        let chain = names::chain(&network.network);
        for address in &attachment.addresses {
            let (set, key) = key::egress(*address);
            elements.push(Element::new(set, key, Leads::Goto(chain.clone()), &owner));
        }
    }
    if network.bridge.is_empty() && (attachment.walls || attachment.masqueraded) {
        let own = |element: &Element| match element.set {
            Set::MasqueradeAll => attachment.masqueraded,
            _ => attachment.walls,
        };
        elements
            .extend(interface_elements(network, &attachment.host_interface, &owner).into_iter().filter(own));
    }
    if let Some(mac) = attachment.only_mac {
        let interface = interface_key(&attachment.host_interface);
        let pair = key::source(&attachment.host_interface, mac);
        elements.push(Element::new(Set::Macs, pair, Leads::Nowhere, &owner));
        elements.push(Element::new(Set::Guarded, interface.to_vec(), Leads::Nowhere, &owner));
    }
    if !attachment.only_ips.is_empty() {
        let interface = interface_key(&attachment.host_interface);
        for address in &attachment.only_ips {
            let (set, pair) = key::pinned(&attachment.host_interface, *address);
            elements.push(Element::new(set, pair, Leads::Nowhere, &owner));
        }
        elements.push(Element::new(Set::Pinned, interface.to_vec(), Leads::Nowhere, &owner));
    }
    elements
}

/// A range of published ports: one element where the container's ports have the host's numbers, else one for each
/// window that shifts them, which is one but for ranges that start low.
fn range_elements(publication: &Publication, owner: &str) -> Vec<Element> {
    let v4 = publication.host.is_ipv4();
    let address = key::octets(publication.target.ip());
    let element = |set: Set, (first, last): (u16, u16), value: Vec<u8>| {
        let (from, to) = key::range(publication, first, last);
        Element::new(set, from, Leads::To(value), owner).up_to(to)
    };
    if !publication.is_shifted() {
        let set = if v4 { Set::Ranges4 } else { Set::Ranges6 };
        return vec![element(set, (publication.host.port(), publication.last_host_port()), address)];
    }
    let set = if v4 { Set::Shifts4 } else { Set::Shifts6 };
    let shifted = |window: Window| {
        let mut value = address.clone();
        key::put_port(&mut value, window.low);
        key::put_port(&mut value, window.high);
        element(set, (window.first, window.last), value)
    };
    windows(publication.host.port(), publication.target.port(), publication.count)
        .into_iter()
        .map(shifted)
        .collect()
}
