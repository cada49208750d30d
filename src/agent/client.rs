//! The plugin's side of the conversation: blocking system calls, one deadline over all of them, nothing of the
//! runtime.

use std::ffi::OsString;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::protocol::{LONGEST_LINE, Reply, Request};
use super::socket;
use crate::model::AttachmentKey;
use crate::sys::process::{self, Run};

/// How long an ADD waits for the agent in all: to be started, to hear and to answer.
pub const DEADLINE: Duration = Duration::from_millis(200);

/// How an agent is started where there is none, and where there is one of an older program.
const ON_DEMAND: [&str; 2] = ["agent", "--on-demand"];
const REPLACING: [&str; 3] = ["agent", "--on-demand", "--replace"];

/// What came of a word to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Contact {
    /// It has answered: the change is in effect.
    Acknowledged(Reply),
    /// It is there but did not answer in time. It will take the change over when it can.
    Late,
    /// There is none.
    Absent {
        /// Why none could be reached or started.
        reason: String,
    },
}

/// Says that an attachment is ready, to an agent that is started where there is none.
pub fn attach(root: &Path, key: &AttachmentKey) -> Contact {
    let end = Instant::now() + DEADLINE;
    let request = Request::Attach { key: key.to_string() };
    match ask(root, &request, end) {
        Contact::Absent { reason: first } => match start(end, &ON_DEMAND) {
            Ok(()) => ask(root, &request, end),
            Err(second) => Contact::Absent { reason: format!("{first}; {second}") },
        },
        Contact::Acknowledged(reply) if reply.outdated => {
            // Where it fails, the old one goes on, and the next ADD tries again.
            let _ = start(end, &REPLACING);
            Contact::Acknowledged(reply)
        }
        contact => contact,
    }
}

/// Says that an attachment is gone. Where there is no agent, nobody has to know.
pub fn detach(root: &Path, key: &AttachmentKey) -> Contact {
    ask(root, &Request::Detach { key: key.to_string() }, Instant::now() + DEADLINE)
}

/// Asks what the agent does.
pub fn status(root: &Path) -> Contact {
    ask(root, &Request::Status, Instant::now() + DEADLINE * 10)
}

/// Follows what happens: each line of JSON is given to `each`, until that or the agent has enough.
///
/// # Errors
/// Where there is no agent.
pub fn follow(root: &Path, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut stream = UnixStream::connect(root.join(socket::NAME))?;
    stream.write_all(b"{\"op\":\"events\"}\n")?;
    for line in io::BufReader::new(stream).lines().skip(1) {
        each(&line?)?;
    }
    Ok(())
}

fn ask(root: &Path, request: &Request, end: Instant) -> Contact {
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    let path = root.join(socket::NAME);
    match converse(&path, &line, end) {
        Ok(reply) => Contact::Acknowledged(reply),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Contact::Late
        }
        Err(error) => Contact::Absent { reason: format!("{}: {error}", path.display()) },
    }
}

fn converse(path: &Path, line: &[u8], end: Instant) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(line)?;
    let mut answer = Vec::with_capacity(256);
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.ends_with(b"\n") {
            return serde_json::from_slice(&answer).map_err(io::Error::from);
        }
        if answer.len() > 64 * LONGEST_LINE {
            return Err(io::Error::other("the answer does not end"));
        }
    }
}

/// Starts an agent that ends by itself when it has no more work; returns when its socket is there.
fn start(end: Instant, arguments: &[&str]) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("no agent could be started: {error}");
    // Its name shows in ps(1); where the binary was replaced meanwhile, it is still this one.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let program = program.unwrap_or_else(|| "/proc/self/exe".into());
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let run = Run {
        program: &program,
        arguments: &arguments,
        environment: None,
        input: b"",
        limit: left(end).map_err(|error| failed(&error))?,
    };
    let outcome = process::run_quietly(&run).map_err(|error| failed(&error))?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&outcome.complaints).trim()))
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
