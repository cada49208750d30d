//! Ping, over a raw socket.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::Space;
use super::talk::{BRIEF, PATIENCE};

/// Tells the answers to one request from those to another.
static MARK: AtomicU16 = AtomicU16::new(0x4c53);

/// Whether an address answers an echo request from a namespace, asked several times within `limit`.
pub fn ping_within(space: &Space, to: &str, limit: Duration) -> bool {
    let to: IpAddr = to.parse().unwrap_or_else(|e| panic!("{to}: {e}"));
    space.in_ns(|| {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if echo(to, Duration::from_millis(150)) {
                return true;
            }
        }
        false
    })
}

/// Whether an address answers, with patience.
pub fn ping(space: &Space, to: &str) -> bool {
    ping_within(space, to, PATIENCE)
}

/// Whether an address answers within a brief time: for what must not.
pub fn pings_briefly(space: &Space, to: &str) -> bool {
    ping_within(space, to, BRIEF)
}

fn echo(to: IpAddr, limit: Duration) -> bool {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8_u8, 0_u8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let Ok(raw) = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol) else { return false };
    // The standard library's datagram socket sends and receives on any socket that keeps message boundaries.
    let raw = UdpSocket::from(raw);
    raw.set_read_timeout(Some(Duration::from_millis(50))).expect("a receive timeout");
    let mark = MARK.fetch_add(1, Ordering::Relaxed);
    let mut packet = vec![request, 0, 0, 0];
    packet.extend_from_slice(&mark.to_be_bytes());
    packet.extend_from_slice(&1_u16.to_be_bytes());
    let sum = !checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    if raw.send_to(&packet, SocketAddr::new(to, 0)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
        return false;
    }
    let end = Instant::now() + limit;
    let mut buffer = [0; 256];
    while Instant::now() < end {
        let Ok(length) = raw.recv(&mut buffer) else { continue };
        // A raw IPv4 socket hands over the IP header too, an IPv6 one does not.
        let skip = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let icmp = &buffer[skip.min(length)..length];
        if icmp.len() >= 8 && icmp[0] == reply && icmp[4..6] == mark.to_be_bytes() {
            return true;
        }
    }
    false
}

/// The sum of RFC 1071, before its complement is taken.
pub(super) fn checksum(packet: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = packet.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}
