//! Registers, and the expressions that load, change and compare them.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::model::attributes::find;

use super::super::uapi::{IPV6, data};
use super::extension::translated_port;
use super::packet::{Bytes, Packet};
use super::{Match, Translation, Verdict, be32, decided};

/// Sixty-four bytes of registers (`NFT_REG32_00` to `NFT_REG32_15`).
pub(super) struct Registers([Option<u8>; 64]);

impl Registers {
    /// Nothing is known.
    pub(super) const fn new() -> Self {
        Self([None; 64])
    }

    /// Where a register starts: `NFT_REG_1` to `NFT_REG_4` are 16 bytes, `NFT_REG32_*` four. The verdict has none.
    fn at(register: Option<u32>) -> Option<usize> {
        match register? {
            wide @ 1..=4 => Some(16 * (wide as usize - 1)),
            narrow @ 8..=23 => Some(4 * (narrow as usize - 8)),
            _ => None,
        }
    }

    /// Puts bytes into a register, and zeros up to the end of its last word, as the kernel does. Of what is not known
    /// the length is not known either: nothing from there on is known any more.
    pub(super) fn load(&mut self, register: Option<u32>, bytes: Option<Bytes>) {
        let Some(at) = Self::at(register) else { return };
        let Some(bytes) = bytes else { return self.0[at..].fill(None) };
        let end = (at + bytes.len()).next_multiple_of(4).min(64);
        self.0[at..end].fill(Some(0));
        for (slot, byte) in self.0[at..].iter_mut().zip(bytes) {
            *slot = byte;
        }
    }

    pub(super) fn read(&self, register: Option<u32>, length: usize) -> Bytes {
        let found = Self::at(register).and_then(|at| self.0.get(at..at + length));
        found.map_or_else(|| vec![None; length], <[Option<u8>]>::to_vec)
    }

    fn whole(&self, register: Option<u32>, length: usize) -> Option<Vec<u8>> {
        self.read(register, length).into_iter().collect()
    }

    /// A port, in network order.
    pub(super) fn port(&self, register: u32) -> Option<u16> {
        let bytes = self.whole(Some(register), 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }
}

fn number(body: &[u8], kind: u16) -> Option<u32> {
    find(body, kind).and_then(be32)
}

fn value(body: &[u8], kind: u16) -> Option<&[u8]> {
    find(body, kind).and_then(|value| find(value, data::VALUE))
}

fn ne32(bytes: Option<Vec<u8>>) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes?.try_into().ok()?))
}

/// `meta`: loads, or sets the mark.
pub(super) fn meta(registers: &mut Registers, body: &[u8], packet: &mut Packet, sure: bool) -> Match {
    const MARK: u32 = 3;
    let key = number(body, 2).unwrap_or(u32::MAX);
    if let Some(from) = number(body, 3) {
        if key == MARK {
            packet.mark = ne32(registers.whole(Some(from), 4)).filter(|_| sure);
        }
        return Match::Yes;
    }
    registers.load(number(body, 1), packet.meta(key));
    Match::Yes
}

/// `ct`: loads, or sets the connection's mark.
pub(super) fn conntrack(registers: &mut Registers, body: &[u8], packet: &mut Packet, sure: bool) -> Match {
    const MARK: u32 = 3;
    let key = number(body, 2).unwrap_or(u32::MAX);
    if let Some(from) = number(body, 4) {
        if key == MARK {
            packet.connection_mark = ne32(registers.whole(Some(from), 4)).filter(|_| sure);
        }
        return Match::Yes;
    }
    let direction = find(body, 3).and_then(|bytes| bytes.first().copied());
    match packet.conntrack(key, direction) {
        Some(bytes) => {
            registers.load(number(body, 1), bytes);
            Match::Yes
        }
        None => Match::No,
    }
}

/// `payload`: loads. What it writes is not followed, but for the sum of a checksum nobody asks for it.
pub(super) fn payload(registers: &mut Registers, body: &[u8], packet: &Packet) -> Match {
    let part = |kind| number(body, kind).unwrap_or(0);
    if number(body, 5).is_none() {
        let bytes = packet.payload(part(2), part(3) as usize, part(4) as usize);
        registers.load(number(body, 1), Some(bytes));
    }
    Match::Yes
}

/// `bitwise`: mask and exclusive or, shifts, and since Linux 6.13 two registers.
pub(super) fn bitwise(registers: &mut Registers, body: &[u8]) -> Match {
    let length = (number(body, 3).unwrap_or(0) as usize).min(64);
    let bytes = registers.read(number(body, 1), length);
    let result = match (value(body, 4), value(body, 5), number(body, 6).unwrap_or(0)) {
        (Some(mask), Some(xor), 0) => {
            let bits = bytes.iter().zip(mask).zip(xor);
            // What a mask takes away need not be known.
            Some(
                bits.map(|((byte, mask), xor)| match (byte, mask) {
                    (_, 0) => Some(*xor),
                    (byte, mask) => byte.map(|byte| byte & mask ^ xor),
                })
                .collect(),
            )
        }
        (_, _, shift @ (1 | 2)) => {
            let by = value(body, 7).and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)));
            let own = (length == 4).then(|| ne32(bytes.iter().copied().collect())).flatten();
            own.zip(by).and_then(|(own, by)| {
                let shifted = if shift == 1 { own.checked_shl(by) } else { own.checked_shr(by) }?;
                Some(shifted.to_ne_bytes().iter().map(|byte| Some(*byte)).collect())
            })
        }
        _ => None,
    };
    registers.load(number(body, 2), result.or_else(|| Some(vec![None; length])));
    Match::Yes
}

/// `byteorder`: numbers of two, four or eight bytes turned round.
pub(super) fn byteorder(registers: &mut Registers, body: &[u8]) -> Match {
    let length = (number(body, 4).unwrap_or(0) as usize).min(64);
    let size = (number(body, 5).unwrap_or(1) as usize).max(1);
    let bytes = registers.read(number(body, 1), length);
    let turned = if cfg!(target_endian = "big") {
        bytes
    } else {
        bytes.chunks(size).flat_map(|chunk| chunk.iter().rev().copied()).collect()
    };
    registers.load(number(body, 2), Some(turned));
    Match::Yes
}

/// How known bytes compare with others: the first that differ decide, unless one before is not known.
fn order(bytes: &Bytes, with: &[u8]) -> Option<Ordering> {
    for (byte, other) in bytes.iter().zip(with) {
        match (*byte)?.cmp(other) {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
    }
    Some(Ordering::Equal)
}

fn differs(bytes: &Bytes, from: &[u8]) -> bool {
    bytes.iter().zip(from).any(|(byte, other)| byte.is_some_and(|byte| byte != *other))
}

/// `cmp`.
pub(super) fn compare(registers: &Registers, body: &[u8]) -> Match {
    let wanted = value(body, 3).unwrap_or_default();
    let found = registers.read(number(body, 1), wanted.len());
    let operation = number(body, 2);
    if differs(&found, wanted) && matches!(operation, Some(0 | 1)) {
        return decided(operation == Some(1));
    }
    let Some(order) = order(&found, wanted) else { return Match::Perhaps };
    match operation {
        Some(0) => decided(order.is_eq()),
        Some(1) => decided(order.is_ne()),
        Some(2) => decided(order.is_lt()),
        Some(3) => decided(order.is_le()),
        Some(4) => decided(order.is_gt()),
        Some(5) => decided(order.is_ge()),
        _ => Match::Perhaps,
    }
}

/// `range`.
pub(super) fn range(registers: &Registers, body: &[u8]) -> Match {
    let (first, last) = (value(body, 3).unwrap_or_default(), value(body, 4).unwrap_or_default());
    let found = registers.read(number(body, 1), first.len());
    let (Some(low), Some(high)) = (order(&found, first), order(&found, last)) else { return Match::Perhaps };
    let within = low.is_ge() && high.is_le();
    decided(within == (number(body, 2).unwrap_or(0) == 0))
}

/// `nat`: what becomes of the addresses.
pub(super) fn translation(registers: &Registers, body: &[u8], packet: &Packet) -> Verdict {
    const DESTINATION: u32 = 1;
    /// `NF_NAT_RANGE_PROTO_OFFSET`.
    const OFFSET: u32 = 1 << 5;
    let destination = number(body, 1) == Some(DESTINATION);
    let own = if destination { packet.destination } else { packet.source };
    let address = match number(body, 3) {
        None => own,
        register if number(body, 2) == Some(u32::from(IPV6)) => {
            let bytes = registers.whole(register, 16);
            bytes.and_then(|bytes| Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)))
        }
        register => {
            let bytes = registers.whole(register, 4);
            bytes.and_then(|bytes| Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)))
        }
    };
    if address.is_none() {
        return Verdict::Unknown;
    }
    let first = number(body, 5).and_then(|register| registers.port(register));
    let last = number(body, 6).and_then(|register| registers.port(register)).or(first);
    let base = (number(body, 7).unwrap_or(0) & OFFSET != 0).then_some(0);
    let port =
        first.zip(last).and_then(|(first, last)| translated_port(packet.destination_port, first, last, base));
    Verdict::Translate(Translation { destination, address, port, local: false })
}
