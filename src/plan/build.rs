//! Building the plan of an attachment.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use super::endpoint::{Macvlan, Routed};
use super::parts::Readings;
use super::sandbox::Sandbox;
use super::step::{
    Bridge, Claims, Firewall, Forwarding, Interface, Leases, Link, Plan, Port, Shape, Step, Vlans, Zone,
};
use super::{network, routes};
use crate::cni::{Ipam, LinkKeys, MacvlanKeys, NetworkConfig};
use crate::firewall::AttachmentRules;
use crate::model::{
    AttachmentKey, Lease, LeaseSource, MacAddress, MacvlanMode, Network, Publication, Range, RangeSet, Route,
    names,
};

/// What the IPAM part gave.
#[derive(Debug, Clone)]
pub struct Addressing {
    /// Who holds the leases.
    pub source: LeaseSource,
    /// The addresses, in the order of the result.
    pub leases: Vec<Lease>,
    /// The routes asked for, default routes of gateways included (see [`super::effective_routes`]).
    pub routes: Vec<Route>,
}

/// The plan of an attachment: what has to be there, in the order in which it is safe to make it.
///
/// The firewall comes last, so that a half-made container is never reachable, and `absent` starts with it.
pub fn build(
    config: &NetworkConfig,
    network: &Network,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    addressing: &Addressing,
) -> Plan {
    let addresses: Vec<IpAddr> = addressing.leases.iter().map(|lease| lease.address.ip()).collect();
    let mut publications: Vec<Publication> =
        config.portmap.mappings.iter().flat_map(|m| Publication::of(m, &addresses)).collect();
    publications.sort_unstable();
    publications.dedup();

    let translated = translated(config, &publications);
    let link = link(config, network, key, sandbox, &addresses);
    let mut steps = Vec::with_capacity(9);
    steps.extend(leases(key, addressing));
    if !publications.is_empty() {
        steps.push(Step::Claims(Claims {
            owner: key.clone(),
            publications: publications.clone(),
            waiting: Vec::new(),
            hold: config.portmap.hold,
            proxy: config.portmap.proxy,
        }));
    }
    if let Some(forwarding) = forwarding(config, &addresses) {
        steps.push(Step::Forwarding(forwarding));
    }
    let interface = interface(config, sandbox, key, link.mac, link.mtu, addressing);
    if config.link == LinkKeys::Ptp {
        let routed = routed(&link, &addressing.leases);
        steps.extend([Step::Link(link), Step::Routed(routed), Step::Interface(interface)]);
    } else {
        let port = port(config, &link, &addressing.leases);
        steps.push(Step::Bridge(bridge(config, network, &addressing.leases)));
        steps.extend([Step::Link(link), Step::Interface(interface), Step::Port(port)]);
    }
    if !config.bandwidth.is_empty() {
        steps.push(Step::Shape(Shape {
            host_name: names::host_interface(key),
            ifb_name: names::shaping_interface(key),
            ifb_mac: None,
            mtu: config.bridge.mtu.or(network.mtu),
            shaping: config.bandwidth,
        }));
    }
    steps.extend(zone(config, &addresses));
    let firewall = firewall(config, network, key, addresses, translated);
    if firewall.has_effect(config) {
        steps.push(Step::Firewall(Box::new(firewall)));
    }
    Plan { steps }
}

/// What the firewall translates: the publications, and where the agent is to serve 127.0.0.1, which packets from there
/// cannot leave without `snat`, a translation of that to itself, which comes before that of every address.
pub fn translated(config: &NetworkConfig, publications: &[Publication]) -> Vec<Publication> {
    translated_by(config.portmap.proxy, config.portmap.snat, publications)
}

/// The same, where only these two keys are known.
pub(super) fn translated_by(proxy: bool, snat: bool, publications: &[Publication]) -> Vec<Publication> {
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let mut all = publications.to_vec();
    if !proxy || snat {
        return all;
    }
    for publication in publications.iter().filter(|p| p.host.is_ipv4() && !p.is_range()) {
        let here = SocketAddr::new(LOOPBACK, publication.host.port());
        if publication.host.ip().is_unspecified() || publication.host == here {
            all.retain(|other| other.protocol != publication.protocol || other.host != here);
            all.push(Publication { host: here, target: here, ..*publication });
        }
    }
    all.sort_unstable();
    all
}

/// The lower device of a macvlan device, as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lower {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Option<MacAddress>,
}

/// The plan of an attachment by a macvlan device, which needs nothing of the host but the device below.
pub fn macvlan(
    config: &NetworkConfig,
    keys: &MacvlanKeys,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    addressing: &Addressing,
    lower: &Lower,
) -> Plan {
    let addresses: Vec<IpAddr> = addressing.leases.iter().map(|lease| lease.address.ip()).collect();
    // A device that passes everything through is the lower one, and another address would become that one's.
    let inherited = lower.mac.filter(|_| keys.mode == MacvlanMode::Passthru && config.mac.is_none());
    let mac = inherited.unwrap_or_else(|| container_mac(config, key, &addresses));
    let device = Macvlan {
        sandbox: sandbox.clone(),
        first_name: names::host_interface(key),
        name: key.interface.clone(),
        mac,
        master: lower.name.clone(),
        in_container: keys.link_in_container,
        mode: keys.mode,
        mtu: config.bridge.mtu,
        broadcast_queue: keys.broadcast_queue,
    };
    // Two networks on one device may give the same address, which their containers' own MACs then tell apart.
    let is_free = config.mac.is_none() && inherited.is_none();
    let interface = Interface {
        spare_mac: is_free.then(|| mac_by_name(key)).filter(|spare| *spare != mac),
        ..interface(config, sandbox, key, mac, config.bridge.mtu, addressing)
    };
    let mut steps: Vec<Step> = leases(key, addressing).into_iter().collect();
    steps.extend([Step::Macvlan(device), Step::Interface(interface)]);
    Plan { steps }
}

fn leases(key: &AttachmentKey, addressing: &Addressing) -> Option<Step> {
    let leases =
        Leases { owner: key.clone(), source: addressing.source.clone(), leases: addressing.leases.clone() };
    (addressing.source != LeaseSource::None).then_some(Step::Leases(leases))
}

fn routed(link: &Link, leases: &[Lease]) -> Routed {
    let mut gateways: Vec<IpNetwork> =
        leases.iter().filter_map(|lease| lease.gateway).map(IpNetwork::from).collect();
    gateways.dedup();
    let destinations = leases.iter().map(|lease| IpNetwork::from(lease.address.ip())).collect();
    Routed { host_name: link.host_name.clone(), gateways, destinations }
}

fn forwarding(config: &NetworkConfig, addresses: &[IpAddr]) -> Option<Forwarding> {
    // Nothing is forwarded for an internal network.
    let wanted = config.bridge.is_gateway && !config.isolation.internal;
    let forwarding = Forwarding {
        ipv4: wanted && addresses.iter().any(IpAddr::is_ipv4),
        ipv6: wanted && addresses.iter().any(IpAddr::is_ipv6),
    };
    (forwarding.ipv4 || forwarding.ipv6).then_some(forwarding)
}

fn bridge(config: &NetworkConfig, network: &Network, leases: &[Lease]) -> Bridge {
    let keys = &config.bridge;
    let mut gateways: Vec<IpNetwork> = Vec::new();
    for lease in leases.iter().filter(|_| keys.is_gateway) {
        let Some(gateway) = lease.gateway else { continue };
        let Ok(gateway) = IpNetwork::new(gateway, lease.address.prefix()) else { continue };
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    let siblings = ranges(config, network)
        .filter_map(|range| IpNetwork::new(range.gateway?, range.subnet.prefix()).ok())
        .filter(|gateway| !gateways.contains(gateway))
        .collect();
    let has_v4 = leases.iter().any(|lease| lease.address.is_ipv4());
    Bridge {
        name: network.bridge.clone(),
        mac: network.mac,
        mtu: keys.mtu.or(network.mtu),
        gateways,
        siblings,
        force_address: keys.force_address,
        promisc: keys.promisc,
        vlan_filtering: keys.vlan.is_some() || !keys.vlan_trunk.is_empty(),
        gateway_vlan: keys.vlan.filter(|_| keys.is_gateway),
        // For ports published by containers of this network, now or later: packets from 127.0.0.1 are routed to it.
        route_localnet: config.defaults.reads.portmap
            && config.portmap.snat
            && has_v4
            && !config.isolation.internal,
    }
}

/// Every range that the network hands out addresses from.
pub(super) fn ranges<'a>(config: &'a NetworkConfig, network: &'a Network) -> impl Iterator<Item = &'a Range> {
    let configured: &[RangeSet] = match &config.ipam {
        Ipam::HostLocal(host_local) => &host_local.range_sets,
        _ => &[],
    };
    configured.iter().chain(&network.automatic).flatten()
}

fn link(
    config: &NetworkConfig,
    network: &Network,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    addresses: &[IpAddr],
) -> Link {
    let host_name = names::host_interface(key);
    let bridge = (config.link == LinkKeys::Bridge).then(|| network.bridge.clone());
    Link {
        sandbox: sandbox.clone(),
        // All ports of a bridge have the address of the bridge itself: nobody speaks from them, and an address more is an
        // entry more in the bridge's table, which the kernel walks with each port that comes or goes.
        host_mac: bridge.as_ref().and(network.mac).unwrap_or_else(|| MacAddress::from_name(&host_name)),
        host_name,
        name: key.interface.clone(),
        mac: container_mac(config, key, addresses),
        bridge,
        mtu: config.bridge.mtu.or(network.mtu),
        tx_queue_len: config.tuning.tx_queue_len,
    }
}

/// The container's hardware address: the one asked for, else one that follows from its first address.
fn container_mac(config: &NetworkConfig, key: &AttachmentKey, addresses: &[IpAddr]) -> MacAddress {
    config.mac.unwrap_or_else(|| match addresses.first() {
        Some(address) => MacAddress::from_ip(*address),
        None => mac_by_name(key),
    })
}

/// The hardware address that follows from container and interface.
fn mac_by_name(key: &AttachmentKey) -> MacAddress {
    MacAddress::from_name(&key.to_string())
}

fn interface(
    config: &NetworkConfig,
    sandbox: &Sandbox,
    key: &AttachmentKey,
    mac: MacAddress,
    mtu: Option<u32>,
    addressing: &Addressing,
) -> Interface {
    let on_foreign_link = matches!(config.link, LinkKeys::Macvlan(_));
    let by_gateway = || addressing.leases.iter().filter(|lease| lease.gateway.is_some()).cloned().collect();
    Interface {
        sandbox: sandbox.clone(),
        name: key.interface.clone(),
        mac,
        mtu,
        by_gateway: if config.link == LinkKeys::Ptp { by_gateway() } else { Vec::new() },
        addresses: addressing.leases.iter().map(|lease| lease.address).collect(),
        routes: routes::with_next_hops(&addressing.routes, &addressing.leases),
        dad: config.bridge.enable_dad,
        advertisements: on_foreign_link,
        // Without an IPv6 address it would only be a way around the network's rules, and its making is multicast to
        // every container of the bridge. A layer-2 attachment is the container's own business.
        link_local: on_foreign_link
            || addressing.leases.is_empty()
            || addressing.leases.iter().any(|l| l.address.is_ipv6()),
        up: !config.bridge.disable_container_interface,
        promisc: config.tuning.promisc,
        allmulti: config.tuning.allmulti,
        sysctl: config.tuning.sysctl.clone(),
        readings: Readings::new(),
        spare_mac: None,
    }
}

fn port(config: &NetworkConfig, link: &Link, leases: &[Lease]) -> Port {
    let keys = &config.bridge;
    let has_vlans = keys.vlan.is_some() || !keys.vlan_trunk.is_empty();
    Port {
        host_name: link.host_name.clone(),
        sandbox: link.sandbox.clone(),
        name: link.name.clone(),
        mac: link.mac,
        hairpin: keys.hairpin,
        isolated: keys.port_isolation,
        vlans: Vlans {
            access: keys.vlan,
            trunk: keys.vlan_trunk.iter().map(|run| (run.first, run.last)).collect(),
            keep_default: has_vlans && keys.preserve_default_vlan,
        },
        up: !keys.disable_container_interface,
        // One address alone always has the same hardware address: nobody can know it by another. An announcement is
        // a broadcast, which the bridge copies to every container.
        announce: !keys.disable_container_interface && (config.mac.is_some() || leases.len() > 1),
    }
}

/// The zone of firewalld's that the addresses join, where one is named.
pub fn zone(config: &NetworkConfig, addresses: &[IpAddr]) -> Option<Step> {
    let zone = config.firewall.firewalld_zone.clone().filter(|_| !addresses.is_empty())?;
    Some(Step::Zone(Zone { zone, sources: addresses.to_vec() }))
}

fn firewall(
    config: &NetworkConfig,
    network: &Network,
    key: &AttachmentKey,
    addresses: Vec<IpAddr>,
    publications: Vec<Publication>,
) -> Firewall {
    let mac = container_mac(config, key, &addresses);
    let only_ips = if config.isolation.ip_spoof_check { own_sources(&addresses, mac) } else { Vec::new() };
    Firewall {
        backend: network.backend,
        network: network::rules(config, network),
        attachment: AttachmentRules {
            owner: key.clone(),
            host_interface: names::host_interface(key),
            addresses,
            publications,
            walls: false,
            masqueraded: false,
            only_mac: config.bridge.mac_spoof_check.then_some(mac),
            only_ips,
        },
        // The reference leaves that to its plugin `firewall`.
        admit: config.defaults.reads.firewall,
        counted: config.portmap.count,
    }
}

/// What a container may call itself: its addresses, and with IPv6 the link-local address that its interface makes.
fn own_sources(addresses: &[IpAddr], mac: MacAddress) -> Vec<IpAddr> {
    let mut sources = addresses.to_vec();
    if addresses.iter().any(IpAddr::is_ipv6) {
        sources.push(mac.link_local().into());
    }
    sources
}

impl Firewall {
    /// Whether there is anything to write: a layer-2 attachment without a guard needs no rule at all.
    fn has_effect(&self, config: &NetworkConfig) -> bool {
        let addressed = config.ipam != Ipam::None && !self.attachment.addresses.is_empty();
        // The base chains are there for linkspan's own networks, whatever they ask for.
        let needed = config.defaults.is_own() || self.network.acts();
        (addressed && needed) || self.attachment.only_mac.is_some()
    }
}
