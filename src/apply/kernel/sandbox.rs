//! Namespaces of containers.

use crate::plan::Sandbox;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::rtnl;
use crate::sys::{Netns, NetnsError, SysError, process};

use super::{Cause, Drift, Kernel};

/// Why a namespace cannot serve a container.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It is not there, no namespace, or cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// It is the plugin's own, and so the host's.
    #[error("{0} is the network namespace of the plugin itself: the host's, not a container's")]
    Own(String),
}

/// A namespace with a routing socket in it.
#[derive(Debug)]
pub(super) struct OpenSandbox {
    sandbox: Sandbox,
    pub(super) netns: Netns,
    pub(super) socket: Socket,
    /// The index of the container's interface, where it was chosen by us.
    pub(super) chosen_index: Option<u32>,
}

impl Kernel {
    /// Opens the namespace of a container, and makes sure that it is not the plugin's own unless `allow_own` is set
    /// (`CNI_NETNS_OVERRIDE`).
    ///
    /// # Errors
    /// Where it is not there, not a network namespace, or the plugin's own.
    pub fn open_sandbox(&mut self, path: &str, allow_own: bool) -> Result<Sandbox, SandboxError> {
        let netns = Netns::open(path)?;
        let identity = netns.identity()?;
        if let Ok(host) = self.host() {
            Netns::remember_home(host);
        }
        if !allow_own && netns.is_current()? {
            return Err(SandboxError::Own(path.to_owned()));
        }
        let is_it = |open: &&OpenSandbox| {
            let open = &open.sandbox;
            (open.device, open.inode, open.path.as_str()) == (identity.device, identity.inode, path)
        };
        // One that is open is not gone, so that no other has its inode.
        if let Some(open) = self.sandboxes.iter().find(is_it) {
            return Ok(open.sandbox.clone());
        }
        let socket = Socket::open_in(&netns, Protocol::Route).map_err(|error| NetnsError::Unusable {
            path: path.to_owned(),
            errno: error.errno().unwrap_or(nix::errno::Errno::EIO),
        })?;
        let sandbox = Sandbox {
            path: path.to_owned(),
            device: identity.device,
            inode: identity.inode,
            cookie: socket.namespace_cookie(),
        };
        self.sandboxes.push(OpenSandbox { sandbox: sandbox.clone(), netns, socket, chosen_index: None });
        Ok(sandbox)
    }

    /// The same, where a container's namespace is there: `None` where its path means nothing, or another thing.
    ///
    /// # Errors
    /// Where something is there that cannot be opened.
    pub fn open_if_there(&mut self, path: &str, allow_own: bool) -> Result<Option<Sandbox>, SandboxError> {
        match self.open_sandbox(path, allow_own) {
            Err(error @ SandboxError::Netns(NetnsError::Unusable { .. })) => Err(error),
            other => Ok(other.ok()),
        }
    }

    /// Refuses a path that means the plugin's own namespace; one that means nothing is fine.
    ///
    /// # Errors
    /// [`SandboxError::Own`].
    pub fn refuse_own_sandbox(&self, path: &str, allow_own: bool) -> Result<(), SandboxError> {
        let own = Netns::open(path).is_ok_and(|netns| netns.is_current().unwrap_or(false));
        if own && !allow_own { Err(SandboxError::Own(path.to_owned())) } else { Ok(()) }
    }

    /// Whether a namespace is gone: its path is, or means another, and no process that can be seen lives in it. One that
    /// cannot be looked at counts as living.
    pub(super) fn is_dead(&mut self, sandbox: &Sandbox) -> bool {
        let found = match self.open_sandbox(&sandbox.path, true) {
            Ok(found) if found.is_same_as(sandbox) => return false,
            Err(SandboxError::Netns(NetnsError::Unusable { .. })) => return false,
            Ok(found) => Some(found),
            Err(_) => None,
        };
        let mut is_inode_reused = false;
        if let Some(found) = found {
            is_inode_reused = (found.device, found.inode) == (sandbox.device, sandbox.inode);
            self.close_sandbox(&found);
        }
        // Where another has its inode it is gone, whoever lives in that.
        is_inode_reused || !process::lives_in(sandbox.device, sandbox.inode)
    }

    /// Whether the namespace has an interface of this name.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn has_interface(&mut self, sandbox: &Sandbox, name: &str) -> Result<bool, SysError> {
        match self.sandbox(sandbox)? {
            Some(open) => match rtnl::is_there(&open.socket, name) {
                Ok(there) => Ok(there),
                Err(_) => Ok(rtnl::link_by_name(&mut open.socket, name)?.is_some()),
            },
            None => Ok(false),
        }
    }

    /// The open namespace of a step; `None` where the path is gone or means another namespace by now.
    ///
    /// # Errors
    /// Where something is there that this process may not or cannot open: whatever is in it is there still.
    pub(super) fn sandbox(&mut self, sandbox: &Sandbox) -> Result<Option<&mut OpenSandbox>, SysError> {
        let is_it =
            |open: &OpenSandbox| open.sandbox.path == sandbox.path && open.sandbox.is_same_as(sandbox);
        let known = self.sandboxes.iter().position(is_it);
        let index = match known {
            Some(index) => index,
            None => {
                match self.open_sandbox(&sandbox.path, true) {
                    Err(SandboxError::Netns(error @ NetnsError::Unusable { .. })) => return Err(error.into()),
                    Err(_) => return Ok(None),
                    Ok(_) => {}
                }
                // Another may be there by now.
                match self.sandboxes.iter().position(is_it) {
                    Some(index) => index,
                    None => return Ok(None),
                }
            }
        };
        Ok(self.sandboxes.get_mut(index))
    }

    /// Lets a namespace go: a walk over many attachments would else hold them all.
    pub(super) fn close_sandbox(&mut self, sandbox: &Sandbox) {
        self.sandboxes.retain(|open| !open.sandbox.is_same_as(sandbox));
    }

    /// Lets all namespaces go but for those that were opened first, as many as are to stay.
    pub(super) fn close_sandboxes(&mut self, stay: usize) {
        self.sandboxes.truncate(stay);
    }

    /// As [`Kernel::sandbox`], for steps that cannot do without.
    pub(super) fn needed_sandbox(&mut self, sandbox: &Sandbox) -> Result<&mut OpenSandbox, Cause> {
        self.sandbox(sandbox)?
            .ok_or_else(|| SysError::from(NetnsError::Missing { path: sandbox.path.clone() }).into())
    }

    /// An interface in a namespace, with what it is called in a drift; where either is not there, `None`, and a drift
    /// that says so.
    pub(super) fn interface_or_drift(
        &mut self,
        sandbox: &Sandbox,
        name: &str,
        drifts: &mut Vec<Drift>,
    ) -> Result<Option<(&mut OpenSandbox, rtnl::Link, String)>, Cause> {
        let Some(open) = self.sandbox(sandbox)? else {
            drifts.push(Drift::missing(format!("network namespace {}", sandbox.path)));
            return Ok(None);
        };
        let object = format!("interface {name} in the container");
        let Some(link) = rtnl::link_by_name(&mut open.socket, name)? else {
            drifts.push(Drift::missing(object));
            return Ok(None);
        };
        Ok(Some((open, link, object)))
    }
}

impl OpenSandbox {
    /// The index of an interface: the one we chose, or what the kernel says.
    pub(super) fn index_of(&mut self, name: &str) -> Result<u32, Cause> {
        if let Some(index) = self.chosen_index {
            return Ok(index);
        }
        let found = match rtnl::index_of(&self.socket, name) {
            Ok(index) => index,
            Err(_) => rtnl::link_by_name(&mut self.socket, name)?.map(|link| link.index),
        };
        match found {
            Some(index) => Ok(index),
            None => Err(SysError::refused("find the interface", name, nix::errno::Errno::ENODEV).into()),
        }
    }
}
