//! Who takes doomed attachments away: each is one process's business at a time, and many are one's.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, fchmod, fstat};
use serde::de::DeserializeOwned;

use super::files::{Dir, REAP_LOCK};
use super::lock::{self, Deadline, Guard};
use super::record::{Broken, Found, Listed, Stage};
use super::state::State;
use super::{Result, StoreError};
use crate::model::AttachmentKey;

/// A record that may be written to was made whole, and nobody has claimed it: all that it names is its own.
const WHOLE: Mode = Mode::S_IWUSR;

/// Never made whole, or claimed: marked before anything that it holds is let go, so that who claims it anew, where this one
/// has died, knows that others may have got some of that.
const BEGUN: Mode = Mode::S_IRUSR.union(Mode::S_IXUSR);

/// Claimed by somebody who could not take it away, or about to be taken away by a plugin that may never end: whoever does
/// not want this very attachment gone leaves it alone.
const TRIED: Mode = Mode::S_IRUSR;

/// Doomed attachments that nobody else takes away while this lives: their records are locked. Who dies lets them go.
#[derive(Debug)]
pub struct Claimed<P> {
    /// What nobody has claimed before.
    pub listed: Listed<P>,
    /// What somebody has claimed before, who died or failed: what it held may be another's by now.
    pub again: Vec<Found<P>>,
    /// The records by their names, locked.
    held: BTreeMap<String, Flock<File>>,
}

impl<P> Default for Claimed<P> {
    fn default() -> Self {
        Self { listed: Listed::default(), again: Vec::new(), held: BTreeMap::new() }
    }
}

impl<P> Claimed<P> {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Marks an attachment as one that is not taken away in passing any more: it could not be, or a plugin is about to be
    /// asked.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn mark_tried(&self, state: &State, key: &AttachmentKey) -> Result<()> {
        let name = key.to_string();
        match self.held.get(&name) {
            Some(held) => mark(&state.dir, &format!("{}/{name}", Stage::Doomed.directory()), held, TRIED),
            None => Ok(()),
        }
    }

    /// Lets an attachment go: whoever wants it gone can claim it.
    pub fn let_go(&mut self, key: &AttachmentKey) {
        self.held.remove(&key.to_string());
    }
}

/// Which attachments are claimed of those that somebody has tried to take away, and could not. What makes them fail takes
/// its time: a DEL of something else is not to pay for it.
#[derive(Debug, Clone, Copy)]
pub enum Retry<'a> {
    /// All.
    All,
    /// These.
    Only(&'a [AttachmentKey]),
}

impl Retry<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(keys) => keys.iter().any(|key| key.to_string() == name),
        }
    }
}

/// Marks the record of an attachment that was not made whole, before it is doomed.
pub(super) fn mark_begun(dir: &Dir, path: &str, file: &File) -> Result<()> {
    mark(dir, path, file, BEGUN)
}

/// Marks the record of an ADD that could not undo itself, before it is doomed.
pub(super) fn mark_tried(dir: &Dir, path: &str, file: &File) -> Result<()> {
    mark(dir, path, file, TRIED)
}

fn mark(dir: &Dir, path: &str, file: &File, mode: Mode) -> Result<()> {
    fchmod(file, mode).map_err(|error| dir.error("mark", path, error))
}

/// What a look for doomed attachments has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harvest {
    /// How many nobody had claimed before.
    pub claimed: usize,
    /// Whether somebody else is taking some away.
    pub others_at_work: bool,
}

impl State {
    /// Takes the lock of whoever claims doomed attachments, if nobody holds it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn try_reap_lock(&self) -> Result<Option<Guard>> {
        lock::try_acquire(&self.dir, REAP_LOCK)
    }

    /// The same, waiting for it.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] past the deadline, [`StoreError::Io`].
    pub fn reap_lock(&self, deadline: Deadline) -> Result<Guard> {
        // It is held for a millisecond or for as long as a batch gathers, and all who wait for their end wait for this.
        let pauses = (Duration::from_micros(100), Duration::from_millis(1));
        lock::acquire_within(&self.dir, REAP_LOCK, deadline, pauses)
    }

    /// Becomes the one that waits for that lock, if nobody is. Who holds this while it waits claims, when it has got it,
    /// what everybody else has doomed until then: nobody else needs to wait for the lock.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn try_next_reaper(&self) -> Result<Option<Guard>> {
        // The directory itself: one more file would do nothing else.
        let directory = Stage::Doomed.directory();
        match self.dir.open_file(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)? {
            Some(file) => lock::try_lock(file, &self.dir, directory),
            // Nothing is doomed.
            None => Ok(None),
        }
    }

    /// Claims all attachments whose DEL has begun and that nobody has claimed, beside those that are claimed already; of
    /// those that somebody has failed at, what `retry` says. Called under [`State::reap_lock`].
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn claim_doomed<P: DeserializeOwned>(
        &self,
        retry: Retry<'_>,
        all: &mut Claimed<P>,
    ) -> Result<Harvest> {
        let stage = Stage::Doomed;
        let before = all.held.len();
        let mut others_at_work = false;
        let mut content = Vec::with_capacity(4096);
        for name in self.dir.names(stage.directory())? {
            if all.held.contains_key(&name) {
                continue;
            }
            let path = format!("{}/{name}", stage.directory());
            let Some(file) = self.dir.open_file(&path, OFlag::O_RDONLY)? else { continue };
            let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => held,
                Err((file, Errno::EWOULDBLOCK)) => {
                    // Nobody who waits for a plugin is worth waiting for.
                    others_at_work |= self.look(&path, &file)?.1 != TRIED;
                    continue;
                }
                Err((_, error)) => return Err(self.dir.error("lock", &path, error)),
            };
            let (links, mode) = self.look(&path, &held)?;
            // Whoever had it before may have been done with it since it was opened.
            if links == 0 || (mode == TRIED && !retry.has(&name)) {
                continue;
            }
            let is_first = mode.contains(WHOLE);
            if is_first {
                mark(&self.dir, &path, &held, BEGUN)?;
            }
            let read = self.dir.read_into(&path, &held, &mut content).and_then(|()| {
                super::records::decode(&content)
                    .map_err(|source| StoreError::Broken { path: self.dir.path().join(&path), source })
            });
            match read {
                Ok(record) => {
                    let found = if is_first { &mut all.listed.found } else { &mut all.again };
                    found.push(Found { stage, record });
                }
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => all.listed.broken.push(Broken {
                    key: AttachmentKey::parse(&name),
                    stage,
                    path: self.dir.path().join(&path),
                    error,
                }),
            }
            all.held.insert(name, held);
        }
        Ok(Harvest { claimed: all.held.len() - before, others_at_work })
    }

    /// How many names a record's file has, and what it may be.
    fn look(&self, path: &str, file: &File) -> Result<(libc::nlink_t, Mode)> {
        let status = fstat(file).map_err(|error| self.dir.error("look at", path, error))?;
        Ok((status.st_nlink, Mode::from_bits_truncate(status.st_mode)))
    }
}
