//! Who listens on a port. Kernel: `sock_diag(7)`, `include/uapi/linux/inet_diag.h`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::SysError;
use super::netlink::{Message, Socket};
use crate::model::Protocol;
use crate::model::attributes::find;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;
/// `1 << TCP_LISTEN`; SCTP takes the same number.
const LISTENING: u32 = 1 << 10;
/// `1 << TCP_CLOSE`, the state of a UDP socket that is not connected.
const UNCONNECTED: u32 = 1 << 7;
/// The size of `inet_diag_msg`.
const ANSWER: usize = 72;

/// A socket that takes what comes to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; the unspecified address for everywhere.
    pub address: SocketAddr,
    /// Its inode, by which its owner is found.
    pub inode: u32,
    /// For `[::]` alone: whether it leaves IPv4 to others (`IPV6_V6ONLY`).
    pub v6_only: bool,
}

impl Listener {
    /// Whether it is given what is sent to this address, its port being right.
    pub fn takes(&self, to: IpAddr) -> bool {
        let own = self.address.ip();
        if own.is_ipv4() == to.is_ipv4() {
            return own == to || own.is_unspecified();
        }
        // A socket on [::] takes IPv4 too, unless it says otherwise.
        own.is_unspecified() && own.is_ipv6() && !self.v6_only
    }
}

/// A process, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, 15 bytes at most (`/proc/PID/comm`).
    pub name: String,
    /// Its command line, spaces between the arguments.
    pub command_line: String,
}

/// The sockets of both families that listen on one of the ports, in the namespace of the socket, one of
/// [`SockDiag`](super::netlink::Protocol::SockDiag). A protocol that the kernel lacks has none.
///
/// One list of each family, however many the ports are.
///
/// # Errors
/// As [`Socket::dump`].
pub fn listening(
    socket: &mut Socket,
    protocol: Protocol,
    ports: &RangeInclusive<u16>,
) -> Result<Vec<Listener>, SysError> {
    let mut listeners = Vec::new();
    // The kernel selects by one port, or by none.
    let (port, object) = match ports.start() == ports.end() {
        true => (*ports.start(), format!("{protocol} port {}", ports.start())),
        false => (0, format!("{protocol} ports {}-{}", ports.start(), ports.end())),
    };
    for family in [libc::AF_INET, libc::AF_INET6] {
        let message =
            Message::new(BY_FAMILY, 0, request(family, protocol, port), "list who listens on", &object)
                .tolerating(Errno::ENOENT)
                .tolerating(Errno::EINVAL)
                .tolerating(Errno::EOPNOTSUPP);
        let answers = socket.dump(&message)?;
        listeners.extend(answers.iter().filter_map(|answer| parse(&answer.body)));
    }
    listeners.retain(|listener| ports.contains(&listener.address.port()));
    Ok(listeners)
}

/// What trying to bind an address came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nobody has it; so is every port of a protocol that the kernel lacks.
    Free,
    /// Another socket has it, or it may not be tried (a privileged port): the listeners say more.
    Taken,
    /// The host does not have the address.
    NoSuchAddress,
}

/// Tries to bind a socket to `address`, and lets it go.
///
/// # Errors
/// Where the kernel refuses for another reason than those of [`Probe`].
pub fn bind_probe(protocol: Protocol, address: SocketAddr) -> Result<Probe, SysError> {
    let failed = |errno| SysError::refused("try to bind", format!("{protocol} {address}"), errno);
    let (kind, number) = match protocol {
        Protocol::Tcp => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        Protocol::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        Protocol::Sctp => (libc::SOCK_STREAM, libc::IPPROTO_SCTP),
    };
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, number) };
    let fd = match Errno::result(fd) {
        // SAFETY: the descriptor is new and nobody else's.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT | Errno::EAFNOSUPPORT) => {
            return Ok(Probe::Free);
        }
        Err(errno) => return Err(failed(errno)),
    };
    // Lets connections that linger pass for free, never a listener. For UDP it would let listeners pass too.
    if protocol != Protocol::Udp {
        turn_on(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(failed)?;
    }
    if address.is_ipv6() {
        turn_on(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).map_err(failed)?;
    }
    match bind(&fd, address) {
        Ok(()) => Ok(Probe::Free),
        Err(Errno::EADDRNOTAVAIL) => Ok(Probe::NoSuchAddress),
        Err(Errno::EADDRINUSE | Errno::EACCES) => Ok(Probe::Taken),
        Err(errno) => Err(failed(errno)),
    }
}

/// The processes that have sockets open, by the sockets' inodes, found by walking /proc once: slow, and so asked for only
/// where a port is held already: whose process it is decides whether the port may be published, and is told in messages.
/// Several may share one; the first of them is who to name: PID 1 only holds sockets for services that it starts, and
/// comes last. Those that cannot be seen, as processes of another PID namespace, are left out.
pub fn owners_of_inodes(inodes: &HashSet<u32>) -> HashMap<u32, Vec<Process>> {
    let mut owners: HashMap<u32, Vec<Process>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return owners };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        for path in descriptors.flatten().map(|fd| fd.path()) {
            let Some(inode) = inode_of(&path).filter(|inode| inodes.contains(inode)) else { continue };
            let known = owners.entry(inode).or_default();
            // It may have the socket more than once.
            if known.iter().any(|process| process.pid == pid) {
                continue;
            }
            let process = settled(|| describe(pid));
            // A child that becomes its program, or a process that ends, is let go of its sockets in between.
            if inode_of(&path) == Some(inode) {
                known.push(process);
            }
        }
    }
    owners.retain(|_, processes| !processes.is_empty());
    for processes in owners.values_mut() {
        processes.sort_by_key(|process| (process.pid == 1, process.pid));
    }
    owners
}

/// Whether a process is this one or the one that started it.
pub fn is_parent(pid: u32) -> bool {
    let own = std::process::id();
    pid == own || kin_of(own).is_some_and(|kin| kin.parent == pid)
}

/// Whether a process is this one, the one that started it, or one that either descends from within its session
/// (setsid(2)). A login begins a session: the server that somebody has logged in by has started nothing of theirs.
pub fn has_started(pid: u32) -> bool {
    let own = std::process::id();
    let Some(Kin { parent, session }) = kin_of(own) else { return pid == own };
    let sessions = [Some(session), kin_of(parent).map(|kin| kin.session)];
    let mut current = own;
    // A chain of parents ends; the bound is for a /proc that lies.
    for _ in 0..1024 {
        if current == pid {
            return true;
        }
        current = match kin_of(current) {
            Some(kin) if kin.parent != 0 => kin.parent,
            _ => return false,
        };
        if !kin_of(current).is_some_and(|kin| sessions.contains(&Some(kin.session))) {
            return false;
        }
    }
    false
}

/// The inode of the socket that a link in /proc/PID/fd leads to.
fn inode_of(descriptor: &Path) -> Option<u32> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Whom a process descends from, and the session that it is of.
#[derive(Debug, Clone, Copy)]
struct Kin {
    parent: u32,
    session: i32,
}

fn kin_of(pid: u32) -> Option<Kin> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; behind it are the state, the parent, its group and its session.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    Some(Kin { parent: words.next()?.parse().ok()?, session: words.nth(1)?.parse().ok()? })
}

/// A process as it is once it has become its program: for a moment before that its command line is empty.
fn settled(mut describe: impl FnMut() -> Process) -> Process {
    let process = describe();
    if !process.command_line.is_empty() {
        return process;
    }
    std::thread::sleep(Duration::from_millis(1));
    describe()
}

fn describe(pid: u32) -> Process {
    let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let name = String::from_utf8_lossy(&read("comm")).trim_end().to_owned();
    Process { pid, name, command_line: words.trim_end().to_owned() }
}

/// `inet_diag_req_v2`: family, protocol, extensions, padding, states, and `inet_diag_sockid` with the source port alone.
fn request(family: libc::c_int, protocol: Protocol, port: u16) -> Vec<u8> {
    let states = if protocol == Protocol::Udp { UNCONNECTED } else { LISTENING };
    let mut body = vec![0; 56];
    body[0] = u8::try_from(family).unwrap_or_default();
    body[1] = protocol.number();
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[8..10].copy_from_slice(&port.to_be_bytes());
    // INET_DIAG_NOCOOKIE.
    body[48..56].fill(0xff);
    body
}

fn parse(body: &[u8]) -> Option<Listener> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let source: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let [a, b, c, d, ..] = source;
    let v6 = i32::from(*body.first()?) == libc::AF_INET6;
    // A socket on ::ffff:10.0.0.1 takes what is sent to 10.0.0.1, and nothing else.
    let ip = if v6 { Ipv6Addr::from(source).to_canonical() } else { IpAddr::V4(Ipv4Addr::new(a, b, c, d)) };
    let inode = u32::from_ne_bytes(body.get(68..72)?.try_into().ok()?);
    let v6_only = find(body.get(ANSWER..)?, V6_ONLY).is_some_and(|flag| flag.first() == Some(&1));
    Some(Listener { address: SocketAddr::new(ip, port), inode, v6_only })
}

fn turn_on(fd: &OwnedFd, level: libc::c_int, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the size are those of a live integer.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const on).cast(), 4) };
    Errno::result(done).map(drop)
}

/// bind(2). The address is written out as the kernel has it: family, port in network order, then the rest.
fn bind(fd: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend_from_slice(&2u16.to_ne_bytes());
            bytes.extend_from_slice(&v4.port().to_be_bytes());
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&10u16.to_ne_bytes());
            bytes.extend_from_slice(&v6.port().to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    let length = libc::socklen_t::try_from(bytes.len()).unwrap_or_default();
    // SAFETY: the pointer and the length are those of a live vector, which the kernel copies.
    Errno::result(unsafe { libc::bind(fd.as_raw_fd(), bytes.as_ptr().cast(), length) }).map(drop)
}

#[cfg(test)]
mod tests;
