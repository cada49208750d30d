//! Ranges of addresses to choose from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// One range: a subnet, and the part of it that may be handed out.
///
/// Invariants, kept by whoever reads a configuration: one family, `start` and `end` inside `subnet` and in order,
/// the subnet's host bits zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The subnet; its prefix length is what an address is given with.
    #[serde(serialize_with = "super::written::one")]
    pub subnet: IpNetwork,
    /// First address that may be handed out.
    pub start: IpAddr,
    /// Last address that may be handed out.
    pub end: IpAddr,
    /// The gateway, never handed out; `None` where the network has none.
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// Whether `address` may be handed out from here (the gateway may not).
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4()
            && self.start <= address
            && address <= self.end
            && self.gateway != Some(address)
    }
}

/// Ranges that serve one address of an attachment between them: an ADD takes one address of each range set.
pub type RangeSet = Vec<Range>;

/// The gateway where nobody names one: the first address of an address's subnet, and in a subnet of two the other one;
/// `None` where there is no other.
pub fn first_address(address: IpNetwork) -> Option<IpAddr> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // With its last bit turned, which a subnet's own address has as 0.
    let beside = |address: IpAddr| match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ 1)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ 1)),
    };
    match longest - address.prefix() {
        0 => None,
        1 => Some(beside(address.ip())),
        _ => Some(beside(address.network())),
    }
}

#[cfg(test)]
mod tests {
    use super::first_address;

    #[test]
    fn the_first_address_is_the_gateway_nobody_named() {
        let first = |text: &str| first_address(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(first("10.1.2.3/16").as_deref(), Some("10.1.0.1"));
        assert_eq!(first("fd00:1::5/64").as_deref(), Some("fd00:1::1"));
        assert_eq!(first("10.1.2.4/31").as_deref(), Some("10.1.2.5"));
        assert_eq!(first("10.1.2.5/31").as_deref(), Some("10.1.2.4"), "not the container's own");
        assert_eq!(first("fd00:1::7/127").as_deref(), Some("fd00:1::6"));
        assert_eq!(first("10.1.2.3/32"), None);
        assert_eq!(first("fd00:1::5/128"), None);
    }
}
