//! Rules in the words of `nft`: each method appends what one of its statements compiles to.

use crate::model::attributes::Attributes;
use crate::model::nft::NftMessage;

use super::expression::{self, Compare, Conntrack, Found, Header, Meta, Register, Verdict};
use super::set::{Set, interface_key};
use super::uapi::{APPEND, CREATE, IPV4, IPV6, msg, rule};

/// Where the two IP headers have what rules ask for.
struct Family {
    number: u8,
    source: u32,
    destination: u32,
    length: u32,
}

const V4: Family = Family { number: IPV4, source: 12, destination: 16, length: 4 };
const V6: Family = Family { number: IPV6, source: 8, destination: 24, length: 16 };

/// `IPS_DST_NAT` of `linux/netfilter/nf_conntrack_common.h`.
const STATUS_DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED`.
const STATE_ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_BIT` of `IP_CT_RELATED`.
const STATE_RELATED: u32 = 1 << 2;
/// `RTN_LOCAL` of `linux/rtnetlink.h`.
const LOCAL: u32 = 2;

/// A rule that grows statement by statement and ends in a message.
#[derive(Debug, Default)]
pub(crate) struct Statements(Attributes);

impl Statements {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `iifname != NAME`.
    pub(crate) fn not_from(mut self, interface: &str) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::compare(&mut self.0, Compare::Unequal, &interface_key(interface));
        self
    }

    /// `iifname NAME`.
    pub(crate) fn from(mut self, interface: &str) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &interface_key(interface));
        self
    }

    /// `iifname "PREFIX*"`; an empty one is every interface, and no condition.
    pub(crate) fn input_begins(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
            expression::compare(&mut self.0, Compare::Equal, prefix.as_bytes());
        }
        self
    }

    /// `oifname vmap @SET`.
    pub(crate) fn by_output(mut self, set: Set) -> Self {
        expression::meta(&mut self.0, Meta::OutputName, Register::FIRST);
        expression::lookup(&mut self.0, set.name(), Found::Verdict);
        self
    }

    /// `oifname NAME`.
    pub(crate) fn to(mut self, interface: &str) -> Self {
        expression::meta(&mut self.0, Meta::OutputName, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &interface_key(interface));
        self
    }

    /// `oifname != NAME`.
    pub(crate) fn not_to(mut self, interface: &str) -> Self {
        expression::meta(&mut self.0, Meta::OutputName, Register::FIRST);
        expression::compare(&mut self.0, Compare::Unequal, &interface_key(interface));
        self
    }

    /// `iifname @SET`.
    pub(crate) fn entering(mut self, set: Set) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::lookup(&mut self.0, set.name(), Found::Member);
        self
    }

    /// `oifname @SET`.
    pub(crate) fn leaving(mut self, set: Set) -> Self {
        expression::meta(&mut self.0, Meta::OutputName, Register::FIRST);
        expression::lookup(&mut self.0, set.name(), Found::Member);
        self
    }

    /// `iifname . oifname @SET`.
    pub(crate) fn between(mut self, set: Set) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::meta(&mut self.0, Meta::OutputName, Register::SECOND);
        expression::lookup(&mut self.0, set.name(), Found::Member);
        self
    }

    /// `iifname . ether saddr != @SET`.
    pub(crate) fn foreign_source(mut self, set: Set) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::payload(&mut self.0, Header::Link, 6, 6, Register::SECOND);
        expression::lookup(&mut self.0, set.name(), Found::Stranger);
        self
    }

    /// `iifname . FIELD @SET`: the field, by header, offset and length, is one of the interface's own.
    pub(crate) fn own(self, field: (Header, u32, u32), set: Set) -> Self {
        self.pair(field, set, Found::Member)
    }

    /// `iifname . FIELD != @SET`.
    pub(crate) fn strange(self, field: (Header, u32, u32), set: Set) -> Self {
        self.pair(field, set, Found::Stranger)
    }

    fn pair(mut self, (header, offset, length): (Header, u32, u32), set: Set, found: Found) -> Self {
        expression::meta(&mut self.0, Meta::InputName, Register::FIRST);
        expression::payload(&mut self.0, header, offset, length, Register::SECOND);
        expression::lookup(&mut self.0, set.name(), found);
        self
    }

    /// `meta protocol TYPE`: what the kernel took the frame for, VLAN tags aside.
    pub(crate) fn protocol(mut self, ether_type: u16) -> Self {
        expression::meta(&mut self.0, Meta::Protocol, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &ether_type.to_be_bytes());
        self
    }

    /// `meta l4proto NUMBER`.
    pub(crate) fn transport(mut self, number: u8) -> Self {
        expression::meta(&mut self.0, Meta::Transport, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &[number]);
        self
    }

    /// `@HEADER,OFFSET,LENGTH BYTES`.
    pub(crate) fn bytes(mut self, header: Header, offset: u32, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        expression::payload(&mut self.0, header, offset, length, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, bytes);
        self
    }

    /// `ct status dnat`: the packet's connection goes to a published port.
    pub(crate) fn published(self) -> Self {
        self.conntrack_bits(Conntrack::Status, STATUS_DNAT)
    }

    /// `ct state established`.
    pub(crate) fn established(self) -> Self {
        self.conntrack_bits(Conntrack::State, STATE_ESTABLISHED)
    }

    /// `ct state related`: ICMP errors about a known connection, and what helpers expect.
    pub(crate) fn related(self) -> Self {
        self.conntrack_bits(Conntrack::State, STATE_RELATED)
    }

    fn conntrack_bits(mut self, key: Conntrack, bits: u32) -> Self {
        expression::conntrack(&mut self.0, key);
        expression::mask(&mut self.0, &bits.to_ne_bytes());
        expression::compare(&mut self.0, Compare::Unequal, &0u32.to_ne_bytes());
        self
    }

    /// `fib daddr type local`: the destination is an address of the host.
    pub(crate) fn bound_for_host(mut self) -> Self {
        expression::destination_type(&mut self.0);
        expression::compare(&mut self.0, Compare::Equal, &LOCAL.to_ne_bytes());
        self
    }

    fn family(&mut self, family: &Family) {
        expression::meta(&mut self.0, Meta::Family, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &[family.number]);
    }

    /// `ip saddr 127.0.0.0/8`.
    pub(crate) fn source_loopback(mut self) -> Self {
        self.family(&V4);
        expression::payload(&mut self.0, Header::Network, V4.source, 1, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &[127]);
        self
    }

    /// `ip daddr 127.0.0.0/8`.
    pub(crate) fn destination_loopback(mut self) -> Self {
        self.family(&V4);
        expression::payload(&mut self.0, Header::Network, V4.destination, 1, Register::FIRST);
        expression::compare(&mut self.0, Compare::Equal, &[127]);
        self
    }

    /// `ip daddr ADDRESS` where `mask` is `None`, else `ip daddr ADDRESS/MASK`.
    pub(crate) fn destination4(mut self, address: [u8; 4], mask: Option<[u8; 4]>) -> Self {
        self.family(&V4);
        self.destination(&V4, &address, mask.as_ref().map(<[u8; 4]>::as_slice));
        self
    }

    /// `ip6 daddr ADDRESS` where `mask` is `None`, else `ip6 daddr ADDRESS/MASK`. A mask of whole bytes is written
    /// as a shorter `address`, which is what `nft` does and recognises.
    pub(crate) fn destination6(mut self, address: &[u8], mask: Option<&[u8]>) -> Self {
        self.family(&V6);
        self.destination(&V6, address, mask);
        self
    }

    fn destination(&mut self, family: &Family, address: &[u8], mask: Option<&[u8]>) {
        let length = u32::try_from(address.len()).unwrap_or(family.length);
        expression::payload(&mut self.0, Header::Network, family.destination, length, Register::FIRST);
        if let Some(mask) = mask {
            expression::mask(&mut self.0, mask);
        }
        expression::compare(&mut self.0, Compare::Equal, address);
    }

    /// `ip saddr vmap @SET` or its like for IPv6, as the set's keys are.
    pub(crate) fn by_source(mut self, set: Set) -> Self {
        let family = if set == Set::Egress6 { V6 } else { V4 };
        self.family(&family);
        expression::payload(&mut self.0, Header::Network, family.source, family.length, Register::FIRST);
        expression::lookup(&mut self.0, set.name(), Found::Verdict);
        self
    }

    /// `dnat to meta l4proto . [daddr .] th dport map @SET`, for one of the four maps of published ports.
    pub(crate) fn translate(mut self, set: Set) -> Self {
        let family = if matches!(set, Set::Ports6 | Set::Ports6Any) { V6 } else { V4 };
        self.family(&family);
        expression::meta(&mut self.0, Meta::Transport, Register::FIRST);
        let mut port = Register::word(1);
        if matches!(set, Set::Ports4 | Set::Ports6) {
            expression::payload(&mut self.0, Header::Network, family.destination, family.length, port);
            port = Register::word(1 + family.length / 4);
        }
        expression::payload(&mut self.0, Header::Transport, 2, 2, port);
        expression::lookup(&mut self.0, set.name(), Found::Value);
        let target_port =
            if family.number == IPV6 { Register::SECOND } else { Register::word(family.length / 4) };
        expression::destination_nat(&mut self.0, family.number, target_port);
        self
    }

    /// `snat ip to ADDRESS` or `snat ip6 to ADDRESS`.
    pub(crate) fn source_nat(mut self, address: std::net::IpAddr) -> Self {
        let (family, octets) = match address {
            std::net::IpAddr::V4(ip) => (V4, ip.octets().to_vec()),
            std::net::IpAddr::V6(ip) => (V6, ip.octets().to_vec()),
        };
        self.family(&family);
        expression::immediate(&mut self.0, &octets);
        expression::source_nat(&mut self.0, family.number);
        self
    }

    /// `counter`.
    pub(crate) fn counted(mut self) -> Self {
        expression::counter(&mut self.0);
        self
    }

    /// `icmp type echo-request`.
    pub(crate) fn echo_request4(mut self) -> Self {
        self.family(&V4);
        self.transport(1).bytes(Header::Transport, 0, &[8])
    }

    /// `icmpv6 type echo-request`.
    pub(crate) fn echo_request6(mut self) -> Self {
        self.family(&V6);
        self.transport(58).bytes(Header::Transport, 0, &[128])
    }

    /// `meta l4proto . daddr . th dport @SET`.
    pub(crate) fn published_at(mut self, set: Set) -> Self {
        let family = if set == Set::Open6 { V6 } else { V4 };
        self.family(&family);
        expression::meta(&mut self.0, Meta::Transport, Register::FIRST);
        let (address, port) = (Register::word(1), Register::word(1 + family.length / 4));
        expression::payload(&mut self.0, Header::Network, family.destination, family.length, address);
        expression::payload(&mut self.0, Header::Transport, 2, 2, port);
        expression::lookup(&mut self.0, set.name(), Found::Member);
        self
    }

    /// `masquerade`.
    pub(crate) fn masquerade(mut self) -> Self {
        expression::masquerade(&mut self.0);
        self
    }

    /// A verdict.
    pub(crate) fn then(mut self, verdict: &Verdict) -> Self {
        expression::verdict(&mut self.0, verdict);
        self
    }

    /// The message that appends the rule to a chain of the table `linkspan`.
    pub(crate) fn append(self, family: u8, chain: &str) -> NftMessage {
        let mut attributes = Attributes::new();
        attributes
            .put_str(rule::TABLE, super::TABLE)
            .put_str(rule::CHAIN, chain)
            .put(rule::EXPRESSIONS | crate::model::attributes::NESTED, self.0.as_bytes());
        NftMessage { kind: msg::NEWRULE, family, flags: CREATE | APPEND, attributes: attributes.into_bytes() }
    }
}
