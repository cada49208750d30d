//! Reading numbers and addresses out of answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn u8_of(bytes: &[u8]) -> Option<u8> {
    bytes.first().copied()
}

pub(super) fn u16_of(bytes: &[u8]) -> Option<u16> {
    bytes.get(..2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

pub(super) fn u64_of(bytes: &[u8]) -> Option<u64> {
    bytes.get(..8)?.try_into().ok().map(u64::from_ne_bytes)
}

pub(super) fn u32_in(bytes: &[u8], at: usize) -> Option<u32> {
    u32_of(bytes.get(at..)?)
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

pub(super) fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
        _ => None,
    }
}

/// The octets of an address, as attributes hold them.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The unspecified address of a family: `AF_INET6` or else IPv4.
pub(super) fn unspecified(family: u8) -> IpAddr {
    if family == super::kernel::AF_INET6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

pub(super) fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { super::kernel::AF_INET } else { super::kernel::AF_INET6 }
}
