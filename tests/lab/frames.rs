//! Frames by hand, as a process with `CAP_NET_RAW` sends them: whatever source they claim.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::icmp::checksum;
use super::{Space, inspect};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Every station.
pub const BROADCAST: Mac = [0xff; 6];
/// Ethernet types.
pub const IP: u16 = 0x0800;
/// ARP.
pub const ARP: u16 = 0x0806;
/// IPv6.
pub const IP6: u16 = 0x86dd;
/// A VLAN tag.
pub const VLAN: u16 = 0x8100;
/// Protocols in an IP header.
pub const ICMP: u8 = 1;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMPV6: u8 = 58;

/// A packet socket on one interface: it sends frames as they are, and hears all that arrive.
pub struct Wire {
    socket: OwnedFd,
    /// The interface's own address.
    pub mac: Mac,
}

impl Wire {
    /// Opens one.
    pub fn open(space: &Space, interface: &str) -> Self {
        let link = inspect::link(space, interface).expect("the interface is there");
        let mac = mac(link["address"].as_str().expect("an Ethernet interface"));
        let index = i32::try_from(link["ifindex"].as_u64().expect("an index")).expect("an index");
        let all = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        let socket = space.in_ns(|| {
            // SAFETY: a plain system call; the descriptor is fresh and owned by nobody else.
            unsafe {
                let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
                let fd = libc::socket(libc::AF_PACKET, kind, i32::from(all));
                assert!(fd >= 0, "a packet socket: {}", std::io::Error::last_os_error());
                OwnedFd::from_raw_fd(fd)
            }
        });
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_protocol: all,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let wait = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        // SAFETY: both calls read structures of the sizes that they are told.
        let bound = unsafe {
            let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
            let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size);
            let size = libc::socklen_t::try_from(size_of_val(&wait)).unwrap();
            bound
                + libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_RCVTIMEO,
                    (&raw const wait).cast(),
                    size,
                )
        };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        Self { socket, mac }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is as long as it says.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{}", std::io::Error::last_os_error());
    }

    /// Whether a frame that is wanted arrives within the limit.
    pub fn hears(&self, limit: Duration, mut wanted: impl FnMut(&[u8]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            // SAFETY: the buffer is as long as it says.
            let got =
                unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if usize::try_from(got).is_ok_and(|length| wanted(&buffer[..length])) {
                return true;
            }
        }
        false
    }
}

/// Reads `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Mac {
    let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

/// The link-local address that follows from an Ethernet address.
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// An Ethernet frame.
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same with an 802.1Q tag of VLAN 0, which receivers take off.
pub fn tagged(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(to, from, VLAN, &[&[0, 0], &kind.to_be_bytes()[..], payload].concat())
}

/// An ARP message: operation 1 asks, 2 answers.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        packet.extend(mac);
        packet.extend(ip.octets());
    }
    packet
}

/// An IPv4 packet.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x4c, 0x53, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = !checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet; `headers` are extension headers that end in the protocol's number where they name the next one.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A UDP datagram over IPv4, without a checksum.
pub fn udp4(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    ipv4(*from.ip(), *to.ip(), UDP, &datagram(from.port(), to.port(), data))
}

/// A UDP datagram over IPv6.
pub fn udp6(from: SocketAddrV6, to: SocketAddrV6, data: &[u8]) -> Vec<u8> {
    let mut packet = datagram(from.port(), to.port(), data);
    let sum = !checksum(&[pseudo(*from.ip(), *to.ip(), UDP, packet.len()), packet.clone()].concat());
    packet[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    ipv6(*from.ip(), *to.ip(), UDP, &packet)
}

fn datagram(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let mut packet = Vec::new();
    for number in [from, to, length, 0] {
        packet.extend(number.to_be_bytes());
    }
    packet.extend(data);
    packet
}

/// An ICMP message over IPv4: type, code, the second word, the rest.
pub fn icmp4(from: Ipv4Addr, to: Ipv4Addr, kind: [u8; 2], word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = [&kind[..], &[0, 0], &word, rest].concat();
    let sum = !checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(from, to, ICMP, &message)
}

/// An ICMPv6 message with its checksum, ready to go into a packet.
pub fn icmp6_message(from: Ipv6Addr, to: Ipv6Addr, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0], rest].concat();
    let sum = !checksum(&[pseudo(from, to, ICMPV6, message.len()), message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 message over IPv6: type, what follows the checksum.
pub fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, rest: &[u8]) -> Vec<u8> {
    ipv6(from, to, ICMPV6, &icmp6_message(from, to, kind, rest))
}

fn pseudo(from: Ipv6Addr, to: Ipv6Addr, next: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, next]].concat()
}
