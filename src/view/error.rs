//! Why there is nothing to see.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::store::StoreError;
use crate::sys::SysError;

/// Why the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The state directory belongs to somebody else, as it does for everybody but root.
    #[error("the records in {} are readable by their owner alone: run this as root, for instance with sudo", .0.display())]
    NotAllowed(PathBuf),
    /// A file could not be read.
    #[error(transparent)]
    Store(StoreError),
    /// The kernel could not be asked.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, source: Errno::EACCES | Errno::EPERM, .. } => Self::NotAllowed(path),
            other => Self::Store(other),
        }
    }
}
