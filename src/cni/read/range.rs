//! Ranges of the reference `host-local`, and what makes one unusable.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::possible;

use crate::cni::address::is_mapped;
use crate::cni::error::Error;
use crate::cni::fields::{Fields, elements};
use crate::model::{Range, RangeSet};

/// A range set and where each of its ranges stands in the configuration.
pub(super) type PlacedSet = Vec<(String, Range)>;

/// Reads `ranges` or the capability `ipRanges`: lists of lists of ranges.
pub(super) fn read_range_sets(fields: &Fields<'_>, key: &str) -> Result<Vec<PlacedSet>, Error> {
    let mut sets = Vec::new();
    for (path, value) in fields.list(key)? {
        let mut set = PlacedSet::new();
        for (place, entry) in elements(value, &path)? {
            let range = read_range(&Fields::of(entry, place.clone())?)?;
            set.push((place, range));
        }
        let Some((_, first)) = set.first() else {
            return Err(Error::invalid(path, value, "must hold a range: [{\"subnet\": \"10.1.0.0/24\"}]"));
        };
        if let Some((place, odd)) =
            set.iter().find(|(_, range)| range.start.is_ipv4() != first.start.is_ipv4())
        {
            return Err(Error::Conflict {
                keys: format!("{path}[0] ({}) and {place} ({})", first.subnet, odd.subnet),
                reason: "a range set gives one address, and so is of one family; put them in two sets"
                    .to_owned(),
            });
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Reads one range; `fields` may be an entry of `ranges` or `ipam` itself.
pub(super) fn read_range(fields: &Fields<'_>) -> Result<Range, Error> {
    if fields.text("subnet")?.is_some_and(is_mapped) {
        let reason = "is an IPv4 subnet in IPv6 clothes; write it as 10.1.0.0/24 is written";
        return Err(fields.invalid("subnet", reason));
    }
    let subnet = fields
        .cidr("subnet")?
        .ok_or_else(|| fields.missing("subnet", "a range needs it, such as 10.1.0.0/24"))?;
    let (first, last) = usable(subnet).map_err(|reason| fields.invalid("subnet", reason))?;
    let inside = |key: &str| -> Result<Option<IpAddr>, Error> {
        let address = fields.address(key)?;
        if address.is_some_and(|address| !subnet.contains(address)) {
            return Err(fields.invalid(key, format!("must be inside the subnet {subnet}")));
        }
        Ok(address)
    };
    let written_start = inside("rangeStart")?;
    let written_end = inside("rangeEnd")?;
    if let (Some(start), Some(end)) = (written_start, written_end)
        && start > end
    {
        return Err(fields.invalid("rangeStart", format!("must not be above rangeEnd, {end}")));
    }
    // The network's and the broadcast address are never handed out, even where a bound names them.
    let start = written_start.map_or(first, |start| start.max(first));
    let end = written_end.map_or(last, |end| end.min(last));
    let gateway = inside("gateway")?.unwrap_or(first);
    if start > end || (start == end && start == gateway) {
        let key = if written_start.is_some() { "rangeStart" } else { "rangeEnd" };
        let reason = format!(
            "leaves no address to hand out: {subnet} has {first} to {last}, and {gateway} is the gateway"
        );
        return Err(fields.invalid(key, reason));
    }
    Ok(Range { subnet, start, end, gateway: Some(gateway) })
}

/// The first and the last address of a subnet that an interface may have.
fn usable(subnet: IpNetwork) -> Result<(IpAddr, IpAddr), String> {
    if subnet.ip() != subnet.network() {
        return Err(format!("has host bits set; write {}/{}", subnet.network(), subnet.prefix()));
    }
    if let Some(reason) = possible::reserved(subnet) {
        return Err(reason);
    }
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        return Err(format!(
            "is too small to hold a gateway and a container; the prefix must be at most /{longest}"
        ));
    }
    Ok(match subnet {
        IpNetwork::V4(v4) => {
            let (first, last) = (u32::from(v4.network()) + 1, u32::from(v4.broadcast()) - 1);
            (IpAddr::V4(first.into()), IpAddr::V4(last.into()))
        }
        IpNetwork::V6(v6) => {
            let (first, last) = (u128::from(v6.network()) + 1, u128::from(v6.broadcast()));
            (IpAddr::V6(first.into()), IpAddr::V6(last.into()))
        }
    })
}

/// Refuses ranges that share an address, across all sets.
pub(super) fn refuse_overlap(sets: &[PlacedSet]) -> Result<(), Error> {
    let mut all: Vec<&(String, Range)> = sets.iter().flatten().collect();
    // Ordered by start, any overlap shows between two neighbours.
    all.sort_by(|(_, one), (_, other)| match one.start.is_ipv4().cmp(&other.start.is_ipv4()) {
        Ordering::Equal => one.start.cmp(&other.start),
        unequal => unequal,
    });
    for pair in all.windows(2) {
        let [(one_place, one), (other_place, other)] = pair else { continue };
        if one.start.is_ipv4() == other.start.is_ipv4() && one.end >= other.start {
            let show = |place: &str, range: &Range| {
                format!("{place} ({} to {} of {})", range.start, range.end, range.subnet)
            };
            return Err(Error::Conflict {
                keys: format!("{} and {}", show(one_place, one), show(other_place, other)),
                reason: "the ranges overlap; narrow one with rangeStart or rangeEnd, or remove it".to_owned(),
            });
        }
    }
    Ok(())
}

/// Takes the gateways of other sets out of each set's ranges, which the search within a set would not know of: what one
/// container has for its gateway, no other has for its address.
pub(super) fn spare_gateways(sets: &mut [PlacedSet]) -> Result<(), Error> {
    let of = |set: &PlacedSet| set.iter().filter_map(|(_, range)| range.gateway).collect::<Vec<_>>();
    let all: Vec<IpAddr> = sets.iter().flat_map(of).collect();
    for set in sets {
        let own = of(set);
        for gateway in all.iter().filter(|gateway| !own.contains(gateway)) {
            if let Some(at) = set.iter().position(|(_, range)| range.contains(*gateway)) {
                let (place, range) = set.remove(at);
                let parts = around(&range, *gateway);
                if set.is_empty() && parts.is_empty() {
                    return Err(Error::Conflict {
                        keys: format!(
                            "{place} ({} to {}) and the gateway {gateway} of another range set",
                            range.start, range.end
                        ),
                        reason: "no address is left to hand out; widen the range, or choose another gateway"
                            .to_owned(),
                    });
                }
                set.splice(at..at, parts.into_iter().map(|part| (place.clone(), part)));
            }
        }
    }
    Ok(())
}

/// What is left of a range without one of its addresses: what comes before it, and what comes after.
fn around(range: &Range, address: IpAddr) -> Vec<Range> {
    let (before, after) = match address {
        IpAddr::V4(v4) => (
            v4.to_bits().checked_sub(1).map(|bits| IpAddr::V4(bits.into())),
            v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        ),
        IpAddr::V6(v6) => (
            v6.to_bits().checked_sub(1).map(|bits| IpAddr::V6(bits.into())),
            v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
        ),
    };
    let before = before.map(|end| Range { end, ..range.clone() });
    let after = after.map(|start| Range { start, ..range.clone() });
    [before, after].into_iter().flatten().filter(|part| part.start <= part.end).collect()
}

/// The sets without their places.
pub(super) fn without_places(sets: Vec<PlacedSet>) -> Vec<RangeSet> {
    sets.into_iter().map(|set| set.into_iter().map(|(_, range)| range).collect()).collect()
}
