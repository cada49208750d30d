//! Where the journal of a call goes: the file of key `logFile`, else standard error.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cni::{Environment, LogLevel};
use crate::verbs::Journal;

/// Writes the lines; what cannot go to the file is given back for standard error. A log never fails a call.
pub(super) fn flush(journal: &Journal, file: Option<&str>, environment: &Environment) -> String {
    if journal.lines().is_empty() {
        return String::new();
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut text = String::new();
    for (level, line) in journal.lines() {
        let word = match level {
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        };
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "linkspan: time={seconds} level={word} command={} {line}", environment.command);
    }
    let Some(path) = file else { return text };
    // One write with O_APPEND: lines of calls at the same time do not mix.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut log| log.write_all(text.as_bytes()));
    match written {
        Ok(()) => String::new(),
        Err(error) => format!("linkspan: cannot write the log {path}: {error}\n{text}"),
    }
}
