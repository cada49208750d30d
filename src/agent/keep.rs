//! Sockets that outlive this process: in a parcel for each owner, which the supervisor keeps too, and which is handed
//! over to the agent after this one. A port that is held, or a gateway that is listened on, is so without a gap.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use nix::sys::socket::{SockType, SockaddrStorage, getsockname, getsockopt, sockopt};

use super::log;
use super::notify::Supervisor;
use crate::model::Protocol;
use crate::sys::parcel::{self, Group};

/// What stands before the names under which the supervisor keeps parcels.
const PREFIX: &str = "kept-";
/// Labels in parcels: what follows is one of these.
const SOCKET: &[u8] = b"socket";
const PARCEL: &[u8] = b"parcel";
const LOCK: &[u8] = b"lock";
const LISTENER: &[u8] = b"listener";
const CONNECTION: &[u8] = b"connection";

/// A connection that is being passed on, in descriptors: client, server, and the ends of the two pipes.
pub(super) type Ends = [OwnedFd; 6];

/// What the agent before this one left.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// The lock, where it was handed over.
    pub(super) lock: Option<OwnedFd>,
    /// The agent's socket, where it was handed over.
    pub(super) listener: Option<UnixListener>,
    /// Connections that go on.
    pub(super) connections: Vec<Ends>,
    sockets: HashMap<(Protocol, SocketAddr), OwnedFd>,
    /// Names under which the supervisor keeps what is in here.
    names: Vec<String>,
}

impl Inheritance {
    /// Takes over what the supervisor has passed to this process; gives back what it does not keep for us: its own.
    pub(super) fn take_passed(&mut self, passed: Vec<(String, OwnedFd)>) -> Vec<OwnedFd> {
        let (kept, own): (Vec<_>, Vec<_>) =
            passed.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        for (name, parcel) in kept {
            self.open(&parcel);
            self.names.push(name);
        }
        own.into_iter().map(|(_, descriptor)| descriptor).collect()
    }

    /// Opens a parcel.
    pub(super) fn open(&mut self, parcel: &OwnedFd) {
        match parcel::unpack(parcel) {
            Ok(groups) => groups.into_iter().for_each(|group| self.add(group)),
            Err(error) => log::warn(&format!("what the agent before left cannot be taken over: {error}")),
        }
    }

    fn add(&mut self, (label, descriptors): Group) {
        match label.as_slice() {
            PARCEL => descriptors.iter().for_each(|parcel| self.open(parcel)),
            SOCKET => {
                let named = descriptors.into_iter().filter_map(|socket| Some((name_of(&socket)?, socket)));
                self.sockets.extend(named);
            }
            LOCK => self.lock = descriptors.into_iter().next(),
            LISTENER => self.listener = descriptors.into_iter().next().map(UnixListener::from),
            CONNECTION => self.connections.extend(Ends::try_from(descriptors)),
            // Of a later release: it does without.
            _ => {}
        }
    }
}

/// A socket's protocol and address.
fn name_of(socket: &OwnedFd) -> Option<(Protocol, SocketAddr)> {
    use std::os::fd::AsRawFd as _;
    let protocol = match getsockopt(socket, sockopt::SockType).ok()? {
        SockType::Stream => Protocol::Tcp,
        SockType::Datagram => Protocol::Udp,
        _ => return None,
    };
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    let v4 = name.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    Some((protocol, v4.or_else(|| name.as_sockaddr_in6().map(|v6| (v6.ip(), v6.port()).into()))?))
}

#[derive(Debug)]
struct Kept {
    name: String,
    parcel: Rc<OwnedFd>,
}

/// Keeps sockets for the agent after this one, and has those of the one before.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Who is told what happens to this process.
    pub(super) supervisor: Supervisor,
    kept: RefCell<HashMap<String, Kept>>,
    inherited: RefCell<Inheritance>,
    count: Cell<u64>,
}

impl Keeper {
    /// With what was left.
    pub(super) fn new(supervisor: Supervisor, inherited: Inheritance) -> Self {
        Self { supervisor, inherited: RefCell::new(inherited), ..Self::default() }
    }

    /// A socket that the agent before this one had at an address.
    pub(super) fn inherited(&self, protocol: Protocol, at: SocketAddr) -> Option<OwnedFd> {
        self.inherited.borrow_mut().sockets.remove(&(protocol, at))
    }

    /// The connections that it passed on.
    pub(super) fn connections(&self) -> Vec<Ends> {
        std::mem::take(&mut self.inherited.borrow_mut().connections)
    }

    /// Keeps an owner's sockets, in place of what was kept of it before; none at all where it has none.
    pub(super) fn keep(&self, owner: &str, sockets: Vec<BorrowedFd<'_>>) {
        let old = self.kept.borrow_mut().remove(owner);
        if !sockets.is_empty() {
            match self.store(&[(SOCKET, sockets)]) {
                Ok(kept) => drop(self.kept.borrow_mut().insert(owner.to_owned(), kept)),
                Err(error) => log::warn(&format!("{owner} will not outlive this process: {error}")),
            }
        }
        // The new one first: there is always one.
        if let Some(old) = old {
            self.supervisor.forget(&old.name);
        }
    }

    /// Closes what was left and nobody has asked for. To be called when all records have been read.
    pub(super) fn settle(&self) {
        let Inheritance { names, .. } = self.inherited.take();
        // All of it is in parcels of this process by now, or is to end.
        names.iter().for_each(|name| self.supervisor.forget(name));
    }

    /// Has the supervisor keep connections, for the process after this one.
    pub(super) fn keep_connections(&self, connections: &[[BorrowedFd<'_>; 6]]) {
        let groups: Vec<_> = connections.iter().map(|ends| (CONNECTION, ends.to_vec())).collect();
        if !groups.is_empty()
            && let Err(error) = self.store(&groups)
        {
            log::warn(&format!("{} connections end with this process: {error}", groups.len()));
        }
    }

    /// All that there is, in one parcel.
    ///
    /// # Errors
    /// As [`parcel::pack`].
    pub(super) fn everything(
        &self,
        lock: BorrowedFd<'_>,
        listener: BorrowedFd<'_>,
        connections: &[[BorrowedFd<'_>; 6]],
    ) -> io::Result<OwnedFd> {
        let kept = self.kept.borrow();
        let parcels = kept.values().map(|kept| kept.parcel.as_fd()).collect();
        let mut groups = vec![(LOCK, vec![lock]), (LISTENER, vec![listener]), (PARCEL, parcels)];
        groups.extend(connections.iter().map(|ends| (CONNECTION, ends.to_vec())));
        parcel::pack(&groups)
    }

    fn store(&self, groups: &[(&[u8], Vec<BorrowedFd<'_>>)]) -> io::Result<Kept> {
        let parcel = Rc::new(parcel::pack(groups)?);
        self.count.set(self.count.get() + 1);
        // Another process's names are others.
        let name = format!("{PREFIX}{}-{}", std::process::id(), self.count.get());
        self.supervisor.keep(&name, &parcel);
        Ok(Kept { name, parcel })
    }
}
