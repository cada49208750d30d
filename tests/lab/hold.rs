//! Processes of the host that hold a socket: what a published port may collide with.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::Space;

/// A process that holds a socket until this is dropped. It is a child of the test, so a sibling of the plugin and
/// none of its ancestors.
///
/// It opens the socket itself: one that the test had for a moment would be, for a moment, that of every child which
/// another test has just begun.
pub struct Holder {
    child: Child,
}

impl Holder {
    /// A process `name` with further words on its command line that listens on a TCP port of a namespace.
    pub fn tcp(space: &Space, bind: &str, name: &str, words: &[&str]) -> Self {
        let at: SocketAddr = bind.parse().expect("an address and a port");
        Self::with(space, move || TcpListener::bind(at).map(OwnedFd::from), name, words)
    }

    /// The same with a UDP socket.
    pub fn udp(space: &Space, bind: &str, name: &str, words: &[&str]) -> Self {
        let at: SocketAddr = bind.parse().expect("an address and a port");
        Self::with(space, move || UdpSocket::bind(at).map(OwnedFd::from), name, words)
    }

    /// The socket is the child's standard output; the child is a shell that waits for a line which never comes.
    fn with(
        space: &Space,
        socket: impl Fn() -> std::io::Result<OwnedFd> + Send + Sync + 'static,
        name: &str,
        words: &[&str],
    ) -> Self {
        let namespace = space.descriptor();
        let mut command = Command::new("/bin/sh");
        command.arg0(name).args(["-c", "read -r line", name]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: setns(2), socket(2), bind(2), listen(2) and dup2(2) with what is at hand: nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
                nix::unistd::dup2_stdout(socket()?)?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{name} cannot listen: {e}"));
        // For a moment after execve(2) its command line reads as empty.
        let line = format!("/proc/{}/cmdline", child.id());
        let named = || std::fs::read(&line).is_ok_and(|bytes| bytes.starts_with(name.as_bytes()));
        assert!(super::eventually(Duration::from_secs(2), named), "{name} did not start");
        Self { child }
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
