//! What can go wrong on disk, and what to do about it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::ipam::IpamError;
use crate::model::errno::is_passing;
use crate::model::{AttachmentKey, Publication};

/// Errors of the store. [`StoreError::advice`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {}: {}", .path.display(), .source.desc())]
    Io {
        /// What was tried, as a verb: `create`, `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: Errno,
    },
    /// A lock was held by others for longer than the deadline.
    #[error("{} is still locked by another process after {} s", .path.display(), .waited.as_secs())]
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A record does not read as one.
    #[error("{} is not a valid record", .path.display())]
    Broken {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A value could not be written as JSON.
    #[error("cannot encode the record {}", .path.display())]
    Encode {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An attachment has a pending record already.
    #[error("the attachment {key} has a record already")]
    RecordExists {
        /// The attachment.
        key: AttachmentKey,
    },
    /// A name cannot be the name of a file.
    #[error("'{name}' cannot name a file: it is empty, too long, starts with a dot or contains a slash")]
    BadName {
        /// The name.
        name: String,
    },
    /// A host port is published by another attachment.
    #[error("{publication} is already published by {owner}")]
    Claimed {
        /// What was asked for.
        publication: Publication,
        /// Who has it.
        owner: String,
    },
    /// A requested address is held by another attachment.
    #[error("requested IP address {address} is not available in range set: it is held by {owner}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// A range set has no free address.
    #[error(
        "failed to allocate for range {index}: no IP addresses available in range set: {ranges}: all {capacity} are \
         held by lease files in {}",
        .directory.display()
    )]
    Exhausted {
        /// Which of the network's range sets, counted from 0.
        index: usize,
        /// The ranges of the set.
        ranges: String,
        /// How many addresses it has.
        capacity: u128,
        /// The lease directory.
        directory: PathBuf,
    },
    /// A request that no range set can serve.
    #[error(transparent)]
    Request(#[from] IpamError),
}

impl StoreError {
    /// Whether it says nothing of the file that could not be read: it may be as it should.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_passing(*source))
    }

    /// The error's number, where a system call failed. For tests.
    #[cfg(test)]
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// What a person can do about it.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { source, .. } => match source {
                Errno::EROFS => {
                    "the file system is read-only: mount it read-write, or name another directory \
                     (LINKSPAN_STATE_DIR, or ipam.dataDir for leases)"
                }
                Errno::ENOSPC | Errno::EDQUOT => {
                    "the file system is full (bytes or inodes; see df and df -i): make room, then try again"
                }
                Errno::EACCES | Errno::EPERM => {
                    "permission denied: linkspan runs as root; check the directory's owner, mode and labels"
                }
                Errno::ENOTDIR => "a file stands where a directory belongs: move it away",
                Errno::EMFILE | Errno::ENFILE => "too many open files: raise the limit",
                Errno::EFBIG => "the process may not write files so large: raise the limit (ulimit -f)",
                _ => return None,
            },
            Self::LockTimeout { .. } => {
                "another call hangs or the host is overloaded; see who holds it in /proc/locks"
            }
            Self::Broken { .. } => {
                "written by another version, or damaged: DEL of the attachment removes its record, any other file may be deleted"
            }
            Self::Encode { .. } => "a defect of linkspan: please report it",
            Self::RecordExists { .. } => "DEL the attachment first",
            Self::BadName { .. } => "choose a name of letters, digits, '_', '.' and '-'",
            Self::Claimed { .. } => "publish another host port or address, or stop the container that has it",
            Self::AddressTaken { .. } => "ask for another address, or stop the container that has it",
            Self::Exhausted { .. } => {
                "stop containers, enlarge the range, or run GC where leases outlived their containers"
            }
            Self::Request(_) => "ask for an address inside the network's ranges",
        })
    }
}
