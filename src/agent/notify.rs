//! Telling the supervisor (sd_notify(3)): datagrams to `$NOTIFY_SOCKET`, some with a descriptor that it is to keep for
//! the process after this one (`FDSTORE`, systemd.service(5) `FileDescriptorStoreMax=`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::socket::UnixAddr;
use tokio::sync::Notify;

use super::log;
use crate::sys::parcel;

/// How long a supervisor that does not listen is left alone before it is told again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What is yet to be told: a state, and what is to be kept.
type Message = (String, Option<Rc<OwnedFd>>);

/// Whoever started this process and wants to be told.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    way: Option<(UnixDatagram, UnixAddr)>,
    untold: RefCell<VecDeque<Message>>,
    more: Notify,
}

impl Supervisor {
    /// The one of `$NOTIFY_SOCKET`; one that hears nothing where there is none.
    pub(super) fn of_environment() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let name = path.as_encoded_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name),
            None => UnixAddr::new(name),
        };
        match address.map_err(io::Error::from).and_then(|to| Ok((UnixDatagram::unbound()?, to))) {
            Ok(way) => Self { way: Some(way), ..Self::default() },
            Err(error) => {
                log::warn(&format!("cannot tell the supervisor at {}: {error}", path.display()));
                Self::default()
            }
        }
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.way.is_some()
    }

    /// Tells it a state such as `READY=1`, after all that is untold.
    pub(super) fn tell(&self, state: &str) {
        self.put((state.to_owned(), None));
    }

    /// Has it keep a descriptor under a name.
    pub(super) fn keep(&self, name: &str, descriptor: &Rc<OwnedFd>) {
        self.put((format!("FDSTORE=1\nFDNAME={name}"), Some(Rc::clone(descriptor))));
    }

    /// Has it close what it keeps under a name.
    pub(super) fn forget(&self, name: &str) {
        self.put((format!("FDSTOREREMOVE=1\nFDNAME={name}"), None));
    }

    /// Tells again, for as long as the agent lives, what a busy supervisor could not hear.
    pub(super) async fn run(&self) {
        loop {
            self.more.notified().await;
            while !self.flush() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Tells what is untold, within a bounded time, before this process ends.
    pub(super) fn finish(&self) {
        let begun = Instant::now();
        while !self.flush() && begun.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn put(&self, message: Message) {
        if self.way.is_some() {
            self.untold.borrow_mut().push_back(message);
            if !self.flush() {
                self.more.notify_one();
            }
        }
    }

    /// Never waits: an ADD may be waiting for this process. False where something is left.
    fn flush(&self) -> bool {
        let Some((socket, to)) = &self.way else { return true };
        let mut untold = self.untold.borrow_mut();
        while let Some((state, descriptor)) = untold.front() {
            let descriptor = descriptor.as_ref().map(|descriptor| descriptor.as_fd());
            match parcel::send_to(socket, to, state.as_bytes(), descriptor) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => log::warn(&format!("cannot tell the supervisor {state:?}: {error}")),
                Ok(()) => {}
            }
            untold.pop_front();
        }
        true
    }
}
