//! Routes, as configurations and results write them.

use ipnetwork::IpNetwork;

use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::Route;

/// What host bits in a destination do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cni) enum Destination {
    /// Those of IPv4 are an error, in words that show the right one: somebody's configuration can be mended. Those of IPv6
    /// are cleared: the kernel does so itself, and configurations that the reference plugins serve have them.
    Exact,
    /// They are cleared, as nothing else is judged that whoever made the route knows better, such as a next hop of the
    /// other family (RFC 5549): another plugin's result must be lived with.
    Masked,
}

/// Reads the list of routes under `key`.
pub(in crate::cni) fn read_routes(
    fields: &Fields<'_>,
    key: &str,
    destination: Destination,
) -> Result<Vec<Route>, Error> {
    let routes = fields
        .objects(key)?
        .iter()
        .map(|entry| read_route(entry, destination))
        .collect::<Result<Vec<_>, _>>()?;
    if destination == Destination::Exact {
        refuse_contradiction(&routes, &fields.path_of(key))?;
    }
    Ok(routes)
}

/// Refuses two routes of which the kernel would keep one: IPv6 knows a route by its place and its next hop alone.
fn refuse_contradiction(routes: &[Route], path: &str) -> Result<(), Error> {
    for (later, route) in routes.iter().enumerate().filter(|(_, route)| route.dst.is_ipv6()) {
        let contradicts = |one: &Route| {
            one.is_beside(route)
                && (one.gw, one.scope) == (route.gw, route.scope)
                && (one.mtu, one.advmss) != (route.mtu, route.advmss)
        };
        if let Some(first) = routes[..later].iter().position(contradicts) {
            return Err(Error::Conflict {
                keys: format!("{path}[{first}] and {path}[{later}] (both to {})", route.dst),
                reason: "only mtu or advmss tells them apart, and IPv6 keeps one of them; remove the other, or give \
                         it another priority"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn read_route(entry: &Fields<'_>, destination: Destination) -> Result<Route, Error> {
    const ANY: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;
    let written =
        entry.cidr("dst")?.ok_or_else(|| entry.missing("dst", "a route needs it, such as 0.0.0.0/0"))?;
    let dst = IpNetwork::new(written.network(), written.prefix()).unwrap_or(written);
    if destination == Destination::Exact && dst != written && dst.is_ipv4() {
        return Err(entry.invalid("dst", format!("has host bits set; write {dst}")));
    }
    let gw = entry.address("gw")?;
    if destination == Destination::Exact && !Route::via(dst, gw).is_of_one_family() {
        return Err(entry.invalid("gw", format!("must be of the family of dst, {dst}")));
    }
    let (mtus, sizes, scopes) = match destination {
        Destination::Exact => (0..=Route::MAX_MTU.into(), 0..=Route::MAX_ADVMSS.into(), 0..=254),
        Destination::Masked => (ANY, ANY, 0..=255),
    };
    let scope = entry.number("scope", scopes)?;
    if destination == Destination::Exact && dst.is_ipv4() && gw.is_some() && scope >= Some(Route::SCOPE_LINK)
    {
        let reason =
            "is needless where scope (253 and above) says that the destination is on the link; remove one";
        return Err(entry.invalid("gw", reason));
    }
    Ok(Route {
        dst,
        gw,
        mtu: entry.number("mtu", mtus)?.filter(|mtu| *mtu != 0),
        advmss: entry.number("advmss", sizes)?.filter(|advmss| *advmss != 0),
        priority: entry.number("priority", ANY)?.filter(|priority| *priority != 0),
        table: entry.number("table", ANY)?,
        scope,
    })
}
