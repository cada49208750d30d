//! Ranges of addresses to choose from.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// One range: a subnet, and the part of it that may be handed out.
///
/// Invariants, kept by whoever reads a configuration: one family, `start` and `end` inside `subnet` and in order,
/// the subnet's host bits zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The subnet; its prefix length is what an address is given with.
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
