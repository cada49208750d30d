//! Addresses and ranges that a face refuses, in the words of the reference `host-local` and `static`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Theirs for one value under `ipam` or of the capabilities `ips` and `ipRanges`.
pub(super) fn of_value(key: &str, name: &str, value: &str, reason: &str) -> Option<String> {
    let set = set_of(key);
    Some(match name {
        "addresses" | "ranges" if reason.starts_with("cniVersion") => {
            let version = reason.split_whitespace().nth(1).unwrap_or_default();
            format!("CNI version {version} does not support more than 1 address per family")
        }
        "ranges" | "ipRanges" => format!("invalid range set {set}: empty range set"),
        "subnet" => of_subnet(set, value),
        "dst" => format!("invalid CIDR address: {value}"),
        "rangeStart" | "rangeEnd" | "gateway" | "gw" if value.parse::<IpAddr>().is_err() => {
            format!("invalid IP address: {value}")
        }
        "rangeStart" | "rangeEnd" => {
            let bound = if name == "rangeStart" { "RangeStart" } else { "RangeEnd" };
            let subnet = reason.split_whitespace().find(|word| word.parse::<IpNetwork>().is_ok())?;
            format!("invalid range set {set}: {bound} {value} not in network {subnet}")
        }
        "address" => format!("the 'address' field is expected to be in CIDR notation, got: '{value}'"),
        "ips" if reason.contains("prefix") => {
            format!("an entry in the 'ips' field is NOT in CIDR notation, got: '{value}'")
        }
        "ips" => format!("invalid IP address {value}"),
        _ => return None,
    })
}

/// As their `Canonicalize`: the size first, then the host bits.
fn of_subnet(set: usize, value: &str) -> String {
    let is_number = |length: &str| length.bytes().all(|byte| byte.is_ascii_digit());
    let is_cidr = value.rsplit_once('/').is_some_and(|(_, length)| is_number(length));
    let Some(subnet) = value.parse::<IpNetwork>().ok().filter(|_| is_cidr) else {
        return format!("invalid CIDR address: {value}");
    };
    if matches!(subnet.ip(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return format!("invalid range set {set}: IPNet IP and Mask version mismatch");
    }
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        return format!("invalid range set {set}: Network {value} too small to allocate from");
    }
    format!(
        "invalid range set {set}: Network has host bits set. For a subnet mask of length {} the network address is {}",
        subnet.prefix(),
        subnet.network()
    )
}

/// Theirs for two ranges that cannot stand together: `A (FIRST to LAST of SUBNET) and B (...)`, or with the subnets
/// alone where their families differ.
pub(super) fn of_conflict(keys: &str) -> Option<String> {
    let (one, other) = keys.split_once(") and ")?;
    let (one_place, one_range) = one.split_once(" (")?;
    let (other_place, other_range) = other.trim_end_matches(')').split_once(" (")?;
    let (first, second) = (set_of(one_place), set_of(other_place));
    let bounds = |range: &str| Some(range.split_once(" of ")?.0.replace(" to ", "-"));
    match (bounds(one_range), bounds(other_range)) {
        (Some(one), Some(other))
            if first == second && one_place.contains('[') == other_place.contains('[') =>
        {
            Some(format!("invalid range set {first}: subnets {one} and {other} overlap"))
        }
        // Of one list, or of the capability and the list, which then is the later one.
        (Some(_), Some(_)) if first == second => {
            Some(format!("range set {first} overlaps with {}", first + 1))
        }
        (Some(_), Some(_)) => {
            Some(format!("range set {} overlaps with {}", first.min(second), first.max(second)))
        }
        _ if [one_range, other_range].iter().all(|subnet| subnet.parse::<IpNetwork>().is_ok()) => {
            Some(format!("invalid range set {first}: mixed address families"))
        }
        // No ranges: two host ports, say.
        _ => None,
    }
}

/// The number of the range set that a key is in: the first index of its path.
fn set_of(key: &str) -> usize {
    let index = key.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    index.and_then(|(number, _)| number.parse().ok()).unwrap_or_default()
}
