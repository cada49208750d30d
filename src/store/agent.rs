//! What a process that stays needs of the state: its own lock, and the attachments that are ready.

use std::collections::HashSet;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use serde::de::DeserializeOwned;

use super::files::errno;
use super::lock::{self, Guard};
use super::record::{Record, Stage};
use super::state::{State, key_name};
use super::{Result, StoreError};
use crate::model::AttachmentKey;

/// The lock's file, which holds what its holder wrote: its process number, and a word on how it was started.
const LOCK: &str = "agent.lock";

/// Who is the agent of a state directory.
#[derive(Debug)]
pub enum Agency {
    /// This process, as long as the guard lives.
    Ours(AgentLock),
    /// Another process.
    Theirs {
        /// Its number, where it has been written already.
        pid: Option<i32>,
        /// What it wrote beside.
        note: String,
    },
}

/// The held lock of the agent.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct AgentLock {
    guard: Guard,
    path: PathBuf,
}

impl AgentLock {
    /// Writes down who holds it: this process, as it is after any fork.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sign(&mut self, note: &str) -> Result<()> {
        let text = format!("{} {note}\n", std::process::id());
        let file = self.guard.file_mut();
        let signed =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        signed.map_err(|e| StoreError::Io { action: "write", path: self.path.clone(), source: errno(&e) })
    }
}

impl AsFd for AgentLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.guard.file().as_fd()
    }
}

impl State {
    /// The lock that the agent before this one held and has handed over; `None` where it is not held by this file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn agent_lock_from(&self, passed: OwnedFd) -> Result<Option<AgentLock>> {
        let guard = lock::Guard::taken_over(passed.into(), &self.dir, LOCK)?;
        Ok(guard.map(|guard| AgentLock { guard, path: self.dir.path().join(LOCK) }))
    }

    /// Takes the lock that makes this process the agent, unless another one is.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn agent_lock(&self) -> Result<Agency> {
        if let Some(guard) = lock::try_acquire(&self.dir, LOCK)? {
            return Ok(Agency::Ours(AgentLock { guard, path: self.dir.path().join(LOCK) }));
        }
        let mut text = String::new();
        let mut file = self.dir.open_lock(LOCK)?;
        file.read_to_string(&mut text).map_err(|e| self.dir.error("read", LOCK, errno(&e)))?;
        let (pid, note) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Ok(Agency::Theirs { pid: pid.parse().ok(), note: note.to_owned() })
    }

    /// The process number of the agent, where one is there.
    pub fn agent_pid(&self) -> Option<u32> {
        // To ask is not to make the file.
        if !self.dir.exists(LOCK).unwrap_or(false) {
            return None;
        }
        match self.agent_lock() {
            Ok(Agency::Theirs { pid, .. }) => pid.and_then(|pid| pid.try_into().ok()),
            // Nobody holds it: what took it here lets it go again.
            Ok(Agency::Ours(_)) | Err(_) => None,
        }
    }

    /// The path of the directory that ready records appear in and vanish from, made where it does not exist: for
    /// inotify(7).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn ready_directory(&self) -> Result<PathBuf> {
        let path = self.dir.path().join("ready");
        // The call that needs the directory: it is not there until somebody has asked for a file in it.
        self.dir
            .in_parent("ready/.", |fd| nix::sys::stat::fstatat(fd, "ready", nix::fcntl::AtFlags::empty()))
            .map_err(|source: Errno| StoreError::Io { action: "open", path: path.clone(), source })?;
        Ok(path)
    }

    /// The record of an attachment that is ready; `None` where it is not, or no longer.
    ///
    /// # Errors
    /// [`StoreError::Broken`] where the file does not read as a record, [`StoreError::Io`].
    pub fn ready<P: DeserializeOwned>(&self, key: &AttachmentKey) -> Result<Option<Record<P>>> {
        Ok(self.load(Stage::Ready, &key_name(key)?)?.map(|found| found.record))
    }

    /// What makes an attachment's record another one: inode, and time of its last change. `None` where it is not ready.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn ready_version(&self, key: &AttachmentKey) -> Result<Option<(u64, i64, i64)>> {
        let found = self.dir.stat(&format!("ready/{}", key_name(key)?))?;
        Ok(found.map(|stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec)))
    }

    /// The attachments that are ready, without reading their records.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn ready_keys(&self) -> Result<HashSet<AttachmentKey>> {
        Ok(self.dir.names("ready")?.iter().filter_map(|name| AttachmentKey::parse(name)).collect())
    }
}
