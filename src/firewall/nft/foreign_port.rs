//! A port that somebody else's rule publishes: `tcp dport 8080 dnat to 10.1.0.2:80`, with or without an address of the
//! host, as `portmap` of the reference plugins writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::attributes::{find, iterate};
use crate::model::{Protocol, Publication};

use super::uapi::{IPV4, data, rule};

/// `NFT_META_L4PROTO`.
const L4PROTO: u32 = 16;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Where the destination port stands in the headers of TCP, UDP and SCTP.
const DESTINATION_PORT: u32 = 2;

/// What a comparison is about: what was loaded last.
#[derive(Clone, Copy)]
enum Loaded {
    Nothing,
    Protocol,
    HostAddress,
    HostPort,
}

/// The ports that a rule of iptables-nft asks for with `-m multiport`, as it stands in one reply to
/// [`super::dump_rules`]; `None` for a rule without, and for ranges and `!`.
pub fn parse_multiport(attributes: &[u8]) -> Option<Vec<u16>> {
    /// `struct xt_multiport_v1`: flags, a count, ports of the host's byte order, for each whether it begins a range,
    /// and whether all is inverted.
    const PORTS: usize = 2;
    const RANGES: usize = 32;
    const SIZE: usize = 48;
    let of = |expression: &[u8]| {
        let body = find(expression, 2).filter(|_| find(expression, 1) == Some(b"match\0"))?;
        find(body, 3).filter(|_| find(body, 1) == Some(b"multiport\0")).map(<[u8]>::to_vec)
    };
    let info = iterate(find(attributes, rule::EXPRESSIONS)?).find_map(|(_, expression)| of(expression))?;
    let plain = info.get(RANGES..SIZE)?.iter().all(|byte| *byte == 0);
    let ports = info.get(PORTS..RANGES)?.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
    plain.then(|| ports.take(usize::from(info[1])).collect())
}

/// Reads one reply to [`super::dump_rules`] of a table of this family; `None` for a rule of another form.
pub fn parse_published(family: u8, attributes: &[u8]) -> Option<Publication> {
    let unspecified =
        if family == IPV4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let (mut protocol, mut host, mut port) = (None, unspecified, None);
    let (mut target, mut target_port) = (None, None);
    let mut loaded = Loaded::Nothing;
    for (_, expression) in iterate(find(attributes, rule::EXPRESSIONS)?) {
        let name = find(expression, 1).unwrap_or_default();
        let body = find(expression, 2).unwrap_or_default();
        let number = |kind: u16| find(body, kind).and_then(|v| Some(u32::from_be_bytes(v.try_into().ok()?)));
        let value = |kind: u16| find(body, kind).and_then(|found| find(found, data::VALUE));
        match name.strip_suffix(&[0]).unwrap_or(name) {
            b"meta" if number(2) == Some(L4PROTO) => loaded = Loaded::Protocol,
            b"payload" => loaded = loaded_by(number(2)?, number(3)?, number(4)?),
            b"cmp" if number(2) == Some(0) => match (loaded, value(3)?) {
                (Loaded::Protocol, [number]) => {
                    protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                        .into_iter()
                        .find(|p| p.number() == *number);
                }
                (Loaded::HostAddress, bytes) => host = address(bytes)?,
                (Loaded::HostPort, bytes) => port = Some(u16::from_be_bytes(bytes.try_into().ok()?)),
                _ => {}
            },
            b"immediate" => match value(2)? {
                bytes @ [_, _] => target_port = Some(u16::from_be_bytes([bytes[0], bytes[1]])),
                bytes => target = address(bytes),
            },
            _ => {}
        }
    }
    let port = port?;
    let target = SocketAddr::new(target?, target_port.unwrap_or(port));
    Some(Publication { protocol: protocol?, host: SocketAddr::new(host, port), target, count: 1 })
}

fn loaded_by(base: u32, offset: u32, length: u32) -> Loaded {
    match (base, offset, length) {
        // `struct iphdr` and `struct ipv6hdr`.
        (NETWORK, 16, 4) | (NETWORK, 24, 16) => Loaded::HostAddress,
        (TRANSPORT, DESTINATION_PORT, 2) => Loaded::HostPort,
        _ => Loaded::Nothing,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
