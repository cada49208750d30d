//! Moving bytes from one socket to another within the kernel (splice(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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

    /// A pipe that was one elsewhere, given by its two ends, with what it holds.
    pub fn of(read: OwnedFd, write: OwnedFd) -> Self {
        Self { read, write }
    }

    /// Its two ends: the one that is read, and the one that is written.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.read.as_fd(), self.write.as_fd()]
    }

    /// How many bytes it holds (`FIONREAD`, ioctl_pipe(2)).
    ///
    /// # Errors
    /// The system's.
    pub fn held(&self) -> io::Result<usize> {
        let mut count: libc::c_int = 0;
        // SAFETY: the descriptor is open, and the pointer is to a live integer, which is what the request writes.
        let done = unsafe { libc::ioctl(self.read.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        nix::errno::Errno::result(done)?;
        Ok(usize::try_from(count).unwrap_or(0))
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
