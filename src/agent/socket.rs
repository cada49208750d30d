//! The agent's socket: its making, and the conversation on it (see [`super::protocol`]).

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::protocol::{LONGEST_LINE, Reply, Request};
use super::{AgentError, Shared, log};
use crate::model::AttachmentKey;

/// The socket's name in the state directory.
pub(super) const NAME: &str = "agent.sock";

/// Conversations at the same time; further ones wait in the listen queue.
const CONVERSATIONS: usize = 256;
/// How long a conversation may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Makes the socket, in place of one that an agent before this one left. Under the agent's lock.
///
/// # Errors
/// The system's reason, with the path.
pub(super) fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, AgentError> {
    let failed = |source| AgentError::Io { action: "listen on", path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::os::unix::net::UnixListener::bind(path).map_err(failed)
}

/// Serves the socket, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>, listener: UnixListener) {
    let places = std::sync::Arc::new(Semaphore::new(CONVERSATIONS));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Rc::clone(&shared);
                spawn_local(async move {
                    let _place = place;
                    // Whoever hangs up in the middle has said what they had to say.
                    let _ = converse(&shared, stream).await;
                });
            }
            Err(error) => {
                log::warn(&format!("cannot accept on {NAME}: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(shared: &Rc<Shared>, mut stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(LONGEST_LINE as u64);
        let length = timeout(SILENCE, limited.read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        if whole && matches!(serde_json::from_slice(&line), Ok(Request::Events)) {
            return tell_events(shared, reader, writer).await;
        }
        let reply =
            if whole { answer(shared, &line) } else { Reply::refusal(&"the line is too long or torn") };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        timeout(SILENCE, writer.write_all(&text)).await??;
        if !whole {
            return Ok(());
        }
    }
}

/// Tells what happens until the other side hangs up, or does not read for too long.
async fn tell_events(
    shared: &Shared,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut events = shared.services.events.follow();
    timeout(SILENCE, writer.write_all(b"{\"ok\":true}\n")).await??;
    let mut said = [0; 64];
    loop {
        let mut line = tokio::select! {
            event = events.recv() => match event {
                Ok(line) => line,
                Err(RecvError::Lagged(count)) => format!("{{\"event\":\"lost\",\"count\":{count}}}"),
                Err(RecvError::Closed) => return Ok(()),
            },
            length = reader.read(&mut said) => match length? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        line.push('\n');
        timeout(SILENCE, writer.write_all(line.as_bytes())).await??;
    }
}

fn answer(shared: &Rc<Shared>, line: &[u8]) -> Reply {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Reply::refusal(&error),
    };
    match request {
        // The conversation takes it before it comes here.
        Request::Events => Reply { ok: true, ..Reply::default() },
        Request::Status => Reply { ok: true, status: Some(shared.status()), ..Reply::default() },
        Request::Attach { key } | Request::Detach { key } => {
            let Some(key) = AttachmentKey::parse(&key) else {
                return Reply::refusal(&format!("'{key}' is no attachment: it is written ID:IF"));
            };
            match shared.refresh(&key) {
                Ok(degraded) => {
                    Reply { ok: true, degraded, outdated: shared.is_outdated(), ..Reply::default() }
                }
                Err(error) => Reply::refusal(&error),
            }
        }
    }
}
