//! Steps of interfaces that are not on a bridge.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::sandbox::Sandbox;
use crate::model::{MacAddress, MacvlanMode};

/// See [`Step::Routed`](super::Step::Routed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The host end of the veth pair.
    pub host_name: String,
    /// The gateways' addresses, each alone (/32, /128).
    pub gateways: Vec<IpNetwork>,
    /// The container's addresses, each alone, which the host routes to.
    pub destinations: Vec<IpNetwork>,
}

/// See [`Step::Macvlan`](super::Step::Macvlan).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macvlan {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The device's name until it has its own: one of the host's may have that too.
    pub first_name: String,
    /// Its name.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddress,
    /// The lower device.
    pub master: String,
    /// Whether that is in the container's namespace (`linkInContainer`).
    pub in_container: bool,
    /// Mode.
    pub mode: MacvlanMode,
    /// MTU; that of the lower device where it is missing.
    pub mtu: Option<u32>,
    /// Broadcast packets that the lower device's queue for its macvlan devices holds (`bcqueuelen`).
    pub broadcast_queue: Option<u32>,
}
