//! Processes of the host that hold a socket: what a published port may collide with.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::Space;

/// How long a process may take to begin on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The addresses at which sockets of a namespace hold a port: TCP sockets that listen, and UDP sockets.
///
/// To try by bind(2) would be to take the port for a moment; and for longer, where another test has just begun a child.
pub fn holding(space: &Space, protocol: &str, port: u16) -> Vec<IpAddr> {
    let tables = space.in_ns(|| {
        ["", "6"]
            .map(|six| std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{six}")).unwrap())
    });
    let state = if protocol == "tcp" { "0A" } else { "07" };
    let held = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, found) = words.get(1)?.split_once(':')?;
        (words[3] == state && u16::from_str_radix(found, 16).ok()? == port).then(|| plain(address))
    };
    tables.iter().flat_map(|table| table.lines().filter_map(held)).collect()
}

/// Whether nobody of a namespace holds a port at an address, or at all addresses of its family.
pub fn is_free(space: &Space, protocol: &str, at: &str) -> bool {
    let at: SocketAddr = at.parse().expect("an address and a port");
    let clashes = |ip: &IpAddr| {
        let any = ip.is_unspecified() || at.ip().is_unspecified();
        ip.is_ipv4() == at.is_ipv4() && (any || *ip == at.ip())
    };
    !holding(space, protocol, at.port()).iter().any(clashes)
}

/// An address of `/proc/net`: words of 32 bits, each as this machine has them.
fn plain(hex: &str) -> IpAddr {
    let word = |at: usize| u32::from_str_radix(&hex[at..at + 8], 16).expect("hexadecimal").to_ne_bytes();
    match hex.len() {
        8 => IpAddr::from(word(0)),
        _ => {
            let bytes: Vec<u8> = [0, 8, 16, 24].into_iter().flat_map(word).collect();
            IpAddr::from(<[u8; 16]>::try_from(bytes).expect("four words"))
        }
    }
}

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
        assert!(super::eventually(LIMIT, named), "{name} did not start");
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
