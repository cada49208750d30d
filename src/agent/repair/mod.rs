//! Repair: what somebody took away of linkspan's is there again within a second.
//!
//! The kernel tells of changes to nf_tables, links, addresses and forwarding; legacy iptables tells nobody, so the
//! sizes of its tables are looked at once a second where it is in use. A suspicion is gathered for some milliseconds,
//! then `verbs::mend` looks at the whole host and mends it, on a thread of its own, so that names are served meanwhile;
//! what the dead have left is taken away on another. See `docs/repair.md`.

mod collecting;
mod pace;
mod suspicion;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::shared::{Change, Shared};
use super::{AgentError, log};
use crate::apply::Kernel;
use crate::cni::LogLevel;
use crate::firewall::nft;
use crate::model::AttachmentKey;
use crate::plan::Step;
use crate::store::State;
use crate::sys::netlink::{Heard, Monitor, Protocol, Socket};
use crate::sys::nfnetlink::{NftSocket, notice as firewall};
use crate::sys::ready::Ready;
use crate::sys::{rtnl, xtables};
use crate::verbs::{self, Collect, Collected, Context, Journal, Leaving, Reconciled};
use pace::Pace;
use suspicion::Suspicions;

/// The name of threads that change the host, as nf_tables tells it of whoever changed it: that of the plugin too.
const THREAD: &str = "linkspan";
/// How often the tables of legacy iptables are looked at.
const LEGACY_LOOK: Duration = Duration::from_secs(1);
/// How many lines of the log one repair fills.
const LINES: usize = 8;
/// How long after a failure a repair is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(600);

/// The state of the service.
#[derive(Debug, Default)]
pub(super) struct Repair {
    suspicions: RefCell<Suspicions>,
    /// Since when attachments are known to be dead.
    dead: RefCell<HashMap<AttachmentKey, Dead>>,
    keeper: RefCell<Keeper>,
    /// Told where the host's routes are of interest.
    routed: Notify,
    /// How often the whole host was looked at, how many objects were put back, and in how many repairs.
    pub(super) looks: Cell<u64>,
    pub(super) objects: Cell<u64>,
    pub(super) runs: Cell<u64>,
    pub(super) failures: Cell<u64>,
    pub(super) collected: Cell<u64>,
}

#[derive(Debug)]
struct Dead {
    since: Instant,
    /// When it may be taken away; `None` for never.
    due: Option<Instant>,
}

/// The table that keeps known connections translated; see [`nft::keeper`].
#[derive(Debug, Default)]
enum Keeper {
    #[default]
    Absent,
    /// The socket that owns it.
    There(NftSocket),
    /// The kernel does not have such tables.
    Impossible,
}

/// Takes a change over.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) {
    let repair = &shared.services.repair;
    let mut suspicions = repair.suspicions.borrow_mut();
    match change {
        Change::Attached(record) => {
            if record.plan.steps.iter().any(|step| matches!(step, Step::Routed(_))) {
                repair.routed.notify_one();
            }
            suspicions.attached(record);
        }
        Change::Detached(key) => suspicions.detached(key),
    }
    let any = suspicions.count() > 0;
    drop(suspicions);
    if any {
        repair.keep_connections();
    }
}

/// Watches the host and mends it, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>) {
    loop {
        match watch(&shared).await {
            Ok(()) => return,
            Err(error) => log::warn(&format!("watching the host: {error}")),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch(shared: &Rc<Shared>) -> Result<(), AgentError> {
    let repair = &shared.services.repair;
    let mut links = Ear::new(rtnl::monitor()?)?;
    let mut rules = Ear::new(firewall::monitor()?)?;
    let mut legacy = interval(LEGACY_LOOK);
    legacy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tables = xtables::legacy_tables().unwrap_or_default();
    let mut pace = Pace::new(Instant::now());
    repair.learn_links();
    repair.suspicions.borrow_mut().suspect_all();
    let mut hears_routes = false;
    let mut due = Some(Instant::now());
    let mut retry = RETRY;
    let mut again: Option<Instant> = None;
    loop {
        let deadline = [due, again, repair.next_collection()].into_iter().flatten().min();
        let at = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            heard = links.hear() => repair.hear(&heard?, |told, (kind, body)| {
                if let Some(notice) = rtnl::notice(*kind, body) {
                    told.hear(&notice);
                }
            }),
            heard = rules.hear() => repair.hear(&heard?, |told, (kind, body)| {
                if let Some(notice) = firewall::notice(*kind, body) {
                    told.hear_firewall(&notice, is_ours);
                }
            }),
            () = repair.routed.notified(), if !hears_routes => {
                hears_routes = true;
                rtnl::hear_routes(&links.monitor)?;
                // What went before was not told.
                repair.suspicions.borrow_mut().suspect_all();
            }
            _ = legacy.tick() => {
                let now = xtables::legacy_tables().unwrap_or_default();
                if now != tables {
                    tables = now;
                    repair.suspicions.borrow_mut().suspect_firewall();
                }
            }
            () = sleep_until(at.into()), if deadline.is_some() => {
                due = None;
                if again.is_some_and(|again| again <= Instant::now()) {
                    again = None;
                    repair.suspicions.borrow_mut().suspect_all();
                }
                let expired = repair.expired();
                if repair.suspicions.borrow_mut().take().is_empty() && expired.is_empty() {
                    continue;
                }
                let found = mend(shared, expired).await;
                pace.looked(Instant::now(), found != Found::Nothing);
                // What could not be put back is tried again, less and less often; what else happens does not wait.
                if found == Found::Failure {
                    again = Some(Instant::now() + retry);
                    retry = LAST_RETRY.min(retry * 2);
                } else {
                    again = None;
                    retry = RETRY;
                }
                // Our own programs have changed the tables of legacy iptables.
                tables = xtables::legacy_tables().unwrap_or_default();
            }
        }
        if due.is_none() && repair.suspicions.borrow().any() {
            due = Some(pace.due(Instant::now()));
        }
    }
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Damage,
    Failure,
}

/// Looks at the whole host on a thread of its own, and mends it.
async fn mend(shared: &Rc<Shared>, expired: Vec<AttachmentKey>) -> Found {
    let repair = &shared.services.repair;
    let root = shared.state.root().to_owned();
    let (done, outcome) = oneshot::channel();
    let work = move || {
        let _ = done.send(reconcile(&root, &expired));
    };
    // The notifications of what it does are told apart by its name.
    if let Err(error) = std::thread::Builder::new().name(THREAD.to_owned()).spawn(work) {
        repair.note_failure(shared, &format!("cannot look at the host: {error}"));
        return Found::Failure;
    }
    let failed = match outcome.await {
        Ok(Ok((found, leaving))) => {
            if !leaving.is_empty() {
                collecting::begin(shared, leaving);
            }
            return repair.note(shared, &found);
        }
        Ok(Err(text)) => text,
        Err(_) => collecting::SILENT.to_owned(),
    };
    repair.note_failure(shared, &format!("cannot put back what is missing: {failed}"));
    Found::Failure
}

fn reconcile(root: &Path, expired: &[AttachmentKey]) -> Result<(Reconciled, Leaving), String> {
    let mut cx = context(root)?;
    verbs::mend(&mut cx, true, Collect::These(expired)).map_err(|error| error.to_string())
}

fn context(root: &Path) -> Result<Context, String> {
    let state = Rc::new(State::open(root).map_err(|error| error.to_string())?);
    let kernel = Kernel::new(Rc::clone(&state));
    Ok(Context { state, kernel, journal: Journal::new(LogLevel::Error) })
}

impl Repair {
    /// What the service says of itself.
    pub(super) fn status(&self) -> Value {
        json!({
            "looks": self.looks.get(),
            "runs": self.runs.get(),
            "objects": self.objects.get(),
            "failures": self.failures.get(),
            "collected": self.collected.get(),
            "dead": self.dead.borrow().len(),
        })
    }

    fn hear(&self, heard: &Heard, mut each: impl FnMut(&mut Suspicions, &(u16, Vec<u8>))) {
        let mut suspicions = self.suspicions.borrow_mut();
        match heard {
            Heard::Told(told) => told.iter().for_each(|one| each(&mut suspicions, one)),
            Heard::Lost => suspicions.suspect_all(),
        }
    }

    /// Learns the indexes of the links that are there: what is told of an address names no other.
    fn learn_links(&self) {
        let links = Socket::open(Protocol::Route).and_then(|mut socket| rtnl::all_links(&mut socket));
        let mut suspicions = self.suspicions.borrow_mut();
        for link in links.unwrap_or_default() {
            suspicions.hear(&rtnl::Notice::Link(link));
        }
    }

    /// Says and counts what a look has found, and remembers the dead.
    fn note(&self, shared: &Shared, found: &Reconciled) -> Found {
        let add = |cell: &Cell<u64>, count: usize| cell.set(cell.get() + count as u64);
        add(&self.looks, 1);
        add(&self.objects, found.drifts.len());
        add(&self.runs, usize::from(!found.drifts.is_empty()));
        add(&self.failures, found.failures.len());
        say(found.drifts.iter().map(|drift| format!("put back: {drift}")));
        say(found.failures.iter().map(|failure| format!("cannot put back: {failure}")));
        let events = &shared.services.events;
        found
            .drifts
            .iter()
            .for_each(|drift| events.tell("repaired", json!({"object": drift.object, "found": drift.found})));
        found.failures.iter().for_each(|failure| events.tell("repair-failed", json!({"error": failure})));
        let collected = Collected { gone: found.collected.clone(), failures: Vec::new() };
        self.note_collected(shared, &collected);
        self.remember_dead(shared, found);
        match (found.failures.is_empty(), found.drifts.is_empty()) {
            (false, _) => Found::Failure,
            (true, false) => Found::Damage,
            (true, true) => Found::Nothing,
        }
    }

    fn remember_dead(&self, shared: &Shared, found: &Reconciled) {
        let mut dead = self.dead.borrow_mut();
        dead.retain(|key, _| found.dead.iter().any(|found| found.key == *key));
        for one in &found.dead {
            let now = Instant::now();
            let grace =
                || shared.state.network(&one.network).ok().flatten().and_then(|network| network.gc_after);
            dead.entry(one.key.clone()).or_insert_with(|| {
                let grace = grace();
                let when = match grace {
                    Some(seconds) => format!("in {seconds} seconds (gcAfter)"),
                    None => "never, by gcAfter".to_owned(),
                };
                log::info(&format!("{} died without DEL; what it left is taken away {when}", one.key));
                let what =
                    json!({"attachment": one.key.to_string(), "network": one.network, "gcAfter": grace});
                shared.services.events.tell("dead", what);
                Dead { since: now, due: grace.map(|seconds| now + Duration::from_secs(seconds)) }
            });
        }
    }

    fn next_collection(&self) -> Option<Instant> {
        self.dead.borrow().values().filter_map(|dead| dead.due).min()
    }

    /// The dead whose time is over. One that cannot be taken away is tried again later.
    fn expired(&self) -> Vec<AttachmentKey> {
        let now = Instant::now();
        let mut expired = Vec::new();
        for (key, dead) in self.dead.borrow_mut().iter_mut() {
            if dead.due.is_some_and(|due| due <= now) {
                expired.push(key.clone());
                dead.due = Some(now + RETRY.max(now - dead.since));
            }
        }
        expired
    }

    /// Gives up the table that known connections live by, which the next agent makes anew: it has one owner.
    pub(super) fn leave(&self) {
        drop(self.keeper.replace(Keeper::Absent));
    }

    /// Makes the table that known connections live by. It stays until the agent ends: the kernel's wait for its end
    /// would be everybody's.
    fn keep_connections(&self) {
        let mut slot = self.keeper.borrow_mut();
        if !matches!(*slot, Keeper::Absent) {
            return;
        }
        *slot = match Keeper::make() {
            Ok(keeper) => keeper,
            Err(why) => {
                log::info(&format!("connections may be reset when the whole ruleset is flushed: {why}"));
                Keeper::Impossible
            }
        };
    }
}

impl Keeper {
    fn make() -> Result<Self, String> {
        let mut socket = NftSocket::open().map_err(|error| error.to_string())?;
        for messages in nft::keeper() {
            socket.commit(&messages).map_err(|error| error.to_string())?;
        }
        Ok(Self::There(socket))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Self::There(socket) = self {
            // Without its owner the table is one like any other, and harmless.
            let _ = socket.commit(&[nft::remove_keeper()]);
        }
    }
}

/// A monitor that the runtime waits for.
struct Ear {
    monitor: Monitor,
    ready: Ready,
}

impl Ear {
    fn new(monitor: Monitor) -> Result<Self, AgentError> {
        let failed = |source| AgentError::Io { action: "listen to", path: "netlink".into(), source };
        let ready = Ready::of(&monitor).map_err(failed)?;
        Ok(Self { monitor, ready })
    }

    async fn hear(&mut self) -> Result<Heard, AgentError> {
        let Self { monitor, ready } = self;
        let heard = ready.reading(|| monitor.hear()).await;
        heard.map_err(|source| AgentError::Io { action: "listen to", path: "netlink".into(), source })
    }
}

/// Whether a thread of this name is one of linkspan's, the plugin's or the agent's: what a program is called when it is
/// run, cut to 15 bytes. Under another name its DELs cause a look each, and no more.
fn is_ours(name: &str) -> bool {
    name.starts_with(THREAD)
}

fn say(lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(LINES);
    lines.take(LINES).for_each(|line| log::warn(&line));
    if more > 0 {
        log::warn(&format!("and {more} more"));
    }
}
