//! What is remembered about a network between calls.

use serde::{Deserialize, Serialize};

use super::{MacAddress, RangeSet};

/// The choices made when a network was first used, so that every later call makes the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// `name` of the configuration.
    pub name: String,
    /// The bridge's name: the configured one, or the one that was free.
    pub bridge: String,
    /// The hardware address that the bridge is made with, and made again with: neighbours know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// The subnet that was chosen where the configuration names none, else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub automatic: Vec<RangeSet>,
    /// The ranges that it hands out addresses from, as the configuration of its last ADD had them: for those who look
    /// at the network without its configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeSet>,
    /// The directory of its leases, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<String>,
    /// The MTU of its links where the configuration names none: that of the host's way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The firewall that was found under `backend: auto`.
    pub backend: FirewallBackend,
    /// For how many seconds what a container left that died without DEL stays, where the agent runs; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gc_after: Option<u64>,
    /// Families (`NFPROTO_*`) whose FORWARD chain of iptables was told to let the network through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<u8>,
    /// The static rules as last written, in the firewall's own terms; another value means that they changed.
    #[serde(default)]
    pub rules: serde_json::Value,
    /// The static rules, as last written, of bridges and backends that it has left while attachments stand that were
    /// made with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftRules>,
}

/// See [`Network::left`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftRules {
    /// Where they are.
    pub backend: FirewallBackend,
    /// In the firewall's own terms, the bridge's name among them.
    pub rules: serde_json::Value,
}

/// A firewall that rules are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirewallBackend {
    /// nf_tables over netlink.
    Nftables,
    /// `iptables-restore`.
    Iptables,
}

impl std::fmt::Display for FirewallBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}
