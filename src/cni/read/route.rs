//! Routes, as configurations and results write them.

use ipnetwork::IpNetwork;

use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::Route;

/// What host bits in a destination do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cni) enum Destination {
    /// They are an error, in words that show the right one: somebody's configuration can be mended.
    Exact,
    /// They are cleared: another plugin's result must be lived with.
    Masked,
}

/// Reads the list of routes under `key`.
pub(in crate::cni) fn read_routes(
    fields: &Fields<'_>,
    key: &str,
    destination: Destination,
) -> Result<Vec<Route>, Error> {
    fields.objects(key)?.iter().map(|entry| read_route(entry, destination)).collect()
}

fn read_route(entry: &Fields<'_>, destination: Destination) -> Result<Route, Error> {
    const ANY: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;
    let written =
        entry.cidr("dst")?.ok_or_else(|| entry.missing("dst", "a route needs it, such as 0.0.0.0/0"))?;
    let dst = IpNetwork::new(written.network(), written.prefix()).unwrap_or(written);
    if destination == Destination::Exact && dst != written {
        return Err(entry.invalid("dst", format!("has host bits set; write {dst}")));
    }
    let gw = entry.address("gw")?;
    if gw.is_some_and(|gw| gw.is_ipv4() != dst.is_ipv4()) {
        return Err(entry.invalid("gw", format!("must be of the family of dst, {dst}")));
    }
    Ok(Route {
        dst,
        gw,
        mtu: entry.number("mtu", ANY)?.filter(|mtu| *mtu != 0),
        advmss: entry.number("advmss", ANY)?.filter(|advmss| *advmss != 0),
        priority: entry.number("priority", ANY)?.filter(|priority| *priority != 0),
        table: entry.number("table", ANY)?,
        scope: entry.number("scope", 0..=255)?,
    })
}
