//! Addresses and next hops that no kernel would take, or that would break the host: refused before anything is made.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cni::config::{Ipam, LinkKeys, NetworkConfig, StaticAddress};
use crate::cni::error::Error;
use crate::model::{RangeSet, Route, first_address};

/// What no container can have: the block, and whose it is.
const RESERVED: [(&str, &str); 5] = [
    ("0.0.0.0/8", "which stands for this network itself"),
    ("127.0.0.0/8", "each host's own loopback"),
    ("224.0.0.0/4", "which is multicast"),
    ("::/127", "the unspecified and the loopback address"),
    ("ff00::/8", "which is multicast"),
];

/// Why the addresses of a subnet cannot be a container's; `None` where they can.
pub(super) fn reserved(subnet: IpNetwork) -> Option<String> {
    let blocks = RESERVED.iter().filter_map(|(text, what)| Some((text.parse::<IpNetwork>().ok()?, what)));
    let overlaps = |block: IpNetwork| {
        block.is_ipv4() == subnet.is_ipv4()
            && (block.contains(subnet.network()) || subnet.contains(block.network()))
    };
    let (block, what) = { blocks }.find(|(block, _)| overlaps(*block))?;
    Some(format!("overlaps {block}, {what}; write a private one, such as {}", example(subnet)))
}

fn example(subnet: IpNetwork) -> &'static str {
    if subnet.is_ipv4() { "10.1.0.0/24" } else { "fd00:1::/64" }
}

/// The smallest MTU of a link with IPv6 (RFC 8200, section 5): with less the kernel takes no address of it.
const V6_MTU: u32 = 1280;

fn require_room_for_v6(config: &NetworkConfig) -> Result<(), Error> {
    let has_v6 = match &config.ipam {
        Ipam::HostLocal(keys) => keys.range_sets.iter().flatten().any(|range| range.subnet.is_ipv6()),
        Ipam::Static { addresses, .. } => addresses.iter().any(|entry| entry.address.is_ipv6()),
        Ipam::None | Ipam::Delegated { .. } => false,
    };
    match config.bridge.mtu {
        Some(mtu) if has_v6 && mtu < V6_MTU => Err(Error::Conflict {
            keys: format!("mtu = {mtu} and an IPv6 address"),
            reason: format!("IPv6 needs an MTU of {V6_MTU} or more; raise it, or leave IPv6 out"),
        }),
        _ => Ok(()),
    }
}

/// Refuses static addresses that are the network's or its gateway's, and next hops that are on none of the links.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Conflict`], code 7.
pub(super) fn require(config: &NetworkConfig) -> Result<(), Error> {
    require_room_for_v6(config)?;
    match &config.ipam {
        Ipam::Static { addresses, routes, .. } => {
            refuse_taken_by_network(addresses, config.bridge.is_gateway)?;
            // An interface that is routed to needs no address beside its own.
            if config.bridge.is_gateway && config.link != LinkKeys::Ptp {
                require_room_for_gateway(addresses)?;
            }
            let links = Links {
                subnets: addresses.iter().map(|entry| entry.address).collect(),
                gateways: addresses.iter().filter_map(|entry| entry.gateway).collect(),
                has_gateways: config.bridge.is_gateway
                    || addresses.iter().all(|entry| entry.gateway.is_some()),
            };
            links.require_next_hops(routes)
        }
        Ipam::HostLocal(keys) => require_next_hops(&keys.routes, &keys.range_sets),
        Ipam::None | Ipam::Delegated { .. } => Ok(()),
    }
}

/// Refuses next hops that are on none of the links of a container with addresses from ranges; any are taken where there
/// is no range, since the subnet is yet to be chosen.
///
/// # Errors
/// [`Error::Invalid`], code 7.
pub fn require_next_hops(routes: &[Route], range_sets: &[RangeSet]) -> Result<(), Error> {
    let ranges = || range_sets.iter().flatten();
    let links = Links {
        subnets: ranges().map(|range| range.subnet).collect(),
        gateways: ranges().filter_map(|range| range.gateway).collect(),
        has_gateways: true,
    };
    links.require_next_hops(routes)
}

/// The network's own address, its broadcast address, and a gateway's.
fn refuse_taken_by_network(addresses: &[StaticAddress], is_gateway: bool) -> Result<(), Error> {
    for StaticAddress { address, .. } in addresses {
        let has_ends = address.prefix() <= if address.is_ipv4() { 30 } else { 126 };
        if has_ends && address.ip() == address.network() {
            return refuse(*address, "is the address of the subnet itself, not of a container");
        }
        if has_ends && address.is_ipv4() && address.ip() == address.broadcast() {
            return refuse(*address, "is the subnet's broadcast address");
        }
        // As for leases: a gateway that nobody names is the first address, which then is the bridge's.
        let gateway = |entry: &StaticAddress| {
            entry.gateway.or_else(|| first_address(entry.address).filter(|_| is_gateway))
        };
        match addresses.iter().find(|entry| gateway(entry) == Some(address.ip())) {
            None => {}
            Some(entry) if entry.address == *address => {
                return refuse(*address, "is the gateway's own address");
            }
            Some(entry) => {
                return refuse(*address, &format!("is the gateway of {} beside it", entry.address));
            }
        }
    }
    Ok(())
}

fn refuse(address: IpNetwork, reason: &str) -> Result<(), Error> {
    let (key, value) = ("ipam.addresses".to_owned(), format!("\"{address}\""));
    Err(Error::Invalid { key, value, reason: format!("{reason}; choose another of the subnet") })
}

/// A bridge that is to be the gateway needs an address beside the container's, in one subnet of each family.
fn require_room_for_gateway(addresses: &[StaticAddress]) -> Result<(), Error> {
    let is_alone = |address: IpNetwork| address.prefix() == if address.is_ipv4() { 32 } else { 128 };
    let has_gateway = |entry: &StaticAddress| entry.gateway.is_some() || !is_alone(entry.address);
    let served = |ipv4: bool| addresses.iter().any(|e| e.address.is_ipv4() == ipv4 && has_gateway(e));
    match addresses.iter().find(|entry| !served(entry.address.is_ipv4())) {
        None => Ok(()),
        Some(StaticAddress { address, .. }) => Err(Error::Invalid {
            key: "ipam.addresses".to_owned(),
            value: format!("\"{address}\""),
            reason: "has no room beside it for the gateway that isGateway asks for; name one with the key gateway \
                     and a route of scope 253 to it, write a shorter prefix, or set isGateway to false"
                .to_owned(),
        }),
    }
}

/// What a container's next hops may be on.
struct Links {
    subnets: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
    /// Whether a route that names no next hop gets one.
    has_gateways: bool,
}

impl Links {
    fn require_next_hops(&self, routes: &[Route]) -> Result<(), Error> {
        for (place, route) in routes.iter().enumerate() {
            let Some(gw) = route.gw else { continue };
            if self.subnets.is_empty() || self.reaches(gw, routes) {
                continue;
            }
            let subnets: Vec<String> = self.subnets.iter().map(ToString::to_string).collect();
            return Err(Error::Invalid {
                key: format!("ipam.routes[{place}].gw"),
                value: format!("\"{gw}\""),
                reason: format!(
                    "is on no link of the container; it must be inside {}, or a route of scope 253 must lead to it",
                    subnets.join(" or ")
                ),
            });
        }
        Ok(())
    }

    fn reaches(&self, gw: IpAddr, routes: &[Route]) -> bool {
        let is_link_local = matches!(gw, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_direct = |route: &Route| {
            route.gw.is_none() && (!self.has_gateways || route.scope >= Some(Route::SCOPE_LINK))
        };
        is_link_local
            || self.gateways.contains(&gw)
            || self.subnets.iter().any(|subnet| subnet.contains(gw))
            || routes.iter().any(|route| is_direct(route) && route.dst.contains(gw))
    }
}
