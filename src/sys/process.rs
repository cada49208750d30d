//! Running another program, for a bounded time.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::SysError;

/// `MFD_NOEXEC_SEAL` (Linux 6.3): some hosts insist on it (`vm.memfd_noexec`).
const MFD_NOEXEC_SEAL: libc::c_uint = 8;
/// How long a program that is being overwritten (`ETXTBSY`) is tried again, if nothing else ends it; libcni waits about as
/// long.
const BUSY_LIMIT: Duration = Duration::from_secs(6);
/// The pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// The most that is read of a program's answer, in bytes.
const LONGEST_ANSWER: u64 = 16 << 20;

/// A program to be run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The program's path.
    pub program: &'a Path,
    /// Its arguments, without its name.
    pub arguments: &'a [OsString],
    /// Its whole environment, or `None` for ours.
    pub environment: Option<&'a [(OsString, OsString)]>,
    /// What it reads on stdin.
    pub input: &'a [u8],
    /// How long it may take; then it is killed.
    pub limit: Duration,
}

/// What a program that ended by itself left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub output: Vec<u8>,
    /// What it wrote to stderr, where [`run_quietly`] ran it.
    pub complaints: Vec<u8>,
}

/// The first regular file called `name` in `directories`, in their order.
pub fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Our own environment with some variables set, whatever they are in ours.
pub fn environment_with(set: &[(&str, String)]) -> Vec<(OsString, OsString)> {
    let inherited = std::env::vars_os().filter(|(name, _)| !set.iter().any(|(own, _)| name == own));
    inherited.chain(set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)))).collect()
}

/// Whether a process is in a network namespace, by the identity of its file; one that may not be looked at is not seen.
/// Where none can be looked at, one may be.
pub fn lives_in(device: u64, inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let mut namespaces = processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| std::fs::metadata(entry.path().join("ns/net")).ok());
    namespaces.any(|found| (found.dev(), found.ino()) == (device, inode))
}

/// Runs a program; its stderr is ours.
///
/// The input is a file in memory, so that a program that reads none of it harms nobody. No process is left behind as a zombie.
///
/// # Errors
/// Where it cannot be started (`ENOENT`, `EACCES`, `E2BIG`: environment and arguments too long), or
/// [`SysError::Deadline`] where it was killed.
pub fn run(run: &Run<'_>) -> Result<Outcome, SysError> {
    conduct(run, Stdio::inherit())
}

/// Runs a program and keeps its stderr, for an error message.
///
/// # Errors
/// As [`run`].
pub fn run_quietly(run: &Run<'_>) -> Result<Outcome, SysError> {
    let mut complaints = memory(run, &[])?;
    let stderr = complaints.try_clone().map_err(|error| failed(run, &error))?;
    let mut outcome = conduct(run, Stdio::from(stderr))?;
    complaints.seek(SeekFrom::Start(0)).map_err(|error| failed(run, &error))?;
    let mut reader = complaints.take(LONGEST_ANSWER);
    reader.read_to_end(&mut outcome.complaints).map_err(|error| failed(run, &error))?;
    Ok(outcome)
}

fn conduct(run: &Run<'_>, stderr: Stdio) -> Result<Outcome, SysError> {
    let deadline = Instant::now() + run.limit;
    let mut command = Command::new(run.program);
    command.args(run.arguments).stdin(memory(run, run.input)?).stdout(Stdio::piped()).stderr(stderr);
    if let Some(environment) = run.environment {
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    }
    let mut child = spawn(&mut command, run, deadline)?;
    let answer = read_answer(&mut child, deadline);
    if !matches!(answer, Ok(Some(_))) {
        // It may have ended meanwhile, which is as good.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(run, &error))?;
    match answer.map_err(|errno| SysError::refused("read the answer of", name(run), errno))? {
        Some(output) => Ok(Outcome { status, output, complaints: Vec::new() }),
        None => Err(SysError::Deadline { action: "run", object: name(run), limit: run.limit }),
    }
}

fn spawn(command: &mut Command, run: &Run<'_>, deadline: Instant) -> Result<Child, SysError> {
    let last = deadline.min(Instant::now() + BUSY_LIMIT);
    loop {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && Instant::now() < last => {
                std::thread::sleep(BUSY_PAUSE);
            }
            other => return other.map_err(|error| failed(run, &error)),
        }
    }
}

/// Reads stdout until it ends or the child does; `None` where the deadline came first. That the child has ended
/// counts by itself, since a grandchild may keep stdout open for ever.
fn read_answer(child: &mut Child, deadline: Instant) -> Result<Option<Vec<u8>>, Errno> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(Some(Vec::new())) };
    let process = pidfd(child);
    let mut output = Vec::new();
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(None);
        }
        let [readable, ended] =
            wait([stdout.as_raw_fd(), process.as_ref().map_or(-1, AsRawFd::as_raw_fd)], remaining)?;
        if readable {
            let mut chunk = [0; 8192];
            let length = stdout
                .read(&mut chunk)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            if length == 0 {
                return until_ended(child, deadline, output);
            }
            output.extend_from_slice(&chunk[..length]);
            if output.len() as u64 > LONGEST_ANSWER {
                return Err(Errno::EFBIG);
            }
        } else if ended && !wait([stdout.as_raw_fd(), -1], Duration::ZERO)?[0] {
            // Nor has it written anything between the look at its answer and that at itself.
            return Ok(Some(output));
        }
    }
}

/// Stdout is closed, which does not mean that the program has ended.
fn until_ended(child: &mut Child, deadline: Instant, output: Vec<u8>) -> Result<Option<Vec<u8>>, Errno> {
    let Some(process) = pidfd(child) else { return Ok(Some(output)) };
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(None);
        }
        if wait([process.as_raw_fd(), -1], remaining)?[0] {
            return Ok(Some(output));
        }
    }
}

/// Which of the descriptors have something to read (or an end); none where the time is over.
fn wait(descriptors: [RawFd; 2], limit: Duration) -> Result<[bool; 2], Errno> {
    let mut fds = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // Rounded up, so as not to spin through the last millisecond.
    let milliseconds = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the count are those of a live array.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, milliseconds) };
    match Errno::result(ready) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds.map(|fd| fd.revents != 0)),
        Err(errno) => Err(errno),
    }
}

/// A descriptor that becomes readable when the child ends (Linux 5.3).
fn pidfd(child: &Child) -> Option<OwnedFd> {
    let pid = libc::pid_t::try_from(child.id()).ok()?;
    // SAFETY: pidfd_open takes no pointers; the child is not waited for yet, so the number is still its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(fd).ok()?).ok()?;
    // SAFETY: the descriptor is new and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A file in memory that holds `content`, at its start.
fn memory(run: &Run<'_>, content: &[u8]) -> Result<File, SysError> {
    let create = |flags| {
        // SAFETY: the name is a NUL-terminated string.
        Errno::result(unsafe { libc::memfd_create(c"linkspan".as_ptr(), flags) })
    };
    let fd = create(libc::MFD_CLOEXEC | MFD_NOEXEC_SEAL)
        .or_else(|_| create(libc::MFD_CLOEXEC))
        .map_err(|errno| SysError::refused("make the input of", name(run), errno))?;
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    if !content.is_empty() {
        file.write_all(content)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(|error| failed(run, &error))?;
    }
    Ok(file)
}

fn failed(run: &Run<'_>, error: &std::io::Error) -> SysError {
    SysError::io("run", name(run), error)
}

fn name(run: &Run<'_>) -> String {
    run.program.display().to_string()
}

/// Whether the calling thread has CAP_SYS_ADMIN, which it takes to enter a namespace; yes where the kernel does not say.
pub fn may_enter_namespaces() -> bool {
    /// `_LINUX_CAPABILITY_VERSION_3`, and the thread: the calling one.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    const CAP_SYS_ADMIN: u32 = 21;
    // The effective, the permitted and the inheritable ones, 32 of each, twice.
    let (mut header, mut sets) = (HEADER, [0_u32; 6]);
    // SAFETY: the kernel reads and writes the header and writes two structures of three words; both are that large.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    done != 0 || sets[0] & (1 << CAP_SYS_ADMIN) != 0
}

#[cfg(test)]
mod tests;
