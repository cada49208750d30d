//! Where the journal of a call goes: the file of key `logFile`, else standard error.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cni::{Environment, LogLevel};
use crate::verbs::Journal;

/// Writes the lines; what cannot go to the file is given back for standard error. A log never fails a call.
pub(super) fn flush(journal: &Journal, file: Option<&str>, environment: &Environment) -> String {
    let text = lines(journal.lines().iter(), environment);
    if text.is_empty() {
        return text;
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

/// The lines for standard error where somebody else tells of the error.
pub(super) fn without_errors(journal: &Journal, environment: &Environment) -> String {
    lines(journal.lines().iter().filter(|(level, _)| *level != LogLevel::Error), environment)
}

fn lines<'a>(lines: impl Iterator<Item = &'a (LogLevel, String)>, environment: &Environment) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut text = String::new();
    for (level, line) in lines {
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
    text
}
