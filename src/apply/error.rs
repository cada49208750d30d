//! Why a step could not be walked.

use std::fmt;

use crate::cni::CniError;
use crate::model::AttachmentKey;
use crate::store::StoreError;
use crate::sys::SysError;

/// A step that failed: which, why, and what to do next.
#[derive(Debug)]
pub struct ApplyError {
    /// What the step is about.
    pub object: String,
    /// What went wrong.
    pub cause: Cause,
    /// Steps that could then not be undone, in words.
    pub not_undone: Vec<String>,
}

/// What went wrong in a step.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel refused a netlink request, a sysctl or a namespace.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The firewall refused a change.
    #[error("{0}")]
    Firewall(String),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A batch of several attachments was refused.
    #[error("{0}")]
    Batch(String),
    /// The interface is already in the container, or the host end's name is taken by a link that is not ours.
    #[error("interface {0} exists already")]
    InterfaceExists(String),
    /// The host end's name follows from the attachment's by a hash, and another attachment has the same.
    #[error("the host end {name} is that of {owner}: both have the same hash")]
    HostEndTaken {
        /// The host end.
        name: String,
        /// Whose it is.
        owner: AttachmentKey,
    },
    /// The bridge holds as many ports as the kernel lets it (1,023).
    #[error("the bridge {0} has no free port: the kernel allows 1023")]
    BridgeFull(String),
    /// The bridge's name belongs to a device of another kind.
    #[error("{name} is a device of kind {kind}, not a bridge; set another name with the key 'bridge'")]
    NotABridge {
        /// The device.
        name: String,
        /// Its kind as the kernel names it.
        kind: String,
    },
    /// The name of the link for a VLAN's gateway belongs to another device.
    #[error(
        "{name} is not the link of VLAN {vlan} over the bridge {bridge}; rename or delete it, or set another bridge"
    )]
    NotAGatewayLink {
        /// The device.
        name: String,
        /// The bridge that it should be over.
        bridge: String,
        /// The VLAN that it should be of.
        vlan: u16,
    },
    /// The bridge has another address of the gateway's family.
    #[error(
        "failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}: {found}; set forceAddress to replace it, or choose another bridge"
    )]
    GatewayClash {
        /// The bridge.
        bridge: String,
        /// The address that is there.
        found: String,
        /// The address that should be.
        wanted: String,
    },
    /// The route to a bridge's subnet cannot be made: another is in its place.
    #[error(
        "the route to {subnet} by {bridge} is gone, and somebody's own is in its place: {found} ('ip {} route show {subnet}' shows it); delete that one and run 'linkspan reconcile'",
        if subnet.is_ipv4() { "-4" } else { "-6" }
    )]
    BlockedRoute {
        /// The subnet.
        subnet: ipnetwork::IpNetwork,
        /// The bridge.
        bridge: String,
        /// What stands there.
        found: String,
    },
    /// What is to be taken away has no record in this state directory, and neither has its network.
    #[error(
        "there are attachments of linkspan on this host of which {directory} has no record, and it knows {what}: they are left alone, since another state directory may have their records; set LINKSPAN_STATE_DIR to that one, or, where the records are lost, run 'linkspan doctor --fix --lost' with LINKSPAN_STATE_DIR={directory}, which takes them all away"
    )]
    Elsewhere {
        /// What the directory does not know: `no network web`.
        what: String,
        /// The state directory of this call.
        directory: String,
    },
    /// A delegated IPAM plugin failed: its own error document where it gave one.
    #[error("the IPAM plugin {plugin} failed: {reason}")]
    Delegated {
        /// The plugin's type.
        plugin: String,
        /// Its own error, where it gave one.
        error: Option<CniError>,
        /// What it said.
        reason: String,
    },
}

impl ApplyError {
    /// An error of one object.
    pub fn new(object: impl fmt::Display, cause: impl Into<Cause>) -> Self {
        Self { object: object.to_string(), cause: cause.into(), not_undone: Vec::new() }
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.cause)?;
        if !self.not_undone.is_empty() {
            write!(f, "; not undone: {}", self.not_undone.join("; "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
