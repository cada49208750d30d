//! Waking a process that waits for another, on time and without its looking every few milliseconds: it has a name among
//! the abstract sockets (unix(7)) of the network namespace, and who has done what it waits for sends there.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What a process waits at. It is gone with its process.
#[derive(Debug)]
pub struct Bell {
    socket: UnixDatagram,
}

impl Bell {
    /// Hangs a bell under a name, of 107 bytes at most.
    ///
    /// # Errors
    /// The system's; `AddrInUse` where another process has one of that name.
    pub fn hang(name: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(name)?;
        Ok(Self { socket: UnixDatagram::bind_addr(&address)? })
    }

    /// Waits until it rings, for at most `limit`; whether it rang.
    pub fn wait(&self, limit: Duration) -> bool {
        // A limit of zero would be none.
        let limit = limit.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).is_ok() && self.socket.recv(&mut [0]).is_ok()
    }
}

/// Whether somebody has a bell of this name.
pub fn is_hung(name: &str) -> bool {
    let connect = |address| UnixDatagram::unbound()?.connect_addr(&address);
    SocketAddr::from_abstract_name(name).and_then(connect).is_ok()
}

/// Rings the bells of these names. Nobody may be waiting there, which is as good.
pub fn ring<'a>(names: impl Iterator<Item = &'a str>) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // Whoever is rung for already will look.
    let _ = socket.set_nonblocking(true);
    for name in names {
        if let Ok(address) = SocketAddr::from_abstract_name(name) {
            let _ = socket.send_to_addr(&[0], &address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sys::testing::isolated;

    #[test]
    fn a_bell_wakes_who_waits_and_nobody_else() {
        isolated(|| {
            let bell = Bell::hang("linkspan-test-a").unwrap();
            let other = Bell::hang("linkspan-test-b").unwrap();
            assert_eq!(Bell::hang("linkspan-test-a").unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert!(is_hung("linkspan-test-a") && !is_hung("linkspan-test-none"));
            ring(["linkspan-test-none", "linkspan-test-a"].into_iter());
            let begun = Instant::now();
            assert!(bell.wait(Duration::from_secs(20)));
            assert!(begun.elapsed() < Duration::from_secs(10));
            assert!(!other.wait(Duration::from_millis(20)));
            assert!(!bell.wait(Duration::ZERO), "once");
        });
    }
}
