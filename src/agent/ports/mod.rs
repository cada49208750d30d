//! Published ports on the host's side: held by a bound socket (`holdPorts`), so that no other process can take them,
//! and served by a proxy (`userlandProxy`) where the kernel does not translate: at `[::1]`, and at 127.0.0.1 where
//! nothing from there may be routed (`snat` off). Everything else goes past these sockets, translated by the kernel.
//!
//! What the proxy passes on comes from the host's own address on the bridge: whoever listens in the container does not
//! see who the client is.

mod tcp;
mod udp;
mod wants;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::log;
use super::shared::{Change, Shared};
use crate::model::{AttachmentKey, Protocol};
use crate::plan::Plan;
use crate::store::Record;
use crate::sys::listen;
use wants::Want;

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
    /// What happened, since the agent was started.
    pub counters: Rc<Counters>,
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

/// A socket that is there.
#[derive(Debug)]
struct Held {
    want: Want,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether there is work with an attachment.
pub(super) fn needs(record: &Record<Plan>) -> bool {
    record.plan.claims().is_some_and(|claims| claims.hold || claims.proxy)
}

/// Takes a change over; gives the ports that cannot be had.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) -> Vec<String> {
    let Ports { held, counters } = &shared.services.ports;
    let mut held = held.borrow_mut();
    let record = match change {
        Change::Detached(key) => {
            held.remove(key);
            return Vec::new();
        }
        Change::Attached(record) => record,
    };
    let wants = wants::of(&record.plan);
    // Claims are exclusive: whoever else has one of these is gone, and we have not been told yet.
    held.retain(|key, sockets| {
        *key == record.key || !sockets.iter().any(|s| wants.iter().any(|w| w.clashes(&s.want)))
    });
    if wants.is_empty() {
        held.remove(&record.key);
        return Vec::new();
    }
    let sockets = held.entry(record.key.clone()).or_default();
    sockets.retain(|socket| wants.contains(&socket.want));
    let mut failures = Vec::new();
    for want in wants {
        if sockets.iter().any(|socket| socket.want == want) {
            continue;
        }
        match hold(want, counters) {
            Ok(task) => sockets.push(Held { want, task }),
            Err(error) => failures.push(format!("{} {} cannot be held: {error}", want.protocol, want.at)),
        }
    }
    failures
}

/// Lets the agent have as many sockets as it may.
pub(super) fn start() {
    if let Err(error) = listen::raise_descriptor_limit() {
        log::warn(&format!("the number of sockets stays limited: {error}"));
    }
}

impl Ports {
    /// How many sockets there are.
    pub(super) fn count(&self) -> usize {
        self.held.borrow().values().map(Vec::len).sum()
    }
}

/// What the service says of itself.
pub(super) fn status(shared: &Shared) -> Value {
    let Ports { held, counters } = &shared.services.ports;
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

fn hold(want: Want, counters: &Rc<Counters>) -> io::Result<JoinHandle<()>> {
    let counters = Rc::clone(counters);
    match (want.protocol, want.target) {
        (Protocol::Tcp, target) => {
            let waiting = if target.is_some() { WAITING.0 } else { WAITING.1 };
            let listener = tokio::net::TcpListener::from_std(listen::tcp(want.at, waiting)?)?;
            Ok(spawn_local(tcp::serve(listener, target, counters)))
        }
        (_, Some(target)) => {
            let socket = tokio::net::UdpSocket::from_std(listen::udp(want.at, ROOM)?)?;
            Ok(spawn_local(udp::serve(socket, target, udp::IDLE, counters)))
        }
        (_, None) => {
            // Nobody reads: the kernel drops what does not fit into the least room there is.
            let socket = listen::udp(want.at, 0)?;
            Ok(spawn_local(async move {
                let _socket = socket;
                std::future::pending::<()>().await;
            }))
        }
    }
}
