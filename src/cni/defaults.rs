//! What absent keys mean, which depends on the face that reads them.

use super::config::{BridgeKeys, FirewallKeys, IsolationKeys, PortmapKeys};
use super::version::Version;
use crate::model::{IngressPolicy, Isolation, Mode};

/// Where the reference `host-local` keeps its leases.
const REFERENCE_DATA_DIR: &str = "/var/lib/cni/networks";

/// The administrator's chain of the reference `firewall`.
const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// The reference plugins whose keys a face reads; it passes over those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// `bridge`, and what `ptp` and `macvlan` share with it.
    pub bridge: bool,
    /// `ipam`, and with it requested addresses.
    pub ipam: bool,
    /// `portmap`.
    pub portmap: bool,
    /// `firewall`.
    pub firewall: bool,
    /// `tuning`.
    pub tuning: bool,
    /// `bandwidth`.
    pub bandwidth: bool,
    /// `sbr`.
    pub sbr: bool,
    /// `dns.enabled`: the names that containers are found by. No reference plugin has it.
    pub names: bool,
    /// `CNI_ARGS`: whether an unknown key there is an error.
    pub arguments: bool,
}

impl Reads {
    /// Everything in one object, as `linkspan` has it; routing by source is the face `sbr`'s alone.
    pub const ALL: Self = Self {
        bridge: true,
        ipam: true,
        portmap: true,
        firewall: true,
        tuning: true,
        bandwidth: true,
        sbr: false,
        names: true,
        arguments: true,
    };

    /// Nothing but what every plugin reads.
    pub const NONE: Self = Self {
        bridge: false,
        ipam: false,
        portmap: false,
        firewall: false,
        tuning: false,
        bandwidth: false,
        sbr: false,
        names: false,
        arguments: false,
    };
}

/// A place where a MAC may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacSource {
    /// The key `mac` of the network.
    Key,
    /// `CNI_ARGS`.
    Arguments,
    /// `args.cni.mac`.
    Args,
    /// The capability `mac`.
    Capability,
}

/// The kind of interface that a face makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A veth pair with its host end on a bridge.
    Bridge,
    /// A veth pair with its host end routed to.
    Ptp,
    /// A device over one of the host's (or the container's) own.
    Macvlan,
}

/// What a face reads, and what absent keys mean to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Whose keys are read.
    pub reads: Reads,
    /// The oldest version of the specification that the face speaks.
    pub since: Version,
    /// What it makes; without meaning where it makes none.
    pub link: LinkKind,
    /// Where it lets a MAC be asked for, the later the stronger.
    pub mac: &'static [MacSource],
    /// `ipam.dataDir` of `host-local`; `None` stands for the state directory.
    pub data_dir: Option<&'static str>,
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
    /// Whether `ipam` is of that type whatever it says: an IPAM plugin is known by its name alone.
    pub is_ipam: bool,
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
        reads: Reads::ALL,
        since: Version::V0_1_0,
        link: LinkKind::Bridge,
        mac: &[MacSource::Key, MacSource::Arguments, MacSource::Args, MacSource::Capability],
        data_dir: None,
        bridge: None,
        is_gateway: true,
        is_default_gateway: true,
        ip_masq: true,
        hairpin: true,
        ipam: Some("host-local"),
        is_ipam: false,
        extended_ports: true,
        isolates: true,
        isolation: Isolation::Default,
    };

    /// Those of the reference `bridge`: everything is off until it is asked for.
    pub const REFERENCE: Self = Self {
        reads: Reads { bridge: true, ipam: true, arguments: true, ..Reads::NONE },
        since: Version::V0_1_0,
        link: LinkKind::Bridge,
        mac: &[MacSource::Arguments, MacSource::Args, MacSource::Capability],
        data_dir: Some(REFERENCE_DATA_DIR),
        bridge: Some("cni0"),
        is_gateway: false,
        is_default_gateway: false,
        ip_masq: false,
        hairpin: false,
        ipam: None,
        is_ipam: false,
        extended_ports: false,
        isolates: false,
        isolation: Isolation::None,
    };

    /// Whether it is linkspan's own face, which is free to do more than a reference plugin.
    pub fn is_own(&self) -> bool {
        self.reads == Reads::ALL
    }

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
            proxy: false,
            count: false,
            snat: true,
            masq_all: false,
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
            firewalld_zone: None,
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
