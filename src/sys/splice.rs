//! Moving bytes from one socket to another within the kernel (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

/// What a pipe holds by default; one call moves no more.
const CAPACITY: usize = 64 * 1024;

/// The pipe that the bytes of one direction go through. Nothing of them is copied into this process.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// A new, empty pipe.
    ///
    /// # Errors
    /// Where no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// Takes what a socket has, into an empty pipe: how many bytes, 0 at the stream's end.
    ///
    /// # Errors
    /// `EWOULDBLOCK` where there is nothing yet, or the socket's error.
    pub fn fill(&self, from: &impl AsFd) -> io::Result<usize> {
        Ok(splice(from.as_fd(), None, self.write.as_fd(), None, CAPACITY, flags())?)
    }

    /// Gives so many bytes to a socket: how many it took.
    ///
    /// # Errors
    /// `EWOULDBLOCK` where it takes none now, or the socket's error.
    pub fn drain(&self, to: &impl AsFd, length: usize) -> io::Result<usize> {
        Ok(splice(self.read.as_fd(), None, to.as_fd(), None, length, flags())?)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
