//! Whose a port of the host is.

use std::net::SocketAddr;

use crate::explain::{Fault, Finding};
use crate::model::{AttachmentKey, Protocol, Publication};
use crate::sys::SysError;
use crate::sys::netlink::{self, Socket};
use crate::sys::sockdiag::{self, Listener};
use crate::view::Attachment;

use super::listener::names;
use super::{perhaps, surely};

/// Whether the host's port is somebody else's than `wanted`, the container that it should lead to (`None` for whoever
/// publishes it, or the host itself). It is another container's, by its record, or a process's of the host, in whose
/// namespace the calling thread is.
///
/// A process that listens on a published port is a doubt only: what comes from outside is translated before it, and
/// goes to the container. `agent` is linkspan's own, which may hold published ports for their containers.
///
/// # Errors
/// Where the kernel lists no sockets.
pub fn host_port(
    protocol: Protocol,
    host: SocketAddr,
    wanted: Option<&AttachmentKey>,
    attachments: &[Attachment],
    agent: Option<u32>,
) -> Result<Vec<Finding>, SysError> {
    let publisher = attachments.iter().find_map(|attachment| {
        let publication = attachment.ports.iter().find(|port| covers(port, protocol, host))?;
        Some((attachment, publication))
    });
    if let (Some((attachment, publication)), Some(wanted)) = (publisher, wanted)
        && (attachment.container != wanted.container_id || attachment.interface != wanted.interface)
    {
        let what = format!(
            "host port {protocol} {host} belongs to container {}, where it leads to {}, and not to {}",
            called(attachment),
            publication.target,
            wanted.container_id
        );
        let mend = format!(
            "publish {} under another host port ('linkspan ports' lists those that are taken)",
            wanted.container_id
        );
        return Ok(vec![surely(Fault::PortTaken, what, mend)]);
    }
    let listeners = processes(protocol, host, agent)?;
    if listeners.is_empty() {
        return Ok(Vec::new());
    }
    let who = names(&listeners);
    Ok(match (publisher, wanted) {
        (Some((attachment, _)), _) => {
            let what = format!(
                "{who} of the host listens on {} too, and gets nothing of what comes from outside: the port is published for container {}",
                listeners[0].address,
                called(attachment)
            );
            let mend = format!("let {who} listen on another port, or publish another one");
            vec![perhaps(Fault::PortTaken, what, mend)]
        }
        (None, Some(wanted)) => {
            let what = format!(
                "host port {protocol} {host} belongs to {who} of the host, which listens on {}; container {} does not have it",
                listeners[0].address, wanted.container_id
            );
            let mend = format!("publish {} under another host port, or stop {who}", wanted.container_id);
            vec![surely(Fault::PortTaken, what, mend)]
        }
        // The port is the host's own, and the process is who was asked for.
        (None, None) => Vec::new(),
    })
}

/// The processes of the host, linkspan's agent aside, that listen there.
fn processes(protocol: Protocol, host: SocketAddr, agent: Option<u32>) -> Result<Vec<Listener>, SysError> {
    without(protocol, host, agent, true)
}

/// The sockets that take what comes there and are surely not of linkspan's `agent`: the calling thread sees whose they are.
///
/// # Errors
/// Where the kernel lists no sockets.
pub fn strangers(
    protocol: Protocol,
    host: SocketAddr,
    agent: Option<u32>,
) -> Result<Vec<Listener>, SysError> {
    without(protocol, host, agent, false)
}

/// Those that are not the agent's; `or_unseen` with those whose process is not seen.
fn without(
    protocol: Protocol,
    host: SocketAddr,
    agent: Option<u32>,
    or_unseen: bool,
) -> Result<Vec<Listener>, SysError> {
    let mut socket = Socket::open(netlink::Protocol::SockDiag)?;
    let mut found = sockdiag::listening(&mut socket, protocol, &(host.port()..=host.port()))?;
    found.retain(|listener| listener.takes(host.ip()));
    if found.is_empty() || (or_unseen && agent.is_none()) {
        return Ok(found);
    }
    let owners = sockdiag::owners_of_inodes(&found.iter().map(|listener| listener.inode).collect());
    found.retain(|listener| match owners.get(&listener.inode) {
        Some(owners) => owners.iter().all(|process| Some(process.pid) != agent),
        None => or_unseen,
    });
    Ok(found)
}

fn covers(publication: &Publication, protocol: Protocol, host: SocketAddr) -> bool {
    publication.collides(&Publication { protocol, host, target: host, count: 1 })
}

fn called(attachment: &Attachment) -> String {
    match &attachment.name {
        Some(name) => format!("{} ({name})", attachment.container),
        None => attachment.container.clone(),
    }
}
