//! The routes of a container: what the IPAM part asks for, and the default routes of a gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::model::{Lease, Route};

/// The routes of the result: those asked for as they are, and a default route for each family that has a gateway
/// and none yet, where `default_gateway` is set.
pub fn effective_routes(asked: &[Route], leases: &[Lease], default_gateway: bool) -> Vec<Route> {
    let mut routes = asked.to_vec();
    if !default_gateway {
        return routes;
    }
    for lease in leases {
        let Some(gateway) = lease.gateway else { continue };
        let dst = default_of(gateway);
        if !routes.iter().any(|route| route.dst == dst) {
            routes.push(Route::via(dst, Some(gateway)));
        }
    }
    routes
}

/// The routes as the kernel gets them: a missing next hop is the gateway of the first address of the family.
pub(super) fn with_next_hops(routes: &[Route], leases: &[Lease]) -> Vec<Route> {
    let gateway_of = |route: &Route| {
        leases.iter().filter(|lease| lease.address.is_ipv4() == route.dst.is_ipv4()).find_map(|l| l.gateway)
    };
    routes
        .iter()
        .map(|route| {
            // A route of link or host scope has no next hop: the destination is on the link.
            let direct = route.scope >= Some(Route::SCOPE_LINK);
            let gw = if direct { route.gw } else { route.gw.or_else(|| gateway_of(route)) };
            Route { gw, ..route.clone() }
        })
        .collect()
}

/// `0.0.0.0/0` or `::/0`.
fn default_of(family: IpAddr) -> IpNetwork {
    let unspecified = match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A prefix length of 0 fits both families, so the fallback is never taken.
    IpNetwork::new(unspecified, 0).unwrap_or_else(|_| IpNetwork::from(unspecified))
}
