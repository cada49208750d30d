//! The agent of a lab: started, asked, killed.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::eventually;
use super::plugin::binary;

/// How long what must come may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The socket of the lab's agent.
pub const SOCKET: &str = "/run/linkspan/agent.sock";

/// An agent in the foreground; it ends when this is dropped.
pub struct Agent {
    /// The process.
    pub child: Child,
}

impl Agent {
    /// Starts one and waits until it says that it is ready.
    pub fn start() -> Self {
        Self::start_as(Command::new(binary()).arg("agent"), Stdio::null())
    }

    /// Starts one by this command, with this standard input.
    pub fn start_as(command: &mut Command, stdin: Stdio) -> Self {
        let socket = PathBuf::from("/run/notify.sock");
        let _ = std::fs::remove_file(&socket);
        let told = UnixDatagram::bind(&socket).expect("a socket for READY=1");
        told.set_read_timeout(Some(LIMIT)).unwrap();
        let child = command
            .env("NOTIFY_SOCKET", &socket)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut agent = Self::heard(child);
        // What is to be kept for the next one is told before, and kept by nobody here.
        loop {
            let mut text = [0; 128];
            let length = match told.recv(&mut text) {
                // Whoever stops the whole process for a moment interrupts a receive that has a limit.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                told => told.unwrap_or_else(|e| panic!("no READY=1: {e}; {:?}", agent.ended())),
            };
            match std::str::from_utf8(&text[..length]).unwrap() {
                "READY=1" => return agent,
                other => assert!(other.starts_with("FDSTORE"), "{other}"),
            }
        }
    }

    /// Starts one that nobody supervises, with these arguments, and waits until it is the one that serves.
    pub fn start_alone(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("agent").args(arguments).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut agent = Self::heard(command.spawn().unwrap());
        let mine = i32::try_from(agent.child.id()).unwrap();
        let serves = eventually(LIMIT, || {
            let ended = agent.ended();
            assert!(ended.is_none(), "it ended: {ended:?}");
            pid() == Some(mine) && has_socket() && status()["pid"] == mine
        });
        assert!(serves, "{mine} does not serve");
        agent
    }

    /// What it says goes where the test's own words go: shown where the test fails, and only there.
    fn heard(mut child: Child) -> Self {
        if let Some(pipe) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    eprintln!("{line}");
                }
            });
        }
        Self { child }
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Memory that is in RAM now and counts as its own (`RssAnon`), and all of it (`VmRSS`), in KiB.
    pub fn resident(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (of("RssAnon:"), of("VmRSS:"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the agent and hears its answer.
pub fn say(line: &str) -> Value {
    let mut stream = UnixStream::connect(SOCKET).unwrap_or_else(|e| panic!("{SOCKET}: {e}"));
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{line}: {e}: {answer:?}"))
}

/// What the agent says of itself.
pub fn status() -> Value {
    let reply = say(&json!({"op": "status"}).to_string());
    assert_eq!(reply["ok"], true, "{reply}");
    reply["status"].clone()
}

/// The process number that the agent of this lab has written down.
pub fn pid() -> Option<i32> {
    let text = std::fs::read_to_string("/run/linkspan/agent.lock").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Whether a process is there.
pub fn is_alive(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in brackets: `Z` is one that nobody has waited for.
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Ends the agent that an ADD started, whatever became of the test.
pub struct Stray;

impl Drop for Stray {
    fn drop(&mut self) {
        let Some(pid) = pid().filter(|pid| is_agent(*pid)) else { return };
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        eventually(Duration::from_secs(2), || !is_alive(pid));
    }
}

fn is_agent(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0--on-demand\0"))
}

/// Waits for the end of a process that is no child.
pub fn gone(pid: i32, limit: Duration) -> bool {
    let begun = Instant::now();
    while is_alive(pid) {
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Whether the socket is there.
pub fn has_socket() -> bool {
    Path::new(SOCKET).exists()
}
