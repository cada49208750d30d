//! Addresses that are somebody else's too.

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;

use crate::model::names;
use crate::plan::Step;
use crate::sys::rtnl::{FoundRoute, Link};
use crate::view;

use super::files;
use super::finding::{Findings, Severity, Word};
use super::needs::{self, subnets};
use super::sight::Sight;

/// Where the host's name servers are written.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";
/// `RTN_UNICAST`, `RTN_BLACKHOLE`, `RTN_UNREACHABLE`, `RTN_PROHIBIT`.
const KINDS: [u8; 4] = [1, 6, 7, 8];

/// A subnet of a network.
struct Owned {
    network: String,
    /// The file, of one that has never been used.
    file: Option<String>,
    bridge: String,
    subnet: IpNetwork,
}

impl Owned {
    fn words(&self) -> String {
        match &self.file {
            None => format!("{} of network {}", self.subnet, self.network),
            Some(file) => format!("{} of network {} ({file})", self.subnet, self.network),
        }
    }
}

/// Compares all subnets with each other, with the host's routes and with its name servers.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let owned = owned(sight);
    for one in &owned {
        routes(sight, one, findings);
    }
    for (at, one) in owned.iter().enumerate() {
        for other in &owned[at + 1..] {
            shared(one, other, findings);
        }
    }
    nameservers(sight, &owned, findings);
}

/// The subnets of networks that have been used, and of configurations that have not. A macvlan network is of the
/// host's own.
fn owned(sight: &Sight<'_>) -> Vec<Owned> {
    let networks = view::networks(&sight.reading, &sight.attachments, &sight.leases);
    let over_host = |name: &str| {
        let mut all = sight.reading.records.attachments.iter().filter(|found| found.record.network == name);
        all.any(|found| found.record.plan.steps.iter().any(|step| matches!(step, Step::Macvlan(_))))
    };
    let mut owned = Vec::new();
    for network in networks.iter().filter(|network| !over_host(&network.name)) {
        owned.extend(network.subnets.iter().map(|subnet| Owned {
            network: network.name.clone(),
            file: None,
            bridge: network.bridge.clone(),
            subnet: *subnet,
        }));
    }
    for list in
        sight.given.lists.iter().filter(|list| !networks.iter().any(|network| network.name == list.name))
    {
        for plugin in
            list.plugins.iter().filter(|plugin| ["linkspan", "bridge", "ptp"].contains(&plugin.kind.as_str()))
        {
            let bridge = needs::text(plugin, "bridge").map_or_else(
                || if plugin.kind == "bridge" { "cni0".to_owned() } else { names::bridge(&list.name, 0) },
                str::to_owned,
            );
            owned.extend(subnets(plugin).map(|subnet| Owned {
                network: list.name.clone(),
                file: Some(list.path.display().to_string()),
                bridge: bridge.clone(),
                subnet,
            }));
        }
    }
    owned
}

fn routes(sight: &Sight<'_>, one: &Owned, findings: &mut Findings) {
    let host = &sight.reading.host;
    let link =
        |route: &FoundRoute| route.oif.and_then(|index| host.links.iter().find(|link| link.index == index));
    // A route to one address by a veth pair is a container's, of whoever routes to them.
    let is_container = |route: &FoundRoute, link: &Link| {
        link.kind.as_deref() == Some("veth")
            && route.dst.prefix() == if route.dst.is_ipv4() { 32 } else { 128 }
    };
    let is_own = |route: &FoundRoute, link: Option<&Link>| {
        link.is_some_and(|link| {
            link.group == names::LINK_GROUP || link.name == one.bridge || is_container(route, link)
        })
    };
    for route in host.routes.iter().filter(|route| KINDS.contains(&route.kind) && route.dst.prefix() > 0) {
        let link = link(route);
        if is_own(route, link) || !overlap(route.dst, one.subnet) {
            continue;
        }
        let by = link.map_or_else(|| "nowhere".to_owned(), |link| link.name.clone());
        let is_wider = route.dst.prefix() < one.subnet.prefix();
        let severity = if is_wider { Severity::Warning } else { Severity::Fault };
        let why = match is_wider {
            true => "whoever has one of these addresses beyond the host is not reached: the bridge is nearer",
            false if route.is_connected() => {
                "these are the host's own neighbours: a container may get the address of one of them, or of the host's \
                 router, and packets for either go astray"
            }
            false => "packets for these containers go there instead, or theirs come back to others",
        };
        findings.add(
            severity,
            Word::SubnetOverlap,
            format!("{} overlaps the host's route to {} by {by}", one.words(), route.dst),
            why,
            fix(route, &host.routes),
        );
    }
}

/// What mends an overlap. A route that the host itself leaves by is never to be deleted: its neighbours' own, and one to
/// the gateway of another.
fn fix(route: &FoundRoute, all: &[FoundRoute]) -> String {
    let another =
        "give the network another subnet (ipam.ranges in its configuration) and start its containers anew";
    let leads_on = all.iter().filter_map(|other| other.gateway).any(|gateway| route.dst.contains(gateway));
    if route.is_connected() || leads_on {
        return another.to_owned();
    }
    format!("{another}, or 'ip route del {}'", route.dst)
}

fn shared(one: &Owned, other: &Owned, findings: &mut Findings) {
    if one.network == other.network || one.bridge == other.bridge || !overlap(one.subnet, other.subnet) {
        return;
    }
    let in_use = one.file.is_none() && other.file.is_none();
    findings.add(
        if in_use { Severity::Fault } else { Severity::Warning },
        Word::SubnetShared,
        format!("{} overlaps {}", one.words(), other.words()),
        "the host has one route for these addresses: containers of one network are not reached while both are used",
        "give one of them another subnet: ipam.ranges in its configuration",
    );
}

/// A name server of the host with a container's address: queries for it stay on the bridge.
fn nameservers(sight: &Sight<'_>, owned: &[Owned], findings: &mut Findings) {
    let text = files::text(Path::new(RESOLVER)).unwrap_or_default();
    for server in servers(&text) {
        // A gateway of ours answers for names itself.
        if sight.reading.host.addresses.iter().any(|address| address.address.ip() == server) {
            continue;
        }
        let Some(inside) = owned.iter().find(|one| one.subnet.contains(server)) else { continue };
        findings.add(
            Severity::Warning,
            Word::NameserverInside,
            format!("the host's name server {server} has an address of {}", inside.words()),
            "queries go to the network's bridge and not beyond it: names do not resolve, on the host and in containers",
            "give the network another subnet (ipam.ranges in its configuration), or the host another name server",
        );
    }
}

pub(super) fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)?.split('%').next()?.parse().ok()
    })
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    let holds = |outer: IpNetwork, inner: IpNetwork| {
        outer.is_ipv4() == inner.is_ipv4() && outer.contains(inner.network())
    };
    holds(a, b) || holds(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_where_one_holds_the_other() {
        let of = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(
            of("10.0.0.0/8", "10.1.2.0/24")
                && of("10.1.2.0/24", "10.0.0.0/8")
                && of("fd00::/64", "fd00::/64")
        );
        assert!(!of("10.1.0.0/24", "10.1.1.0/24") && !of("10.1.0.0/24", "fd00::/64"));
    }

    #[test]
    fn name_servers_are_read_with_their_zones() {
        let found: Vec<IpAddr> =
            servers("# x\nnameserver 10.0.0.1\n nameserver fe80::1%eth0\nsearch a\nnameserver\n").collect();
        assert_eq!(found.len(), 2);
    }
}
