//! The table `bridge linkspan`: what a container may claim to be, judged where its frames enter the bridge.
//!
//! A frame's protocol is asked of the kernel (`meta protocol`) and not read from the Ethernet header: a VLAN tag in
//! front, which the receiver strips, would hide it there. Extension headers of IPv6 are skipped by the kernel before
//! it looks for a transport header; fragmented neighbour discovery is refused by every receiver (RFC 6980).

use crate::model::nft::NftMessage;

use super::base::{base_chain, flush_chain, new_table, plain_chain};
use super::expression::{Header, Verdict};
use super::set::Set;
use super::statement::Statements;
use super::uapi::{BRIDGE, CREATE, EXCL, hook};

const PREROUTING: &str = "prerouting";
const PINNED: &str = "pinned";
const PINNED_ARP: &str = "pinned-arp";
const PINNED_IP: &str = "pinned-ip";
const PINNED_IP6: &str = "pinned-ip6";

/// The chain without rules whose name says which rules the table has: another release's are written anew.
pub(super) const LAYOUT: &str = "layout-2";

/// Ethernet types (`linux/if_ether.h`).
const ETHERNET_IP: u16 = 0x0800;
const ETHERNET_ARP: u16 = 0x0806;
const ETHERNET_IP6: u16 = 0x86dd;

/// Protocols in an IP header (IANA).
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Where a sender's address is: in ARP for Ethernet and IPv4, in IPv4, in IPv6.
const ARP_SENDER: (Header, u32, u32) = (Header::Network, 14, 4);
const IP_SOURCE: (Header, u32, u32) = (Header::Network, 12, 4);
const IP6_SOURCE: (Header, u32, u32) = (Header::Network, 8, 16);
/// The target of a neighbour solicitation or advertisement (RFC 4861).
const ND_TARGET: (Header, u32, u32) = (Header::Transport, 8, 16);

/// The table as no host has it yet. Made with `NLM_F_EXCL`, as [`super::base`] is.
pub fn guard_base() -> Vec<NftMessage> {
    let mut messages = vec![new_table(BRIDGE, CREATE | EXCL)];
    messages.extend(sets());
    messages.extend(chains());
    messages.extend(rules().into_iter().map(|(chain, statements)| statements.append(BRIDGE, chain)));
    messages
}

/// The table, its sets and its chains where they are missing, as [`super::base`]'s.
pub(super) fn foundation() -> Vec<NftMessage> {
    let mut messages = vec![new_table(BRIDGE, CREATE)];
    messages.extend(sets());
    messages.extend(chains());
    messages
}

/// The same for a table that an earlier release made: its elements stay.
pub fn guard_replacing() -> Vec<NftMessage> {
    let mut messages: Vec<NftMessage> = sets().chain(chains()).collect();
    let ours = [PREROUTING, PINNED, PINNED_ARP, PINNED_IP, PINNED_IP6];
    messages.extend(ours.map(|chain| flush_chain(BRIDGE, chain)));
    messages.extend(rules().into_iter().map(|(chain, statements)| statements.append(BRIDGE, chain)));
    messages
}

fn sets() -> impl Iterator<Item = NftMessage> {
    (1..).zip(Set::BRIDGE).map(|(id, set)| set.create(id))
}

fn chains() -> Vec<NftMessage> {
    let mut messages = vec![base_chain(BRIDGE, PREROUTING, "filter", hook::PREROUTING, -300)];
    messages.extend(
        [PINNED_ARP, PINNED_IP, PINNED_IP6, PINNED, LAYOUT].map(|name| plain_chain(BRIDGE, name, CREATE)),
    );
    messages
}

/// The table's chains and how many rules each has when nobody has touched it.
pub fn guard_rule_counts() -> Vec<(&'static str, usize)> {
    let rules = rules();
    let count = |name: &str| rules.iter().filter(|(chain, _)| *chain == name).count();
    [PREROUTING, PINNED, PINNED_ARP, PINNED_IP, PINNED_IP6].map(|name| (name, count(name))).to_vec()
}

pub(super) fn rules() -> Vec<(&'static str, Statements)> {
    let new = Statements::new;
    let goto = |chain: &str| Verdict::Goto(chain.to_owned());
    let mut rules = vec![
        (PREROUTING, new().entering(Set::Guarded).foreign_source(Set::Macs).then(&Verdict::Drop)),
        (PREROUTING, new().entering(Set::Pinned).then(&goto(PINNED))),
        (PINNED, new().protocol(ETHERNET_IP).then(&goto(PINNED_IP))),
        (PINNED, new().protocol(ETHERNET_IP6).then(&goto(PINNED_IP6))),
        (PINNED, new().protocol(ETHERNET_ARP).then(&goto(PINNED_ARP))),
        // Anything else may carry what is not seen here, as a second VLAN tag does.
        (PINNED, new().then(&Verdict::Drop)),
    ];
    rules.extend(arp().map(|statements| (PINNED_ARP, statements)));
    rules.extend(ip().map(|statements| (PINNED_IP, statements)));
    rules.extend(ip6().map(|statements| (PINNED_IP6, statements)));
    rules
}

fn arp() -> [Statements; 3] {
    let new = Statements::new;
    // A probe (RFC 5227) asks without claiming anything.
    let probe = new().bytes(Header::Network, 14, &[0; 4]).bytes(Header::Network, 6, &1u16.to_be_bytes());
    [
        new().own(ARP_SENDER, Set::Sources4).then(&Verdict::Accept),
        probe.then(&Verdict::Accept),
        new().then(&Verdict::Drop),
    ]
}

fn ip() -> [Statements; 5] {
    const REDIRECT: u8 = 5;
    const DHCP_SERVER: u16 = 67;
    const DHCP_CLIENT: u16 = 68;
    let new = Statements::new;
    let to_port = |port: u16| new().transport(UDP).bytes(Header::Transport, 2, &port.to_be_bytes());
    [
        new().transport(ICMP).bytes(Header::Transport, 0, &[REDIRECT]).then(&Verdict::Drop),
        to_port(DHCP_CLIENT).then(&Verdict::Drop),
        new().own(IP_SOURCE, Set::Sources4).then(&Verdict::Accept),
        // A DHCP client has no address yet.
        to_port(DHCP_SERVER).bytes(Header::Network, 12, &[0; 4]).then(&Verdict::Accept),
        new().then(&Verdict::Drop),
    ]
}

fn ip6() -> [Statements; 8] {
    const ADVERTISEMENT_OF_ROUTER: u8 = 134;
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    const DHCP_CLIENT: u16 = 546;
    let new = Statements::new;
    let icmp = |kind: u8| new().transport(ICMPV6).bytes(Header::Transport, 0, &[kind]);
    let nowhere = |statements: Statements| statements.bytes(Header::Network, 8, &[0; 16]);
    let to_client = new().transport(UDP).bytes(Header::Transport, 2, &DHCP_CLIENT.to_be_bytes());
    [
        icmp(ADVERTISEMENT_OF_ROUTER).then(&Verdict::Drop),
        icmp(REDIRECT).then(&Verdict::Drop),
        to_client.then(&Verdict::Drop),
        icmp(ADVERTISEMENT).strange(ND_TARGET, Set::Sources6).then(&Verdict::Drop),
        new().own(IP6_SOURCE, Set::Sources6).then(&Verdict::Accept),
        // Duplicate address detection: it asks for one's own.
        nowhere(icmp(SOLICITATION)).strange(ND_TARGET, Set::Sources6).then(&Verdict::Drop),
        // Multicast listeners report before they have an address.
        nowhere(new().transport(ICMPV6)).then(&Verdict::Accept),
        new().then(&Verdict::Drop),
    ]
}
