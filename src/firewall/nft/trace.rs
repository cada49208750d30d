//! A table that has the kernel tell what becomes of a probe's packets, and of no others.
//!
//! A rule at the first hook of a packet's way marks it (`meta nftrace set 1`); from there on every rule that it matches,
//! of every table, is told to who listens. Empty chains at the other hooks tell that it came by, and the last ones that it
//! passed all others. The table is owned by the socket that made it (`NFT_TABLE_F_OWNER`, since Linux 5.12): the kernel
//! takes it away when that is closed, however its process ends, and nobody else can change it.

use std::net::IpAddr;

use crate::model::attributes::{Attributes, NESTED};
use crate::model::nft::NftMessage;

use super::expression::{self, Compare, Header, Meta, Register};
use super::uapi::{BRIDGE, CREATE, EXCL, INET, IPV4, IPV6, chain, hook, msg, rule, table};

/// The table's name, in the families inet and bridge.
pub const TRACE: &str = "linkspan-trace";
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 1 << 1;
/// Before everybody else's (`NF_IP_PRI_RAW_BEFORE_DEFRAG` is -450).
const FIRST: i32 = -460;
/// Right behind the tracking of connections (`NF_IP_PRI_CONNTRACK` is -200).
const TRACKED: i32 = -199;
/// Behind everybody else's; the confirmation of connections alone is later.
const LAST: i32 = 2_000_000_000;

/// `NFT_CT_*`: parts of a connection's tuple.
mod tuple {
    pub(super) const PROTOCOL: u32 = 10;
    pub(super) const SOURCE_PORT: u32 = 11;
    pub(super) const DESTINATION_PORT: u32 = 12;
    pub(super) const SOURCE_V4: u32 = 19;
    pub(super) const DESTINATION_V4: u32 = 20;
    pub(super) const SOURCE_V6: u32 = 21;
    pub(super) const DESTINATION_V6: u32 = 22;
}

/// The packets that are told of; what is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// IPv4 rather than IPv6.
    pub v4: bool,
    /// The number of the protocol in an IP header.
    pub protocol: u8,
    /// Who sends.
    pub from: Option<IpAddr>,
    /// To whom.
    pub to: Option<IpAddr>,
    /// From which port.
    pub from_port: Option<u16>,
    /// To which port.
    pub to_port: Option<u16>,
    /// The identifier of ICMP echo requests and replies.
    pub echo: Option<u16>,
    /// Only the first packets of TCP connections.
    pub opening: bool,
    /// At most so many a second, where others may send them too.
    pub rate: Option<u64>,
}

/// `IPPROTO_ICMP`, `IPPROTO_ICMPV6`.
const ICMP: [u8; 2] = [1, 58];

impl Traced {
    /// Every packet of a protocol.
    pub fn all(v4: bool, protocol: u8) -> Self {
        Self {
            v4,
            protocol,
            from: None,
            to: None,
            from_port: None,
            to_port: None,
            echo: None,
            opening: false,
            rate: None,
        }
    }

    /// The answers to them, untranslated.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            opening: false,
            ..self.clone()
        }
    }

    fn is_icmp(&self) -> bool {
        ICMP.contains(&self.protocol)
    }

    /// By their headers; on a bridge the frame says which family they are of.
    fn by_header(&self, family: u8) -> Attributes {
        let mut list = Attributes::new();
        if family == BRIDGE {
            expression::meta(&mut list, Meta::Protocol, Register::FIRST);
            let kind: u16 = if self.v4 { 0x0800 } else { 0x86dd };
            expression::compare(&mut list, Compare::Equal, &kind.to_be_bytes());
        } else {
            expression::meta(&mut list, Meta::Family, Register::FIRST);
            expression::compare(&mut list, Compare::Equal, &[if self.v4 { IPV4 } else { IPV6 }]);
        }
        expression::meta(&mut list, Meta::Transport, Register::FIRST);
        expression::compare(&mut list, Compare::Equal, &[self.protocol]);
        let offsets = if self.v4 { [12, 16] } else { [8, 24] };
        for (address, offset) in [self.from, self.to].into_iter().zip(offsets) {
            if let Some(octets) = address.map(octets) {
                field(&mut list, Header::Network, offset, &octets);
            }
        }
        let id = self.echo.map(|id| (4, id));
        let ports = [self.from_port.map(|port| (0, port)), self.to_port.map(|port| (2, port))];
        for (offset, value) in id.into_iter().chain(ports.into_iter().flatten()) {
            field(&mut list, Header::Transport, offset, &value.to_be_bytes());
        }
        if self.opening {
            // SYN without ACK.
            expression::payload(&mut list, Header::Transport, 13, 1, Register::FIRST);
            expression::mask(&mut list, &[0x12]);
            expression::compare(&mut list, Compare::Equal, &[0x02]);
        }
        self.told(list)
    }

    /// By the connection that they belong to, whatever it was translated to: answers, and errors about them.
    fn by_connection(&self) -> Attributes {
        let mut list = Attributes::new();
        let mut part = |key: u32, value: &[u8]| {
            expression::conntrack_original(&mut list, key);
            expression::compare(&mut list, Compare::Equal, value);
        };
        part(tuple::PROTOCOL, &[self.protocol]);
        let keys = match self.v4 {
            true => [tuple::SOURCE_V4, tuple::DESTINATION_V4],
            false => [tuple::SOURCE_V6, tuple::DESTINATION_V6],
        };
        for (address, key) in [self.from, self.to].into_iter().zip(keys) {
            if let Some(octets) = address.map(octets) {
                part(key, &octets);
            }
        }
        // The tuple of an echo request has its identifier where others have the source port.
        for (port, key) in
            [(self.from_port.or(self.echo), tuple::SOURCE_PORT), (self.to_port, tuple::DESTINATION_PORT)]
        {
            if let Some(port) = port.filter(|_| !(self.is_icmp() && key == tuple::DESTINATION_PORT)) {
                part(key, &port.to_be_bytes());
            }
        }
        self.told(list)
    }

    fn told(&self, mut list: Attributes) -> Attributes {
        if let Some(rate) = self.rate {
            expression::limit(&mut list, rate, 5);
        }
        expression::trace(&mut list);
        list
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn field(list: &mut Attributes, header: Header, offset: u32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or_default();
    expression::payload(list, header, offset, length, Register::FIRST);
    expression::compare(list, Compare::Equal, value);
}

/// The chains of the table: name, hook and priority, and whether packets are marked there.
const CHAINS: [(&str, u32, i32, Marks); 9] = [
    ("prerouting", hook::PREROUTING, FIRST, Marks::ByHeader),
    ("output", hook::OUTPUT, FIRST, Marks::ByHeader),
    ("prerouting-tracked", hook::PREROUTING, TRACKED, Marks::ByConnection),
    ("output-tracked", hook::OUTPUT, TRACKED, Marks::ByConnection),
    ("input", hook::INPUT, FIRST, Marks::Nothing),
    ("forward", hook::FORWARD, FIRST, Marks::Nothing),
    ("postrouting", hook::POSTROUTING, FIRST, Marks::Nothing),
    ("input-end", hook::INPUT, LAST, Marks::Nothing),
    ("postrouting-end", hook::POSTROUTING, LAST, Marks::Nothing),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    Nothing,
    ByHeader,
    ByConnection,
}

/// The tables, one transaction a family: packets of `these` are told of, the answers to them as `answers` describes
/// those, and with `by_connection` what belongs to their connections, however it was translated. That last has the kernel
/// track connections, where it does not already.
///
/// `EEXIST` where the table is there, `EPERM` where another process owns it; `EOPNOTSUPP` or `EINVAL` for `owned` before
/// Linux 5.12.
pub fn trace_table(
    family: u8,
    these: &Traced,
    answers: Option<&Traced>,
    by_connection: bool,
    owned: bool,
) -> Vec<NftMessage> {
    let mut messages =
        vec![about_table(family, msg::NEWTABLE, CREATE | EXCL, Some(if owned { OWNER } else { 0 }))];
    for (name, hook, priority, marks) in CHAINS {
        let tracked = marks == Marks::ByConnection;
        if tracked && (family == BRIDGE || !by_connection) {
            continue;
        }
        messages.push(base_chain(family, name, hook, priority));
        match marks {
            Marks::Nothing => {}
            Marks::ByHeader => {
                messages.extend(
                    [Some(these), answers]
                        .into_iter()
                        .flatten()
                        .map(|packets| rule_of(family, name, &packets.by_header(family))),
                );
            }
            Marks::ByConnection => messages.push(rule_of(family, name, &these.by_connection())),
        }
    }
    messages
}

/// The names of the chains, which tell of a packet's way and decide nothing.
pub fn trace_chains() -> impl Iterator<Item = &'static str> {
    CHAINS.into_iter().map(|(name, ..)| name)
}

/// Asks whether the table of a family is there: one reply, or `ENOENT`.
pub fn probe_trace(family: u8) -> NftMessage {
    about_table(family, msg::GETTABLE, 0, None)
}

/// Takes the table of a family away, `INET` or `BRIDGE`: `ENOENT` where it is not there, `EPERM` where another process
/// owns it.
pub fn remove_trace(family: u8) -> NftMessage {
    about_table(family, msg::DELTABLE, 0, None)
}

impl Traced {
    /// The families that packets are told of in: of IP, and of bridges.
    pub const FAMILIES: [u8; 2] = [INET, BRIDGE];
}

fn about_table(family: u8, kind: u8, flags: u16, table_flags: Option<u32>) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(table::NAME, TRACE);
    if let Some(table_flags) = table_flags {
        attributes.put_be32(table::FLAGS, table_flags);
    }
    NftMessage { kind, family, flags, attributes: attributes.into_bytes() }
}

fn base_chain(family: u8, name: &str, hook: u32, priority: i32) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(chain::TABLE, TRACE).put_str(chain::NAME, name).put_str(chain::TYPE, "filter").nest(
        chain::HOOK,
        |h| {
            h.put_be32(chain::HOOK_NUMBER, hook).put(chain::HOOK_PRIORITY, &priority.to_be_bytes());
        },
    );
    NftMessage { kind: msg::NEWCHAIN, family, flags: CREATE, attributes: attributes.into_bytes() }
}

fn rule_of(family: u8, name: &str, expressions: &Attributes) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(rule::TABLE, TRACE).put_str(rule::CHAIN, name);
    attributes.put(rule::EXPRESSIONS | NESTED, expressions.as_bytes());
    NftMessage { kind: msg::NEWRULE, family, flags: CREATE, attributes: attributes.into_bytes() }
}
