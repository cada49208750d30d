//! Whether anybody listens where the packet arrives.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::explain::{Fault, Finding};
use crate::model::Protocol;
use crate::sys::netlink::{self, Socket};
use crate::sys::sockdiag::{self, Listener};
use crate::sys::{Netns, SysError};

use super::{perhaps, surely};

/// How many other ports are named where nobody listens on the right one.
const NAMED: usize = 6;

/// Whether a process takes what comes to `at`, in the namespace of the container or, with none, in that of the calling
/// thread. `whose` is whose sockets they are: `container shop`, `the host`.
///
/// SCTP's listeners are told by a module that few kernels have: where there are none at all, that is only a doubt.
///
/// # Errors
/// Where the namespace cannot be entered or the kernel lists no sockets.
pub fn listener(
    netns: Option<&Netns>,
    protocol: Protocol,
    at: SocketAddr,
    whose: &str,
) -> Result<Vec<Finding>, SysError> {
    let mut socket = match netns {
        Some(netns) => Socket::open_in(netns, netlink::Protocol::SockDiag)?,
        None => Socket::open(netlink::Protocol::SockDiag)?,
    };
    let on_port = sockdiag::listening(&mut socket, protocol, &(at.port()..=at.port()))?;
    if on_port.iter().any(|listener| listener.takes(at.ip())) {
        return Ok(Vec::new());
    }
    if !on_port.is_empty() {
        return Ok(vec![elsewhere(protocol, at, whose, &on_port)]);
    }
    let others = sockdiag::listening(&mut socket, protocol, &(1..=u16::MAX))?;
    Ok(vec![nobody(protocol, at, whose, &others)])
}

/// The port is right, and the address is not.
fn elsewhere(protocol: Protocol, at: SocketAddr, whose: &str, found: &[Listener]) -> Finding {
    let on_loopback = found.iter().all(|listener| listener.address.ip().is_loopback());
    let places = found.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>().join(", ");
    let who = names(found);
    let port = at.port();
    if on_loopback {
        let what = format!(
            "{who} of {whose} listens on {places} only, which nobody but {whose} itself can reach ({protocol} {at} was asked for)"
        );
        return surely(Fault::ListensOnLoopback, what, listen_on(at));
    }
    let what = format!("{who} of {whose} listens on {protocol} port {port}, but on {places} and not on {at}");
    surely(Fault::NothingListens, what, listen_on(at))
}

fn nobody(protocol: Protocol, at: SocketAddr, whose: &str, others: &[Listener]) -> Finding {
    let what = format!("nothing of {whose} listens on {protocol} {at}{}", ports(protocol, others));
    let start = format!("start the server of {whose} on {protocol} port {}", at.port());
    match protocol {
        Protocol::Sctp if others.is_empty() => perhaps(Fault::NothingListens, what, start),
        _ => surely(Fault::NothingListens, what, start),
    }
}

/// What to do with a server that listens on the wrong address.
fn listen_on(at: SocketAddr) -> String {
    let everywhere: IpAddr = match at {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    format!("let the server listen on {} (or on {at})", SocketAddr::new(everywhere, at.port()))
}

/// The ports that are listened on, in words: what was meant may be among them.
fn ports(protocol: Protocol, others: &[Listener]) -> String {
    let mut ports: Vec<u16> = others.iter().map(|listener| listener.address.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return format!(", nor on any other {protocol} port");
    }
    let more = if ports.len() > NAMED { " and more" } else { "" };
    let named = ports.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("; there are listeners on {named}{more}")
}

/// The processes that have the sockets, as far as they can be seen, in words.
#[must_use]
pub fn names(listeners: &[Listener]) -> String {
    let inodes: HashSet<u32> = listeners.iter().map(|listener| listener.inode).collect();
    let owners = sockdiag::owners_of_inodes(&inodes);
    let mut named: Vec<String> = owners
        .values()
        .filter_map(|owners| owners.first())
        .map(|process| format!("{} (PID {})", process.name, process.pid))
        .collect();
    named.sort();
    named.dedup();
    if named.is_empty() { "a process".to_owned() } else { named.join(", ") }
}
