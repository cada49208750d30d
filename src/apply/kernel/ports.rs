//! Who else listens on a host port.

use crate::model::{AttachmentKey, Publication};
use crate::sys::SysError;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::sockdiag::{self, Listener, Process};

use super::Kernel;

/// A process that listens on a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// In words: `nginx (PID 812) listening on 0.0.0.0:80`.
    pub words: String,
}

impl Kernel {
    /// The process that holds a host port, unless it holds it for this very attachment.
    ///
    /// Binding the port shows in a few system calls that nobody does; only where that fails are the listeners and
    /// their owners looked up.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn port_holder(
        &mut self,
        publication: &Publication,
        key: &AttachmentKey,
    ) -> Result<Option<Holder>, SysError> {
        if sockdiag::bind_probe(publication.protocol, publication.host)? {
            return Ok(None);
        }
        let mut socket = Socket::open(Protocol::SockDiag)?;
        let listeners = sockdiag::listening(&mut socket, publication.protocol, publication.host.port())?;
        for listener in listeners.iter().filter(|listener| takes(listener, publication)) {
            let process = sockdiag::owner_of_inode(listener.inode);
            if process.as_ref().is_some_and(|process| reserves_for(process, key)) {
                continue;
            }
            let who = match process {
                Some(process) => format!("{} (PID {})", process.name, process.pid),
                None => "a process in another PID namespace".to_owned(),
            };
            return Ok(Some(Holder { words: format!("{who}, listening on {}", listener.address) }));
        }
        // Bound but not listening: an outgoing connection's local port takes nothing from a published one.
        Ok(None)
    }
}

/// Whether a listener would be given packets that the publication is to have.
fn takes(listener: &Listener, publication: &Publication) -> bool {
    let (theirs, ours) = (listener.address.ip(), publication.host.ip());
    if theirs.is_ipv4() != ours.is_ipv4() {
        // A socket on [::] takes IPv4 too, unless it says otherwise.
        return theirs.is_unspecified() && theirs.is_ipv6() && !listener.v6_only;
    }
    theirs == ours || theirs.is_unspecified() || ours.is_unspecified()
}

/// Runtimes reserve published ports by binding them themselves. Such a listener is told apart by its process: it is
/// the one that started this plugin, or an ancestor of it, or it has the container's ID among its arguments, as
/// podman's conmon does.
fn reserves_for(process: &Process, key: &AttachmentKey) -> bool {
    sockdiag::is_ancestor(process.pid)
        || process.command_line.split(' ').any(|argument| argument == key.container_id)
}
