//! Addresses as an attachment holds them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// An address held by an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address with its subnet's prefix length.
    #[serde(serialize_with = "super::written::one")]
    pub address: IpNetwork,
    /// The gateway to offer with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// Who holds the leases of an attachment, and so who must be told when they end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum LeaseSource {
    /// Lease files of ours, in the layout of the reference's host-local.
    Files {
        /// The directory that holds the network's lease files.
        directory: String,
    },
    /// The configuration names the addresses; nothing is held.
    Static,
    /// An IPAM plugin holds them; it is told with the configuration that its ADD was given.
    Delegated {
        /// The plugin's type, an executable on `CNI_PATH`.
        plugin: String,
        /// The network configuration, as JSON text.
        config: String,
        /// `CNI_PATH` at ADD.
        path: String,
        /// `CNI_ARGS` at ADD.
        #[serde(default)]
        args: String,
        /// `CNI_NETNS` at ADD.
        netns: String,
    },
    /// A layer-2 attachment without addresses.
    None,
}
