//! Exclusive locks between processes: flock(2), which ends with its holder whatever becomes of it.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};

use super::files::Dir;
use super::{Result, StoreError};

/// How long a lock may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Duration);

impl Default for Deadline {
    /// 30 s: runtimes give up an ADD after a minute or more, and one ADD holds the lock for about a millisecond.
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Guard {
    #[allow(dead_code, reason = "held, and read only where it is passed on")]
    file: Flock<File>,
}

impl Guard {
    /// The locked file, for what its holder has to say in it.
    pub(super) fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// A lock that another process held and has passed on, by the open file that it is on. `None` where it is held by
    /// somebody else.
    pub(super) fn taken_over(file: File, dir: &Dir, name: &str) -> Result<Option<Self>> {
        // Of one open file: to the kernel the lock is already this one's.
        try_lock(file, dir, name)
    }

    /// The open file, to be passed on.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The same lock, which children of this process hold too until they end.
    pub(super) fn passed_on(self, dir: &Dir, name: &str) -> Result<Self> {
        pass_on(&self.file, dir, name)?;
        Ok(self)
    }
}

/// Lets the children of this process hold the lock of an open file too, until they end. Dropping it here lets it go for
/// them as well; only of a holder that is killed it stays with its children.
pub(super) fn pass_on(file: &File, dir: &Dir, name: &str) -> Result<()> {
    let passed = fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()));
    passed.map(drop).map_err(|error| dir.error("pass on", name, error))
}

/// The shortest and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// Takes a lock, waiting until the deadline.
///
/// There is no flock with a deadline, and a signal to end a blocking one would need a handler. So it is tried again
/// after a pause of an eighth of the time waited so far: short waits stay short, and 64 waiters do not burn a CPU.
pub(super) fn acquire(dir: &Dir, name: &str, deadline: Deadline) -> Result<Guard> {
    acquire_within(dir, name, deadline, PAUSES)
}

/// As [`acquire`], with a shortest and a longest pause.
pub(super) fn acquire_within(
    dir: &Dir,
    name: &str,
    deadline: Deadline,
    pauses: (Duration, Duration),
) -> Result<Guard> {
    let mut file = dir.open_lock(name)?;
    let mut begun = None;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Guard { file: held }),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, error)) => return Err(dir.error("lock", name, error)),
        };
        let waited = begun.get_or_insert_with(Instant::now).elapsed();
        let Some(left) = deadline.0.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(StoreError::LockTimeout { path: dir.path().join(name), waited });
        };
        std::thread::sleep((waited / 8).clamp(pauses.0, pauses.1).min(left));
    }
}

/// Takes a lock if nobody holds it.
pub(super) fn try_acquire(dir: &Dir, name: &str) -> Result<Option<Guard>> {
    try_lock(dir.open_lock(name)?, dir, name)
}

/// The same of a file that is open.
pub(super) fn try_lock(file: File, dir: &Dir, name: &str) -> Result<Option<Guard>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(Guard { file: held })),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(dir.error("lock", name, error)),
    }
}
