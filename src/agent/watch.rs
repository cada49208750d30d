//! Changes that nobody tells: a message that was lost, a DEL without the agent's knowledge, a GC. inotify(7) on the
//! directory of ready records.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

use super::{AgentError, Shared, log};
use crate::model::AttachmentKey;
use crate::sys::SysError;
use crate::sys::ready::Ready;

/// After a failure: the directory may be made anew meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a change waits for the word of who made it, after which there is nothing left to do for it here.
const MOMENT: Duration = Duration::from_millis(20);

/// A watch that has begun: what changes from now on will be seen.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    ready: Ready,
}

/// Begins to watch. To be called before the records are read, so that no change falls in between.
///
/// # Errors
/// Where the directory cannot be made or watched.
pub(super) fn begin(shared: &Shared) -> Result<Watch, AgentError> {
    let directory = shared.state.ready_directory()?;
    let failed = |errno| SysError::refused("watch", directory.display().to_string(), errno);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
    let changes = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(&directory, changes).map_err(failed)?;
    let failed = |source| AgentError::Io { action: "watch", path: directory.clone(), source };
    let ready = Ready::of(&inotify).map_err(failed)?;
    Ok(Watch { inotify, ready })
}

/// Follows the changes, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>, mut watch: Watch) {
    loop {
        if let Err(error) = follow(&shared, &watch).await {
            log::warn(&format!("watching the records: {error}"));
        }
        // The directory was lost, or events were: look at everything anew.
        loop {
            let again = begin(&shared).and_then(|new| {
                watch = new;
                shared.reload()
            });
            match again {
                Ok(()) => break,
                Err(error) => log::warn(&format!("watching the records: {error}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Ends where the whole directory has to be looked at.
async fn follow(shared: &Rc<Shared>, watch: &Watch) -> Result<(), AgentError> {
    loop {
        let events = watch.ready.reading(|| watch.inotify.read_events().map_err(std::io::Error::from)).await;
        let failed =
            |source| AgentError::Io { action: "watch", path: shared.state.root().to_owned(), source };
        let events = events.map_err(failed)?;
        tokio::time::sleep(MOMENT).await;
        for event in events {
            if is_loss(&event) {
                return Ok(());
            }
            let key = event.name.as_ref().and_then(|name| AttachmentKey::parse(name.to_str()?));
            let Some(key) = key else { continue };
            match shared.refresh_changed(&key) {
                Ok(notes) => notes.iter().for_each(|note| log::warn(&format!("{key}: {note}"))),
                Err(error) => log::warn(&format!("{key}: {error}")),
            }
        }
    }
}

fn is_loss(event: &InotifyEvent) -> bool {
    let losses = AddWatchFlags::IN_Q_OVERFLOW
        | AddWatchFlags::IN_IGNORED
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_UNMOUNT;
    event.mask.intersects(losses)
}
