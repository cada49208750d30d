//! What came back.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recv, recvmsg, sockopt};

use super::{Kind, echo};

/// `SO_EE_ORIGIN_*` (`linux/errqueue.h`).
const ORIGIN_ICMP: [u8; 2] = [2, 3];

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The answer that was hoped for: SYN-ACK, a datagram, an echo reply.
    Answered,
    /// A TCP reset.
    Reset,
    /// An ICMP error.
    Icmp(IcmpError),
    /// The sender's own kernel gave up: no neighbour answered, the packet does not fit, its rules forbid it.
    Failed(Errno),
}

/// An ICMP or ICMPv6 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Who sent it.
    pub from: Option<IpAddr>,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The MTU that it tells, where it says that the packet does not fit.
    pub mtu: Option<u32>,
    /// Whether it is ICMPv6.
    pub v6: bool,
}

pub(super) fn read(socket: BorrowedFd<'_>, kind: Kind, identifier: u16) -> Option<Reply> {
    // The queue first: it says more than the error that follows from it.
    if let Some(reply) = queued(socket) {
        return Some(reply);
    }
    match kind {
        Kind::Tcp => connected(socket),
        Kind::Udp => received(socket, |_, _| true, identifier),
        Kind::Echo => received(
            socket,
            |packet, identifier| [true, false].iter().any(|v4| echo::is_reply(*v4, identifier, packet)),
            identifier,
        ),
    }
}

/// What a connection that is being opened has come to.
fn connected(socket: BorrowedFd<'_>) -> Option<Reply> {
    let mut asked = [PollFd::new(socket, PollFlags::POLLOUT)];
    let ready = poll(&mut asked, PollTimeout::ZERO).unwrap_or(0);
    if ready == 0 {
        return None;
    }
    let events = asked[0].revents().unwrap_or(PollFlags::empty());
    match getsockopt(&socket, sockopt::SocketError).unwrap_or(0) {
        0 if events.contains(PollFlags::POLLOUT) && !events.contains(PollFlags::POLLHUP) => {
            Some(Reply::Answered)
        }
        0 => None,
        libc::ECONNREFUSED => Some(Reply::Reset),
        other => Some(Reply::Failed(Errno::from_raw(other))),
    }
}

/// Reads datagrams until one is an answer.
fn received(
    socket: BorrowedFd<'_>,
    is_answer: impl Fn(&[u8], u16) -> bool,
    identifier: u16,
) -> Option<Reply> {
    let mut buffer = vec![0; 65_536];
    // A bound, for a socket on which others are heard too.
    for _ in 0..256 {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) if is_answer(&buffer[..length], identifier) => return Some(Reply::Answered),
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(errno) => return Some(Reply::Failed(errno)),
        }
    }
    None
}

/// Reads the socket's queue of errors.
fn queued(socket: BorrowedFd<'_>) -> Option<Reply> {
    let mut content = [0; 512];
    let mut slices = [IoSliceMut::new(&mut content)];
    let mut control = nix::cmsg_space!([u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags).ok()?;
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            let from = from.map(|from| IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()));
            Some(told(&error, from))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            let from = from.map(|from| IpAddr::from(from.sin6_addr.s6_addr));
            Some(told(&error, from))
        }
        _ => None,
    })
}

fn told(error: &libc::sock_extended_err, from: Option<IpAddr>) -> Reply {
    if !ORIGIN_ICMP.contains(&error.ee_origin) {
        return Reply::Failed(Errno::from_raw(error.ee_errno.cast_signed()));
    }
    let v6 = error.ee_origin == ORIGIN_ICMP[1];
    let too_large = error.ee_errno.cast_signed() == libc::EMSGSIZE;
    Reply::Icmp(IcmpError {
        from,
        kind: error.ee_type,
        code: error.ee_code,
        mtu: too_large.then_some(error.ee_info),
        v6,
    })
}
