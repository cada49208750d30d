//! Rules in the words of `nft`: each method appends what one of its statements compiles to.

use crate::model::attributes::Attributes;
use crate::model::nft::NftMessage;

use super::element::comment;
use super::expression::{self, Compare, Conntrack, Found, Header, Meta, Ports, Register, Verdict};
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
pub(crate) struct Statements {
    expressions: Attributes,
    /// The chain that the rule leads to.
    comment: Option<&'static str>,
}

impl Statements {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `iifname != NAME`.
    pub(crate) fn not_from(mut self, interface: &str) -> Self {
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Unequal, &interface_key(interface));
        self
    }

    /// `iifname NAME`.
    pub(crate) fn from(mut self, interface: &str) -> Self {
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &interface_key(interface));
        self
    }

    /// `iifname "PREFIX*"`; an empty one is every interface, and no condition.
    pub(crate) fn input_begins(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
            expression::compare(&mut self.expressions, Compare::Equal, prefix.as_bytes());
        }
        self
    }

    /// `oifname vmap @SET`.
    pub(crate) fn by_output(mut self, set: Set) -> Self {
        expression::meta(&mut self.expressions, Meta::OutputName, Register::FIRST);
        expression::lookup(&mut self.expressions, set.name(), Found::Verdict);
        self
    }

    /// `oifname NAME`.
    pub(crate) fn to(mut self, interface: &str) -> Self {
        expression::meta(&mut self.expressions, Meta::OutputName, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &interface_key(interface));
        self
    }

    /// `oifname != NAME`.
    pub(crate) fn not_to(mut self, interface: &str) -> Self {
        expression::meta(&mut self.expressions, Meta::OutputName, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Unequal, &interface_key(interface));
        self
    }

    /// `iifname @SET`.
    pub(crate) fn entering(mut self, set: Set) -> Self {
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::lookup(&mut self.expressions, set.name(), Found::Member);
        self
    }

    /// `oifname @SET`.
    pub(crate) fn leaving(mut self, set: Set) -> Self {
        expression::meta(&mut self.expressions, Meta::OutputName, Register::FIRST);
        expression::lookup(&mut self.expressions, set.name(), Found::Member);
        self
    }

    /// `iifname . oifname @SET`.
    pub(crate) fn between(mut self, set: Set) -> Self {
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::meta(&mut self.expressions, Meta::OutputName, Register::SECOND);
        expression::lookup(&mut self.expressions, set.name(), Found::Member);
        self
    }

    /// `iifname . ether saddr != @SET`.
    pub(crate) fn foreign_source(mut self, set: Set) -> Self {
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::payload(&mut self.expressions, Header::Link, 6, 6, Register::SECOND);
        expression::lookup(&mut self.expressions, set.name(), Found::Stranger);
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
        expression::meta(&mut self.expressions, Meta::InputName, Register::FIRST);
        expression::payload(&mut self.expressions, header, offset, length, Register::SECOND);
        expression::lookup(&mut self.expressions, set.name(), found);
        self
    }

    /// `meta protocol TYPE`: what the kernel took the frame for, VLAN tags aside.
    pub(crate) fn protocol(mut self, ether_type: u16) -> Self {
        expression::meta(&mut self.expressions, Meta::Protocol, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &ether_type.to_be_bytes());
        self
    }

    /// `meta l4proto NUMBER`.
    pub(crate) fn transport(mut self, number: u8) -> Self {
        expression::meta(&mut self.expressions, Meta::Transport, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &[number]);
        self
    }

    /// `@HEADER,OFFSET,LENGTH BYTES`.
    pub(crate) fn bytes(mut self, header: Header, offset: u32, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        expression::payload(&mut self.expressions, header, offset, length, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, bytes);
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
        expression::conntrack(&mut self.expressions, key);
        expression::mask(&mut self.expressions, &bits.to_ne_bytes());
        expression::compare(&mut self.expressions, Compare::Unequal, &0u32.to_ne_bytes());
        self
    }

    /// `fib daddr type local`: the destination is an address of the host.
    pub(crate) fn bound_for_host(mut self) -> Self {
        expression::destination_type(&mut self.expressions);
        expression::compare(&mut self.expressions, Compare::Equal, &LOCAL.to_ne_bytes());
        self
    }

    fn family(&mut self, family: &Family) {
        expression::meta(&mut self.expressions, Meta::Family, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &[family.number]);
    }

    /// `ip saddr 127.0.0.0/8`.
    pub(crate) fn source_loopback(mut self) -> Self {
        self.family(&V4);
        expression::payload(&mut self.expressions, Header::Network, V4.source, 1, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &[127]);
        self
    }

    /// `ip daddr 127.0.0.0/8`.
    pub(crate) fn destination_loopback(mut self) -> Self {
        self.family(&V4);
        expression::payload(&mut self.expressions, Header::Network, V4.destination, 1, Register::FIRST);
        expression::compare(&mut self.expressions, Compare::Equal, &[127]);
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
        expression::payload(
            &mut self.expressions,
            Header::Network,
            family.destination,
            length,
            Register::FIRST,
        );
        if let Some(mask) = mask {
            expression::mask(&mut self.expressions, mask);
        }
        expression::compare(&mut self.expressions, Compare::Equal, address);
    }

    /// `ip saddr vmap @SET` or its like for IPv6, as the set's keys are.
    pub(crate) fn by_source(mut self, set: Set) -> Self {
        let family = if set == Set::Egress6 { V6 } else { V4 };
        self.family(&family);
        expression::payload(
            &mut self.expressions,
            Header::Network,
            family.source,
            family.length,
            Register::FIRST,
        );
        expression::lookup(&mut self.expressions, set.name(), Found::Verdict);
        self
    }

    /// `dnat to meta l4proto . [daddr .] th dport map @SET`, for one of the maps of published ports.
    pub(crate) fn translate(mut self, set: Set) -> Self {
        let v6 = matches!(set, Set::Ports6 | Set::Ports6Any | Set::Ranges6 | Set::Shifts6);
        let family = if v6 { V6 } else { V4 };
        self.family(&family);
        expression::meta(&mut self.expressions, Meta::Transport, Register::FIRST);
        let mut port = Register::word(1);
        if set.key().len() == 3 {
            expression::payload(
                &mut self.expressions,
                Header::Network,
                family.destination,
                family.length,
                port,
            );
            port = Register::word(1 + family.length / 4);
        }
        expression::payload(&mut self.expressions, Header::Transport, 2, 2, port);
        let words = family.length / 4;
        let (address, ports) = match set {
            Set::Ranges4 | Set::Ranges6 => (Register::FIRST, Ports::Kept),
            // Away from what the key was made in: `nft` would take that for the ports.
            Set::Shifts4 | Set::Shifts6 => {
                (Register::THIRD, Ports::Shifted(Register::word(8 + words), Register::word(9 + words)))
            }
            _ if v6 => (Register::FIRST, Ports::To(Register::SECOND)),
            _ => (Register::FIRST, Ports::To(Register::word(words))),
        };
        expression::lookup(&mut self.expressions, set.name(), Found::Value(address));
        expression::destination_nat(&mut self.expressions, family.number, address, ports);
        self
    }

    /// `comment "TEXT"`, of at most 127 bytes.
    pub(crate) fn comment(mut self, text: &'static str) -> Self {
        self.comment = Some(text);
        self
    }

    /// `snat ip to ADDRESS` or `snat ip6 to ADDRESS`.
    pub(crate) fn source_nat(mut self, address: std::net::IpAddr) -> Self {
        let (family, octets) = match address {
            std::net::IpAddr::V4(ip) => (V4, ip.octets().to_vec()),
            std::net::IpAddr::V6(ip) => (V6, ip.octets().to_vec()),
        };
        self.family(&family);
        expression::immediate(&mut self.expressions, &octets);
        expression::source_nat(&mut self.expressions, family.number);
        self
    }

    /// `counter`.
    pub(crate) fn counted(mut self) -> Self {
        expression::counter(&mut self.expressions);
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
        expression::meta(&mut self.expressions, Meta::Transport, Register::FIRST);
        let (address, port) = (Register::word(1), Register::word(1 + family.length / 4));
        expression::payload(
            &mut self.expressions,
            Header::Network,
            family.destination,
            family.length,
            address,
        );
        expression::payload(&mut self.expressions, Header::Transport, 2, 2, port);
        expression::lookup(&mut self.expressions, set.name(), Found::Member);
        self
    }

    /// `masquerade`.
    pub(crate) fn masquerade(mut self) -> Self {
        expression::masquerade(&mut self.expressions);
        self
    }

    /// A verdict.
    pub(crate) fn then(mut self, verdict: &Verdict) -> Self {
        expression::verdict(&mut self.expressions, verdict);
        self
    }

    /// Appends the expressions as an attribute.
    pub(crate) fn put(&self, attributes: &mut Attributes, kind: u16) {
        attributes.put(kind, self.expressions.as_bytes());
    }

    /// The message that appends the rule to a chain of the table `linkspan`.
    pub(crate) fn append(self, family: u8, chain: &str) -> NftMessage {
        let mut attributes = Attributes::new();
        attributes
            .put_str(rule::TABLE, super::TABLE)
            .put_str(rule::CHAIN, chain)
            .put(rule::EXPRESSIONS | crate::model::attributes::NESTED, self.expressions.as_bytes());
        if let Some(text) = self.comment {
            attributes.put(rule::USERDATA, &comment(text));
        }
        NftMessage { kind: msg::NEWRULE, family, flags: CREATE | APPEND, attributes: attributes.into_bytes() }
    }
}
