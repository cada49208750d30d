//! Waiting for a file lock, but not for ever.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::SysError;

/// How often the wait is interrupted to look at the clock.
const TICK: libc::c_long = 50_000_000;

/// Takes an flock(2) on an open file, within `limit`. `object` names the file in errors.
///
/// Waiters stand in the kernel's queue, so that the next one has the lock the moment it is free, in the order of their
/// coming; a poll would do neither. A timer of this thread's own interrupts the wait with SIGALRM.
///
/// # Errors
/// [`SysError::Deadline`] where others kept the lock; else what the kernel refused.
pub fn flock_deadline(
    file: &impl AsFd,
    exclusive: bool,
    limit: Duration,
    object: &str,
) -> Result<(), SysError> {
    let operation = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    let failed = |errno| SysError::refused("lock", object, errno);
    if try_flock(file, exclusive).map_err(failed)? {
        return Ok(());
    }
    let start = Instant::now();
    let _timer = Timer::start().map_err(failed)?;
    while start.elapsed() < limit {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(SysError::Deadline { action: "lock", object: object.to_owned(), limit })
}

/// Takes an flock(2) if that is possible at once, and says whether it was.
///
/// # Errors
/// What the kernel refused besides.
pub fn try_flock(file: &impl AsFd, exclusive: bool) -> Result<bool, Errno> {
    let operation = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    loop {
        match flock(file, operation | libc::LOCK_NB) {
            Ok(()) => return Ok(true),
            Err(Errno::EWOULDBLOCK) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn flock(file: &impl AsFd, operation: libc::c_int) -> Result<(), Errno> {
    // SAFETY: flock takes no pointers, and the descriptor lives.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) }).map(drop)
}

/// A timer that interrupts the system calls of the thread that started it, again and again: a single shot could fall
/// between two of them.
struct Timer {
    id: libc::timer_t,
}

impl Timer {
    fn start() -> Result<Self, Errno> {
        listen()?;
        // SAFETY: all zeros is a value of sigevent.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: gettid takes nothing.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id: libc::timer_t = std::ptr::null_mut();
        // SAFETY: both pointers are to live values; the kernel writes the timer's number to the second.
        let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) };
        Errno::result(made)?;
        let timer = Self { id };
        let tick = libc::timespec { tv_sec: 0, tv_nsec: TICK };
        let times = libc::itimerspec { it_interval: tick, it_value: tick };
        // SAFETY: the timer exists, the pointer is to a live value, and the old value is not asked for.
        let set = unsafe { libc::timer_settime(timer.id, 0, &raw const times, std::ptr::null_mut()) };
        Errno::result(set)?;
        Ok(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer exists and is deleted once.
        unsafe { libc::timer_delete(self.id) };
    }
}

/// Makes SIGALRM interrupt and do nothing else, in this process for good, and lets it through to this thread: whoever
/// started the process may have blocked it.
fn listen() -> Result<(), Errno> {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: Once = Once::new();
    let mut done = 0;
    ONCE.call_once(|| {
        // SAFETY: all zeros is a value of sigaction: no flags (so no restart), an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        // SAFETY: the pointer is to a live value, and the handler does nothing, which is safe at any moment.
        done = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    });
    Errno::result(done)?;
    let mut alarm = nix::sys::signal::SigSet::empty();
    alarm.add(nix::sys::signal::Signal::SIGALRM);
    alarm.thread_unblock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn two(path: &std::path::Path) -> (File, File) {
        (File::create(path).unwrap(), File::open(path).unwrap())
    }

    #[test]
    fn a_lock_that_is_kept_is_given_up_on_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let (holder, waiter) = two(&directory.path().join("lock"));
        assert!(try_flock(&holder, true).unwrap());
        assert!(!try_flock(&waiter, false).unwrap());
        let start = Instant::now();
        let error = flock_deadline(&waiter, true, Duration::from_millis(120), "the lock").unwrap_err();
        assert!(matches!(error, SysError::Deadline { .. }) && error.is_transient(), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(120));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_lock_that_is_freed_is_had_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (holder, waiter) = two(&directory.path().join("lock"));
        assert!(try_flock(&holder, true).unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| flock_deadline(&waiter, true, Duration::from_secs(20), "the lock"));
            std::thread::sleep(Duration::from_millis(130));
            drop(holder);
            waiting.join().unwrap().unwrap();
        });
    }
}
