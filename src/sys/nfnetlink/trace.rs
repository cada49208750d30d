//! What the kernel tells of marked packets (`NFNLGRP_NFTRACE`, net/netfilter/nf_tables_trace.c).

use std::net::IpAddr;

use crate::model::attributes::find;
use crate::sys::SysError;
use crate::sys::netlink::{Monitor, Protocol};

use super::nft::SUBSYSTEM;

/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
/// `NFT_MSG_TRACE`.
const MESSAGE: u16 = SUBSYSTEM << 8 | 17;

/// `NFTA_TRACE_*`.
mod attribute {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const RULE_HANDLE: u16 = 3;
    pub(super) const KIND: u16 = 4;
    pub(super) const VERDICT: u16 = 5;
    pub(super) const ID: u16 = 6;
    pub(super) const NETWORK_HEADER: u16 = 8;
    pub(super) const TRANSPORT_HEADER: u16 = 9;
    pub(super) const INPUT: u16 = 10;
    pub(super) const OUTPUT: u16 = 12;
    pub(super) const POLICY: u16 = 16;
}

/// One thing that a marked packet met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What tells the packet from others, as long as it is the same buffer of the kernel's.
    pub id: u32,
    /// `NFPROTO_*` of the table.
    pub family: u8,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What it met there.
    pub met: Met,
    /// What followed from it.
    pub verdict: Verdict,
    /// The packet, where it has not been told in this chain before.
    pub packet: Option<Packet>,
    /// The index of the interface that it came in by.
    pub input: Option<u32>,
    /// The index of the interface that it will leave by.
    pub output: Option<u32>,
}

/// What a packet met in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// A rule that it matches, by its handle.
    Rule(u64),
    /// The end of a chain that was jumped to.
    Return,
    /// The end of a base chain, and so its policy.
    Policy,
}

/// `NF_*` and `NFT_*` verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes no further.
    Drop,
    /// It is through with the base chain.
    Accept,
    /// The next rule.
    Continue,
    /// Back to the chain that jumped.
    Return,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, for good.
    Goto(String),
    /// Taken by somebody: queued to a program, stolen by a device.
    Taken,
}

/// The headers of a packet, as far as they say whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sends.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// The protocol's number in the IP header.
    pub protocol: u8,
    /// From which port; for ICMP its type.
    pub from_port: u16,
    /// To which port; for ICMP echo its identifier.
    pub to_port: u16,
}

/// Listens to what marked packets of the calling thread's namespace meet.
///
/// # Errors
/// As [`Monitor::open`].
pub fn monitor() -> Result<Monitor, SysError> {
    Monitor::open(Protocol::Netfilter, &[GROUP])
}

/// Reads a notification.
pub fn event(kind: u16, body: &[u8]) -> Option<Event> {
    if kind != MESSAGE {
        return None;
    }
    let all = body.get(4..)?;
    let be32 = |kind: u16| find(all, kind)?.try_into().ok().map(u32::from_be_bytes);
    let handle = || find(all, attribute::RULE_HANDLE)?.try_into().ok().map(u64::from_be_bytes);
    let met = match be32(attribute::KIND)? {
        // NFT_TRACETYPE_POLICY, _RETURN, _RULE.
        1 => Met::Policy,
        2 => Met::Return,
        3 => Met::Rule(handle().unwrap_or_default()),
        _ => return None,
    };
    let verdict = match met {
        Met::Policy => be32(attribute::POLICY).map_or(Verdict::Accept, |code| read_verdict(code, None)),
        Met::Return | Met::Rule(_) => {
            let nested = find(all, attribute::VERDICT)?;
            let code = find(nested, 1)?.try_into().ok().map(u32::from_be_bytes)?;
            read_verdict(code, find(nested, 2).map(text))
        }
    };
    Some(Event {
        id: be32(attribute::ID)?,
        family: *body.first()?,
        table: text(find(all, attribute::TABLE)?),
        chain: text(find(all, attribute::CHAIN)?),
        met,
        verdict,
        packet: packet(all),
        input: be32(attribute::INPUT).filter(|index| *index != 0),
        output: be32(attribute::OUTPUT).filter(|index| *index != 0),
    })
}

/// The lowest byte of those that are no number of nf_tables' own holds `NF_*`; the rest says more about it.
fn read_verdict(code: u32, chain: Option<String>) -> Verdict {
    let chain = chain.unwrap_or_default();
    match code.cast_signed() {
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain),
        -4 => Verdict::Goto(chain),
        -5 => Verdict::Return,
        code => match code & 0xff {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            _ => Verdict::Taken,
        },
    }
}

/// The packet of an event's headers.
fn packet(all: &[u8]) -> Option<Packet> {
    let header = find(all, attribute::NETWORK_HEADER)?;
    let transport = find(all, attribute::TRANSPORT_HEADER).unwrap_or_default();
    let (from, to, protocol) = match header.first()? >> 4 {
        4 => (ip4(header.get(12..16)?)?, ip4(header.get(16..20)?)?, *header.get(9)?),
        6 => (ip6(header.get(8..24)?)?, ip6(header.get(24..40)?)?, *header.get(6)?),
        _ => return None,
    };
    let half = |at: usize| {
        let bytes = transport.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u16::from_be_bytes)
    };
    let is_icmp = matches!(protocol, 1 | 58);
    let from_port = if is_icmp { u16::from(transport.first().copied().unwrap_or(0)) } else { half(0) };
    Some(Packet { from, to, protocol, from_port, to_port: half(if is_icmp { 4 } else { 2 }) })
}

fn ip4(bytes: &[u8]) -> Option<IpAddr> {
    Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn ip6(bytes: &[u8]) -> Option<IpAddr> {
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

/// A NUL-terminated string.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests;
