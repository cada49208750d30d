//! What a call has to tell besides its result.

use crate::cni::LogLevel;

/// Lines kept for the log, at or above a level. Printing them is the caller's: verbs print nothing.
#[derive(Debug, Default)]
pub struct Journal {
    level: LogLevel,
    lines: Vec<(LogLevel, String)>,
}

impl Journal {
    /// A journal that keeps lines up to `level`.
    pub fn new(level: LogLevel) -> Self {
        Self { level, lines: Vec::new() }
    }

    /// Keeps a line that is made only where it is wanted.
    pub fn note(&mut self, level: LogLevel, line: impl FnOnce() -> String) {
        if level <= self.level {
            self.lines.push((level, line()));
        }
    }

    /// The lines, in order.
    pub fn lines(&self) -> &[(LogLevel, String)] {
        &self.lines
    }
}
