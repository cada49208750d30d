//! The directory of a network's leases.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::super::files::Dir;
use super::super::lock::{self, Deadline, Guard};
use super::super::state::{State, network_name};
use super::super::{Result, StoreError};

/// What a file name can never be: the name of the lock that host-local takes as well.
const LOCK: &str = "lock";

/// The open directory of a network's leases.
///
/// In the directory of our own the caller holds [`State::lock`] around changes. A directory that `dataDir` names may
/// be used by host-local too: there every change takes host-local's lock as well.
#[derive(Debug)]
pub struct LeaseDirectory {
    pub(super) dir: Dir,
    shared: bool,
}

impl State {
    /// Where a network's leases are kept: in the state directory, or where `data_dir` (key `ipam.dataDir`) says.
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn lease_path(&self, network: &str, data_dir: Option<&Path>) -> Result<PathBuf> {
        let name = network_name(network)?;
        Ok(match data_dir {
            Some(base) => base.join(name),
            None => self.root().join("ipam").join(name),
        })
    }

    /// Opens a lease directory, which is made where it does not exist: for an ADD.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn lease_directory(&self, path: &Path) -> Result<LeaseDirectory> {
        let shared = self.is_shared(path);
        let mode = if shared { 0o755 } else { 0o700 };
        Ok(LeaseDirectory { dir: Dir::open_or_make(path, mode)?, shared })
    }

    /// Opens a lease directory if it exists: for everything but an ADD.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn existing_lease_directory(&self, path: &Path) -> Result<Option<LeaseDirectory>> {
        match Dir::open(path) {
            Ok(dir) => Ok(Some(LeaseDirectory { dir, shared: self.is_shared(path) })),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(source) => Err(StoreError::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// Whether an ADD could write a lease: in a directory that `dataDir` names a file without a name is made and
    /// forgotten; where there is none yet, in the nearest one above it. One of our own is as writable as the state
    /// directory, which has a probe of its own.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn probe_lease_directory(&self, path: &Path) -> Result<()> {
        if !self.is_shared(path) {
            return Ok(());
        }
        for above in path.ancestors() {
            match Dir::open(above) {
                Err(Errno::ENOENT) => {}
                Err(source) => return Err(StoreError::Io { action: "open", path: above.to_owned(), source }),
                Ok(dir) => {
                    return dir.probe_writable("linkspan-probe").map_err(|error| match error {
                        StoreError::Io { action, source, .. } => {
                            StoreError::Io { action, path: path.to_owned(), source }
                        }
                        other => other,
                    });
                }
            }
        }
        Ok(())
    }

    /// The lease directories of our own that exist, by path: for GC.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn own_lease_directories(&self) -> Result<Vec<PathBuf>> {
        let base = self.root().join("ipam");
        Ok(self.dir.names("ipam")?.into_iter().map(|name| base.join(name)).collect())
    }

    fn is_shared(&self, path: &Path) -> bool {
        !path.starts_with(self.root().join("ipam"))
    }
}

impl LeaseDirectory {
    /// The directory's path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether other programs may use it too.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Host-local's lock, in a shared directory.
    pub(super) fn lock(&self) -> Result<Option<Guard>> {
        self.shared.then(|| lock::acquire(&self.dir, LOCK, Deadline::default())).transpose()
    }
}
