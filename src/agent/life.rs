//! The agent's life: one for each state directory, from its start to its end.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::handover::{self, Program};
use super::keep::{Inheritance, Keeper};
use super::names::Names;
use super::notify::Supervisor;
use super::{AgentError, Shared, log, services, socket, watch};
use crate::store::{Agency, AgentLock, State};
use crate::sys::daemon::{self, Side};
use crate::sys::listen;

/// What an agent that was started by an ADD writes beside its process number.
const ON_DEMAND: &str = "on-demand";
/// How long one that was started by an ADD stays without work.
const IDLE: Duration = Duration::from_secs(2);
/// How long the agent before this one may take to end.
const HANDOVER: Duration = Duration::from_secs(5);
/// The same for one that an ADD waits for.
const BRIEF_HANDOVER: Duration = Duration::from_millis(150);

/// How long answers that are under way may take, where somebody else takes further questions: a supervisor waits for
/// the end of this process, the next agent does not.
const LAST_ANSWERS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// How an agent is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// It leaves the process that started it, which returns as soon as the socket is there, and ends by itself two
    /// seconds after the last attachment that it has work with; where another agent is there, it returns at once.
    pub on_demand: bool,
    /// It takes the place of an agent that is there: sockets, names and connections go over without a gap.
    pub replace: bool,
    /// A loopback address to serve metrics on, besides their socket.
    pub metrics: Option<SocketAddr>,
}

/// What is served with, through however many beginnings.
struct Post {
    root: PathBuf,
    start: Start,
    lock: AgentLock,
    listener: UnixListener,
    /// Whether the socket is a supervisor's.
    passed: bool,
}

/// How serving ended.
enum End {
    /// It was told to, or has no more work.
    Told,
    /// The next agent has everything.
    Given,
    /// The next agent was to have this, and did not take it.
    Kept(OwnedFd),
}

/// Runs the agent of the state directory until SIGTERM or SIGINT. SIGHUP makes it read all records again.
///
/// Unless it is started on demand itself, one that was started on demand gives way to it.
///
/// # Errors
/// Where another agent is there, or it cannot listen, or the state directory cannot be read.
pub fn run(start: Start) -> Result<(), AgentError> {
    let state = State::open(&State::default_root())?;
    let root = state.root().to_owned();
    // What is taken over may be many sockets.
    if let Err(error) = listen::raise_descriptor_limit() {
        log::warn(&format!("the number of sockets stays limited: {error}"));
    }
    let passed = daemon::passed_sockets()?;
    let mut inheritance = Inheritance::default();
    let Some(mut lock) = become_agent(&state, start, &mut inheritance)? else { return Ok(()) };
    let own = inheritance.take_passed(passed);
    let path = root.join(socket::NAME);
    let (listener, passed) = match (passed_listener(own)?, inheritance.listener.take()) {
        (Some(listener), _) => (listener, true),
        (None, Some(listener)) => (listener, false),
        (None, None) => (socket::bind(&path)?, false),
    };
    if start.on_demand && daemon::split(&root.join("agent.log"))? == Side::Starter {
        // Both processes have the same lock: releasing it here would release it there.
        std::mem::forget(lock);
        return Ok(());
    }
    lock.sign(if start.on_demand { ON_DEMAND } else { "" })?;
    let failed = |source| AgentError::Io { action: "serve", path: path.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let post = Post { root, start, lock, listener, passed };
    // One through all beginnings: what was begun to be answered is answered, whatever becomes of the next agent.
    let tasks = LocalSet::new();
    loop {
        // What started an ADD may have a supervisor, which is none of ours.
        let supervisor = if start.on_demand { Supervisor::default() } else { Supervisor::of_environment() };
        let keeper = Keeper::new(supervisor, std::mem::take(&mut inheritance));
        let program = start.on_demand.then(Program::of_this_process).flatten();
        let shared = Shared::new(State::open(&post.root)?, start.metrics, keeper, program);
        match tasks.block_on(&runtime, post.serve(shared)) {
            Ok(End::Given) => {
                // The next one's lock now.
                std::mem::forget(post.lock);
                return Ok(());
            }
            Ok(End::Kept(everything)) => inheritance.open(&everything),
            Ok(End::Told) => return post.leave(Ok(())),
            Err(error) => return post.leave(Err(error)),
        }
    }
}

impl Post {
    async fn serve(&self, shared: Rc<Shared>) -> Result<End, AgentError> {
        let path = self.root.join(socket::NAME);
        let failed = |source| AgentError::Io { action: "listen on", path: path.clone(), source };
        let listener = self.listener.try_clone().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
        let mut end = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let supervisor = &shared.keeper.supervisor;
        let watched = watch::begin(&shared)?;
        shared.reload()?;
        let mut tasks = services::start(&shared);
        shared.keeper.settle();
        tasks.push(spawn_local(watch::run(Rc::clone(&shared), watched)));
        tasks.push(spawn_local(socket::run(Rc::clone(&shared), listener)));
        let told = Rc::clone(&shared);
        tasks.push(spawn_local(async move { told.keeper.supervisor.run().await }));
        let (tell, mut next) = mpsc::channel(1);
        match handover::bind(&self.root) {
            Ok(listener) => tasks.push(spawn_local(handover::wait(listener, supervisor.is_there(), tell))),
            Err(error) => log::warn(&format!("this agent can be replaced with a gap only: {error}")),
        }
        supervisor.tell("READY=1");
        log::info(&format!("ready, with {} attachments to work for", shared.needed()));
        let next = loop {
            tokio::select! {
                _ = end.recv() => break None,
                _ = interrupt.recv() => break None,
                () = idle(&shared), if self.start.on_demand => break None,
                Some(next) = next.recv() => break Some(next),
                _ = hangup.recv() => {
                    if let Err(error) = shared.reload() {
                        log::warn(&format!("the records cannot be read again: {error}"));
                    }
                }
            }
        };
        if next.is_none() && !supervisor.is_there() {
            return Ok(End::Told);
        }
        for task in tasks {
            task.abort();
            // That it was ended is what it says.
            let _ = task.await;
        }
        self.pass_on(&shared, next).await
    }

    /// Stops serving, and leaves everything to whoever comes next.
    async fn pass_on(&self, shared: &Shared, next: Option<UnixStream>) -> Result<End, AgentError> {
        let (names, keeper) = (&shared.services.names, &shared.keeper);
        names.stop().await;
        let connections = shared.services.ports.stop().await;
        shared.services.repair.leave();
        let ends: Vec<_> = connections.iter().map(|connection| connection.ends()).collect();
        let Some(next) = next else {
            keeper.supervisor.tell("STOPPING=1");
            keeper.keep_connections(&ends);
            keeper.supervisor.finish();
            last_answers(names, LAST_ANSWERS.0).await;
            return Ok(End::Told);
        };
        let failed = |source| AgentError::Io { action: "hand over", path: self.root.clone(), source };
        let everything =
            keeper.everything(self.lock.as_fd(), self.listener.as_fd(), &ends).map_err(failed)?;
        if let Err(error) = handover::give(&next, &everything) {
            log::warn(&format!("the next agent did not take over: {error}"));
            return Ok(End::Kept(everything));
        }
        drop(next);
        log::info("the next agent has taken over");
        last_answers(names, LAST_ANSWERS.1).await;
        Ok(End::Given)
    }

    /// Takes away what only a living agent has.
    fn leave(self, outcome: Result<(), AgentError>) -> Result<(), AgentError> {
        // While the lock is held, so that they are not the next one's.
        let _ = std::fs::remove_file(self.root.join(handover::NAME));
        if !self.passed {
            let _ = std::fs::remove_file(self.root.join(socket::NAME));
        }
        drop(self.lock);
        outcome
    }
}

/// Waits for the answers that are under way, within a limit.
async fn last_answers(names: &Names, limit: Duration) {
    let waiting = async {
        while names.is_busy() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // Whoever is not answered by then asks again.
    let _ = tokio::time::timeout(limit, waiting).await;
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

/// Takes the lock of the agent, and what the one before hands over; `None` where another one is there that serves as
/// well.
fn become_agent(
    state: &State,
    start: Start,
    inheritance: &mut Inheritance,
) -> Result<Option<AgentLock>, AgentError> {
    let begun = Instant::now();
    let limit = if start.on_demand { BRIEF_HANDOVER } else { HANDOVER };
    let (mut asked, mut refusal) = (false, None);
    loop {
        let (pid, note) = match state.agent_lock()? {
            Agency::Ours(lock) => return Ok(Some(lock)),
            Agency::Theirs { pid, note } => (pid, note),
        };
        let is_there = state.root().join(socket::NAME).exists();
        if start.on_demand && !start.replace && is_there {
            return Ok(None);
        }
        let gives_way = note == ON_DEMAND || pid.is_none();
        if (start.replace || gives_way && !start.on_demand) && !asked {
            asked = true;
            match handover::take(state.root(), limit) {
                Ok(everything) => {
                    inheritance.open(&everything);
                    let lock = inheritance.lock.take().map(|lock| state.agent_lock_from(lock));
                    if let Some(lock) = lock.transpose()?.flatten() {
                        return Ok(Some(lock));
                    }
                }
                Err(error) => refusal = Some(error.to_string()),
            }
            if let Some(pid) = pid.filter(|_| gives_way && !start.on_demand) {
                // It does not hand over. It holds the lock, so the number that it wrote is still its own.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        if !gives_way || begun.elapsed() > limit {
            return Err(AgentError::Running { pid, root: state.root().to_owned(), refusal });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The socket that a supervisor made.
fn passed_listener(mut passed: Vec<OwnedFd>) -> Result<Option<UnixListener>, AgentError> {
    if passed.len() > 1 {
        log::warn(&format!("{} sockets were passed; the first one serves", passed.len()));
    }
    if passed.is_empty() {
        return Ok(None);
    }
    let listener = UnixListener::from(passed.remove(0));
    match listener.local_addr() {
        Ok(_) => Ok(Some(listener)),
        Err(source) => Err(AgentError::Io { action: "take over", path: PathBuf::from("LISTEN_FDS"), source }),
    }
}
