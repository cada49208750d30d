//! What is told while something takes longer than a second.

use std::io::Write;
use std::time::{Duration, Instant};

/// How long nothing is said, and how long between two words.
const PATIENCE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on a terminal that is written over and goes away at the end; nothing where nobody looks.
pub(super) struct Progress<'a> {
    line: Option<&'a mut dyn Write>,
    begun: Instant,
    last: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Progress on `stderr`, where that is a terminal.
    pub(super) fn new(stderr: &'a mut dyn Write, is_terminal: bool) -> Self {
        Self { line: is_terminal.then_some(stderr), begun: Instant::now(), last: None }
    }

    /// So many of so many are done.
    pub(super) fn at(&mut self, what: &str, done: usize, all: usize) {
        let now = Instant::now();
        let due = now.duration_since(self.begun) >= PATIENCE
            && self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if let Some(line) = self.line.as_mut().filter(|_| due) {
            self.last = Some(now);
            // Progress that cannot be shown is no failure.
            let _ = write!(line, "\r\x1b[K{what}: {done} of {all}").and_then(|()| line.flush());
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.as_mut().filter(|_| self.last.is_some()) {
            let _ = write!(line, "\r\x1b[K").and_then(|()| line.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_after_a_second_at_a_terminal_only() {
        let said = |is_terminal: bool, since: Duration| {
            let mut out = Vec::new();
            let mut progress = Progress::new(&mut out, is_terminal);
            progress.begun = Instant::now().checked_sub(since).unwrap();
            progress.at("checking", 1, 9);
            progress.at("checking", 2, 9);
            drop(progress);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(true, Duration::from_secs(2)), "\r\x1b[Kchecking: 1 of 9\r\x1b[K");
        assert_eq!(said(true, Duration::ZERO), "");
        assert_eq!(said(false, Duration::from_secs(2)), "");
    }
}
