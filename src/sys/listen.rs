//! Sockets on which the host is reached.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::{Ipv6V6Only, RcvBuf, ReuseAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket};

/// A listening TCP socket, non-blocking. Connections that ended lately do not stand in its way, but no other socket
/// can be bound to the port while it is there. One of IPv6 takes no IPv4.
///
/// # Errors
/// `EADDRINUSE` where somebody has the port, `EADDRNOTAVAIL` where the host does not have the address.
pub fn tcp(address: SocketAddr, waiting: i32) -> io::Result<TcpListener> {
    let socket = bound(address, SockType::Stream, true)?;
    // Not by nix, which allows no more than the C library's SOMAXCONN: 128 with musl, where the kernel takes 4,096.
    // SAFETY: one call on a descriptor that is open, with a number.
    nix::errno::Errno::result(unsafe { libc::listen(socket.as_raw_fd(), waiting) })?;
    Ok(socket.into())
}

/// A bound UDP socket, non-blocking, with so much room for what waits to be read.
///
/// # Errors
/// As [`tcp`].
pub fn udp(address: SocketAddr, room: usize) -> io::Result<UdpSocket> {
    let socket = bound(address, SockType::Datagram, false)?;
    setsockopt(&socket, RcvBuf, &room)?;
    Ok(socket.into())
}

/// With `again`, over what is left of ended connections. A UDP socket leaves nothing, and would share its port.
fn bound(address: SocketAddr, kind: SockType, again: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    if again {
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Lets this process have as many descriptors as it may at all; gives how many that are.
///
/// # Errors
/// The system's.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
