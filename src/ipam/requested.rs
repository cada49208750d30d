//! Addresses that a runtime asks for.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{IpamError, Pool, pool::reserved};
use crate::cni::RequestedAddress;
use crate::model::RangeSet;

/// Gives each requested address to the range set that holds it: one entry for each range set, `None` where the
/// address is free to choose. The same address asked for twice counts once; prefix lengths are the subnet's.
///
/// # Errors
/// An address that no range set may hand out, or a second one for the same range set.
pub fn assign(
    range_sets: &[RangeSet],
    requested: &[RequestedAddress],
) -> Result<Vec<Option<IpAddr>>, IpamError> {
    let mut assigned = vec![None; range_sets.len()];
    for RequestedAddress { address, .. } in requested {
        let address = *address;
        let Some(at) = range_sets.iter().position(|set| Pool::new(set).contains(address)) else {
            return Err(refusal(range_sets, address));
        };
        match assigned[at] {
            Some(first) if first != address => {
                return Err(IpamError::TooMany { first, second: address });
            }
            _ => assigned[at] = Some(address),
        }
    }
    Ok(assigned)
}

fn refusal(range_sets: &[RangeSet], address: IpAddr) -> IpamError {
    let ranges = || range_sets.iter().flatten();
    if ranges().any(|range| range.gateway == Some(address)) {
        return IpamError::IsGateway { address };
    }
    for range in ranges() {
        let (network, broadcast) = reserved(&range.subnet);
        if network == Some(address) || broadcast == Some(address) {
            return IpamError::NotAHost { address };
        }
    }
    IpamError::InNoRange { address, ranges: describe(ranges()) }
}

fn describe<'a>(ranges: impl Iterator<Item = &'a crate::model::Range>) -> String {
    let mut text = String::new();
    for range in ranges {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{}-{}", range.start, range.end);
    }
    text
}
