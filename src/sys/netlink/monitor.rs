//! Listening to what the kernel tells of its own accord.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::{Protocol, Socket};
use crate::sys::SysError;

/// What the kernel queues for a listener before it gives up telling: a burst of a thousand changes fits.
const QUEUE: libc::c_int = 4 << 20;

/// A socket that has joined groups of notifications.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

/// What one call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Notifications, each its kind and its body.
    Told(Vec<(u16, Vec<u8>)>),
    /// Some were lost, since they came faster than they were read.
    Lost,
}

impl Monitor {
    /// Opens a socket in the calling thread's namespace and joins groups (`RTNLGRP_*`, `NFNLGRP_*`).
    ///
    /// # Errors
    /// Where the kernel lacks the protocol or a group.
    pub fn open(protocol: Protocol, groups: &[u32]) -> Result<Self, SysError> {
        let socket = Socket::open(protocol)?;
        let refused = |errno| SysError::refused("listen to", "the kernel's notifications", errno);
        socket.queue(QUEUE);
        socket.bind().map_err(refused)?;
        for group in groups {
            socket.join(*group).map_err(refused)?;
        }
        Ok(Self { socket })
    }

    /// Joins a further group.
    ///
    /// # Errors
    /// Where the kernel lacks it.
    pub fn join(&self, group: u32) -> Result<(), SysError> {
        let refused = |errno| SysError::refused("listen to", "the kernel's notifications", errno);
        self.socket.join(group).map_err(refused)
    }

    /// Reads one datagram of notifications; `EWOULDBLOCK` where there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn hear(&mut self) -> io::Result<Heard> {
        match self.socket.receive(libc::MSG_DONTWAIT) {
            Ok(()) => {
                let told = self.socket.received().map(|(kind, _, _, body)| (kind, body.to_vec()));
                Ok(Heard::Told(told.collect()))
            }
            Err(Errno::ENOBUFS | Errno::EMSGSIZE) => Ok(Heard::Lost),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
