//! What is written once for a network: its chain, and its bridge's place in the shared sets.

use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::nft::NftMessage;
use crate::model::{IngressPolicy, Publication, names};

use super::base::{about_chain, flush_chain, plain_chain};
use super::element::{Element, Leads, owner_comment};
use super::expression::Verdict;
use super::set::{Set, interface_key};
use super::shift::{Window, windows};
use super::statement::Statements;
use super::uapi::{CREATE, EXCL, INET, msg};
use super::{TABLE, key};

/// A network's chain, which decides on masquerading for what its attachments send.
///
/// Made with `NLM_F_EXCL`: `EEXIST` says that it is there already, and nothing is doubled. To change it, send
/// [`network_replacing`].
pub fn network(rules: &NetworkRules) -> Vec<NftMessage> {
    let chain = names::chain(&rules.network);
    let mut messages = vec![plain_chain(INET, &chain, CREATE | EXCL)];
    messages.extend(chain_rules(rules).into_iter().map(|statements| statements.append(INET, &chain)));
    messages
}

/// The same whether or not the chain is there: what it held is gone, elements that lead to it stay. It deletes, so
/// closing the socket afterwards waits some milliseconds.
pub fn network_replacing(rules: &NetworkRules) -> Vec<NftMessage> {
    let chain = names::chain(&rules.network);
    let mut messages = vec![plain_chain(INET, &chain, CREATE), flush_chain(INET, &chain)];
    messages.extend(chain_rules(rules).into_iter().map(|statements| statements.append(INET, &chain)));
    messages
}

/// Takes a network's chain away. `EBUSY` while an element leads to it, `ENOENT` where it is not there.
pub fn remove_network(network: &str) -> Vec<NftMessage> {
    let chain = names::chain(network);
    vec![flush_chain(INET, &chain), about_chain(INET, TABLE, &chain, msg::DELCHAIN, 0)]
}

/// How many rules the network's chain has when nobody has touched it.
pub fn network_rule_count(rules: &NetworkRules) -> usize {
    chain_rules(rules).len()
}

pub(super) fn chain_rules(rules: &NetworkRules) -> Vec<Statements> {
    let back = |statements: Statements| statements.then(&Verdict::Return);
    let mut chain = Vec::with_capacity(7);
    if rules.hairpin {
        // Without it a container would answer its neighbour directly, from an address that the neighbour never asked.
        chain.push(Statements::new().to(&rules.bridge).published().masquerade());
    }
    chain.push(back(Statements::new().to(&rules.bridge)));
    if rules.masquerade {
        let link_local = [&[0xfe, 0x80][..], &[0; 14]].concat();
        let ten_bits = [&[0xff, 0xc0][..], &[0; 14]].concat();
        chain.extend([
            back(Statements::new().destination4([224, 0, 0, 0], Some([0xf0, 0, 0, 0]))),
            back(Statements::new().destination4([255; 4], None)),
            back(Statements::new().destination6(&[0xff], None)),
            back(Statements::new().destination6(&link_local, Some(&ten_bits))),
            Statements::new().masquerade(),
        ]);
    }
    chain
}

/// The bridge's elements of the shared sets. They stay when attachments go, and networks on one bridge share them.
pub fn network_elements(rules: &NetworkRules) -> Vec<Element> {
    let owner = format!("network {}", rules.network);
    let bridge = interface_key(&rules.bridge);
    let element = |set: Set, key: &[u8]| Element::new(set, key.to_vec(), Leads::Nowhere, &owner);
    let pair = [bridge, bridge].concat();
    let mut elements = Vec::new();
    match rules.ingress {
        IngressPolicy::Open => {}
        IngressPolicy::SameBridge => {
            elements.extend([element(Set::Walled, &bridge), element(Set::Within, &pair)]);
        }
        IngressPolicy::Isolated => {
            elements.extend([element(Set::Walled, &bridge), element(Set::Apart, &pair)]);
        }
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
    if network.masquerade || network.hairpin {
        let chain = names::chain(&network.network);
        for address in &attachment.addresses {
            let (set, key) = key::egress(*address);
            elements.push(Element::new(set, key, Leads::Goto(chain.clone()), &owner));
        }
    }
    if let Some(mac) = attachment.only_mac {
        let interface = interface_key(&attachment.host_interface);
        let pair = key::source(&attachment.host_interface, mac);
        elements.push(Element::new(Set::Macs, pair, Leads::Nowhere, &owner));
        elements.push(Element::new(Set::Guarded, interface.to_vec(), Leads::Nowhere, &owner));
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
