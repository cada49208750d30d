//! What absent keys mean, which depends on the face that reads them.

use super::config::{BridgeKeys, FirewallKeys, IsolationKeys, PortmapKeys};
use crate::model::{IngressPolicy, Isolation, Mode};

/// The bit of the packet mark that published ports use where no other is named (reference `portmap`).
const MARK_MASQ_BIT: u8 = 13;

/// The administrator's chain of the reference `firewall`.
const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// What absent keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// `bridge`; `None` stands for a name that follows from the network's.
    pub bridge: Option<&'static str>,
    /// `isGateway`.
    pub is_gateway: bool,
    /// `isDefaultGateway`, where `isGateway` is not written as false.
    pub is_default_gateway: bool,
    /// `ipMasq`.
    pub ip_masq: bool,
    /// `hairpinMode`, where `promiscMode` is not set.
    pub hairpin: bool,
    /// `ipam.type`, also where `ipam` is absent; `None` makes such an attachment one of layer 2.
    pub ipam: Option<&'static str>,
    /// Whether host port 0 asks for a free one, and a `hostIP` of a family that the container lacks is an error.
    /// The reference refuses the one and passes over the other.
    pub extended_ports: bool,
    /// Whether keys about isolation, which no reference plugin has, are read.
    pub isolates: bool,
    /// `isolation`, where `ingressPolicy` is not written.
    pub isolation: Isolation,
}

impl Defaults {
    /// linkspan's own: a container reaches the world, and the world its published ports, without a word written.
    pub const LINKSPAN: Self = Self {
        bridge: None,
        is_gateway: true,
        is_default_gateway: true,
        ip_masq: true,
        hairpin: true,
        ipam: Some("host-local"),
        extended_ports: true,
        isolates: true,
        isolation: Isolation::Default,
    };

    /// Those of the reference plugins: everything is off until it is asked for.
    pub const REFERENCE: Self = Self {
        bridge: Some("cni0"),
        is_gateway: false,
        is_default_gateway: false,
        ip_masq: false,
        hairpin: false,
        ipam: None,
        extended_ports: false,
        isolates: false,
        isolation: Isolation::None,
    };

    /// The keys of `bridge` where none is written.
    pub fn bridge_keys(&self) -> BridgeKeys {
        BridgeKeys {
            bridge: self.bridge.map(str::to_owned),
            is_gateway: self.is_gateway || self.is_default_gateway,
            is_default_gateway: self.is_default_gateway,
            force_address: false,
            ip_masq: self.ip_masq,
            mtu: None,
            hairpin: self.hairpin,
            promisc: false,
            vlan: None,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: false,
            mac_spoof_check: false,
            enable_dad: false,
            disable_container_interface: false,
            port_isolation: false,
        }
    }

    /// The keys of `portmap` where none is written.
    pub fn portmap_keys(&self) -> PortmapKeys {
        PortmapKeys {
            mappings: Vec::new(),
            require_family: self.extended_ports,
            hold: false,
            snat: true,
            masq_all: false,
            mark_masq_bit: MARK_MASQ_BIT,
            external_set_mark_chain: None,
            conditions_v4: Vec::new(),
            conditions_v6: Vec::new(),
        }
    }

    /// The keys of `firewall` where none is written.
    pub fn firewall_keys(&self) -> FirewallKeys {
        FirewallKeys {
            ingress: IngressPolicy::Open,
            admin_chain: ADMIN_CHAIN.to_owned(),
            firewalld_zone: "trusted".to_owned(),
        }
    }

    /// The keys about isolation where none is written.
    pub fn isolation_keys(&self) -> IsolationKeys {
        IsolationKeys {
            isolation: self.isolation,
            internal: false,
            icc: true,
            mode: Mode::Nat,
            trusted: Vec::new(),
            outbound4: None,
            outbound6: None,
            ip_spoof_check: false,
        }
    }
}
