//! Forgetting tracked connections.
//!
//! A UDP flow lives as long as its packets come. One that was tracked before its port was published, or whose container is
//! gone, keeps going where it went; it has to be forgotten for the translation to be looked up anew.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use crate::model::Protocol;
use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::header;

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATS: u16 = SUBSYSTEM | 5;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;

/// `CTA_FILTER_F_CTA_*`: which parts of a tuple to compare (net/netfilter/nf_conntrack_netlink.c).
const BY_SOURCE: u32 = 1;
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_SOURCE_PORT: u32 = 1 << 4;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// Which flows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flows {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Which end of them.
    pub end: FlowEnd,
}

/// An end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowEnd {
    /// Where its first packet was sent to, before any translation: a published port. An unspecified address stands
    /// for every address of its family.
    To(SocketAddr),
    /// Who answers it, after translation: a container's port. Port 0 stands for every port.
    AnsweredBy(SocketAddr),
}

impl FlowEnd {
    fn address(self) -> SocketAddr {
        match self {
            Self::To(address) | Self::AnsweredBy(address) => address,
        }
    }

    /// The tuple, its part for an address, its part for a port, and the filter's attribute and bits for them.
    fn parts(self) -> Parts {
        let v4 = self.address().is_ipv4();
        match self {
            Self::To(_) => Parts {
                tuple: CTA_TUPLE_ORIG,
                address: if v4 { 2 } else { 4 },
                port: CTA_PROTO_DST_PORT,
                by_address: BY_DESTINATION,
                by_port: BY_DESTINATION_PORT,
            },
            Self::AnsweredBy(_) => Parts {
                tuple: CTA_TUPLE_REPLY,
                address: if v4 { 1 } else { 3 },
                port: CTA_PROTO_SRC_PORT,
                by_address: BY_SOURCE,
                by_port: BY_SOURCE_PORT,
            },
        }
    }
}

struct Parts {
    tuple: u16,
    address: u16,
    port: u16,
    by_address: u32,
    by_port: u32,
}

/// How many flows the namespace of the socket tracks.
///
/// # Errors
/// Where the kernel lacks connection tracking.
pub fn count(socket: &mut Socket) -> Result<u32, SysError> {
    let message = Message::new(GET_STATS, 0, header(0, 0).to_vec(), "count", "the tracked connections");
    let answer = socket.get(&message)?;
    let entries = answer.as_ref().and_then(|a| find(a.body.get(4..)?, CTA_STATS_GLOBAL_ENTRIES));
    Ok(entries.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes).unwrap_or_default())
}

/// Forgets the flows, and says how many there were. Two system calls where nothing is tracked.
///
/// The socket is one of [`Netfilter`](crate::sys::netlink::Protocol::Netfilter).
///
/// # Errors
/// As [`Socket::dump`]; that a flow ended by itself meanwhile is none.
pub fn forget(socket: &mut Socket, flows: &[Flows]) -> Result<usize, SysError> {
    if flows.is_empty() || count(socket)? == 0 {
        return Ok(0);
    }
    let mut doomed = Vec::new();
    for each in flows {
        let found = list(socket, each)?;
        doomed.extend(found.iter().filter(|entry| each.selects(entry)).map(|entry| deletion(each, entry)));
    }
    socket.transact(&doomed)?;
    Ok(doomed.len())
}

/// The entries (without `nfgenmsg`) that the kernel's filter lets through: all of the family where it has none (before 5.8).
fn list(socket: &mut Socket, flows: &Flows) -> Result<Vec<Vec<u8>>, SysError> {
    let family = family_of(flows.end.address().ip());
    let filtered = Message::new(GET, 0, flows.request(family, true), "list", "the tracked connections");
    let answers = match socket.dump(&filtered) {
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {
            socket.dump(&Message { body: flows.request(family, false), ..filtered })?
        }
        other => other?,
    };
    Ok(answers.into_iter().filter_map(|answer| answer.body.get(4..).map(<[u8]>::to_vec)).collect())
}

impl Flows {
    fn request(&self, family: u8, filtered: bool) -> Vec<u8> {
        let mut attributes = Attributes::after(&header(family, 0));
        if !filtered {
            return attributes.into_bytes();
        }
        let (address, parts) = (self.end.address(), self.end.parts());
        // The kernel (seen with 6.18) compares IPv6 addresses the wrong way round: it lets through all but the right one.
        let by_address = address.is_ipv4() && !address.ip().is_unspecified();
        let by_port = address.port() != 0;
        let flags = BY_PROTOCOL
            | if by_address { parts.by_address } else { 0 }
            | if by_port { parts.by_port } else { 0 };
        attributes.nest(parts.tuple, |tuple| {
            if by_address {
                tuple.nest(CTA_TUPLE_IP, |ip| {
                    put_address(ip, parts.address, address.ip());
                });
            }
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.put_u8(CTA_PROTO_NUM, self.protocol.number());
                if by_port {
                    proto.put(parts.port, &address.port().to_be_bytes());
                }
            });
        });
        let of_original = parts.tuple == CTA_TUPLE_ORIG;
        attributes.nest(CTA_FILTER, |filter| {
            filter.put_u32(CTA_FILTER_ORIG_FLAGS, if of_original { flags } else { 0 });
            filter.put_u32(CTA_FILTER_REPLY_FLAGS, if of_original { 0 } else { flags });
        });
        attributes.into_bytes()
    }

    /// Whether an entry is meant; the kernel's filter is not relied on.
    fn selects(&self, entry: &[u8]) -> bool {
        let (address, parts) = (self.end.address(), self.end.parts());
        let Some(tuple) = find(entry, parts.tuple) else { return false };
        let ip = find(tuple, CTA_TUPLE_IP).and_then(|ip| find(ip, parts.address));
        let proto = find(tuple, CTA_TUPLE_PROTO).unwrap_or_default();
        let same_address = match address.ip() {
            any if any.is_unspecified() => ip.is_some(),
            IpAddr::V4(v4) => ip == Some(&v4.octets()[..]),
            IpAddr::V6(v6) => ip == Some(&v6.octets()[..]),
        };
        let port = address.port();
        same_address
            && find(proto, CTA_PROTO_NUM) == Some(&[self.protocol.number()][..])
            && (port == 0 || find(proto, parts.port) == Some(&port.to_be_bytes()[..]))
    }
}

/// The deletion of one entry: its first tuple, and its number so that no successor is hit.
fn deletion(flows: &Flows, entry: &[u8]) -> Message {
    let address = flows.end.address();
    let mut attributes = Attributes::after(&header(family_of(address.ip()), 0));
    for kind in [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE] {
        if let Some(value) = find(entry, kind) {
            let nested = if kind == CTA_TUPLE_ORIG { crate::model::attributes::NESTED } else { 0 };
            attributes.put(kind | nested, value);
        }
    }
    let object = format!("{} {address}", flows.protocol);
    Message::new(DELETE, 0, attributes.into_bytes(), "forget the tracked connection", object)
        .tolerating(Errno::ENOENT)
}

fn put_address(attributes: &mut Attributes, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => attributes.put(kind, &v4.octets()),
        IpAddr::V6(v6) => attributes.put(kind, &v6.octets()),
    };
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}
