//! The steps of an attachment.
//!
//! Each is a piece of kernel or disk state with three faces, which `apply` gives it: `ensure`, `absent`, `probe`.

use std::collections::BTreeMap;
use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::endpoint::{Macvlan, Routed};
use super::parts::{Readings, Settings, Sources};
use super::sandbox::Sandbox;
use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::{
    AttachmentKey, FirewallBackend, Lease, LeaseSource, MacAddress, Publication, Route, Shaping, written,
};

/// The steps of one attachment in the order in which ADD makes them so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan {
    /// Forwards for `ensure`, backwards for `absent`.
    pub steps: Vec<Step>,
}

/// One step. Its record is read by `reading.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "step")]
pub enum Step {
    /// The interface that a part is added to is there. Another plugin's: `absent` leaves it.
    Upon(Upon),
    /// The addresses are held.
    Leases(Leases),
    /// The host ports are held.
    Claims(Claims),
    /// The host forwards packets. Shared: `absent` leaves it.
    Forwarding(Forwarding),
    /// Packets from 127.0.0.1 may be routed to a host interface. Shared: `absent` leaves it.
    Localnet(Localnet),
    /// The bridge is there. Shared: `absent` leaves it.
    Bridge(Bridge),
    /// The veth pair is there, one end in the container, the other on the bridge.
    Link(Link),
    /// The host end of a veth pair without a bridge has the gateways' addresses and routes to the container.
    Routed(Routed),
    /// The container has a device over one of the host's.
    Macvlan(Macvlan),
    /// The container's end has its addresses, routes and settings, and is up.
    Interface(Interface),
    /// The bridge port forwards, with its flags, and the neighbours have been told.
    Port(Port),
    /// The attachment's rates are limited.
    Shape(Shape),
    /// firewalld, where it runs, has the container's addresses in a zone.
    Zone(Zone),
    /// Published ports, masquerade and walls.
    Firewall(Box<Firewall>),
    /// An interface that another plugin made has other settings.
    Settings(Box<Settings>),
    /// What is sent from an address is routed by a table of its own.
    Sources(Box<Sources>),
}

/// See [`Step::Upon`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upon {
    /// The container's namespace. Where its path means another by now, the container is gone.
    pub sandbox: Sandbox,
    /// Interface name in it.
    pub name: String,
}

/// See [`Step::Localnet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Localnet {
    /// The host interface, or bridge, that leads to the container.
    pub interface: String,
}

/// See [`Step::Leases`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Who holds them.
    pub owner: AttachmentKey,
    /// Where they are held.
    pub source: LeaseSource,
    /// The addresses.
    pub leases: Vec<Lease>,
}

/// See [`Step::Claims`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who holds them.
    pub owner: AttachmentKey,
    /// The published ports.
    pub publications: Vec<Publication>,
    /// Ports that another interface of the container publishes, and that wait for its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Publication>,
    /// Whether linkspan's agent is to bind them while it runs (`holdPorts`), so that no other process can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Whether the agent serves them where the kernel does not translate (`userlandProxy`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy: bool,
}

/// See [`Step::Forwarding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`.
    pub ipv4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub ipv6: bool,
}

/// See [`Step::Bridge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Interface name.
    pub name: String,
    /// Hardware address at creation, so that a bridge that is made again has the one that neighbours know; an
    /// existing bridge keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// MTU at creation; an existing bridge keeps its own.
    pub mtu: Option<u32>,
    /// Gateway addresses with prefix lengths; empty on a layer-2 bridge.
    #[serde(serialize_with = "written::each")]
    pub gateways: Vec<IpNetwork>,
    /// Gateway addresses of the network's other ranges, which may be on the bridge too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<IpNetwork>,
    /// Whether another address of a gateway's family is taken off the bridge, rather than being an error.
    pub force_address: bool,
    /// Whether it takes every frame (`promiscMode`).
    pub promisc: bool,
    /// Whether it filters VLANs; set at creation.
    pub vlan_filtering: bool,
    /// The VLAN whose gateway is a link of its own, `BRIDGE.VID`, rather than the bridge.
    pub gateway_vlan: Option<u16>,
    /// Whether packets from 127.0.0.1 may be routed to it (`route_localnet`), for published ports.
    pub route_localnet: bool,
}

/// VLANs of a bridge port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlans {
    /// The untagged VLAN (`vlan`).
    pub access: Option<u16>,
    /// Tagged VLANs, first and last of each run (`vlanTrunk`).
    pub trunk: Vec<(u16, u16)>,
    /// Whether the bridge's default VLAN 1 stays on the port (`preserveDefaultVlan`).
    pub keep_default: bool,
}

impl Vlans {
    /// Whether the port has VLANs of its own.
    pub fn is_empty(&self) -> bool {
        self.access.is_none() && self.trunk.is_empty()
    }
}

/// See [`Step::Link`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Name of the host end.
    pub host_name: String,
    /// Hardware address of the host end.
    pub host_mac: MacAddress,
    /// Name of the container's end.
    pub name: String,
    /// Hardware address of the container's end.
    pub mac: MacAddress,
    /// The bridge that the host end joins; `None` where it is routed to.
    pub bridge: Option<String>,
    /// MTU of both ends; the kernel's default where it is missing.
    pub mtu: Option<u32>,
    /// Transmit queue length of the container's end.
    pub tx_queue_len: Option<u32>,
}

/// See [`Step::Interface`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Interface name in it.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddress,
    /// MTU, where one was asked for.
    pub mtu: Option<u32>,
    /// Addresses with prefix lengths.
    #[serde(serialize_with = "written::each")]
    pub addresses: Vec<IpNetwork>,
    /// The addresses whose whole subnet is reached by way of their gateway, which alone is on the link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_gateway: Vec<Lease>,
    /// Routes with next hops filled in.
    pub routes: Vec<Route>,
    /// Whether IPv6 addresses are probed for duplicates (`enabledad`).
    pub dad: bool,
    /// Whether it listens to router advertisements: where its network is not ours, a router may give it addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advertisements: bool,
    /// Whether it makes itself an IPv6 link-local address.
    pub link_local: bool,
    /// Whether it is brought up (`disableContainerInterface` leaves it down).
    pub up: bool,
    /// Promiscuous mode (`promisc`).
    pub promisc: bool,
    /// All-multicast mode (`allmulti`).
    pub allmulti: Option<bool>,
    /// Sysctls of the container, under `net`.
    pub sysctl: BTreeMap<String, String>,
    /// What the kernel made of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: Readings,
    /// The hardware address to take where a neighbour on the same device has the other one, which nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_mac: Option<MacAddress>,
}

/// See [`Step::Port`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host end of the veth pair.
    pub host_name: String,
    /// The container's namespace and interface, whose addresses are announced.
    pub sandbox: Sandbox,
    /// Interface name in it.
    pub name: String,
    /// Hardware address to announce.
    pub mac: MacAddress,
    /// Whether frames may leave through the port that they came in by (`hairpinMode`).
    pub hairpin: bool,
    /// Whether isolated ports cannot reach each other (`portIsolation`).
    pub isolated: bool,
    /// VLANs of the port.
    #[serde(default, skip_serializing_if = "Vlans::is_empty")]
    pub vlans: Vlans,
    /// Whether the container's end is up, so that the port can forward.
    pub up: bool,
    /// Whether the addresses are announced to the neighbours, who may know them by another hardware address.
    pub announce: bool,
}

/// See [`Step::Shape`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The host end of the veth pair, which limits what the container receives.
    pub host_name: String,
    /// The IFB device that limits what it sends.
    pub ifb_name: String,
    /// Hardware address of the IFB device; the kernel's choice where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifb_mac: Option<MacAddress>,
    /// MTU of the IFB device.
    pub mtu: Option<u32>,
    /// The rates.
    pub shaping: Shaping,
}

/// See [`Step::Zone`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The zone (`firewalldZone`).
    pub zone: String,
    /// The addresses.
    pub sources: Vec<std::net::IpAddr>,
}

/// See [`Step::Firewall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Where the rules are.
    pub backend: FirewallBackend,
    /// The network's part.
    pub network: NetworkRules,
    /// The attachment's part.
    pub attachment: AttachmentRules,
    /// Whether the network is let through a FORWARD chain of iptables that drops.
    #[serde(default = "always", skip_serializing_if = "Clone::clone")]
    pub admit: bool,
    /// Whether linkspan's agent counts the bytes of its published ports while it runs (`countPorts`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
}

const fn always() -> bool {
    true
}

impl Step {
    /// Whether the step belongs to the network, so that the end of an attachment leaves it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Forwarding(_) | Self::Localnet(_) | Self::Bridge(_) | Self::Upon(_))
    }

    /// The bridge port, where it is about one.
    pub fn port(&self) -> Option<&Port> {
        match self {
            Self::Port(port) => Some(port),
            _ => None,
        }
    }
}

/// What the step is about, for error texts: `the bridge lks-web`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upon(step) => write!(f, "the interface {} in {}", step.name, step.sandbox.path),
            Self::Localnet(step) => write!(f, "route_localnet of {}", step.interface),
            Self::Leases(step) => write!(f, "the addresses of {}", step.owner),
            Self::Claims(step) => write!(f, "the host ports of {}", step.owner),
            Self::Forwarding(_) => f.write_str("IP forwarding on the host"),
            Self::Bridge(step) => write!(f, "the bridge {}", step.name),
            Self::Link(step) => write!(f, "the veth pair {} - {}", step.host_name, step.name),
            Self::Routed(step) => write!(f, "the host end {}", step.host_name),
            Self::Macvlan(step) => write!(f, "the macvlan device {} over {}", step.name, step.master),
            Self::Interface(step) => write!(f, "the interface {} in {}", step.name, step.sandbox.path),
            Self::Port(step) => write!(f, "the bridge port {}", step.host_name),
            Self::Shape(step) => write!(f, "the rate limits of {}", step.host_name),
            Self::Zone(step) => write!(f, "the zone {} of firewalld", step.zone),
            Self::Firewall(step) => {
                write!(f, "the {} rules of {}", step.backend, step.attachment.owner)
            }
            Self::Settings(step) => write!(f, "the settings of {} in {}", step.name, step.sandbox.path),
            Self::Sources(step) => {
                write!(f, "the routing by source of {} in {}", step.name, step.sandbox.path)
            }
        }
    }
}

impl Plan {
    /// The container's interface, where the plan has one.
    pub fn interface(&self) -> Option<&Interface> {
        self.steps.iter().find_map(|step| match step {
            Step::Interface(interface) => Some(interface),
            _ => None,
        })
    }

    /// The bridge, where the plan has one.
    pub fn bridge(&self) -> Option<&Bridge> {
        self.steps.iter().find_map(|step| match step {
            Step::Bridge(bridge) => Some(bridge),
            _ => None,
        })
    }

    /// The interface of another plugin that the plan adds to, where it does.
    pub fn upon(&self) -> Option<&Upon> {
        self.steps.iter().find_map(|step| match step {
            Step::Upon(upon) => Some(upon),
            _ => None,
        })
    }

    /// The veth pair, where the plan has one.
    pub fn link(&self) -> Option<&Link> {
        self.steps.iter().find_map(|step| match step {
            Step::Link(link) => Some(link),
            _ => None,
        })
    }

    /// The firewall's part, where the plan has one.
    pub fn firewall(&self) -> Option<&Firewall> {
        self.steps.iter().find_map(|step| match step {
            Step::Firewall(firewall) => Some(&**firewall),
            _ => None,
        })
    }

    /// The host ports, where the plan has any.
    pub fn claims(&self) -> Option<&Claims> {
        self.steps.iter().find_map(|step| match step {
            Step::Claims(claims) => Some(claims),
            _ => None,
        })
    }

    /// The leases, where the plan has any.
    pub fn leases(&self) -> Option<&Leases> {
        self.steps.iter().find_map(|step| match step {
            Step::Leases(leases) => Some(leases),
            _ => None,
        })
    }
}
