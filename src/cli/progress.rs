//! What is told while something takes longer than a second.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
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

/// How long something already takes of which nobody knows how much is left, told by a thread until it is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    /// What ends the thread when it is dropped, and the thread.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Ticker {
    /// A ticker on standard error, where that is a terminal.
    pub(super) fn new(what: &'static str, is_terminal: bool) -> Self {
        // A file of its own: the rest of the program holds the lock of standard error.
        let own = is_terminal.then(|| std::io::stderr().as_fd().try_clone_to_owned().ok()).flatten();
        Self { running: own.map(|fd| Self::start(what, File::from(fd), PATIENCE)) }
    }

    fn start(what: &'static str, mut line: File, patience: Duration) -> (Sender<()>, JoinHandle<()>) {
        let (end, ended) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut wait = patience;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // The cursor goes back, so that what is printed meanwhile stands in the place of this.
                let _ = write!(line, "\r\x1b[K{what}: {} s\r", begun.elapsed().as_secs());
                wait = INTERVAL;
            }
            if wait == INTERVAL {
                let _ = write!(line, "\r\x1b[K");
            }
        });
        (end, thread)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.running.take() {
            drop(end);
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_ticker_ticks_until_it_is_dropped() {
        let (mut read, write) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(write));
        let ticker = Ticker { running: Some(Ticker::start("deleting", file, Duration::ZERO)) };
        let awaited = b"\r\x1b[Kdeleting: 0 s\r";
        // One line may come in several pieces.
        let mut said = vec![0; awaited.len()];
        read.read_exact(&mut said).unwrap();
        assert_eq!(said, awaited);
        drop(ticker);
        let mut rest = String::new();
        read.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("\r\x1b[K"), "{rest:?}");
        assert!(Ticker::new("nothing", false).running.is_none(), "nobody looks");
    }

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
