//! A subnet for a network that names none.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::model::{Range, names};

/// Where automatic subnets come from, in this order, and how large each is.
///
/// 10.208.0.0/12 first: private (RFC 1918), and away from what others take by default (Docker 172.17.0.0/16 and on,
/// podman 10.88.0.0/16 and 10.89.0.0/16, flannel 10.244.0.0/16, k3s 10.42.0.0/15, kubeadm services 10.96.0.0/12).
const POOLS: [Pool; 3] = [
    Pool { first: Ipv4Addr::new(10, 208, 0, 0), prefix: 12, subnet: 22 },
    Pool { first: Ipv4Addr::new(172, 16, 0, 0), prefix: 12, subnet: 22 },
    Pool { first: Ipv4Addr::new(192, 168, 0, 0), prefix: 16, subnet: 24 },
];

/// Routes shorter than this stand for "everything": the default route, and the halves of it that VPNs install.
const SHORTEST_PREFIX_IN_USE: u8 = 8;

struct Pool {
    first: Ipv4Addr,
    prefix: u8,
    subnet: u8,
}

/// The subnet of a network without ranges: the search starts at a place that follows from the network's name, so
/// that a network keeps its subnet when it is made again, and takes the first that overlaps nothing in use.
///
/// `in_use` are the routes and addresses of the host and the subnets of other networks; routes for more than a /8
/// are left out of account. The gateway is the first address. `None` when all 2,304 subnets overlap.
pub fn automatic_subnet(network: &str, in_use: &[IpNetwork]) -> Option<Range> {
    let in_use: Vec<Ipv4Network> = in_use
        .iter()
        .filter_map(|used| match used {
            IpNetwork::V4(v4) if v4.prefix() >= SHORTEST_PREFIX_IN_USE => Some(*v4),
            _ => None,
        })
        .collect();
    let place = u32::try_from(names::hash(network.as_bytes()) >> 32).unwrap_or(0);
    POOLS.iter().find_map(|pool| pool.first_free(place, &in_use)).map(range)
}

impl Pool {
    fn network(&self) -> Option<Ipv4Network> {
        Ipv4Network::new(self.first, self.prefix).ok()
    }

    fn first_free(&self, place: u32, in_use: &[Ipv4Network]) -> Option<Ipv4Network> {
        let whole = self.network()?;
        let near: Vec<&Ipv4Network> = in_use.iter().filter(|used| used.overlaps(whole)).collect();
        let count = 1u32 << (self.subnet - self.prefix);
        let size = 1u32 << (32 - self.subnet);
        (0..count).find_map(|turn| {
            let at = place.wrapping_add(turn) % count;
            let first = Ipv4Addr::from_bits(self.first.to_bits() + at * size);
            let subnet = Ipv4Network::new(first, self.subnet).ok()?;
            (!near.iter().any(|used| used.overlaps(subnet))).then_some(subnet)
        })
    }
}

fn range(subnet: Ipv4Network) -> Range {
    let gateway = IpAddr::V4(Ipv4Addr::from_bits(subnet.network().to_bits() + 1));
    let end = IpAddr::V4(Ipv4Addr::from_bits(subnet.broadcast().to_bits() - 1));
    Range { subnet: IpNetwork::V4(subnet), start: gateway, end, gateway: Some(gateway) }
}
