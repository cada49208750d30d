//! Taking turns among the processes of one network namespace, without leaving anything behind: whoever has a name
//! among the abstract sockets (unix(7)) has the turn, and the kernel frees the name with its process.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// The turn; the next has it when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _name: UnixDatagram,
}

impl Turn {
    /// Waits for the turn of that name, for at most `limit`; `None` where somebody else keeps it.
    ///
    /// # Errors
    /// The system's, where the name can be nobody's.
    pub fn take(name: &str, limit: Duration) -> io::Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(name)?;
        let end = Instant::now() + limit;
        loop {
            match UnixDatagram::bind_addr(&address) {
                Ok(bound) => return Ok(Some(Self { _name: bound })),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Err(_) if Instant::now() >= end => return Ok(None),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::isolated;

    #[test]
    fn one_has_the_turn_until_it_is_dropped() {
        isolated(|| {
            let first = Turn::take("linkspan-test", Duration::ZERO).unwrap();
            assert!(first.is_some());
            assert!(Turn::take("linkspan-test", Duration::from_millis(60)).unwrap().is_none());
            assert!(Turn::take("linkspan-other", Duration::ZERO).unwrap().is_some());
            drop(first);
            assert!(Turn::take("linkspan-test", Duration::ZERO).unwrap().is_some());
        });
    }
}
