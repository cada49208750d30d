//! Routes in a container.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A route that a configuration or an IPAM plugin asks for (specification 1.1.0, `routes`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination, host bits zero.
    #[serde(serialize_with = "super::written::one")]
    pub dst: IpNetwork,
    /// Next hop; where it is missing, the gateway of the first address of the family serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU (`RTAX_MTU`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// TCP maximum segment size to advertise (`RTAX_ADVMSS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric, the smaller the better (`RTA_PRIORITY`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (`RTA_TABLE`); the main table (254) where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (`rtm_scope`): 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// `RT_SCOPE_LINK`: from there on the destination is on the link itself.
    pub const SCOPE_LINK: u8 = 253;
    /// The largest path MTU that the kernel takes as it is written (`ip_metrics_convert`).
    pub const MAX_MTU: u32 = 65_535 - 15;
    /// The largest segment size that the kernel takes as it is written (`ip_metrics_convert`).
    pub const MAX_ADVMSS: u32 = 65_535 - 40;
    /// The main routing table (`RT_TABLE_MAIN`), which 0 means too.
    pub const MAIN_TABLE: u32 = 254;
    /// What IPv6 makes of a metric of 0 (`IP6_RT_PRIO_USER`).
    const DEFAULT_METRIC_V6: u32 = 1024;

    /// Whether the next hop is of the destination's family, or there is none.
    pub fn is_of_one_family(&self) -> bool {
        self.gw.is_none_or(|gw| gw.is_ipv4() == self.dst.is_ipv4())
    }

    /// The table that it stands in.
    pub fn table(&self) -> u32 {
        self.table.filter(|table| *table != 0).unwrap_or(Self::MAIN_TABLE)
    }

    /// Its metric, as the kernel has it.
    pub fn metric(&self) -> u32 {
        let unset = if self.dst.is_ipv6() { Self::DEFAULT_METRIC_V6 } else { 0 };
        self.priority.filter(|priority| *priority != 0).unwrap_or(unset)
    }

    /// Whether the kernel finds both at the same place: destination, table and metric.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.dst == other.dst && self.table() == other.table() && self.metric() == other.metric()
    }

    /// A plain route to `dst` through `gw`.
    pub fn via(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}
