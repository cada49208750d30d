//! Published ports on the host's side: held by a bound socket (`holdPorts`), so that no other process can take them,
//! and served by a proxy (`userlandProxy`) where the kernel does not translate: at `[::1]`, and at 127.0.0.1 where
//! nothing from there may be routed (`snat` off). Everything else goes past these sockets, translated by the kernel.
//!
//! What the proxy passes on comes from the host's own address on the bridge: whoever listens in the container does not
//! see who the client is.

mod connection;
mod tcp;
mod udp;
mod wants;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, spawn_local};

use super::keep::Keeper;
use super::log;
use super::shared::{Change, Shared};
use crate::model::{AttachmentKey, Protocol};
use crate::plan::Plan;
use crate::store::Record;
use crate::sys::listen;
use connection::{Connection, Live};
use wants::Want;

pub use wants::serves;

/// The service's name in answers and status.
pub(super) const SERVICE: &str = "ports";

/// Connections and UDP clients at the same time, of all ports together: each takes up to six descriptors.
const MOST: u64 = 4096;
/// Connections that wait to be accepted, on a port that is served and on one that is held.
const WAITING: (i32, i32) = (512, 16);
/// Room for datagrams that wait, in bytes.
const ROOM: usize = 256 * 1024;

/// The state of the service.
#[derive(Debug, Default)]
pub struct Ports {
    held: RefCell<HashMap<AttachmentKey, Vec<Held>>>,
    /// Of what was let go a moment ago: whoever served it has it until the next turn of the loop, so that nobody could bind
    /// its port; but the next one may have it from here.
    spare: RefCell<Vec<(Want, OwnedFd)>>,
    /// What happened, since the agent was started.
    pub counters: Rc<Counters>,
    live: Rc<Live>,
}

/// What the proxy does.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections and UDP clients that were passed on.
    pub passed: Cell<u64>,
    /// Connections whose container did not answer.
    pub failed: Cell<u64>,
    /// Bytes, both ways.
    pub bytes: Cell<u64>,
    /// Connections and UDP clients that there are now.
    pub open: Cell<u64>,
}

/// One of [`MOST`], until it is dropped.
#[derive(Debug)]
struct Place(Rc<Counters>);

impl Counters {
    /// `None` where there are too many.
    fn place(counters: &Rc<Self>) -> Option<Place> {
        if counters.open.get() >= MOST {
            return None;
        }
        counters.open.set(counters.open.get() + 1);
        counters.passed.set(counters.passed.get() + 1);
        Some(Place(Rc::clone(counters)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// A socket that is there, and who serves it.
#[derive(Debug)]
struct Held {
    want: Want,
    socket: Socket,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(Rc<TcpListener>),
    Udp(Rc<UdpSocket>),
    /// Nobody reads it: the kernel drops what does not fit into the least room there is.
    Unread(std::net::UdpSocket),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Unread(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

/// Whether there is work with an attachment.
pub(super) fn needs(record: &Record<Plan>) -> bool {
    record.plan.claims().is_some_and(|claims| claims.hold || claims.proxy)
}

/// Takes a change over; gives the ports that cannot be had.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) -> Vec<String> {
    let keeper = &shared.keeper;
    let ports = &shared.services.ports;
    let mut held = ports.held.borrow_mut();
    let record = match change {
        Change::Detached(key) => {
            if let Some(sockets) = held.remove(key) {
                keeper.keep(&owner(key), Vec::new());
                let_go(shared, sockets);
            }
            return Vec::new();
        }
        Change::Attached(record) => record,
    };
    let wants = wants::of(&record.plan);
    // Claims are exclusive: whoever else has one of these is gone, and we have not been told yet.
    held.retain(|key, sockets| {
        let stays = *key == record.key || !sockets.iter().any(|s| wants.iter().any(|w| w.clashes(&s.want)));
        if !stays {
            keeper.keep(&owner(key), Vec::new());
            let_go(shared, std::mem::take(sockets));
        }
        stays
    });
    if wants.is_empty() && !held.contains_key(&record.key) {
        return Vec::new();
    }
    let sockets = held.entry(record.key.clone()).or_default();
    let before = sockets.len();
    sockets.retain(|socket| wants.contains(&socket.want));
    let mut changed = sockets.len() != before;
    let mut failures = Vec::new();
    for want in wants {
        if sockets.iter().any(|socket| socket.want == want) {
            continue;
        }
        match ports.hold(want, keeper) {
            Ok(socket) => {
                sockets.push(socket);
                changed = true;
            }
            Err(error) => failures.push(format!("{} {} cannot be held: {error}", want.protocol, want.at)),
        }
    }
    if changed {
        keeper.keep(&owner(&record.key), sockets.iter().map(|held| held.socket.as_fd()).collect());
    }
    if sockets.is_empty() {
        held.remove(&record.key);
    }
    failures
}

/// Lets sockets go, which another attachment may take up at once.
fn let_go(shared: &Rc<Shared>, sockets: Vec<Held>) {
    let spare = &shared.services.ports.spare;
    let copy = |held: &Held| Some((held.want, held.socket.as_fd().try_clone_to_owned().ok()?));
    spare.borrow_mut().extend(sockets.iter().filter_map(copy));
    drop(sockets);
    let shared = Rc::clone(shared);
    spawn_local(async move { shared.services.ports.spare.borrow_mut().clear() });
}

/// Whose sockets they are, to whoever keeps them.
fn owner(key: &AttachmentKey) -> String {
    format!("ports {key}")
}

impl Ports {
    /// Serves the connections that the agent before this one passed on.
    pub(super) fn go_on(&self, keeper: &Keeper) {
        for ends in keeper.connections() {
            match Connection::of(ends) {
                Ok(connection) => {
                    // They are within the number: they were in the process before.
                    if let Some(place) = Counters::place(&self.counters) {
                        Live::carry(&self.live, connection, place);
                    }
                }
                Err(error) => log::warn(&format!("a connection cannot be taken over: {error}")),
            }
        }
    }

    /// Stops serving, and gives the connections as they are between two of their bytes.
    pub(super) async fn stop(&self) -> Vec<Rc<Connection>> {
        let tasks: Vec<JoinHandle<()>> =
            self.held.borrow_mut().values_mut().flatten().filter_map(|held| held.task.take()).collect();
        for task in tasks {
            task.abort();
            // That it was ended is what it says.
            let _ = task.await;
        }
        self.live.stop().await
    }

    fn hold(&self, want: Want, keeper: &Keeper) -> io::Result<Held> {
        let inherited = keeper.inherited(want.protocol, want.at).or_else(|| self.take_spare(&want));
        let counters = Rc::clone(&self.counters);
        let (socket, task) = match (want.protocol, want.target) {
            (Protocol::Tcp, target) => {
                let waiting = if target.is_some() { WAITING.0 } else { WAITING.1 };
                let listener = inherited.map_or_else(|| listen::tcp(want.at, waiting), |fd| Ok(fd.into()))?;
                let listener = Rc::new(TcpListener::from_std(listener)?);
                let task = tcp::serve(Rc::clone(&listener), target, counters, Rc::clone(&self.live));
                (Socket::Tcp(listener), Some(spawn_local(task)))
            }
            (_, Some(target)) => {
                let socket = inherited.map_or_else(|| listen::udp(want.at, ROOM), |fd| Ok(fd.into()))?;
                let socket = Rc::new(UdpSocket::from_std(socket)?);
                let task = udp::serve(Rc::clone(&socket), target, udp::IDLE, counters);
                (Socket::Udp(socket), Some(spawn_local(task)))
            }
            (_, None) => {
                let socket = inherited.map_or_else(|| listen::udp(want.at, 0), |fd| Ok(fd.into()))?;
                (Socket::Unread(socket), None)
            }
        };
        Ok(Held { want, socket, task })
    }

    /// One that was let go a moment ago, of the same place and kind.
    fn take_spare(&self, want: &Want) -> Option<OwnedFd> {
        let mut spare = self.spare.borrow_mut();
        let is_alike = |(of, _): &(Want, OwnedFd)| {
            (of.protocol, of.at, of.target.is_some()) == (want.protocol, want.at, want.target.is_some())
        };
        let at = spare.iter().position(is_alike)?;
        Some(spare.swap_remove(at).1)
    }

    /// How many sockets there are.
    pub(super) fn count(&self) -> usize {
        self.held.borrow().values().map(Vec::len).sum()
    }
}

/// What the service says of itself.
pub(super) fn status(shared: &Shared) -> Value {
    let Ports { held, counters, .. } = &shared.services.ports;
    let held = held.borrow();
    let served = |socket: &&Held| socket.want.target.is_some();
    json!({
        "held": held.values().flatten().count(),
        "served": held.values().flatten().filter(served).count(),
        "passed": counters.passed.get(),
        "failed": counters.failed.get(),
        "open": counters.open.get(),
        "bytes": counters.bytes.get(),
    })
}
