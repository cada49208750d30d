//! Sockets of a server that asks the kernel rarely: datagrams in batches (recvmmsg(2), sendmmsg(2)), and sockets on
//! addresses that may not be there yet.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// `IPV6_FREEBIND` (`linux/in6.h`), which nix does not know.
const IPV6_FREEBIND: libc::c_int = 78;

/// A non-blocking datagram socket on an address that the host may get only later, with room for `buffer` bytes of
/// packets that wait (as far as the kernel allows).
///
/// # Errors
/// The system's: the port is taken, or it is below 1024 and the process may not have it.
pub fn udp(address: SocketAddr, buffer: usize) -> io::Result<OwnedFd> {
    let socket = open(address, SockType::Datagram)?;
    // Past the limit of net.core.rmem_max where that is allowed, else up to it.
    if setsockopt(&socket, sockopt::RcvBufForce, &buffer).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &buffer)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// A non-blocking listening socket on an address that the host may get only later.
///
/// # Errors
/// As [`udp`].
pub fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = open(address, SockType::Stream)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the size are those of a live integer.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                IPV6_FREEBIND,
                (&raw const on).cast(),
                socklen::<libc::c_int>(),
            )
        };
        nix::errno::Errno::result(done)?;
    }
    Ok(socket)
}

/// How full a socket's receive buffer is, from 0 to 1 (`SO_MEMINFO`, socket(7)); 0 where the kernel does not say.
pub fn fullness(socket: &impl AsFd) -> f64 {
    let mut said = [0_u32; 16];
    let mut length = socklen::<[u32; 16]>();
    // SAFETY: the pointers are to a live array and its size, to which the kernel keeps.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            said.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // The first two are what is taken and what there is (SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF).
    if done != 0 || said[1] == 0 { 0.0 } else { f64::from(said[0]) / f64::from(said[1]) }
}

/// Room for datagrams: received together, answered together.
pub struct Batch {
    bytes: Box<[u8]>,
    longest: usize,
    peers: Box<[libc::sockaddr_storage]>,
    /// Length and peer of each that was received.
    received: Vec<(usize, SocketAddr)>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Batch {
    /// Room for `count` datagrams of up to `longest` bytes; longer ones arrive cut off at that.
    pub fn new(count: usize, longest: usize) -> Self {
        Self {
            bytes: vec![0; count * longest].into_boxed_slice(),
            longest,
            peers: vec![nobody(); count].into_boxed_slice(),
            received: Vec::with_capacity(count),
        }
    }

    /// Receives what is there, up to the room, in place of what was received before.
    ///
    /// # Errors
    /// The system's; `WouldBlock` where nothing is there.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received.clear();
        let mut parts: Vec<libc::iovec> = self
            .bytes
            .chunks_exact_mut(self.longest)
            .map(|chunk| libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> =
            parts.iter_mut().zip(&mut self.peers).map(|(part, peer)| header(peer, part)).collect();
        let count = call(|| {
            // SAFETY: each header points to one part and one peer, which live until the call has returned, with
            // their sizes; the count is that of the headers.
            unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    libc::c_uint::try_from(headers.len()).unwrap_or(0),
                    // Signed or not, as the C library has it.
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            }
        })?;
        for (header, peer) in headers.iter().zip(&self.peers).take(count) {
            // A peer of another family than the Internet's cannot be answered: it has no length then.
            let (length, peer) = match address(peer) {
                Some(peer) => (usize::try_from(header.msg_len).unwrap_or(0), peer),
                None => (0, SocketAddr::from(([0, 0, 0, 0], 0))),
            };
            self.received.push((length.min(self.longest), peer));
        }
        Ok(count)
    }

    /// What was received: bytes and peer.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], SocketAddr)> {
        let at = |index: usize| index * self.longest;
        self.received
            .iter()
            .enumerate()
            .map(move |(index, (length, peer))| (&self.bytes[at(index)..at(index) + length], *peer))
    }
}

/// Datagrams in a row that the kernel takes as one (`UDP_MAX_SEGMENTS` of older kernels), and their bytes.
const SEGMENTS: usize = 64;
const SEGMENTS_BYTES: usize = 60_000;

/// `UDP_SEGMENT` as control data (udp(7)): the kernel cuts the bytes into datagrams of this length, after they have
/// passed bridge and firewall once.
#[repr(C)]
#[derive(Clone, Copy)]
struct Cut {
    header: libc::cmsghdr,
    length: u16,
    /// Up to the alignment of a next one.
    rest: [u16; 3],
}

/// Sends datagrams, each to its peer; those in a row that have one peer and one length pass through the kernel as
/// one. What cannot be sent is lost, as datagrams are.
pub fn send(socket: &impl AsFd, datagrams: &[(Vec<u8>, SocketAddr)]) {
    let runs: Vec<&[(Vec<u8>, SocketAddr)]> = datagrams
        .chunk_by(|(one, to), (other, peer)| one.len() == other.len() && to == peer)
        .flat_map(|run| {
            let bytes = run.first().map_or(1, |(bytes, _)| bytes.len().max(1));
            run.chunks(SEGMENTS.min(SEGMENTS_BYTES / bytes).max(1))
        })
        .collect();
    let mut unsent = send_runs(socket, &runs);
    // A kernel or a device that does not cut: one by one.
    unsent.retain(|run| run.len() > 1);
    let single: Vec<&[(Vec<u8>, SocketAddr)]> = unsent.into_iter().flat_map(|run| run.chunks(1)).collect();
    send_runs(socket, &single);
}

/// Sends each run as one message; gives back those that were refused.
fn send_runs<'a>(
    socket: &impl AsFd,
    runs: &[&'a [(Vec<u8>, SocketAddr)]],
) -> Vec<&'a [(Vec<u8>, SocketAddr)]> {
    let mut parts: Vec<libc::iovec> = runs
        .iter()
        .flat_map(|run| run.iter())
        .map(|(bytes, _)| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() })
        .collect();
    let first =
        |run: &&[(Vec<u8>, SocketAddr)]| run.first().map_or((0, None), |(b, peer)| (b.len(), Some(*peer)));
    let mut peers: Vec<libc::sockaddr_storage> =
        runs.iter().map(|run| first(run).1.map_or_else(nobody, storage)).collect();
    let mut cuts: Vec<Cut> = runs.iter().map(|run| cut(first(run).0)).collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(runs.len());
    let mut rest = parts.as_mut_slice();
    for ((run, peer), cut) in runs.iter().zip(&mut peers).zip(&mut cuts) {
        let (own, others) = rest.split_at_mut(run.len());
        rest = others;
        let Some(part) = own.first_mut() else { continue };
        let mut header = header(peer, part);
        let v4 = first(run).1.is_some_and(|peer| peer.is_ipv4());
        let length = if v4 { socklen::<libc::sockaddr_in>() } else { socklen::<libc::sockaddr_in6>() };
        header.msg_hdr.msg_namelen = length;
        header.msg_hdr.msg_iovlen = run.len() as _;
        if run.len() > 1 {
            header.msg_hdr.msg_control = (&raw mut *cut).cast();
            header.msg_hdr.msg_controllen = size_of::<Cut>() as _;
        }
        headers.push(header);
    }
    let mut refused = Vec::new();
    let mut at = 0;
    while at < headers.len() {
        let left = &mut headers[at..];
        let sent = call(|| {
            // SAFETY: each header points to its parts, peer and control data, which live until the call has returned,
            // with their sizes; the kernel reads those and writes to the headers only.
            unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    left.as_mut_ptr(),
                    libc::c_uint::try_from(left.len()).unwrap_or(0),
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            }
        });
        at += match sent {
            Ok(count) => count.max(1),
            // An error is the first one's: the others have their turn.
            Err(_) => {
                refused.push(runs[at]);
                1
            }
        };
    }
    refused
}

fn cut(length: usize) -> Cut {
    // SAFETY: all zeros is a value of this plain structure.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
    header.cmsg_level = libc::SOL_UDP;
    header.cmsg_type = libc::UDP_SEGMENT;
    Cut { header, length: u16::try_from(length).unwrap_or(u16::MAX), rest: [0; 3] }
}

/// An address of no family.
fn nobody() -> libc::sockaddr_storage {
    // SAFETY: all zeros is a value of this plain structure.
    unsafe { mem::zeroed() }
}

fn header(peer: &mut libc::sockaddr_storage, part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a value of this plain structure: no name, no parts, no control data.
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = (&raw mut *peer).cast();
    header.msg_hdr.msg_namelen = socklen::<libc::sockaddr_storage>();
    header.msg_hdr.msg_iov = &raw mut *part;
    header.msg_hdr.msg_iovlen = 1;
    header
}

fn call(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        match nix::errno::Errno::result(call()) {
            Ok(count) => return Ok(usize::try_from(count).unwrap_or(0)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is what the kernel wrote; the storage is large and aligned enough.
            let v4 = unsafe { *(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { *(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn storage(address: SocketAddr) -> libc::sockaddr_storage {
    let mut storage = nobody();
    let family = |family: libc::c_int| libc::sa_family_t::try_from(family).unwrap_or(0);
    match (address.ip(), address) {
        (IpAddr::V4(ip), _) => {
            // SAFETY: the storage is large and aligned enough, and all zeros is a value.
            let v4 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            v4.sin_family = family(libc::AF_INET);
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from(ip).to_be();
        }
        (IpAddr::V6(ip), SocketAddr::V6(whole)) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = family(libc::AF_INET6);
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = ip.octets();
            v6.sin6_scope_id = whole.scope_id();
        }
        (IpAddr::V6(_), SocketAddr::V4(_)) => {}
    }
    storage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_together_is_received_together() {
        for ip in ["127.0.0.1", "::1"] {
            let any = SocketAddr::new(ip.parse().unwrap(), 0);
            let Ok(server) = udp(any, 1 << 16) else {
                println!("skipped: no {ip}");
                continue;
            };
            let server = std::net::UdpSocket::from(server);
            let to = server.local_addr().unwrap();
            let client = udp(any, 1 << 16).unwrap();
            let mut batch = Batch::new(4, 8);
            assert_eq!(batch.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let wanted: Vec<(Vec<u8>, SocketAddr)> =
                (1..=3_u8).map(|n| (vec![n; usize::from(n) * 4], to)).collect();
            send(&client, &wanted);
            assert_eq!(batch.receive(&server).unwrap(), 3);
            assert!(fullness(&server) < 0.5);
            let from = std::net::UdpSocket::from(client).local_addr().unwrap();
            let got: Vec<(Vec<u8>, SocketAddr)> =
                batch.iter().map(|(bytes, peer)| (bytes.to_vec(), peer)).collect();
            // The third one is cut off.
            assert_eq!(got, [(vec![1; 4], from), (vec![2; 8], from), (vec![3; 8], from)]);
        }
    }

    #[test]
    fn runs_of_one_length_and_peer_arrive_as_they_were() {
        for ip in ["127.0.0.1", "::1"] {
            let any = SocketAddr::new(ip.parse().unwrap(), 0);
            let (Ok(one), Ok(other), Ok(client)) = (udp(any, 1 << 20), udp(any, 1 << 20), udp(any, 1 << 20))
            else {
                println!("skipped: no {ip}");
                continue;
            };
            let servers = [one, other].map(std::net::UdpSocket::from);
            let to = servers.each_ref().map(|server| server.local_addr().unwrap());
            // Runs longer than the kernel takes, runs of one, changes of length and of peer in the middle.
            let wanted: Vec<(Vec<u8>, SocketAddr)> = (0..300_usize)
                .map(|n| (vec![n.to_le_bytes()[0]; if n < 200 { 40 } else { 30 + n % 3 }], to[n / 250]))
                .collect();
            send(&client, &wanted);
            for server in &servers {
                let at = server.local_addr().unwrap();
                let mut batch = Batch::new(400, 100);
                batch.receive(server).unwrap();
                let got: Vec<Vec<u8>> = batch.iter().map(|(bytes, _)| bytes.to_vec()).collect();
                let sent: Vec<Vec<u8>> =
                    wanted.iter().filter(|(_, peer)| *peer == at).map(|(bytes, _)| bytes.clone()).collect();
                assert_eq!(got, sent);
            }
        }
    }

    #[test]
    fn an_address_that_is_not_there_can_be_listened_on() {
        crate::sys::testing::isolated(|| {
            for address in ["10.99.0.1:53", "[fd00:99::1]:53"] {
                let address = address.parse().unwrap();
                udp(address, 1 << 16).unwrap();
                tcp(address).unwrap();
            }
        });
    }
}
