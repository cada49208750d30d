//! From one agent to the next without a gap: the lock, the sockets, and the connections that are passed on go from
//! process to process, on a socket of its own (`handover.sock`; `agent.sock` may be the supervisor's).
//!
//! ```text
//! next    hand over          it is there and ready to take
//! before  parcel + all of it it has stopped serving: what comes waits in the sockets
//! next    taken              it has the parcel, still closed
//! before  yours              from now on it has nothing, and ends when its last answers are given
//! ```
//!
//! Whatever becomes of the next one before the last word, the one before still has everything, and goes on.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::log;
use crate::sys::parcel;

/// The socket's name in the state directory.
pub(super) const NAME: &str = "handover.sock";

const REQUEST: &[u8] = b"hand over\n";
const PARCEL: &[u8] = b"parcel\n";
const TAKEN: &[u8] = b"taken\n";
const YOURS: &[u8] = b"yours\n";
const REFUSED: &[u8] =
    b"refused: a supervisor runs it; restart it there (systemctl restart linkspan-agent)\n";

/// How long the other side may take for a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program that a process runs, by its file.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    file: (u64, u64),
}

impl Program {
    /// This process's; `None` where its file is gone already.
    pub(super) fn of_this_process() -> Option<Self> {
        let path = std::env::current_exe().ok()?;
        let file = identity(&path)?;
        Some(Self { path, file })
    }

    /// Whether another file has its name now. That there is none is no reason to replace anything.
    pub(super) fn was_replaced(&self) -> bool {
        identity(&self.path).is_some_and(|file| file != self.file)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Asks the agent that is there for everything; gives the parcel.
///
/// # Errors
/// Where there is none that hands over, or it refuses: its words.
pub(super) fn take(root: &Path, limit: Duration) -> io::Result<OwnedFd> {
    let stream = UnixStream::connect(root.join(NAME))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    parcel::send(&stream, REQUEST, &[])?;
    let (words, mut descriptors) = parcel::receive(&stream, MsgFlags::empty())?;
    let Some(parcel) = descriptors.pop().filter(|_| words == PARCEL) else {
        let words = String::from_utf8_lossy(&words);
        return Err(io::Error::other(words.trim().trim_start_matches("refused: ").to_owned()));
    };
    parcel::send(&stream, TAKEN, &[])?;
    let (words, _) = parcel::receive(&stream, MsgFlags::empty())?;
    if words == YOURS { Ok(parcel) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Makes the socket. Under the agent's lock.
pub(super) fn bind(root: &Path) -> io::Result<UnixListener> {
    let path = root.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Waits for the next agent, and tells of it.
pub(super) async fn wait(listener: UnixListener, supervised: bool, next: mpsc::Sender<UnixStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(stream) =
                    timeout(PATIENCE, greet(stream, supervised)).await.unwrap_or_else(|e| Err(e.into()))
                    && next.send(stream).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                log::warn(&format!("cannot accept on {NAME}: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet(mut stream: tokio::net::UnixStream, supervised: bool) -> io::Result<UnixStream> {
    let mut words = [0; REQUEST.len()];
    stream.read_exact(&mut words).await?;
    if words != REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if supervised {
        stream.write_all(REFUSED).await?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.into_std()
}

/// Gives everything to the next agent. Nothing here serves any more, so that it may wait.
///
/// # Errors
/// Where the next one did not take it: it is all still here.
pub(super) fn give(stream: &UnixStream, everything: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    parcel::send(stream, PARCEL, &[everything.as_fd()])?;
    let (words, _) = parcel::receive(stream, MsgFlags::empty())?;
    if words != TAKEN {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    parcel::send(stream, YOURS, &[])
}
