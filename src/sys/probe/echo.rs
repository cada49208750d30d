//! ICMP echo (RFC 792, RFC 4443).

use std::sync::atomic::{AtomicU16, Ordering};

/// ICMP echo request and reply, and those of ICMPv6.
const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];

/// A number that no other request of this process has, and of other processes' hardly any.
pub(super) fn identifier() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let own = u16::from_be_bytes([a ^ c, b ^ d]);
    // Never 0, which some take for none.
    (own ^ 0x4c53).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)).max(1)
}

/// A request with so many bytes of content. The kernel fills in the checksum of ICMPv6.
pub(super) fn request(v4: bool, identifier: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![REQUEST[usize::from(!v4)], 0, 0, 0];
    packet.extend_from_slice(&identifier.to_be_bytes());
    packet.extend_from_slice(&1_u16.to_be_bytes());
    packet.resize(8 + payload, 0);
    if v4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Whether what a raw socket received is the reply to it: behind the IP header, which raw sockets of IPv4 hand over too.
pub(super) fn is_reply(v4: bool, identifier: u16, packet: &[u8]) -> bool {
    let skip = if v4 { packet.first().map_or(0, |first| usize::from(first & 15) * 4) } else { 0 };
    let Some(icmp) = packet.get(skip..) else { return false };
    icmp.first() == Some(&REPLY[usize::from(!v4)]) && icmp.get(4..6) == Some(&identifier.to_be_bytes())
}

/// The checksum of RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = packet.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
