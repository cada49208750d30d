//! Records of attachments, on disk.

use std::fs::File;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::fstat;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::files::Dir;
use super::lock;
use super::reaping;
use super::record::{Broken, Doom, Found, Listed, RECORD_VERSION, Record, Stage};
use super::state::{State, key_name};
use super::{Result, StoreError};
use crate::model::AttachmentKey;

/// So many records are worth a second thread.
const MANY: usize = 64;

/// A record in `pending`, held by its writer: while this lives, the record counts as alive. Dropping it without
/// [`Pending::ready`] leaves a dead pending record, which is to be undone.
#[derive(Debug)]
pub struct Pending<'a> {
    dir: &'a Dir,
    name: String,
    held: Flock<File>,
}

impl State {
    /// Writes the record of an ADD that begins. It appears whole and locked, or not at all.
    ///
    /// # Errors
    /// [`StoreError::RecordExists`] where the attachment has a pending record, [`StoreError::Io`].
    pub fn write_pending<P: Serialize>(&self, record: &Record<P>) -> Result<Pending<'_>> {
        let name = key_name(&record.key)?;
        let path = format!("pending/{name}");
        let nameless = self.dir.write_nameless(&path, &encode(&self.dir, &path, record)?)?;
        let nameless = nameless.ready(|file| hold(&self.dir, &path, file))?;
        let linked = self.dir.link(&nameless, &path);
        let held = self.dir.abandon(nameless);
        if linked? {
            return Ok(Pending { dir: &self.dir, name, held });
        }
        Err(StoreError::RecordExists { key: record.key.clone() })
    }

    /// The record of an attachment and where it stands; `None` where there is none.
    ///
    /// Stages are looked at in the order that records pass through them, so none is missed on its way.
    ///
    /// # Errors
    /// [`StoreError::Broken`] where the file does not read as a record, [`StoreError::Io`].
    pub fn find<P: DeserializeOwned>(&self, key: &AttachmentKey) -> Result<Option<Found<P>>> {
        let name = key_name(key)?;
        for stage in [Stage::Pending { alive: false }, Stage::Ready, Stage::Doomed] {
            if let Some(found) = self.load(stage, &name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether an attachment's DEL has begun.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn is_doomed(&self, key: &AttachmentKey) -> Result<bool> {
        self.dir.exists(&format!("doomed/{}", key_name(key)?))
    }

    /// Moves an attachment to `doomed`: from `ready`, or from `pending` where its writer is dead. One of the latter is
    /// marked: what it names may be another's, which its ADD has not come to find out. Called under the main lock.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn doom(&self, key: &AttachmentKey) -> Result<Doom> {
        let name = key_name(key)?;
        let doomed = format!("doomed/{name}");
        if self.dir.rename(&format!("ready/{name}"), &doomed)? {
            return Ok(Doom::Doomed);
        }
        let pending = format!("pending/{name}");
        if let Some(file) = self.dir.open_file(&pending, OFlag::O_RDONLY)? {
            match self.seize(&pending, file)? {
                Seized::Dead(held) => {
                    self.dir.unlink_remains(&pending)?;
                    reaping::mark_begun(&self.dir, &pending, &held)?;
                    if self.dir.rename(&pending, &doomed)? {
                        return Ok(Doom::Doomed);
                    }
                }
                Seized::Alive => return Ok(Doom::Alive),
                // It became ready meanwhile.
                Seized::Moved => {
                    if self.dir.rename(&format!("ready/{name}"), &doomed)? {
                        return Ok(Doom::Doomed);
                    }
                }
            }
        }
        Ok(if self.dir.exists(&doomed)? { Doom::Doomed } else { Doom::Unknown })
    }

    /// All attachments whose ADD was killed. One directory that is normally empty is read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn dead_pending<P: DeserializeOwned>(&self) -> Result<Listed<P>> {
        let mut listed = self.list(Stage::Pending { alive: false })?;
        listed.found.retain(|found| found.stage == Stage::Pending { alive: false });
        listed.broken.retain(|broken| broken.stage == Stage::Pending { alive: false });
        Ok(listed)
    }

    /// All records: pending, ready and doomed. For GC, reconciliation and the command line.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a directory cannot be read.
    pub fn all<P: DeserializeOwned>(&self) -> Result<Listed<P>> {
        let mut all = Listed::default();
        for stage in [Stage::Pending { alive: false }, Stage::Ready, Stage::Doomed] {
            all.extend(self.list(stage)?);
        }
        Ok(all)
    }

    /// The same, read by two threads where there are many: for listings, whose time is mostly this.
    ///
    /// # Errors
    /// As [`State::all`].
    pub fn all_by_two<P: DeserializeOwned + Send>(&self) -> Result<Listed<P>> {
        let mut all = Listed::default();
        for stage in [Stage::Pending { alive: false }, Stage::Ready, Stage::Doomed] {
            let names = self.dir.names(stage.directory())?;
            if names.len() < MANY {
                all.extend(self.read(stage, &names)?);
                continue;
            }
            let (ours, others) = names.split_at(names.len() / 2);
            let (first, second) = std::thread::scope(|scope| {
                let second = scope.spawn(|| self.read(stage, others));
                let first = self.read(stage, ours);
                (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            all.extend(first?);
            all.extend(second?);
        }
        Ok(all)
    }

    /// The attachments that have a record, without reading any.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a directory cannot be read.
    pub fn keys(&self) -> Result<std::collections::HashSet<AttachmentKey>> {
        let mut keys = std::collections::HashSet::new();
        for directory in ["pending", "ready", "doomed"] {
            keys.extend(self.dir.names(directory)?.iter().filter_map(|name| AttachmentKey::parse(name)));
        }
        Ok(keys)
    }

    /// Removes a record from `doomed`, when nothing is left of its attachment. Fine where there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn forget(&self, key: &AttachmentKey) -> Result<()> {
        self.dir.unlink(&format!("doomed/{}", key_name(key)?)).map(drop)
    }

    fn list<P: DeserializeOwned>(&self, stage: Stage) -> Result<Listed<P>> {
        self.read(stage, &self.dir.names(stage.directory())?)
    }

    /// Those of a stage that have these names.
    fn read<P: DeserializeOwned>(&self, stage: Stage, names: &[String]) -> Result<Listed<P>> {
        let mut listed = Listed::default();
        let mut content = Vec::with_capacity(4096);
        for name in names {
            match self.load_by(stage, name, &mut content) {
                Ok(Some(found)) => listed.found.push(found),
                Ok(None) => {}
                // Who cannot be read now is not nobody: its rules and its address are its own.
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    let path = self.path(stage, name);
                    let alive = matches!(stage, Stage::Pending { .. }) && self.is_alive(name)?;
                    let stage = if alive { Stage::Pending { alive } } else { stage };
                    listed.broken.push(Broken { key: AttachmentKey::parse(name), stage, path, error });
                }
            }
        }
        Ok(listed)
    }

    pub(super) fn load<P: DeserializeOwned>(&self, stage: Stage, name: &str) -> Result<Option<Found<P>>> {
        self.load_by(stage, name, &mut Vec::with_capacity(4096))
    }

    /// Reads a record by way of a buffer.
    fn load_by<P: DeserializeOwned>(
        &self,
        stage: Stage,
        name: &str,
        content: &mut Vec<u8>,
    ) -> Result<Option<Found<P>>> {
        let path = format!("{}/{name}", stage.directory());
        loop {
            let Some(file) = self.dir.open_file(&path, OFlag::O_RDONLY)? else { return Ok(None) };
            self.dir.read_into(&path, &file, content)?;
            let stage = match stage {
                Stage::Pending { .. } => match self.seize(&path, file)? {
                    Seized::Alive => Stage::Pending { alive: true },
                    Seized::Dead(_) => Stage::Pending { alive: false },
                    // It was rewritten or renamed since it was opened: look again.
                    Seized::Moved => continue,
                },
                other => other,
            };
            let record = decode(content)
                .map_err(|source| StoreError::Broken { path: self.dir.path().join(&path), source })?;
            return Ok(Some(Found { stage, record }));
        }
    }

    fn is_alive(&self, name: &str) -> Result<bool> {
        let path = format!("pending/{name}");
        match self.dir.open_file(&path, OFlag::O_RDONLY)? {
            Some(file) => Ok(!matches!(self.seize(&path, file)?, Seized::Dead(_))),
            None => Ok(false),
        }
    }

    /// Tries to take the lock that the writer of a pending record holds. A shared one, so that two who look at a
    /// dead record do not take each other for its writer.
    fn seize(&self, path: &str, file: File) -> Result<Seized> {
        let held = match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(held) => held,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(Seized::Alive),
            Err((_, error)) => return Err(self.dir.error("lock", path, error)),
        };
        let opened = fstat(&*held).map_err(|e| self.dir.error("look at", path, e))?;
        match self.dir.stat(path)? {
            Some(now) if (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino) => Ok(Seized::Dead(held)),
            _ => Ok(Seized::Moved),
        }
    }

    fn path(&self, stage: Stage, name: &str) -> PathBuf {
        self.dir.path().join(stage.directory()).join(name)
    }
}

impl Pending<'_> {
    /// The same, held by the children of this process too: where this is killed, the record looks alive until the last of
    /// them ends. That is until [`Pending::rewrite`], whose new file is ours alone.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn passed_on(self) -> Result<Self> {
        lock::pass_on(&self.held, self.dir, &format!("pending/{}", self.name))?;
        Ok(self)
    }

    /// Replaces the record's content. The new file is locked before it is seen, and the old one stays locked until
    /// then: at no moment does the record look dead.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old content stays.
    pub fn rewrite<P: Serialize>(&mut self, record: &Record<P>) -> Result<()> {
        let path = format!("pending/{}", self.name);
        let content = encode(self.dir, &path, record)?;
        self.held = self.dir.replace(&path, &content, |file| hold(self.dir, &path, file))?;
        Ok(())
    }

    /// Marks the attachment as complete.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Io`] with `ENOENT` where somebody removed the record. With it the record, which
    /// is what it was: for the one who takes back what was made.
    pub fn ready(self) -> std::result::Result<(), (Self, StoreError)> {
        let pending = format!("pending/{}", self.name);
        match self.dir.rename(&pending, &format!("ready/{}", self.name)) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = self.dir.error("rename", &pending, Errno::ENOENT);
                Err((self, error))
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Moves the attachment to `doomed`: an ADD that failed and could not undo all it did. What it names may be another's,
    /// over which it failed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn doom(self) -> Result<()> {
        reaping::mark_tried(self.dir, &format!("pending/{}", self.name), &self.held)?;
        self.dir.rename(&format!("pending/{}", self.name), &format!("doomed/{}", self.name)).map(drop)
    }

    /// Removes the record: an ADD that failed and undid all it did.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn forget(self) -> Result<()> {
        self.dir.unlink(&format!("pending/{}", self.name)).map(drop)
    }
}

/// What the lock of a pending record tells.
enum Seized {
    /// The writer lives.
    Alive,
    /// The writer is dead, and the lock is ours.
    Dead(Flock<File>),
    /// The file is no longer the record.
    Moved,
}

/// Locks a file that nobody else knows yet.
fn hold(dir: &Dir, path: &str, file: File) -> Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| dir.error("lock", path, error))
}

pub(super) fn encode<P: Serialize>(dir: &Dir, path: &str, record: &Record<P>) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|source| StoreError::Encode { path: dir.path().join(path), source })
}

pub(super) fn decode<P: DeserializeOwned>(content: &[u8]) -> serde_json::Result<Record<P>> {
    let record: Record<P> = serde_json::from_slice(content)?;
    if record.version > RECORD_VERSION {
        let later = format!("record version {} is later than {RECORD_VERSION}", record.version);
        return Err(serde::de::Error::custom(later));
    }
    Ok(record)
}
