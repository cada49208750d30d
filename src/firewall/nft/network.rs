//! What is written once for a network: its chain, and its bridge's place in the shared sets.

use ipnetwork::IpNetwork;

use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::nft::NftMessage;
use crate::model::{IngressPolicy, names};

use super::base::{about_chain, flush_chain, plain_chain};
use super::element::{Element, Leads, owner_comment};
use super::expression::Verdict;
use super::set::{Set, interface_key};
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
            Statements::new().masquerade(),
        ]);
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
    interface_elements(rules, &rules.bridge, &format!("network {}", rules.network))
}

/// The elements of a bridge, or of the host interface of one attachment.
fn interface_elements(rules: &NetworkRules, interface: &str, owner: &str) -> Vec<Element> {
    let bridge = interface_key(interface);
    let element = |set: Set, key: &[u8]| Element::new(set, key.to_vec(), Leads::Nowhere, owner);
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
    if attachment.walls && network.bridge.is_empty() {
        elements.extend(interface_elements(network, &attachment.host_interface, &owner));
    }
    if let Some(mac) = attachment.only_mac {
        let interface = interface_key(&attachment.host_interface);
        let pair = key::source(&attachment.host_interface, mac);
        elements.push(Element::new(Set::Macs, pair, Leads::Nowhere, &owner));
        elements.push(Element::new(Set::Guarded, interface.to_vec(), Leads::Nowhere, &owner));
    }
    elements
}
