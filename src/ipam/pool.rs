//! The addresses of a range set as one line of numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::model::Range;

/// An unbroken run of addresses of one family, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u128,
    last: u128,
    v4: bool,
}

impl Span {
    fn length(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }
}

/// The addresses that a range set may hand out, numbered from 0 in the order of its ranges.
///
/// Left out: the network and broadcast address of an IPv4 subnet, and the subnet-router anycast address of an IPv6
/// one (RFC 4291, 2.6.1), also where a range names them. Gateways keep their number and are skipped by
/// [`Pool::address`], since they may lie in the middle.
#[derive(Debug, Clone)]
pub struct Pool {
    spans: Vec<Span>,
    gateways: Vec<IpAddr>,
}

impl Pool {
    /// The pool of a range set.
    pub fn new(range_set: &[Range]) -> Self {
        Self {
            spans: range_set.iter().filter_map(span).collect(),
            gateways: range_set.iter().filter_map(|range| range.gateway).collect(),
        }
    }

    /// How many numbers there are, gateways included. Saturates at `u128::MAX`.
    pub fn len(&self) -> u128 {
        self.spans.iter().fold(0, |sum, span| sum.saturating_add(span.length()))
    }

    /// Whether nothing can be handed out at all.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The address of a number; `None` for a gateway and past the end.
    pub fn address(&self, mut number: u128) -> Option<IpAddr> {
        for span in &self.spans {
            if number < span.length() {
                let address = from_number(span.first + number, span.v4);
                return (!self.gateways.contains(&address)).then_some(address);
            }
            number -= span.length();
        }
        None
    }

    /// The number of an address, also of a gateway; `None` where it is in no range.
    pub fn number(&self, address: IpAddr) -> Option<u128> {
        let value = to_number(address);
        let mut before: u128 = 0;
        for span in &self.spans {
            if span.v4 == address.is_ipv4() && (span.first..=span.last).contains(&value) {
                return Some(before.saturating_add(value - span.first));
            }
            before = before.saturating_add(span.length());
        }
        None
    }

    /// Whether an address may be handed out from here.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.number(address).is_some() && !self.gateways.contains(&address)
    }
}

/// How many addresses a range set can hand out, gateways not counted. Saturates at `u128::MAX`.
pub fn capacity(range_set: &[Range]) -> u128 {
    let pool = Pool::new(range_set);
    let mut gateways = pool.gateways.clone();
    gateways.sort_unstable();
    gateways.dedup();
    let lost = gateways.into_iter().filter(|gateway| pool.number(*gateway).is_some()).count();
    pool.len().saturating_sub(lost as u128)
}

fn span(range: &Range) -> Option<Span> {
    let v4 = range.start.is_ipv4();
    let (mut first, mut last) = (to_number(range.start), to_number(range.end));
    let (network, broadcast) = reserved(&range.subnet);
    if network.is_some_and(|address| to_number(address) == first) {
        first = first.checked_add(1)?;
    }
    if broadcast.is_some_and(|address| to_number(address) == last) {
        last = last.checked_sub(1)?;
    }
    (first <= last && range.end.is_ipv4() == v4).then_some(Span { first, last, v4 })
}

/// The addresses of a subnet that no host may have: its first, and its last where that is a broadcast address.
/// Subnets of one or two addresses have neither (RFC 3021, RFC 6164).
pub(super) fn reserved(subnet: &IpNetwork) -> (Option<IpAddr>, Option<IpAddr>) {
    match subnet {
        IpNetwork::V4(v4) if v4.prefix() < 31 => (Some(v4.network().into()), Some(v4.broadcast().into())),
        IpNetwork::V6(v6) if v6.prefix() < 127 => (Some(v6.network().into()), None),
        _ => (None, None),
    }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 {
        // A span of this family never leaves 32 bits.
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    }
}
