//! One packet sent to find out what becomes of it: a TCP SYN, a UDP datagram, or an ICMP echo request, and what comes
//! back, with the ICMP errors that routers send (`IP_RECVERR`, ip(7)).

mod answer;
mod echo;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockname, setsockopt,
    socket, sockopt,
};

pub use answer::{IcmpError, Reply};

use super::SysError;

/// `IP_PMTUDISC_PROBE` (ip(7)): never in fragments, whatever is known of the path.
const NEVER_FRAGMENT: libc::c_int = 3;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first packet of a TCP connection, which is reset once it is answered.
    Tcp,
    /// A datagram.
    Udp,
    /// An ICMP or ICMPv6 echo request.
    Echo,
}

impl Kind {
    /// Its number in an IP header.
    pub fn number(self, v4: bool) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Echo if v4 => 1,
            Self::Echo => 58,
        }
    }
}

/// A packet that is ready to be sent, from a source that is known beforehand.
#[derive(Debug)]
pub struct Probe {
    socket: OwnedFd,
    kind: Kind,
    to: SocketAddr,
    source: SocketAddr,
}

impl Probe {
    /// Opens a socket in the calling thread's namespace. `source_port` is the port to send from, where it matters.
    ///
    /// # Errors
    /// No route leads to `to` (`ENETUNREACH`, `EHOSTUNREACH`, `EACCES` for a forbidden one), or the port is taken.
    pub fn prepare(kind: Kind, to: SocketAddr, source_port: Option<u16>) -> Result<Self, SysError> {
        let failed = |errno| SysError::refused("send a packet to", to.to_string(), errno);
        Self::open(kind, to, source_port).map_err(failed)
    }

    fn open(kind: Kind, to: SocketAddr, source_port: Option<u16>) -> Result<Self, Errno> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (shape, protocol) = match kind {
            Kind::Tcp => (SockType::Stream, None),
            Kind::Udp => (SockType::Datagram, None),
            Kind::Echo if to.is_ipv4() => (SockType::Raw, Some(SockProtocol::Icmp)),
            Kind::Echo => (SockType::Raw, Some(SockProtocol::IcmpV6)),
        };
        let mut source = source_for(to)?;
        let socket = socket(family, shape, flags, protocol)?;
        if to.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        match kind {
            Kind::Echo => {
                source.set_port(echo::identifier());
                connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to.ip(), 0)))?;
            }
            Kind::Tcp | Kind::Udp => {
                source.set_port(source_port.unwrap_or(0));
                if source_port.is_some() {
                    // Its owner may be at work: UDP lets two have a port where both say so.
                    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
                }
                bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
                source = local_address(&socket)?;
            }
        }
        if kind == Kind::Tcp {
            // Closed by a reset: nothing lingers here, and the server forgets it at once.
            setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
        if kind == Kind::Udp {
            connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        }
        Ok(Self { socket, kind, to, source })
    }

    /// What it sends.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is sent from: address and port; for an echo request its identifier in the place of the port.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Forbids fragments on the way.
    ///
    /// # Errors
    /// Where the kernel knows no such option.
    pub fn never_fragment(&self) -> Result<(), SysError> {
        let (level, option) = match self.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        };
        let (value, size) =
            (NEVER_FRAGMENT, libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4));
        // SAFETY: the pointer and the size are those of a live integer.
        let done = unsafe { libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), size) };
        let failed = |errno| SysError::refused("forbid fragments of a packet to", self.to.to_string(), errno);
        Errno::result(done).map(drop).map_err(failed)
    }

    /// Sends it; `payload` bytes of it are content, none with TCP. May be called again, for a packet that was lost.
    ///
    /// # Errors
    /// What the kernel says at once: too large for the interface (`EMSGSIZE`), forbidden by the host's own rules
    /// (`EPERM`), no neighbour.
    pub fn send(&self, payload: usize) -> io::Result<()> {
        match self.kind {
            Kind::Tcp => match connect(self.raw(), &SockaddrStorage::from(self.to)) {
                Ok(()) | Err(Errno::EINPROGRESS | Errno::EALREADY | Errno::EISCONN) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
            Kind::Udp => self.send_bytes(&vec![0; payload]),
            Kind::Echo => self.send_bytes(&echo::request(self.to.is_ipv4(), self.source.port(), payload)),
        }
    }

    fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        nix::sys::socket::send(self.raw(), bytes, nix::sys::socket::MsgFlags::empty())?;
        Ok(())
    }

    /// What has come back, without waiting.
    pub fn reply(&self) -> Option<Reply> {
        answer::read(self.as_fd(), self.kind, self.source.port())
    }

    fn raw(&self) -> libc::c_int {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address that the kernel would send from.
fn source_for(to: SocketAddr) -> Result<SocketAddr, Errno> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let raw = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let asked = UdpSocket::bind(any).map_err(raw)?;
    // Nothing is sent: connecting a UDP socket only looks up the route. The kernel wants a port, any.
    let port = if to.port() == 0 { 9 } else { to.port() };
    asked.connect(SocketAddr::new(to.ip(), port)).map_err(raw)?;
    asked.local_addr().map_err(raw)
}

fn local_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    let found: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = found.as_sockaddr_in().map(|found| SocketAddr::V4((*found).into()));
    let v6 = found.as_sockaddr_in6().map(|found| SocketAddr::V6((*found).into()));
    v4.or(v6).ok_or(Errno::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests;
