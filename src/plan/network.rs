//! What belongs to a network rather than to one attachment of it.

use std::net::IpAddr;

use serde::Deserialize as _;

use ipnetwork::IpNetwork;

use crate::cni::{Backend, Ipam, LinkKeys, NetworkConfig};
use crate::firewall::NetworkRules;
use crate::model::{FirewallBackend, MacAddress, Mode, Network, Range, names};

use super::Firewall;
use super::build::ranges;

/// What the kernel gives a new link (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// What has to be known of the host before a network can be used for the first time.
#[derive(Debug, Clone)]
pub struct NetworkFacts {
    /// A bridge name that no foreign interface has.
    pub bridge: String,
    /// A hardware address for it, where it has to be made.
    pub mac: Option<MacAddress>,
    /// MTU of the interface of the default route.
    pub uplink_mtu: Option<u32>,
    /// Whether the kernel has nf_tables.
    pub has_nftables: bool,
    /// The subnet chosen for a network that names none.
    pub automatic: Option<Range>,
}

/// The first record of a network.
pub fn network(config: &NetworkConfig, facts: NetworkFacts) -> Network {
    Network {
        name: config.name.clone(),
        bridge: facts.bridge,
        mac: facts.mac,
        automatic: facts.automatic.map(|range| vec![vec![range]]).unwrap_or_default(),
        ranges: Vec::new(),
        leases: None,
        // The reference leaves it to the kernel.
        mtu: config.defaults.is_own().then(|| facts.uplink_mtu.unwrap_or(ETHERNET_MTU)),
        backend: match config.backend {
            Backend::Nftables => FirewallBackend::Nftables,
            Backend::Iptables => FirewallBackend::Iptables,
            Backend::Auto if facts.has_nftables => FirewallBackend::Nftables,
            Backend::Auto => FirewallBackend::Iptables,
        },
        gc_after: config.gc_after,
        admitted: Vec::new(),
        rules: serde_json::Value::Null,
        left: Vec::new(),
    }
}

/// The static rules that a configuration asks for. A face knows some of them; the others are as the other plugins of
/// the list have left them.
pub fn rules(config: &NetworkConfig, network: &Network) -> NetworkRules {
    let reads = config.defaults.reads;
    let recorded = if config.defaults.is_own() { None } else { written(network) };
    let mut rules = recorded
        .unwrap_or_else(|| NetworkRules::bare(&config.name, &config.defaults.firewall_keys().admin_chain));
    rules.bridge = bridge(config, network, &rules.bridge);
    let addressed = config.ipam != Ipam::None;
    if reads.bridge {
        rules.masquerade = config.bridge.ip_masq && addressed;
        rules.inside = if config.link == LinkKeys::Ptp { subnets(config) } else { Vec::new() };
    }
    if config.naming.is_some() && config.bridge.is_gateway {
        rules.served = gateways(config, network);
    }
    if config.defaults.isolates {
        let keys = &config.isolation;
        rules.isolation = keys.isolation;
        rules.trusted.clone_from(&keys.trusted);
        rules.internal = keys.internal;
        rules.apart = !keys.icc;
        rules.routed = keys.mode == Mode::Routed;
        rules.outbound4 = keys.outbound4;
        rules.outbound6 = keys.outbound6;
    }
    if reads.portmap {
        rules.hairpin = config.portmap.snat && (addressed || !reads.ipam);
        rules.masquerade_all = config.portmap.masq_all;
        rules.mark_chain.clone_from(&config.portmap.external_set_mark_chain);
        rules.conditions_v4.clone_from(&config.portmap.conditions_v4);
        rules.conditions_v6.clone_from(&config.portmap.conditions_v6);
    }
    if reads.firewall {
        rules.ingress = config.firewall.ingress;
        rules.admin_chain.clone_from(&config.firewall.admin_chain);
    }
    rules
}

/// The gateways that a network may have, as far as the configuration tells: each range's, whichever is used first.
fn gateways(config: &NetworkConfig, network: &Network) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = match &config.ipam {
        Ipam::Static { addresses, .. } => addresses.iter().filter_map(|a| a.gateway).collect(),
        _ => ranges(config, network).filter_map(|range| range.gateway).collect(),
    };
    gateways.sort_unstable();
    gateways.dedup();
    gateways
}

/// The subnets that a network's addresses are of, as far as the configuration tells; as the kernel's rules have them.
fn subnets(config: &NetworkConfig) -> Vec<IpNetwork> {
    let mut subnets: Vec<IpNetwork> = match &config.ipam {
        Ipam::HostLocal(host_local) => {
            host_local.range_sets.iter().flatten().map(|range| range.subnet).collect()
        }
        Ipam::Static { addresses, .. } => addresses.iter().map(|a| a.address).collect(),
        _ => Vec::new(),
    };
    for subnet in &mut subnets {
        *subnet = IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(*subnet);
    }
    subnets.sort_unstable();
    subnets.dedup();
    subnets
}

/// The interface that rules name: they see packets where the host routes them, with a VLAN on its gateway's link. A part
/// does not know of VLANs, and leaves a link of the network's bridge that is written already.
fn bridge(config: &NetworkConfig, network: &Network, written: &str) -> String {
    if let Some(vlan) = config.bridge.vlan.filter(|_| config.bridge.is_gateway) {
        return names::gateway_link(&network.bridge, vlan);
    }
    let is_its_link = written.strip_prefix(&network.bridge).is_some_and(|rest| rest.starts_with('.'));
    if is_its_link && !config.defaults.reads.bridge { written.to_owned() } else { network.bridge.clone() }
}

/// The static rules as last written; `None` where none were.
pub fn written(network: &Network) -> Option<NetworkRules> {
    NetworkRules::deserialize(&network.rules).ok()
}

/// The static rules of a backend as last written: the network's own first, where it is on that backend, then those of
/// bridges that it has left while attachments stood there.
pub fn written_on(network: &Network, backend: FirewallBackend) -> Vec<NetworkRules> {
    let own = written(network).filter(|_| network.backend == backend);
    own.into_iter().chain(left_on(network, backend)).collect()
}

/// Those of them that the network has left.
pub fn left_on(network: &Network, backend: FirewallBackend) -> impl Iterator<Item = NetworkRules> + '_ {
    let there = network.left.iter().filter(move |left| left.backend == backend);
    there.filter_map(|left| NetworkRules::deserialize(&left.rules).ok())
}

/// Whether an attachment was made with the rules of that network, bridge and backend, whatever else they said then.
pub fn is_behind(step: &Firewall, backend: FirewallBackend, rules: &NetworkRules) -> bool {
    step.backend == backend && step.network.network == rules.network && step.network.bridge == rules.bridge
}
