//! Extensions of iptables (`xt_*`) in rules of iptables-nft, and of legacy iptables: the common ones, as their `struct`s
//! in `linux/netfilter/xt_*.h` are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{Packet, Tracking};
use super::{Match, Translation, Verdict, decided};

fn half(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn network_half(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// A match; one that is not read here may be so.
pub(in crate::firewall) fn matches(name: &str, info: &[u8], packet: &Packet) -> Match {
    let found = match name {
        "comment" => Some(Match::Yes),
        "tcp" | "udp" => ports(name, info, packet),
        "multiport" => multiport(info, packet),
        "icmp" | "icmp6" => icmp(info, packet),
        "addrtype" => address_type(info, packet),
        "mark" => {
            let inverted = info.get(8).copied().unwrap_or(0) != 0;
            let (mark, mask) = (word(info, 0), word(info, 4));
            mark.zip(mask)
                .zip(packet.mark)
                .map(|((mark, mask), own)| decided((own & mask == mark) != inverted))
        }
        "connmark" => {
            let inverted = info.get(8).copied().unwrap_or(0) != 0;
            let (mark, mask) = (word(info, 0), word(info, 4));
            let own = packet.connection_mark;
            mark.zip(mask).zip(own).map(|((mark, mask), own)| decided((own & mask == mark) != inverted))
        }
        "conntrack" => conntrack(info, packet),
        "state" => word(info, 0).map(|mask| decided(mask & packet.state() != 0)),
        // XT_RPFILTER_LOOSE and the like change what is looked up; the usual one asks for the way back by the input.
        "rpfilter" => {
            const INVERT: u8 = 8;
            let flags = info.first().copied().unwrap_or(0);
            packet.reverse_path.map(|by| decided(by != (flags & INVERT != 0)))
        }
        _ => None,
    };
    found.unwrap_or(Match::Perhaps)
}

/// Whether a port is within a range, where it is known; all of them are within the widest.
fn within(port: Option<u16>, first: u16, last: u16) -> Match {
    match port {
        _ if (first, last) == (0, u16::MAX) => Match::Yes,
        Some(port) => decided((first..=last).contains(&port)),
        None => Match::Perhaps,
    }
}

fn turned(found: Match, inverted: bool) -> Match {
    match (found, inverted) {
        (Match::Yes, true) => Match::No,
        (Match::No, true) => Match::Yes,
        (found, _) => found,
    }
}

/// Both, one after the other.
fn both(one: Match, other: Match) -> Match {
    match (one, other) {
        (Match::No, _) | (_, Match::No) => Match::No,
        (Match::Yes, Match::Yes) => Match::Yes,
        _ => Match::Perhaps,
    }
}

/// `struct xt_tcp`, `struct xt_udp`: ports in the host's order.
fn ports(name: &str, info: &[u8], packet: &Packet) -> Option<Match> {
    let number = if name == "tcp" { 6 } else { 17 };
    if packet.protocol? != number {
        return Some(Match::No);
    }
    let port = |at| half(info, at);
    let inverted = *info.get(if name == "tcp" { 11 } else { 8 })?;
    let source = turned(within(packet.source_port, port(0)?, port(2)?), inverted & 1 != 0);
    let destination = turned(within(packet.destination_port, port(4)?, port(6)?), inverted & 2 != 0);
    let mut found = both(source, destination);
    if name == "tcp" {
        let (option, mask, wanted) = (*info.get(8)?, *info.get(9)?, *info.get(10)?);
        let flags = if packet.reply { 0x12 } else { 0x02 };
        found = both(found, turned(decided(flags & mask == wanted), inverted & 4 != 0));
        if option != 0 {
            found = both(found, Match::Perhaps);
        }
    }
    Some(found)
}

/// `struct xt_multiport_v1`.
fn multiport(info: &[u8], packet: &Packet) -> Option<Match> {
    let (flags, count) = (*info.first()?, usize::from(*info.get(1)?).min(15));
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < count {
        let first = half(info, 2 + 2 * at)?;
        let ranged = *info.get(32 + at)? != 0 && at + 1 < count;
        ranges.push((first, if ranged { half(info, 4 + 2 * at)? } else { first }));
        at += if ranged { 2 } else { 1 };
    }
    let any = |port: Option<u16>| {
        port.map_or(Match::Perhaps, |port| decided(ranges.iter().any(|(a, b)| (*a..=*b).contains(&port))))
    };
    let found = match flags {
        0 => any(packet.source_port),
        1 => any(packet.destination_port),
        _ => match (any(packet.source_port), any(packet.destination_port)) {
            (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
            (Match::No, Match::No) => Match::No,
            _ => Match::Perhaps,
        },
    };
    Some(turned(found, info.get(47).copied().unwrap_or(0) != 0))
}

/// `struct ipt_icmp`, `struct ip6t_icmp`: an echo, or its answer.
fn icmp(info: &[u8], packet: &Packet) -> Option<Match> {
    let own = match (packet.protocol?, packet.reply) {
        (1, false) => 8,
        (1, true) => 0,
        (58, false) => 128,
        (58, true) => 129,
        _ => return Some(Match::No),
    };
    let (kind, first) = (*info.first()?, *info.get(1)?);
    let found = decided((kind == 0xff || kind == own) && first == 0);
    Some(turned(found, info.get(3)? & 1 != 0))
}

/// `struct xt_addrtype_info` and `struct xt_addrtype_info_v1`: bits numbered by `RTN_*`.
fn address_type(info: &[u8], packet: &Packet) -> Option<Match> {
    let (source, destination) = (half(info, 0)?, half(info, 2)?);
    let (not_source, not_destination, limited) = if info.len() >= 12 {
        (word(info, 4)? != 0, word(info, 8)? != 0, false)
    } else {
        let flags = word(info, 4)?;
        (flags & 1 != 0, flags & 2 != 0, flags & 12 != 0)
    };
    let one = |mask: u16, kind: Option<u32>, inverted: bool| {
        if mask == 0 {
            return Match::Yes;
        }
        let found = kind.map(|kind| decided(kind < 16 && mask & (1 << kind) != 0));
        turned(found.unwrap_or(Match::Perhaps), inverted)
    };
    let found = both(
        one(source, packet.source_type, not_source),
        one(destination, packet.destination_type, not_destination),
    );
    Some(if limited { both(found, Match::Perhaps) } else { found })
}

/// `struct xt_conntrack_mtinfo2` and `3`, where state, status and direction alone are asked for.
fn conntrack(info: &[u8], packet: &Packet) -> Option<Match> {
    const STATE: u16 = 1;
    const ORIGINAL_SOURCE: u16 = 1 << 2;
    const ORIGINAL_DESTINATION: u16 = 1 << 3;
    const STATUS: u16 = 1 << 6;
    const ORIGINAL_PORT: u16 = 1 << 9;
    const DIRECTION: u16 = 1 << 12;
    const READ: u16 = STATE | STATUS | DIRECTION | ORIGINAL_DESTINATION | ORIGINAL_SOURCE | ORIGINAL_PORT;
    /// `XT_CONNTRACK_STATE_SNAT`, `XT_CONNTRACK_STATE_DNAT`, `XT_CONNTRACK_STATE_UNTRACKED`.
    const SNAT: u16 = 1 << 6;
    const DNAT: u16 = 1 << 7;
    const UNTRACKED: u16 = 1 << 8;
    let (asked, inverted) = (half(info, 146)?, half(info, 148)?);
    let mut found = if asked & !READ != 0 { Match::Perhaps } else { Match::Yes };
    if asked & STATE != 0 {
        let mut state = match packet.tracking {
            Tracking::Untracked => UNTRACKED,
            _ => u16::try_from(packet.state()).unwrap_or(0),
        };
        state |= if packet.published { DNAT } else { 0 } | if packet.masqueraded { SNAT } else { 0 };
        found = both(found, turned(decided(half(info, 150)? & state != 0), inverted & STATE != 0));
    }
    if asked & STATUS != 0 {
        let mask = u32::from(half(info, 152)?);
        found = both(found, turned(decided(mask & packet.status() != 0), inverted & STATUS != 0));
    }
    if asked & DIRECTION != 0 {
        found = both(found, decided(packet.reply == (inverted & DIRECTION != 0)));
    }
    for (bit, at, own) in [
        (ORIGINAL_SOURCE, 0, packet.source.filter(|_| !packet.reply && !packet.masqueraded)),
        (ORIGINAL_DESTINATION, 32, packet.original_destination),
    ] {
        if asked & bit != 0 {
            let same = own.map(|own| decided(is_in(own, info, at)));
            found = both(found, turned(same.unwrap_or(Match::Perhaps), inverted & bit != 0));
        }
    }
    if asked & ORIGINAL_PORT != 0 {
        // Since revision 3 there is a last one, and both have the host's order. Lengths are rounded up to eight bytes.
        let has_last = info.len() > 160;
        let first = if has_last { half(info, 140)? } else { network_half(info, 140)? };
        let last = if has_last { half(info, 156)? } else { first };
        found = both(found, turned(within(packet.original_port, first, last), inverted & ORIGINAL_PORT != 0));
    }
    Some(found)
}

/// Whether an address is in that at `at`, with its mask behind it, sixteen bytes each.
fn is_in(address: IpAddr, info: &[u8], at: usize) -> bool {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    octets.iter().enumerate().all(|(n, byte)| {
        let (wanted, mask) =
            (info.get(at + n).copied().unwrap_or(0), info.get(at + 16 + n).copied().unwrap_or(0));
        byte & mask == wanted & mask
    })
}

/// A target: nothing, or what follows from it.
pub(in crate::firewall) fn target(name: &str, info: &[u8], packet: &mut Packet, sure: bool) -> Verdict {
    match name {
        "REJECT" => Verdict::Drop,
        "LOG" | "NFLOG" | "CONNSECMARK" | "SECMARK" | "TCPMSS" | "TRACE" | "CHECKSUM" => Verdict::None,
        "NOTRACK" => untrack(packet, sure),
        // What `iptables -j NOTRACK` writes today.
        "CT" => match half(info, 0) {
            Some(flags) if flags & 1 != 0 => untrack(packet, sure),
            _ => Verdict::None,
        },
        "MARK" => {
            let (mark, mask) = (word(info, 0), word(info, 4));
            packet.mark = match (packet.mark, mark, mask) {
                (Some(own), Some(mark), Some(mask)) if sure => Some(own & !mask ^ mark),
                _ => None,
            };
            Verdict::None
        }
        // Saving, restoring, setting: not carried out.
        "CONNMARK" => {
            const RESTORE: u8 = 2;
            if info.get(12) == Some(&RESTORE) && packet.connection_mark == Some(0) && packet.mark == Some(0) {
                return Verdict::None;
            }
            packet.connection_mark = None;
            packet.mark = None;
            Verdict::None
        }
        "MASQUERADE" => Verdict::Translate(Translation::masquerade()),
        "REDIRECT" => Verdict::Translate(Translation {
            port: range(info, packet).and_then(|(_, port)| port),
            ..Translation::redirect()
        }),
        "DNAT" | "SNAT" => match range(info, packet) {
            Some((address, port)) => {
                let destination = name == "DNAT";
                let own = if destination { packet.destination } else { packet.source };
                let address = address.or(own);
                Verdict::Translate(Translation { destination, address, port, local: false })
            }
            None => Verdict::Unknown,
        },
        _ => Verdict::Unknown,
    }
}

/// Takes a packet out of connection tracking; one that may not be meant stays in it, and that is not known.
pub(super) fn untrack(packet: &mut Packet, sure: bool) -> Verdict {
    if !sure {
        return Verdict::Unknown;
    }
    packet.tracking = Tracking::Untracked;
    Verdict::None
}

/// `struct nf_nat_ipv4_multi_range_compat`, `nf_nat_range`, `nf_nat_range2`: the first address and port.
fn range(info: &[u8], packet: &Packet) -> Option<(Option<IpAddr>, Option<u16>)> {
    const ADDRESSES: u32 = 1;
    const PORTS: u32 = 2;
    const OFFSET: u32 = 1 << 5;
    let old = info.len() < 40;
    let flags = word(info, if old { 4 } else { 0 })?;
    let v4 = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(info.get(at..at + 4)?).ok()?)));
    let v6 = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(info.get(at..at + 16)?).ok()?)));
    let address = match (flags & ADDRESSES != 0, old, packet.is_ipv4()) {
        (false, _, _) => None,
        (true, true, _) => v4(8),
        (true, false, true) => v4(4),
        (true, false, false) => v6(4),
    };
    let first = network_half(info, if old { 16 } else { 36 })?;
    let last = network_half(info, if old { 18 } else { 38 })?;
    let base = if flags & OFFSET != 0 { network_half(info, 40) } else { None };
    let port =
        if flags & PORTS != 0 { translated_port(packet.destination_port, first, last, base) } else { None };
    Some((address, port))
}

/// The port that a translation into a range comes to: the kernel keeps one that is in it (`nf_nat_core.c`).
pub(super) fn translated_port(own: Option<u16>, first: u16, last: u16, base: Option<u16>) -> Option<u16> {
    let size = u32::from(last.saturating_sub(first)) + 1;
    match (base, own) {
        (Some(base), Some(own)) => {
            let offset = u32::from(own.wrapping_sub(base)) % size;
            u16::try_from(u32::from(first) + offset).ok()
        }
        (None, Some(own)) if (first..=last).contains(&own) => Some(own),
        _ => Some(first),
    }
}
