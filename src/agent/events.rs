//! What happens, as it happens: for whoever follows (`linkspan events`), and for the counters.
//!
//! ADD and DEL tell nothing of their own: what the records' directories show is enough. A record leaves `pending/`
//! unnamed where an ADD fails, comes into `ready/` where it succeeds, and stays in `doomed/` for as long as a DEL
//! takes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use super::counters::{Verbs, add};
use super::log;
use super::shared::{Change, Shared};
use crate::model::AttachmentKey;
use crate::sys::ready::Ready;

/// Events that a slow follower may be behind.
const BEHIND: usize = 1024;
/// An ADD that took longer began before the clock was set.
const PLAUSIBLE: Duration = Duration::from_secs(600);

/// The state of the service.
#[derive(Debug)]
pub(super) struct Events {
    followers: broadcast::Sender<String>,
    /// Whether what was there at the start has been told.
    begun: Cell<bool>,
    known: RefCell<HashSet<AttachmentKey>>,
    /// What the plugin did.
    pub verbs: Verbs,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            followers: broadcast::channel(BEHIND).0,
            begun: Cell::default(),
            known: RefCell::default(),
            verbs: Verbs::default(),
        }
    }
}

impl Events {
    /// Follows what happens from now on: each event is one line of JSON.
    pub(super) fn follow(&self) -> broadcast::Receiver<String> {
        self.followers.subscribe()
    }

    /// Tells the followers of an event.
    pub(super) fn tell(&self, event: &str, what: Value) {
        if self.followers.receiver_count() == 0 {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = Map::new();
        line.insert("time".to_owned(), json!(now.as_secs_f64()));
        line.insert("event".to_owned(), json!(event));
        if let Value::Object(what) = what {
            line.extend(what);
        }
        // Nobody may be left to hear it.
        let _ = self.followers.send(Value::Object(line).to_string());
    }
}

/// Takes a change over.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) {
    let events = &shared.services.events;
    let mut known = events.known.borrow_mut();
    let begun = events.begun.get();
    match change {
        Change::Attached(record) => {
            if !known.insert(record.key.clone()) || !begun {
                return;
            }
            add(&events.verbs.adds, 1);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let took = now.checked_sub(Duration::from_micros(record.begun));
            if let Some(took) = took.filter(|took| *took < PLAUSIBLE) {
                events.verbs.add_took.observe(took);
            }
            events.tell("attached", json!({"attachment": record.key.to_string(), "network": record.network}));
        }
        Change::Detached(key) => {
            if known.remove(key) {
                add(&events.verbs.dels, 1);
                events.tell("detached", json!({"attachment": key.to_string()}));
            }
        }
    }
}

/// What is attached from now on is news.
pub(super) fn start(shared: &Shared) {
    shared.services.events.begun.set(true);
}

/// Follows the directories of what comes and goes, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>) {
    loop {
        if let Err(error) = follow(&shared).await {
            log::warn(&format!("watching ADD and DEL: {error}"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(shared: &Shared) -> std::io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let root = shared.state.root();
    let watch = |name: &str, changes| {
        let directory = root.join(name);
        std::fs::create_dir_all(&directory)?;
        inotify.add_watch(&directory, changes | AddWatchFlags::IN_ONLYDIR).map_err(std::io::Error::from)
    };
    let pending = watch("pending", AddWatchFlags::IN_DELETE)?;
    let doomed = watch("doomed", AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE)?;
    let ready = Ready::of(&inotify)?;
    let events = &shared.services.events;
    let mut begun: HashMap<AttachmentKey, Instant> = HashMap::new();
    loop {
        for event in ready.reading(|| inotify.read_events().map_err(std::io::Error::from)).await? {
            if event.mask.intersects(AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED) {
                return Ok(());
            }
            let key = event.name.as_ref().and_then(|name| AttachmentKey::parse(name.to_str()?));
            let Some(key) = key else { continue };
            if event.wd == pending {
                add(&events.verbs.failed_adds, 1);
                events.tell("add-failed", json!({"attachment": key.to_string()}));
            } else if event.wd == doomed && event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
                begun.insert(key, Instant::now());
            } else if let Some(begun) = begun.remove(&key) {
                events.verbs.del_took.observe(begun.elapsed());
            }
        }
    }
}
