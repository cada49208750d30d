//! Who takes doomed attachments away: each is one process's business at a time, and many are one's.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use serde::de::DeserializeOwned;

use super::files::{Dir, REAP_LOCK};
use super::lock::{self, Deadline, Guard};
use super::record::{Broken, Found, Listed, Stage};
use super::state::{State, key_name};
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

/// Beside one of these: nothing of it is left on the host but what a plugin is to be told, which nobody waits for who holds
/// the main lock.
const CLEARED: Mode = Mode::S_IRGRP;

/// How many attachments are claimed at a time: each is an open file while it is.
const MOST: usize = 256;

/// So many may be claimed without a look at how many files this process may open.
const FEW: usize = 16;

/// Doomed attachments that nobody else takes away while this lives: their records are locked. Who dies lets them go. What is
/// not one of them any more is not claimed by the same once more.
#[derive(Debug)]
pub struct Claimed<P> {
    /// What nobody has claimed before.
    pub listed: Listed<P>,
    /// What somebody has claimed before, who died or failed: what it held may be another's by now.
    pub again: Vec<Found<P>>,
    /// What lies among the records and is none: nobody has claimed it.
    pub strange: Vec<Broken>,
    /// The records by their names, locked.
    held: BTreeMap<String, Flock<File>>,
    /// The names of all that was claimed at any time, or was strange.
    known: HashSet<String>,
    /// The names of those of which nothing is left on the host.
    cleared: HashSet<String>,
    /// How many there may be at a time, where that was asked for.
    room: Option<usize>,
}

impl<P> Default for Claimed<P> {
    fn default() -> Self {
        Self {
            listed: Listed::default(),
            again: Vec::new(),
            strange: Vec::new(),
            held: BTreeMap::new(),
            known: HashSet::new(),
            cleared: HashSet::new(),
            room: None,
        }
    }
}

impl<P> Claimed<P> {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether an attachment is one of them, or was.
    pub fn has_had(&self, key: &AttachmentKey) -> bool {
        self.known.contains(&key.to_string())
    }

    /// Marks an attachment as one that is not taken away in passing any more: it could not be, or a plugin is about to be
    /// asked.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn mark_tried(&self, state: &State, key: &AttachmentKey) -> Result<()> {
        self.mark(state, key, TRIED)
    }

    /// Notes that nothing of an attachment is left on the host, for the marks that it is given from now on.
    pub fn note_cleared(&mut self, key: &AttachmentKey) {
        self.cleared.insert(key.to_string());
    }

    /// Marks an attachment that was noted so, and whose plugin has yet to be asked.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn mark_cleared(&self, state: &State, key: &AttachmentKey) -> Result<()> {
        self.mark(state, key, BEGUN)
    }

    fn mark(&self, state: &State, key: &AttachmentKey, as_what: Mode) -> Result<()> {
        let name = key.to_string();
        let Some(held) = self.held.get(&name) else { return Ok(()) };
        let mode = if self.cleared.contains(&name) { as_what | CLEARED } else { as_what };
        mark(&state.dir, &format!("{}/{name}", Stage::Doomed.directory()), held, mode)
    }

    /// Lets an attachment go: whoever wants it gone can claim it.
    pub fn let_go(&mut self, key: &AttachmentKey) {
        self.held.remove(&key.to_string());
    }

    /// Lets all go that are left.
    pub fn let_all_go(&mut self) {
        self.held.clear();
    }

    /// Whether there is no room for one more. What a batch does beside needs files too: most of those that the process may
    /// open are left to it.
    fn is_full(&mut self) -> bool {
        if self.held.len() < FEW {
            return false;
        }
        if let Some(room) = self.room {
            return self.held.len() >= room;
        }
        let room = getrlimit(Resource::RLIMIT_NOFILE)
            .map_or(MOST, |(soft, _)| usize::try_from(soft / 4).unwrap_or(MOST).clamp(FEW, MOST));
        self.room = Some(room);
        self.held.len() >= room
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
    /// Whether there are more than can be claimed at a time.
    pub more: bool,
}

/// What the name of a doomed attachment is, seen by who would claim it.
enum Seen {
    /// A record that nobody else has.
    Free(Flock<File>, Mode),
    /// Somebody else takes it away.
    AtWork,
    /// Not to be claimed: it is gone, or left to who wants it.
    Passed,
    /// No record.
    Strange(StoreError),
    /// This process can open no more files.
    Full(StoreError),
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

    /// Claims all attachments whose DEL has begun and that nobody has claimed, beside those that are claimed already, as far
    /// as they are not too many at a time; of those that somebody has failed at, what `retry` says. Called under
    /// [`State::reap_lock`].
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read, or no file can be opened.
    pub fn claim_doomed<P: DeserializeOwned>(
        &self,
        retry: Retry<'_>,
        all: &mut Claimed<P>,
    ) -> Result<Harvest> {
        let before = all.held.len();
        let mut harvest = Harvest { claimed: 0, others_at_work: false, more: false };
        let mut content = Vec::with_capacity(4096);
        let mut names = self.dir.names(Stage::Doomed.directory())?;
        if names.len() > FEW {
            // Who wants one has it in the first batch.
            names.sort_by_cached_key(|name| !retry.has(name));
        }
        for name in names {
            if all.known.contains(&name) {
                continue;
            }
            if all.is_full() {
                harvest.more = true;
                break;
            }
            let path = format!("{}/{name}", Stage::Doomed.directory());
            match self.see(&path, &name, retry)? {
                Seen::Free(held, mode) => {
                    self.take_up(&path, &name, (&held, mode), all, &mut content)?;
                    all.held.insert(name.clone(), held);
                    all.known.insert(name);
                }
                Seen::AtWork => harvest.others_at_work = true,
                Seen::Passed => {}
                Seen::Strange(error) => {
                    all.strange.push(self.broken(&name, &path, error));
                    all.known.insert(name);
                }
                Seen::Full(error) if all.held.is_empty() => return Err(error),
                Seen::Full(_) => {
                    harvest.more = true;
                    break;
                }
            }
        }
        harvest.claimed = all.held.len() - before;
        Ok(harvest)
    }

    /// Looks at a name among the doomed, and locks the record where nobody else has.
    fn see(&self, path: &str, name: &str, retry: Retry<'_>) -> Result<Seen> {
        let file = match self.dir.open_file(path, OFlag::O_RDONLY) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Seen::Passed),
            Err(error @ StoreError::Io { source: Errno::EMFILE | Errno::ENFILE, .. }) => {
                return Ok(Seen::Full(error));
            }
            // A symbolic link, a socket.
            Err(error @ StoreError::Io { source: Errno::ELOOP | Errno::ENXIO, .. }) => {
                return Ok(Seen::Strange(error));
            }
            // What it is cannot be seen now: it stays as it is.
            Err(error) => return Err(error),
        };
        let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((file, Errno::EWOULDBLOCK)) => {
                // Nobody who waits for a plugin is worth waiting for, nor who tries again what takes its time.
                let mode = mode(&self.look(path, &file)?);
                let is_slow = is_tried(mode) || mode.contains(CLEARED);
                return Ok(if is_slow { Seen::Passed } else { Seen::AtWork });
            }
            Err((_, error)) => return Err(self.dir.error("lock", path, error)),
        };
        let status = self.look(path, &held)?;
        if SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
            return Ok(Seen::Strange(self.dir.error("read", path, Errno::EINVAL)));
        }
        let mode = mode(&status);
        // Whoever had it before may have been done with it since it was opened.
        if status.st_nlink == 0 || (is_tried(mode) && !retry.has(name)) {
            return Ok(Seen::Passed);
        }
        Ok(Seen::Free(held, mode))
    }

    /// Marks a record that was locked, and reads it.
    fn take_up<P: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        (held, mode): (&File, Mode),
        all: &mut Claimed<P>,
        content: &mut Vec<u8>,
    ) -> Result<()> {
        let is_first = mode.contains(WHOLE);
        if is_first {
            mark(&self.dir, path, held, BEGUN)?;
        }
        let read = self.dir.read_into(path, held, content).and_then(|()| {
            super::records::decode(content)
                .map_err(|source| StoreError::Broken { path: self.dir.path().join(path), source })
        });
        match read {
            Ok(record) => {
                let found = if is_first { &mut all.listed.found } else { &mut all.again };
                found.push(Found { stage: Stage::Doomed, record });
            }
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => all.listed.broken.push(self.broken(name, path, error)),
        }
        Ok(())
    }

    fn broken(&self, name: &str, path: &str, error: StoreError) -> Broken {
        let path = self.dir.path().join(path);
        Broken { key: AttachmentKey::parse(name), stage: Stage::Doomed, path, error }
    }

    /// Whether an attachment may have something on the host that somebody is taking away: it is doomed, and what is left of
    /// it is more than a plugin's.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn is_going(&self, key: &AttachmentKey) -> Result<bool> {
        let found = self.dir.stat(&format!("{}/{}", Stage::Doomed.directory(), key_name(key)?))?;
        Ok(found.is_some_and(|status| !mode(&status).contains(CLEARED)))
    }

    fn look(&self, path: &str, file: &File) -> Result<libc::stat> {
        fstat(file).map_err(|error| self.dir.error("look at", path, error))
    }
}

/// Whether somebody could not take it away, or is about to have a plugin do it.
fn is_tried(mode: Mode) -> bool {
    !mode.intersects(WHOLE.union(Mode::S_IXUSR))
}

/// What a record's file may be.
fn mode(status: &libc::stat) -> Mode {
    Mode::from_bits_truncate(status.st_mode)
}
