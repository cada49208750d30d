//! What keeps the agent from its work.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;
use crate::sys::SysError;

/// Why the agent could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A file or a socket.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another agent serves this state directory.
    #[error("another agent{} serves {}: {}", of_process(*.pid), .root.display(), advice(.refusal.as_deref()))]
    Running {
        /// Its process, where it said so.
        pid: Option<i32>,
        /// The state directory.
        root: PathBuf,
        /// Why it did not hand over, where it was asked to.
        refusal: Option<String>,
    },
}

fn of_process(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn advice(refusal: Option<&str>) -> String {
    match refusal {
        Some(refusal) => format!("it did not hand over: {refusal}"),
        None => "take its place with --replace, or end it first, with SIGTERM".to_owned(),
    }
}
