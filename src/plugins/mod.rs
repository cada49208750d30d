//! The faces that the binary answers runtimes as: a thin reading of one call, and one document on standard output.

mod agent;
mod call;
mod face;
mod log;
mod words;

use std::ffi::OsString;

pub use call::{delegated, run, undelivered};
pub use face::Face;

/// Set where a person's command has called the plugin: that prints the error, so it is not told a second time on standard
/// error.
pub const BY_HAND: &str = "LINKSPAN_BY_HAND";

/// What a call printed, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// One JSON document, or nothing.
    pub stdout: String,
    /// What is told to people.
    pub stderr: String,
    /// The process's exit status.
    pub status: i32,
}

/// Looks an environment variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;
