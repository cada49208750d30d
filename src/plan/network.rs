//! What belongs to a network rather than to one attachment of it.

use crate::cni::{Backend, Ipam, NetworkConfig};
use crate::firewall::NetworkRules;
use crate::model::{FirewallBackend, Mode, Network, Range, names};

/// What the kernel gives a new link (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// What has to be known of the host before a network can be used for the first time.
#[derive(Debug, Clone)]
pub struct NetworkFacts {
    /// A bridge name that no foreign interface has.
    pub bridge: String,
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
        automatic: facts.automatic.map(|range| vec![vec![range]]).unwrap_or_default(),
        ranges: Vec::new(),
        leases: None,
        mtu: Some(facts.uplink_mtu.unwrap_or(ETHERNET_MTU)),
        backend: match config.backend {
            Backend::Nftables => FirewallBackend::Nftables,
            Backend::Iptables => FirewallBackend::Iptables,
            Backend::Auto if facts.has_nftables => FirewallBackend::Nftables,
            Backend::Auto => FirewallBackend::Iptables,
        },
        admitted: Vec::new(),
        rules: serde_json::Value::Null,
    }
}

/// The static rules that a configuration asks for.
pub fn rules(config: &NetworkConfig, network: &Network) -> NetworkRules {
    let keys = &config.isolation;
    NetworkRules {
        network: config.name.clone(),
        // Rules see packets where the host routes them: with a VLAN, on its gateway's link.
        bridge: match config.bridge.vlan.filter(|_| config.bridge.is_gateway) {
            Some(vlan) => names::gateway_link(&network.bridge, vlan),
            None => network.bridge.clone(),
        },
        masquerade: config.bridge.ip_masq && config.ipam != Ipam::None,
        hairpin: config.portmap.snat && config.ipam != Ipam::None,
        masquerade_all: config.portmap.masq_all,
        ingress: config.firewall.ingress,
        isolation: keys.isolation,
        trusted: keys.trusted.clone(),
        internal: keys.internal,
        apart: !keys.icc,
        routed: keys.mode == Mode::Routed,
        outbound4: keys.outbound4,
        outbound6: keys.outbound6,
        admin_chain: config.firewall.admin_chain.clone(),
        mark_bit: config.portmap.mark_masq_bit,
        mark_chain: config.portmap.external_set_mark_chain.clone(),
        conditions_v4: config.portmap.conditions_v4.clone(),
        conditions_v6: config.portmap.conditions_v6.clone(),
    }
}
