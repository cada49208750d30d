//! Reading tracked connections.

use std::net::{IpAddr, SocketAddr};

use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::header;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_TIMEOUT: u16 = 7;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// Who sends; port 0 for protocols without ports.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Packets so far; `None` where `net.netfilter.nf_conntrack_acct` is off.
    pub packets: Option<u64>,
    /// Bytes so far, headers of layer 3 included; `None` likewise.
    pub bytes: Option<u64>,
}

/// A tracked connection, in both directions: after translation, the reply does not come from whom the first packet
/// was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The number of its protocol in an IP header.
    pub protocol: u8,
    /// As its first packet was sent.
    pub original: Direction,
    /// As the answers are.
    pub reply: Direction,
    /// `IPS_*` (`linux/netfilter/nf_conntrack_common.h`): 0x02 answered, 0x10 source and 0x20 destination translated.
    pub status: u32,
    /// Seconds until it is forgotten; `None` where the kernel does not say.
    pub timeout: Option<u32>,
}

/// The tracked connections of the socket's namespace that `wanted` wants, read one by one as they come.
///
/// # Errors
/// As [`Socket::dump`]; without CAP_NET_ADMIN the kernel refuses with `EPERM`.
pub fn list(socket: &mut Socket, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, SysError> {
    let body = Attributes::after(&header(0, 0)).into_bytes();
    let message = Message::new(GET, 0, body, "list", "the tracked connections");
    socket.dump_as(&message, |_, body| parse(body.get(4..)?).filter(&wanted))
}

fn parse(entry: &[u8]) -> Option<Flow> {
    let original = find(entry, CTA_TUPLE_ORIG)?;
    let protocol = *find(find(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?.first()?;
    Some(Flow {
        protocol,
        original: direction(original, find(entry, CTA_COUNTERS_ORIG))?,
        reply: direction(find(entry, CTA_TUPLE_REPLY)?, find(entry, CTA_COUNTERS_REPLY))?,
        status: find(entry, CTA_STATUS).and_then(be32).unwrap_or_default(),
        timeout: find(entry, CTA_TIMEOUT).and_then(be32),
    })
}

fn direction(tuple: &[u8], counters: Option<&[u8]>) -> Option<Direction> {
    let (ip, ports) = (find(tuple, CTA_TUPLE_IP)?, find(tuple, CTA_TUPLE_PROTO)?);
    let counter = |kind| counters.and_then(|all| find(all, kind)).and_then(be64);
    Some(Direction {
        from: SocketAddr::new(address(ip, 1, 3)?, port(ports, CTA_PROTO_SRC_PORT)),
        to: SocketAddr::new(address(ip, 2, 4)?, port(ports, CTA_PROTO_DST_PORT)),
        packets: counter(CTA_COUNTERS_PACKETS),
        bytes: counter(CTA_COUNTERS_BYTES),
    })
}

/// `CTA_IP_V4_*` or `CTA_IP_V6_*`, whichever is there.
fn address(ip: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(octets) = find(ip, v4) {
        return Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(find(ip, v6)?).ok()?))
}

fn port(ports: &[u8], kind: u16) -> u16 {
    let bytes = find(ports, kind).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_be_bytes).unwrap_or_default()
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
