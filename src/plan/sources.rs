//! Which table the packets from an address are routed by, and which routes go there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::parts::{SourceRoute, SourceTable, Sources};
use super::sandbox::Sandbox;
use crate::model::{Lease, Route};

/// The first table that is tried (reference `sbr`).
const FIRST_TABLE: u32 = 100;
/// The kernel's own tables: default, main, local (`linux/rtnetlink.h`).
const KERNEL_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// What has to be known of a container's routing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutingFacts {
    /// Tables that a rule or a route is about.
    pub used: BTreeSet<u32>,
    /// The interface's routes in the main table.
    pub routes: Vec<SourceRoute>,
    /// The interface's addresses.
    pub addresses: Vec<IpNetwork>,
    /// Every rule's source and table.
    pub rules: Vec<(IpNetwork, u32)>,
}

/// The step that routes what is sent from each of `addresses` by a table of its own, with the interface's routes that
/// serve the address; or by the administrator's `table`, which is left as it is.
pub fn sources(
    sandbox: &Sandbox,
    name: &str,
    addresses: &[Lease],
    facts: &RoutingFacts,
    table: Option<u32>,
) -> Sources {
    let mut step =
        Sources { sandbox: sandbox.clone(), name: name.to_owned(), tables: Vec::new(), moved: Vec::new() };
    let mut free =
        (FIRST_TABLE..).filter(|table| !facts.used.contains(table) && !KERNEL_TABLES.contains(table));
    for lease in addresses {
        let source = IpNetwork::from(lease.address.ip());
        let Some(number) = table.or_else(|| free.next()) else { break };
        let mut routes = Vec::new();
        if table.is_none() {
            routes.extend(lease.gateway.map(default_route));
            for found in facts.routes.iter().filter(|route| serves(route, lease.address)) {
                // It stands for the one that follows from the gateway.
                routes.retain(|known: &SourceRoute| {
                    known.route.dst != found.route.dst || known.route.gw != found.route.gw
                });
                routes.push(found.clone());
                if !step.moved.contains(found) {
                    step.moved.push(found.clone());
                }
            }
        }
        step.tables.push(SourceTable { source, table: number, routes });
    }
    step
}

/// Whether a route is for packets from an address: of its subnet, by way of its subnet, or for everybody. What is
/// link-local stays where it is: no address of the container's result is its source.
fn serves(route: &SourceRoute, address: IpNetwork) -> bool {
    let SourceRoute { route, source, .. } = route;
    if route.dst.is_ipv4() != address.is_ipv4() || is_link_local(route.dst.ip()) {
        return false;
    }
    let within = |ip: &IpAddr| address.contains(*ip);
    match (source, &route.gw) {
        (None, None) => true,
        (source, gateway) => source.as_ref().is_some_and(within) || gateway.as_ref().is_some_and(within),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast())
}

fn default_route(gateway: IpAddr) -> SourceRoute {
    let everything = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A prefix length of 0 fits both families, so the fallback is never taken.
    let dst = IpNetwork::new(everything, 0).unwrap_or_else(|_| IpNetwork::from(everything));
    SourceRoute { route: Route::via(dst, Some(gateway)), source: None, onlink: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gw: Option<&str>, source: Option<&str>) -> SourceRoute {
        let route = Route::via(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()));
        SourceRoute { route, source: source.map(|source| source.parse().unwrap()), onlink: false }
    }

    fn lease(address: &str, gateway: Option<&str>) -> Lease {
        Lease { address: address.parse().unwrap(), gateway: gateway.map(|gw| gw.parse().unwrap()) }
    }

    fn sandbox() -> Sandbox {
        Sandbox { path: "/run/netns/a".into(), device: 4, inode: 7, cookie: None }
    }

    #[test]
    fn each_address_gets_a_free_table_with_the_routes_that_serve_it() {
        let facts = RoutingFacts {
            used: [100, 102, 254, 255].into(),
            routes: vec![
                route("10.1.0.0/24", None, Some("10.1.0.2")),
                route("10.2.0.0/24", None, Some("10.2.0.2")),
                route("0.0.0.0/0", Some("10.1.0.1"), None),
                route("fe80::/64", None, None),
            ],
            ..RoutingFacts::default()
        };
        let addresses = [lease("10.1.0.2/24", Some("10.1.0.1")), lease("10.2.0.2/24", Some("10.2.0.1"))];
        let step = sources(&sandbox(), "eth1", &addresses, &facts, None);
        let numbers: Vec<u32> = step.tables.iter().map(|table| table.table).collect();
        assert_eq!(numbers, [101, 103]);
        let words = |table: &SourceTable| -> Vec<String> {
            table.routes.iter().map(|r| format!("{} {:?}", r.route.dst, r.route.gw)).collect()
        };
        assert_eq!(words(&step.tables[0]), ["10.1.0.0/24 None", "0.0.0.0/0 Some(10.1.0.1)"]);
        assert_eq!(words(&step.tables[1]), ["0.0.0.0/0 Some(10.2.0.1)", "10.2.0.0/24 None"]);
        assert_eq!(step.moved.len(), 3, "{:?}", step.moved);
        assert_eq!(step.tables[0].source, "10.1.0.2/32".parse().unwrap());
    }

    #[test]
    fn the_administrators_table_is_left_as_it_is() {
        let facts =
            RoutingFacts { routes: vec![route("10.1.0.0/24", None, None)], ..RoutingFacts::default() };
        let step = sources(&sandbox(), "eth1", &[lease("10.1.0.2/24", Some("10.1.0.1"))], &facts, Some(5000));
        assert_eq!((step.tables[0].table, step.tables[0].routes.len(), step.moved.len()), (5000, 0, 0));
    }
}
