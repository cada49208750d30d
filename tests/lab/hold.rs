//! Processes of the host that hold a socket: what a published port may collide with.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Space;

/// A process that holds a socket until this is dropped. It is a child of the test, so a sibling of the plugin and
/// none of its ancestors.
pub struct Holder {
    child: Child,
}

impl Holder {
    /// A process `name` with further words on its command line that listens on a TCP port of a namespace.
    pub fn tcp(space: &Space, bind: &str, name: &str, words: &[&str]) -> Self {
        let listener = space.listener(bind);
        Self::with(listener.into(), name, words)
    }

    /// The same with a UDP socket.
    pub fn udp(space: &Space, bind: &str, name: &str, words: &[&str]) -> Self {
        let socket = space.datagrams(bind);
        Self::with(socket.into(), name, words)
    }

    /// The socket is the child's standard output; the child is a shell that waits for a line which never comes.
    fn with(socket: OwnedFd, name: &str, words: &[&str]) -> Self {
        let child = Command::new("/bin/sh")
            .arg0(name)
            .args(["-c", "read -r line", name])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::from(socket))
            .spawn()
            .expect("a shell");
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
