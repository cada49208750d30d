//! Waiting, within the agent's runtime, for a descriptor that is not the runtime's own: a netlink socket, an inotify
//! instance, a datagram socket that is read in batches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Knows when a non-blocking descriptor has something to read, or room to write.
///
/// It watches a duplicate, which is the same open file to the kernel, so whoever owns the descriptor keeps it.
#[derive(Debug)]
pub struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    /// Begins to watch. To be called within the runtime.
    ///
    /// # Errors
    /// The system's: no more descriptors, or one that cannot be waited for (a regular file).
    pub fn of(descriptor: &impl AsFd) -> io::Result<Self> {
        let duplicate = descriptor.as_fd().try_clone_to_owned()?;
        // SAFETY: the duplicate is open, owned by what watches it, and never replaced: nothing here gives it away.
        let watched =
            unsafe { AsyncFd::register_with_interest(duplicate, Interest::READABLE | Interest::WRITABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Makes a call that reads, until it does not say `EWOULDBLOCK` (or is interrupted), and waits in between.
    ///
    /// # Errors
    /// The call's.
    pub async fn reading<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.doing(Interest::READABLE, call).await
    }

    /// The same for a call that writes.
    ///
    /// # Errors
    /// The call's.
    pub async fn writing<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.doing(Interest::WRITABLE, call).await
    }

    async fn doing<T>(&self, what: Interest, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.0
            .async_io(what, |_| {
                loop {
                    match call() {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        done => return done,
                    }
                }
            })
            .await
    }
}
