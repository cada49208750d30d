//! A process that stays: leaving the one that started it, and taking over sockets that a supervisor opened.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, setsid};

use super::SysError;

/// The first descriptor that a supervisor passes (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;

/// As many as a supervisor may pass: each name of them takes room in the environment.
const MOST_PASSED: RawFd = 16_384;

/// Which of the two a process is after [`split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was started, and is to end.
    Starter,
    /// The one that stays, in a session of its own.
    Stayer,
}

/// Becomes two processes. The one that stays reads nothing, prints nothing, and complains into `log`.
///
/// To be called while the process has one thread, and before an asynchronous runtime is made.
///
/// # Errors
/// Where there can be no other process (`EAGAIN`, `ENOMEM`), or the log cannot be opened.
pub fn split(log: &Path) -> Result<Side, SysError> {
    let failed = |action| move |errno| SysError::refused(action, "the agent's process", errno);
    let open = |path: &Path| OpenOptions::new().append(true).create(true).open(path);
    let io = |error| SysError::io("open", log.display().to_string(), &error);
    let (nothing, log) = (open(Path::new("/dev/null")).map_err(io)?, open(log).map_err(io)?);
    // SAFETY: there is one thread, so the child may go on as its parent would have.
    match unsafe { fork() }.map_err(failed("start"))? {
        ForkResult::Parent { .. } => return Ok(Side::Starter),
        ForkResult::Child => {}
    }
    setsid().map_err(failed("make a session for"))?;
    dup2_stdin(&nothing).map_err(failed("close the input of"))?;
    dup2_stdout(&nothing).map_err(failed("close the output of"))?;
    dup2_stderr(&log).map_err(failed("open the log of"))?;
    // What it was started in may be unmounted.
    let _ = nix::unistd::chdir("/");
    Ok(Side::Stayer)
}

/// The sockets that a supervisor opened for this process (`LISTEN_PID`, `LISTEN_FDS`), each with its name of
/// `LISTEN_FDNAMES`. They are not inherited further. To be called once.
///
/// # Errors
/// Where a descriptor that was promised is not there.
pub fn passed_sockets() -> Result<Vec<(String, OwnedFd)>, SysError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID").parse() != Ok(getpid().as_raw()) {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':').map(str::to_owned);
    (FIRST_PASSED..FIRST_PASSED.saturating_add(count.min(MOST_PASSED)))
        .map(|number| {
            // SAFETY: the supervisor opened it for us, and nobody else here knows the number.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(borrowed.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno: Errno| {
                SysError::refused("take over", format!("the descriptor {number} of LISTEN_FDS"), errno)
            })?;
            // SAFETY: it is open, as the call above has shown, and taken over once.
            let owned = unsafe { OwnedFd::from_raw_fd(borrowed.as_raw_fd()) };
            Ok((names.next().unwrap_or_default(), owned))
        })
        .collect()
}
