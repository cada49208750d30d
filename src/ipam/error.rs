//! Why a request for an address cannot be met.

use std::net::IpAddr;

/// A request that no range set can serve. None of these depends on what is taken at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// The address lies in no range.
    #[error("failed to allocate all requested IPs: {address} is in none of the network's ranges ({ranges})")]
    InNoRange {
        /// The address asked for.
        address: IpAddr,
        /// The ranges there are, for the reader.
        ranges: String,
    },
    /// The address is a gateway.
    #[error("requested ip {address} is subnet's gateway")]
    IsGateway {
        /// The address asked for.
        address: IpAddr,
    },
    /// The address is the network's or the broadcast address of its subnet.
    #[error("the requested address {address} is the network or broadcast address of its subnet")]
    NotAHost {
        /// The address asked for.
        address: IpAddr,
    },
    /// A range set gives one address, and two were asked of it.
    #[error("the requested addresses {first} and {second} are of one range set, which gives one address")]
    TooMany {
        /// The address that came first.
        first: IpAddr,
        /// The one that is too many.
        second: IpAddr,
    },
}
