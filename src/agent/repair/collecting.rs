//! Taking away what the dead have left: beside the watch, which mends the host meanwhile. Another plugin may have to be told
//! of their addresses, and take its time, or hang.

use std::rc::Rc;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::super::log;
use super::super::shared::Shared;
use super::{Repair, THREAD, context, say};
use crate::verbs::{self, Collected, Leaving};

const FAILED: &str = "cannot take away what the dead have left";
/// What is said of a thread that has panicked.
pub(super) const SILENT: &str = "whoever was at it has ended without a word";

/// Takes them away on a thread of its own, and says what became of them when it is done.
pub(super) fn begin(shared: &Rc<Shared>, leaving: Leaving) {
    let root = shared.state.root().to_owned();
    let (done, outcome) = oneshot::channel();
    let work = move || {
        let collected = context(&root)
            .and_then(|mut cx| verbs::collect(&mut cx, &leaving).map_err(|error| error.to_string()));
        let _ = done.send(collected);
    };
    // The notifications of what it does are told apart by its name.
    if let Err(error) = std::thread::Builder::new().name(THREAD.to_owned()).spawn(work) {
        // What is doomed is taken away by the next DEL of anybody.
        shared.services.repair.note_failure(shared, &format!("{FAILED}: {error}"));
        return;
    }
    let shared = Rc::clone(shared);
    spawn_local(async move {
        let repair = &shared.services.repair;
        match outcome.await {
            Ok(Ok(collected)) => repair.note_collected(&shared, &collected),
            Ok(Err(text)) => repair.note_failure(&shared, &format!("{FAILED}: {text}")),
            Err(_) => repair.note_failure(&shared, &format!("{FAILED}: {SILENT}")),
        }
    });
}

impl Repair {
    /// Says and counts a failure that is not of one object.
    pub(super) fn note_failure(&self, shared: &Shared, text: &str) {
        self.failures.set(self.failures.get() + 1);
        log::warn(text);
        shared.services.events.tell("repair-failed", json!({"error": text}));
    }

    /// Says and counts what was taken away of the dead, and what could not be.
    pub(super) fn note_collected(&self, shared: &Shared, collected: &Collected) {
        let Collected { gone, failures } = collected;
        self.collected.set(self.collected.get() + gone.len() as u64);
        self.failures.set(self.failures.get() + failures.len() as u64);
        say(gone.iter().map(|key| format!("took away {key}, which died without DEL")));
        say(failures.iter().map(|failure| format!("cannot take away: {failure}")));
        let events = &shared.services.events;
        for key in gone {
            events.tell("collected", json!({"attachment": key.to_string()}));
        }
        for failure in failures {
            events.tell("repair-failed", json!({"error": failure}));
        }
    }
}
