//! Forgetting tracked connections.
//!
//! A UDP flow lives as long as its packets come. One that was tracked before its port was published, or whose container is
//! gone, keeps going where it went; it has to be forgotten for the translation to be looked up anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use crate::model::Protocol;
use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Answer, Message, Socket};

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

/// So many questions to the kernel are asked one by one; for more, and for runs of ports, all flows of a protocol are
/// listed once.
const FEW: usize = 4;
/// Where no more than so many flows are tracked, all are listed, once for both families: the kernel walks its whole
/// table for each question, which takes longer than handing out what is in it.
const SMALL: u32 = 16 * 1024;

/// Which flows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flows {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Which end of them.
    pub end: FlowEnd,
    /// How many consecutive ports, from that of `end`.
    pub count: u16,
}

/// A tracked flow, as far as translation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport protocol, by its number in the IP header.
    pub protocol: u8,
    /// Where its first packet was sent to, before any translation.
    pub to: SocketAddr,
    /// Who answers it, after translation.
    pub answered_by: SocketAddr,
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

/// Forgets the flows of which `meant` agrees, given also what they were found by; says how many there were. Two system
/// calls where nothing is tracked.
///
/// The socket is one of [`Netfilter`](crate::sys::netlink::Protocol::Netfilter).
///
/// # Errors
/// As [`Socket::dump`]; that a flow ended by itself meanwhile is none.
pub fn forget(
    socket: &mut Socket,
    flows: &[Flows],
    meant: impl Fn(&Flows, &Flow) -> bool,
) -> Result<usize, SysError> {
    if flows.is_empty() {
        return Ok(0);
    }
    let tracked = count(socket)?;
    if tracked == 0 {
        return Ok(0);
    }
    let mut doomed = Vec::new();
    if tracked > SMALL && flows.len() <= FEW && flows.iter().all(|flows| flows.count == 1) {
        for each in flows {
            let entries = list(socket, each)?;
            doomed.extend(entries.iter().filter_map(|entry| pick(entry, [each].into_iter(), &meant)));
        }
    } else {
        let (runs, singles): (Vec<Flows>, Vec<Flows>) = flows.iter().partition(|flows| flows.count > 1);
        let mut by_port: HashMap<u16, Vec<Flows>> = HashMap::new();
        for each in singles {
            by_port.entry(each.end.address().port()).or_default().push(each);
        }
        let mut entries = Vec::new();
        if tracked <= SMALL {
            entries = list_all(socket)?;
        } else {
            for all in every_family(flows) {
                entries.extend(list(socket, &all)?);
            }
        }
        for entry in entries {
            let Some(flow) = Flow::parse(&entry) else { continue };
            let at = |port: u16| by_port.get(&port).into_iter().flatten();
            let ports = at(flow.to.port()).chain(at(flow.answered_by.port()));
            doomed.extend(pick(&entry, ports.chain(at(0)).chain(&runs), &meant));
        }
    }
    socket.transact(&doomed)?;
    Ok(doomed.len())
}

/// The deletion of an entry, where one of the flows means it.
fn pick<'a>(
    entry: &[u8],
    mut flows: impl Iterator<Item = &'a Flows>,
    meant: impl Fn(&Flows, &Flow) -> bool,
) -> Option<Message> {
    let flow = Flow::parse(entry)?;
    flows.find(|flows| flows.selects(&flow) && meant(flows, &flow)).map(|found| deletion(found, entry))
}

/// One question for each protocol and family among the flows: all that there are.
fn every_family(flows: &[Flows]) -> Vec<Flows> {
    let mut all: Vec<Flows> = Vec::new();
    for each in flows {
        let any: IpAddr = match each.end.address() {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let every = Flows { end: FlowEnd::To(SocketAddr::new(any, 0)), count: 1, ..*each };
        if !all.contains(&every) {
            all.push(every);
        }
    }
    all
}

/// All entries (without `nfgenmsg`) of all families and protocols.
fn list_all(socket: &mut Socket) -> Result<Vec<Vec<u8>>, SysError> {
    let all = Message::new(GET, 0, header(0, 0).to_vec(), "list", "the tracked connections");
    Ok(bodies(socket.dump(&all)?))
}

fn bodies(answers: Vec<Answer>) -> Vec<Vec<u8>> {
    answers.into_iter().filter_map(|answer| answer.body.get(4..).map(<[u8]>::to_vec)).collect()
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
    Ok(bodies(answers))
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

    /// Whether a flow is among them; the kernel's filter is not relied on.
    fn selects(&self, flow: &Flow) -> bool {
        let wanted = self.end.address();
        let found = match self.end {
            FlowEnd::To(_) => flow.to,
            FlowEnd::AnsweredBy(_) => flow.answered_by,
        };
        let (first, port) = (wanted.port(), found.port());
        flow.protocol == self.protocol.number()
            && found.is_ipv4() == wanted.is_ipv4()
            && (wanted.ip().is_unspecified() || found.ip() == wanted.ip())
            && (first == 0 || (first..=first.saturating_add(self.count.saturating_sub(1))).contains(&port))
    }
}

impl Flow {
    /// Reads an entry; `None` for one without ports.
    fn parse(entry: &[u8]) -> Option<Self> {
        let (original, reply) = (find(entry, CTA_TUPLE_ORIG)?, find(entry, CTA_TUPLE_REPLY)?);
        let protocol = *find(find(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?.first()?;
        let to = endpoint(original, [2, 4], CTA_PROTO_DST_PORT)?;
        Some(Self { protocol, to, answered_by: endpoint(reply, [1, 3], CTA_PROTO_SRC_PORT)? })
    }
}

/// Address and port of a tuple; `kinds` are the attributes of an IPv4 and an IPv6 address.
fn endpoint(tuple: &[u8], kinds: [u16; 2], port: u16) -> Option<SocketAddr> {
    let ip = find(tuple, CTA_TUPLE_IP)?;
    let address = match (find(ip, kinds[0]), find(ip, kinds[1])) {
        (Some(v4), _) => IpAddr::from(<[u8; 4]>::try_from(v4).ok()?),
        (None, v6) => IpAddr::from(<[u8; 16]>::try_from(v6?).ok()?),
    };
    let port = find(find(tuple, CTA_TUPLE_PROTO)?, port)?;
    Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?)))
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
