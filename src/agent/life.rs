//! The agent's life: one for each state directory, from its start to its end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

use super::notify::notify;
use super::{AgentError, Shared, log, services, socket, watch};
use crate::store::{Agency, AgentLock, State};
use crate::sys::daemon::{self, Side};

/// What an agent that was started by an ADD writes beside its process number.
const ON_DEMAND: &str = "on-demand";
/// How long one that was started by an ADD stays without work.
const IDLE: Duration = Duration::from_secs(2);
/// How long the agent before this one may take to end.
const HANDOVER: Duration = Duration::from_secs(5);
/// The same for one that an ADD waits for.
const BRIEF_HANDOVER: Duration = Duration::from_millis(150);

/// Runs the agent of the state directory until SIGTERM or SIGINT. SIGHUP makes it read all records again.
///
/// With `on_demand` it leaves the process that started it, which returns as soon as the socket is there, and ends by
/// itself two seconds after the last attachment that it has work with; where another agent is there, it returns at
/// once. Without, an agent that was started on demand gives way to it.
///
/// `metrics` is a loopback address to serve them on, besides their socket.
///
/// # Errors
/// Where another agent is there, or it cannot listen, or the state directory cannot be read.
pub fn run(on_demand: bool, metrics: Option<SocketAddr>) -> Result<(), AgentError> {
    let state = State::open(&State::default_root())?;
    let Some(mut lock) = become_agent(&state, on_demand)? else { return Ok(()) };
    let path = state.root().join(socket::NAME);
    let (listener, ours) = match passed_listener()? {
        Some(listener) => (listener, false),
        None => (socket::bind(&path)?, true),
    };
    if on_demand && daemon::split(&state.root().join("agent.log"))? == Side::Starter {
        // Both processes have the same lock: releasing it here would release it there.
        std::mem::forget(lock);
        return Ok(());
    }
    lock.sign(if on_demand { ON_DEMAND } else { "" })?;
    let failed = |source| AgentError::Io { action: "serve", path: path.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let outcome =
        LocalSet::new().block_on(&runtime, serve(Shared::new(state, metrics), listener, on_demand, &path));
    if ours {
        // While the lock is held, so that it is not the next one's.
        let _ = std::fs::remove_file(&path);
    }
    drop(lock);
    outcome
}

async fn serve(
    shared: Rc<Shared>,
    listener: UnixListener,
    on_demand: bool,
    path: &std::path::Path,
) -> Result<(), AgentError> {
    let failed = |source| AgentError::Io { action: "listen on", path: path.to_owned(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    let mut end = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let watched = watch::begin(&shared)?;
    shared.reload()?;
    services::start(&shared);
    spawn_local(watch::run(Rc::clone(&shared), watched));
    spawn_local(socket::run(Rc::clone(&shared), listener));
    notify("READY=1");
    log::info(&format!("ready, with {} attachments to work for", shared.needed()));
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            () = idle(&shared), if on_demand => break,
            _ = hangup.recv() => {
                if let Err(error) = shared.reload() {
                    log::warn(&format!("the records cannot be read again: {error}"));
                }
            }
        }
    }
    notify("STOPPING=1");
    Ok(())
}

/// Returns when there has been no work for a while.
async fn idle(shared: &Shared) {
    loop {
        if shared.needed() == 0 {
            tokio::time::sleep(IDLE).await;
            if shared.needed() == 0 {
                return;
            }
        }
        shared.released.notified().await;
    }
}

/// Takes the lock of the agent; `None` where another one is there that serves as well.
fn become_agent(state: &State, on_demand: bool) -> Result<Option<AgentLock>, AgentError> {
    let begun = Instant::now();
    let limit = if on_demand { BRIEF_HANDOVER } else { HANDOVER };
    let mut asked = false;
    loop {
        let (pid, note) = match state.agent_lock()? {
            Agency::Ours(lock) => return Ok(Some(lock)),
            Agency::Theirs { pid, note } => (pid, note),
        };
        let root = || state.root().to_owned();
        let gives_way = note == ON_DEMAND || pid.is_none();
        if on_demand && state.root().join(socket::NAME).exists() {
            return Ok(None);
        }
        if !gives_way || begun.elapsed() > limit {
            return Err(AgentError::Running { pid, root: root() });
        }
        if let Some(pid) = pid.filter(|_| !on_demand && !asked) {
            // It holds the lock, so the number that it wrote is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            asked = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The socket that a supervisor made.
fn passed_listener() -> Result<Option<UnixListener>, AgentError> {
    let mut passed: Vec<(String, OwnedFd)> = daemon::passed_sockets()?;
    if passed.len() > 1 {
        log::warn(&format!("{} sockets were passed; the first one serves", passed.len()));
    }
    if passed.is_empty() {
        return Ok(None);
    }
    let listener = UnixListener::from(passed.remove(0).1);
    match listener.local_addr() {
        Ok(_) => Ok(Some(listener)),
        Err(source) => Err(AgentError::Io { action: "take over", path: PathBuf::from("LISTEN_FDS"), source }),
    }
}
