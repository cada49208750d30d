//! The loopback interface of a container: one namespace, one socket, no state.

use ipnetwork::IpNetwork;

use crate::sys::netlink::{Protocol, Socket};
use crate::sys::rtnl::{self, LinkChange, LinkTarget};
use crate::sys::{Netns, SysError};

use super::SandboxError;

/// Every network namespace is born with it, as its first interface (`LOOPBACK_IFINDEX`).
const INDEX: u32 = 1;

/// Why the loopback interface could not be served.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// The namespace is not usable.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel refused.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// The loopback interface of an open namespace.
#[derive(Debug)]
pub struct Loopback {
    socket: Socket,
}

impl Loopback {
    /// Opens the namespace of a container, which must not be the plugin's own unless `allow_own` is set.
    ///
    /// # Errors
    /// Where it is not there, no network namespace, or the plugin's own.
    pub fn open(path: &str, allow_own: bool) -> Result<Self, LoopbackError> {
        let netns = Netns::open(path).map_err(SandboxError::from)?;
        if !allow_own && netns.is_current().map_err(SandboxError::from)? {
            return Err(SandboxError::Own(path.to_owned()).into());
        }
        Ok(Self { socket: Socket::open_in(&netns, Protocol::Route)? })
    }

    /// Sets it up, or down.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set(&mut self, up: bool) -> Result<(), LoopbackError> {
        let change = LinkChange { up: Some(up), ..LinkChange::default() };
        Ok(self.socket.transact(&[rtnl::set_link(LinkTarget::Index(INDEX), &change)])?)
    }

    /// Whether it is up.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn is_up(&mut self) -> Result<bool, LoopbackError> {
        Ok(rtnl::link_by_index(&mut self.socket, INDEX)?.is_some_and(|link| link.is_up()))
    }

    /// Its addresses: those that the kernel gives it when it comes up.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn addresses(&mut self) -> Result<Vec<IpNetwork>, LoopbackError> {
        Ok(rtnl::addresses(&mut self.socket, Some(INDEX))?.iter().map(|found| found.address).collect())
    }
}
