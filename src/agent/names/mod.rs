//! The name service: containers find each other by name, and the world through the host's name servers.
//!
//! It listens on the gateway addresses of the networks that have it (`dns.enabled`), by UDP and TCP, and answers
//! whoever is on one of them. A change of attachments changes one table in place; no socket is touched for it, unless
//! a gateway has its first attachment or has lost its last.
//!
//! | module | does |
//! |---|---|
//! | `table` | who is called what, and who may know |
//! | `answer` | one question, from bytes to bytes |
//! | `udp`, `tcp` | how questions come |
//! | `forward`, `upstream`, `cache` | what is asked outside, whom, and what is kept |
//! | `shares` | how much of that one client may have |

mod answer;
mod cache;
mod forward;
#[cfg(test)]
mod sample;
mod shares;
mod shuffle;
mod table;
mod tcp;
mod udp;
mod upstream;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

use super::log;
use super::shared::{Change, Shared};
use crate::apply::Kernel;
use crate::model::Protocol;
use crate::store::State;
use crate::sys::datagrams;
use crate::verbs;
use answer::{Transport, Verdict, judge};
use cache::Cache;
use shares::Shares;
use shuffle::Shuffle;
use table::Table;
use upstream::HostServers;

/// The service's name in answers and status.
pub const SERVICE: &str = "names";

/// The port that it listens on.
const PORT: u16 = crate::firewall::NAMES_PORT;

/// The state of the service.
#[derive(Debug, Default)]
pub struct Names {
    inner: RefCell<Inner>,
    room: udp::Room,
    /// Whether somebody else takes further questions.
    stopped: Cell<bool>,
    streams: Rc<tcp::Streams>,
    shares: Shares,
    /// What happened, since the agent was started.
    pub counters: Counters,
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    shuffle: Shuffle,
    cache: Cache,
    host: HostServers,
    listeners: HashMap<IpAddr, Listener>,
    /// Bridges whose containers' questions somebody else's rules drop.
    stopped: HashSet<String>,
}

/// Numbers of questions.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answered from the table, and NXDOMAIN on internal networks.
    pub local: Cell<u64>,
    /// Asked outside.
    pub forwarded: Cell<u64>,
    /// Answered from what was kept of an earlier answer.
    pub cached: Cell<u64>,
    /// Answered with SERVFAIL: nobody outside answered, or too many were asked at once.
    pub failed: Cell<u64>,
    /// Refused: strangers, and what is no question.
    pub refused: Cell<u64>,
}

/// Those who listen on one gateway; dropping it ends that.
#[derive(Debug)]
struct Listener(Vec<JoinHandle<()>>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Takes a change of attachments over. When it returns, the names resolve, or no longer do.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) -> Vec<String> {
    let names = &shared.services.names;
    let mut inner = names.inner.borrow_mut();
    let mut failures = Vec::new();
    match change {
        Change::Attached(record) => {
            inner.table.insert(record);
            let gateways = inner.table.gateways_of(&record.key).to_vec();
            let mut begun = false;
            for &gateway in &gateways {
                if inner.listeners.contains_key(&gateway) {
                    continue;
                }
                match listen(shared, gateway) {
                    Ok(listener) => drop(inner.listeners.insert(gateway, listener)),
                    Err(error) => failures.push(complaint(gateway, &error)),
                }
                begun = true;
            }
            if let Some(bridge) = record.plan.bridge().map(|bridge| &bridge.name)
                && (begun || inner.stopped.contains(bridge))
            {
                let stopped = stopped(shared, bridge, &gateways);
                inner.stopped.remove(bridge);
                if !stopped.is_empty() {
                    inner.stopped.insert(bridge.clone());
                }
                failures.extend(stopped);
            }
        }
        Change::Detached(key) => inner.table.remove(key),
    }
    let Inner { table, listeners, .. } = &mut *inner;
    listeners.retain(|gateway, _| {
        let stays = table.is_gateway(*gateway);
        if !stays {
            shared.keeper.keep(&owner(*gateway), Vec::new());
        }
        stays
    });
    failures
}

/// What the service says of itself.
pub(super) fn status(shared: &Shared) -> Value {
    let Names { inner, counters, shares, .. } = &shared.services.names;
    let inner = inner.borrow();
    let mut listening: Vec<String> = inner.listeners.keys().map(ToString::to_string).collect();
    listening.sort_unstable();
    json!({
        "attachments": inner.table.len(),
        "listening": listening,
        "kept": inner.cache.len(),
        "outside": shares.under_way(),
        "queries": {
            "local": counters.local.get(),
            "forwarded": counters.forwarded.get(),
            "cached": counters.cached.get(),
            "failed": counters.failed.get(),
            "refused": counters.refused.get(),
        },
    })
}

fn listen(shared: &Rc<Shared>, gateway: IpAddr) -> std::io::Result<Listener> {
    let (address, keeper) = (SocketAddr::new(gateway, PORT), &shared.keeper);
    let datagrams = match keeper.inherited(Protocol::Udp, address) {
        Some(socket) => socket,
        None => datagrams::udp(address, udp::WAITING)?,
    };
    let streams = match keeper.inherited(Protocol::Tcp, address) {
        Some(socket) => socket.into(),
        None => datagrams::tcp(address)?,
    };
    let (datagrams, streams) = (Rc::new(datagrams), TcpListener::from_std(streams)?);
    keeper.keep(&owner(gateway), vec![datagrams.as_fd(), streams.as_fd()]);
    Ok(Listener(vec![
        spawn_local(udp::serve(Rc::clone(shared), gateway, datagrams)),
        spawn_local(tcp::serve(Rc::clone(shared), gateway, streams)),
    ]))
}

/// Whose sockets they are, to whoever keeps them.
fn owner(gateway: IpAddr) -> String {
    format!("names {gateway}")
}

/// Whose rules keep questions from us. To be asked when a network begins, and while it is so: it takes a look at all
/// rules that the host has for what it receives.
fn stopped(shared: &Shared, bridge: &str, gateways: &[IpAddr]) -> Vec<String> {
    let look = || {
        let state = Rc::new(State::open(shared.state.root()).map_err(|error| error.to_string())?);
        verbs::stopped_questions(&mut Kernel::new(state), bridge, gateways).map_err(|error| error.to_string())
    };
    // Where nobody can tell, questions come or do not.
    look().unwrap_or_else(|why| {
        log::warn(&format!("whether the host takes questions from {bridge} is not known: {why}"));
        Vec::new()
    })
}

fn complaint(gateway: IpAddr, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            ": another name server listens there, perhaps on all addresses; bind it to its own ones"
        }
        std::io::ErrorKind::PermissionDenied => ": the agent needs CAP_NET_BIND_SERVICE",
        _ => "",
    };
    format!("cannot listen on {}: {error}{advice}", SocketAddr::new(gateway, PORT))
}

impl Names {
    /// Takes no further questions: what comes waits for the agent after this one. Those that were taken are answered.
    pub(super) async fn stop(&self) {
        self.stopped.set(true);
        let listeners = std::mem::take(&mut self.inner.borrow_mut().listeners);
        for mut listener in listeners.into_values() {
            for task in listener.0.drain(..) {
                task.abort();
                // That it was ended is what it says.
                let _ = task.await;
            }
        }
    }

    /// Whether somebody waits for an answer, or may be about to ask.
    pub(super) fn is_busy(&self) -> bool {
        self.shares.under_way() > 0 || self.streams.any()
    }

    fn judge(&self, between: (IpAddr, IpAddr), bytes: &[u8], transport: Transport) -> Verdict {
        let mut inner = self.inner.borrow_mut();
        let Inner { table, shuffle, .. } = &mut *inner;
        let verdict = judge(table, shuffle, between, bytes, transport);
        match &verdict {
            Verdict::Answer(_) => count(&self.counters.local),
            Verdict::Refusal(_) => count(&self.counters.refused),
            Verdict::Nothing | Verdict::Outside(_) => {}
        }
        verdict
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
