//! The state directory.

use std::path::{Path, PathBuf};

use super::files::Dir;
use super::lock::{self, Deadline, Guard};
use super::{Result, StoreError};
use crate::cni::CONTAINER_ID_MAX;
use crate::model::{AttachmentKey, names};

/// Where the state is kept, unless [`State::ROOT_VARIABLE`] says otherwise. Under `/run`, so that it has the
/// lifetime of the kernel objects that it describes.
const DEFAULT_ROOT: &str = "/run/linkspan";

/// Names of networks up to this many bytes are file names as they are; `NAME_MAX` is 255, and prefixes and suffixes are
/// added.
const NAME_KEPT: usize = 200;

/// The longest text of a key: container ID, interface and, with the longest word, the part, each after a colon.
const KEY_MAX: usize = CONTAINER_ID_MAX + 1 + names::INTERFACE_NAME_MAX + 1 + "bandwidth".len();

/// The open state directory. Directories below it are made when they are first written to.
#[derive(Debug)]
pub struct State {
    pub(super) dir: Dir,
}

impl State {
    /// The environment variable that names another state directory (for tests and unprivileged use).
    pub const ROOT_VARIABLE: &'static str = "LINKSPAN_STATE_DIR";

    /// The state directory of this process: `$LINKSPAN_STATE_DIR`, or `/run/linkspan` where it is unset or empty.
    pub fn default_root() -> PathBuf {
        match std::env::var_os(Self::ROOT_VARIABLE) {
            Some(root) if !root.is_empty() => root.into(),
            _ => DEFAULT_ROOT.into(),
        }
    }

    /// Opens the state directory, which is made with mode 0700 where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { dir: Dir::open_or_make(root, 0o700)? })
    }

    /// Opens the state directory if it exists: for callers that only read, as STATUS and the command line.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn open_existing(root: &Path) -> Result<Option<Self>> {
        match Dir::open(root) {
            Ok(dir) => Ok(Some(Self { dir })),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(source) => Err(StoreError::Io { action: "open", path: root.to_owned(), source }),
        }
    }

    /// Whether an ADD could write its record: a file without a name is made and forgotten.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn probe_writable(&self) -> Result<()> {
        self.dir.probe_writable("pending/probe")
    }

    /// How many files can still be made on the file system; `None` where it has no such limit, or it cannot be asked.
    pub fn free_files(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(self.dir.path()).ok()?;
        (found.f_files > 0).then_some(found.f_favail)
    }

    /// Whether there are so many attachments that what the kernel searches for each namespace is worth a detour: from
    /// some sixty on. One system call, whatever their number: it is the size of a directory that tells, which on
    /// tmpfs is 20 bytes a file. One of a size that cannot be seen is not crowded.
    pub fn is_crowded(&self) -> bool {
        const SIXTY: libc::off_t = 60 * 20;
        self.dir.stat("ready").is_ok_and(|found| found.is_some_and(|directory| directory.st_size > SIXTY))
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Takes the main lock, held for the kernel work of an ADD and for every change of records and claims.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] past the deadline, [`StoreError::Io`].
    pub fn lock(&self, deadline: Deadline) -> Result<Guard> {
        lock::acquire(&self.dir, "lock", deadline)
    }

    /// Takes the lock of those who run iptables. It is passed on to their children, so that a transaction of one
    /// whose parent was killed is over before the next one begins.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] past the deadline, [`StoreError::Io`].
    pub fn iptables_lock(&self, deadline: Deadline) -> Result<Guard> {
        lock::acquire(&self.dir, "iptables.lock", deadline)?.passed_on(&self.dir, "iptables.lock")
    }
}

/// The file name of an attachment's record.
pub(super) fn key_name(key: &AttachmentKey) -> Result<String> {
    let name = key.to_string();
    if is_file_name(&name) && name.len() <= KEY_MAX {
        return Ok(name);
    }
    Err(StoreError::BadName { name })
}

/// The file name of a network. Its name may be longer than a file's: then it ends in a hash.
pub(super) fn network_name(network: &str) -> Result<String> {
    if !is_file_name(network) {
        return Err(StoreError::BadName { name: network.to_owned() });
    }
    if network.len() <= NAME_KEPT {
        return Ok(network.to_owned());
    }
    let head: String = network.chars().filter(char::is_ascii).take(NAME_KEPT - 17).collect();
    Ok(format!("{head}-{:016x}", names::hash(network.as_bytes())))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Part;

    #[test]
    fn whatever_may_attach_has_a_file_for_each_of_its_parts() {
        let key = AttachmentKey::new("c".repeat(CONTAINER_ID_MAX), "i".repeat(names::INTERFACE_NAME_MAX));
        for part in Part::ALL {
            // What a new file is called first (`.new-`) fits too.
            assert!(key_name(&key.of_part(part)).is_ok_and(|name| name.len() + 5 <= 255), "{part:?}");
        }
    }
}
