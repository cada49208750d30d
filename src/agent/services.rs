//! The services, each a module of this room. Adding one takes a line in each function here.
//!
//! A service has three parts, of which it leaves out what it does not need:
//!
//! - `change(&Rc<Shared>, Change) -> Vec<String>` takes a change over at once: an ADD waits for the answer, with a
//!   deadline of 200 ms. It blocks on nothing, may start tasks with `tokio::task::spawn_local`, and gives what does not
//!   work for the attachment, as sentences that the plugin passes on. It may be told the same twice.
//! - `async fn run(Rc<Shared>)` is what it does of its own accord, for as long as the agent lives. All records have
//!   been told by then.
//! - its state is a field of [`Services`], behind a `RefCell` that is never borrowed across an `await`.

use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::events::{self, Events};
use super::metrics;
use super::names::{self, Names};
use super::ports::{self, Ports};
use super::protocol::Degraded;
use super::repair::{self, Repair};
use super::shared::{Change, Shared};
use super::tally::{self, Tally};
use crate::plan::Plan;
use crate::store::Record;

/// The state of all services.
#[derive(Debug, Default)]
pub struct Services {
    /// What happens.
    pub(super) events: Events,
    /// The name service.
    pub names: Names,
    /// Published ports, held and served.
    pub ports: Ports,
    /// What somebody took away is put back.
    pub(super) repair: Repair,
    /// Bytes of published ports.
    pub(super) tally: Tally,
}

/// Whether a service has work with an attachment, so that an agent started on demand stays for it.
pub(super) fn needs(record: &Record<Plan>) -> bool {
    record.naming.is_some() || ports::needs(record)
}

/// Tells every service; gives what does not work.
pub(super) fn tell(shared: &Rc<Shared>, change: Change<'_>) -> Vec<Degraded> {
    let of = |service: &str, reasons: Vec<String>| {
        let service = service.to_owned();
        reasons.into_iter().map(move |reason| Degraded { service: service.clone(), reason })
    };
    repair::change(shared, change);
    events::change(shared, change);
    tally::change(shared, change);
    let names = of(names::SERVICE, names::change(shared, change));
    names.chain(of(ports::SERVICE, ports::change(shared, change))).collect()
}

/// Starts what the services do of their own accord; gives their tasks.
pub(super) fn start(shared: &Rc<Shared>) -> Vec<JoinHandle<()>> {
    shared.services.ports.go_on(&shared.keeper);
    events::start(shared);
    vec![
        spawn_local(events::run(Rc::clone(shared))),
        spawn_local(metrics::run(Rc::clone(shared), shared.metrics)),
        spawn_local(repair::run(Rc::clone(shared))),
        spawn_local(tally::run(Rc::clone(shared))),
    ]
}

/// What the services say of themselves.
pub(super) fn status(shared: &Shared) -> Value {
    json!({
        names::SERVICE: names::status(shared),
        ports::SERVICE: ports::status(shared),
        "repair": shared.services.repair.status(),
    })
}
