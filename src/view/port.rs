//! Published ports.

use std::net::SocketAddr;

use serde::Serialize;

use crate::model::Protocol;

use super::Attachment;

/// A published port as it is shown: one row a family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The container that it leads to.
    pub container: String,
    /// Its interface.
    pub interface: String,
    /// The container's name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its network.
    pub network: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where it is reached; the unspecified address stands for every address of the family.
    pub host: SocketAddr,
    /// The container's address and port.
    pub target: SocketAddr,
    /// How many consecutive ports from those of `host` and `target`; absent for one.
    #[serde(skip_serializing_if = "is_one")]
    pub count: u16,
    /// Whether another interface of the container has it, and this one only waits for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) fn is_one(count: &u16) -> bool {
    *count == 1
}

/// The published ports of attachments, by container port as `docker port` has them.
pub fn ports(attachments: &[Attachment]) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for attachment in attachments {
        let first = ports.len();
        let published = attachment.ports.iter().map(|publication| (publication, false));
        let waiting = attachment.waiting.iter().map(|publication| (publication, true));
        ports.extend(published.chain(waiting).map(|(publication, waiting)| Port {
            container: attachment.container.clone(),
            interface: attachment.interface.clone(),
            name: attachment.name.clone(),
            network: attachment.network.clone(),
            protocol: publication.protocol,
            host: publication.host,
            target: publication.target,
            count: publication.count,
            waiting,
        }));
        ports[first..].sort_by_key(|port| (port.waiting, port.target.port(), port.protocol, port.host));
    }
    ports
}
