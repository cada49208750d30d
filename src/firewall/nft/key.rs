//! Keys and values of elements: to bytes as registers hold them, and back to words.
//!
//! Every field starts at a multiple of four bytes; numbers are in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::firewall::Open;
use crate::model::{MacAddress, Protocol, Publication};

use super::set::{Field, Set, interface_key};

/// Which of the four maps a published port is in, and its key there.
pub(crate) fn published(publication: &Publication) -> (Set, Vec<u8>) {
    let mut key = vec![publication.protocol.number(), 0, 0, 0];
    let set = match publication.host.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Set::Ports4Any,
        IpAddr::V6(ip) if ip.is_unspecified() => Set::Ports6Any,
        IpAddr::V4(ip) => {
            key.extend(ip.octets());
            Set::Ports4
        }
        IpAddr::V6(ip) => {
            key.extend(ip.octets());
            Set::Ports6
        }
    };
    put_port(&mut key, publication.host.port());
    (set, key)
}

/// The first and the last key of a range of published ports, from `first` to `last`.
pub(crate) fn range(publication: &Publication, first: u16, last: u16) -> (Vec<u8>, Vec<u8>) {
    let all = |octet: u8| octets(publication.host.ip()).iter().map(|_| octet).collect();
    let (from, to) = match publication.host.ip() {
        ip if ip.is_unspecified() => (all(0), all(0xff)),
        ip => (octets(ip), octets(ip)),
    };
    let key = |address: Vec<u8>, port: u16| {
        let mut key = vec![publication.protocol.number(), 0, 0, 0];
        key.extend(address);
        put_port(&mut key, port);
        key
    };
    (key(from, first), key(to, last))
}

/// The value of a published port.
pub(crate) fn target(target: SocketAddr) -> Vec<u8> {
    let mut value = octets(target.ip());
    put_port(&mut value, target.port());
    value
}

/// Which set open ports of a container are in, and their first and last key there.
pub(crate) fn open(run: &Open) -> (Set, Vec<u8>, Vec<u8>) {
    let set = if run.address.is_ipv4() { Set::Open4 } else { Set::Open6 };
    let key = |port: u16| {
        let mut key = vec![run.protocol.number(), 0, 0, 0];
        key.extend(octets(run.address));
        put_port(&mut key, port);
        key
    };
    (set, key(run.first), key(run.last))
}

/// Which map an address goes out through, and its key there.
pub(crate) fn egress(address: IpAddr) -> (Set, Vec<u8>) {
    let set = if address.is_ipv4() { Set::Egress4 } else { Set::Egress6 };
    (set, octets(address))
}

/// A pair of interface and source MAC.
pub(crate) fn source(interface: &str, mac: MacAddress) -> Vec<u8> {
    let mut key = interface_key(interface).to_vec();
    key.extend(mac.0);
    key.extend([0, 0]);
    key
}

/// Which set a pair of interface and source address is in, and its key there.
pub(crate) fn pinned(interface: &str, address: IpAddr) -> (Set, Vec<u8>) {
    let set = if address.is_ipv4() { Set::Sources4 } else { Set::Sources6 };
    (set, [&interface_key(interface)[..], &octets(address)].concat())
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn put_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
}

/// What bytes of these fields say, one text a field; bytes that are too few give `?`.
pub(crate) fn words(fields: &[Field], mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::with_capacity(fields.len());
    for field in fields {
        let (own, rest) = bytes.split_at(field.width().min(bytes.len()));
        words.push(word(*field, own).unwrap_or_else(|| "?".to_owned()));
        bytes = rest;
    }
    words
}

fn word(field: Field, bytes: &[u8]) -> Option<String> {
    Some(match field {
        Field::Protocol => {
            let number = *bytes.first()?;
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|p| p.number() == number)
                .map_or_else(|| number.to_string(), |p| p.to_string())
        }
        Field::Direction => if *bytes.first()? == 0 { "original" } else { "reply" }.to_owned(),
        Field::Port => u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?).to_string(),
        Field::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).to_string(),
        Field::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?).to_string(),
        Field::Ether => MacAddress(bytes.get(..6)?.try_into().ok()?).to_string(),
        Field::Interface => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end)?).into_owned()
        }
    })
}

/// `10.0.0.1:80` or `[fd00::1]:80`.
pub(crate) fn endpoint(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
