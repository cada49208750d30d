//! One rule of somebody else's, carried out for a packet of which only a part is known.
//!
//! Registers hold bytes that are known or not. What a rule compares with unknown bytes, or by an expression that is
//! not read here, may be so or not: [`Match::Perhaps`].

use crate::model::attributes::{find, iterate};

use super::uapi::{data, element};
use crate::firewall::NAMES_PORT;

/// What is known of a packet on its way through the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub family: u8,
    /// The interface that it came in by, where that is known.
    pub input: Option<String>,
    /// The interface that it leaves by, where that is known.
    pub output: Option<String>,
    /// Whether it was translated to a published port. It is the first of its connection in any case.
    pub published: bool,
    /// Whether it is a question to a name server on the host: UDP, to port 53.
    pub question: bool,
}

/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Yes,
    Perhaps,
    No,
}

/// What follows from a rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next rule.
    None,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Something that is not read here, and may end the packet's way.
    Unknown,
}

/// An element of a set or map of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignElement {
    /// Its key; `None` where it stands for a range or for everything.
    key: Option<Vec<u8>>,
    verdict: Verdict,
}

/// Reads one reply to a dump of a set's elements.
pub fn parse_foreign_elements(attributes: &[u8]) -> Vec<ForeignElement> {
    const FLAGS: u16 = 3;
    const KEY_END: u16 = 10;
    let list = find(attributes, element::ELEMENTS).unwrap_or_default();
    let read = |entry: &[u8]| {
        let single = find(entry, FLAGS).is_none() && find(entry, KEY_END).is_none();
        let key = find(entry, element::KEY).and_then(|key| find(key, data::VALUE));
        let verdict = find(entry, element::DATA).and_then(|found| find(found, data::VERDICT));
        ForeignElement {
            key: key.filter(|_| single).map(<[u8]>::to_vec),
            verdict: verdict.map_or(Verdict::None, read_verdict),
        }
    };
    iterate(list).map(|(_, entry)| read(entry)).collect()
}

fn read_verdict(verdict: &[u8]) -> Verdict {
    let chain = || find(verdict, data::CHAIN).map(text).unwrap_or_default();
    match find(verdict, data::CODE).and_then(be32) {
        Some(data::DROP) => Verdict::Drop,
        Some(data::ACCEPT) => Verdict::Accept,
        Some(data::JUMP) => Verdict::Jump(chain()),
        Some(data::GOTO) => Verdict::Goto(chain()),
        Some(data::RETURN) => Verdict::Return,
        _ => Verdict::Unknown,
    }
}

/// Sixty-four bytes of registers (`NFT_REG32_00` to `NFT_REG32_15`).
struct Registers([Option<u8>; 64]);

impl Registers {
    /// Where a register starts: `NFT_REG_1` to `NFT_REG_4` are 16 bytes, `NFT_REG32_*` four. The verdict has none.
    fn at(register: Option<u32>) -> Option<usize> {
        match register? {
            wide @ 1..=4 => Some(16 * (wide as usize - 1)),
            narrow @ 8..=23 => Some(4 * (narrow as usize - 8)),
            _ => None,
        }
    }

    /// Puts bytes into a register; what follows them is not known any more.
    fn load(&mut self, register: Option<u32>, bytes: Option<&[u8]>) {
        let Some(at) = Self::at(register) else { return };
        self.0[at..].fill(None);
        for (slot, byte) in self.0[at..].iter_mut().zip(bytes.unwrap_or_default()) {
            *slot = Some(*byte);
        }
    }

    fn read(&self, register: Option<u32>, length: usize) -> Option<Vec<u8>> {
        let at = Self::at(register)?;
        self.0.get(at..at + length)?.iter().copied().collect()
    }
}

/// Carries out a rule: whether it matches, and what follows.
///
/// # Errors
/// Those of `elements`, which gives the elements of a set by its name.
pub(crate) fn run<E>(
    expressions: &[u8],
    packet: &Packet,
    mut elements: impl FnMut(&str) -> Result<Vec<ForeignElement>, E>,
) -> Result<(Match, Verdict), E> {
    let mut registers = Registers([None; 64]);
    let mut matched = Match::Yes;
    for (_, expression) in iterate(expressions) {
        let name = find(expression, 1).map(text).unwrap_or_default();
        let body = find(expression, 2).unwrap_or_default();
        let number = |kind: u16| find(body, kind).and_then(be32);
        let one = match name.as_str() {
            "meta" => Ok(load_meta(&mut registers, body, packet)),
            "ct" => Ok(load_conntrack(&mut registers, body, packet)),
            "bitwise" => Ok(bitwise(&mut registers, body)),
            "cmp" => Ok(compare(&registers, body)),
            "immediate" => match find(body, 2).and_then(|value| find(value, data::VERDICT)) {
                Some(verdict) => return Ok((matched, read_verdict(verdict))),
                None => {
                    registers.load(number(1), find(body, 2).and_then(|value| find(value, data::VALUE)));
                    Ok(Match::Yes)
                }
            },
            "lookup" => match lookup(&registers, body, &mut elements)? {
                Ok(one) => Ok(one),
                Err(verdict) => Err(verdict),
            },
            "reject" => Err(Verdict::Drop),
            "match" => Ok(extension(body, packet)),
            "target" => match find(body, 1).map(text).as_deref() {
                Some("REJECT") => Err(Verdict::Drop),
                Some("LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "TRACE") => Ok(Match::Yes),
                _ => Err(Verdict::Unknown),
            },
            "counter" | "log" | "notrack" | "flow_offload" | "objref" | "last" => Ok(Match::Yes),
            "queue" | "synproxy" | "tproxy" | "fwd" => Err(Verdict::Unknown),
            "payload" => Ok(load_payload(&mut registers, body, packet)),
            "fib" | "rt" | "numgen" => {
                registers.load(number(1), None);
                Ok(Match::Yes)
            }
            // What is not read here may load any register, and may compare.
            _ => {
                registers = Registers([None; 64]);
                Ok(Match::Perhaps)
            }
        };
        match one {
            Ok(Match::No) => return Ok((Match::No, Verdict::None)),
            Ok(Match::Perhaps) => matched = Match::Perhaps,
            Ok(Match::Yes) => {}
            Err(verdict) => return Ok((matched, verdict)),
        }
    }
    Ok((matched, Verdict::None))
}

fn load_meta(registers: &mut Registers, body: &[u8], packet: &Packet) -> Match {
    let number = |kind: u16| find(body, kind).and_then(be32);
    let family = [packet.family];
    let name = |interface: &Option<String>| {
        interface.as_deref().map(|name| super::set::interface_key(name).to_vec())
    };
    let value = match number(2) {
        Some(6) => name(&packet.input),
        Some(7) => name(&packet.output),
        Some(15) => Some(family.to_vec()),
        Some(16) if packet.question => Some(vec![UDP]),
        _ => None,
    };
    registers.load(number(1), value.as_deref());
    Match::Yes
}

/// Of headers only the protocol and the port of a question are known.
fn load_payload(registers: &mut Registers, body: &[u8], packet: &Packet) -> Match {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let number = |kind: u16| find(body, kind).and_then(be32);
    let value = match (number(2), number(3), number(4)) {
        _ if !packet.question => None,
        // `protocol` of IPv4, `nexthdr` of IPv6.
        (Some(NETWORK), Some(9), Some(1)) if packet.family == 2 => Some(vec![UDP]),
        (Some(NETWORK), Some(6), Some(1)) if packet.family == 10 => Some(vec![UDP]),
        (Some(TRANSPORT), Some(2), Some(2)) => Some(NAMES_PORT.to_be_bytes().to_vec()),
        _ => None,
    };
    registers.load(number(1), value.as_deref());
    Match::Yes
}

/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 1 << 3;
/// `IPS_DST_NAT` and `IPS_DST_NAT_DONE`.
const STATUS_PUBLISHED: u32 = 1 << 5 | 1 << 8;

fn load_conntrack(registers: &mut Registers, body: &[u8], packet: &Packet) -> Match {
    let number = |kind: u16| find(body, kind).and_then(be32);
    let value = match number(2) {
        Some(0) => Some(STATE_NEW.to_ne_bytes().to_vec()),
        // The direction: the original one.
        Some(1) => Some(vec![0]),
        Some(2) => Some(if packet.published { STATUS_PUBLISHED } else { 0 }.to_ne_bytes().to_vec()),
        _ => None,
    };
    registers.load(number(1), value.as_deref());
    Match::Yes
}

fn bitwise(registers: &mut Registers, body: &[u8]) -> Match {
    let number = |kind: u16| find(body, kind).and_then(be32);
    let operand = |kind: u16| find(body, kind).and_then(|value| find(value, data::VALUE));
    let length = number(3).unwrap_or(0) as usize;
    let result = match (registers.read(number(1), length), operand(4), operand(5), number(6).unwrap_or(0)) {
        (Some(bytes), Some(mask), Some(xor), 0) => {
            let bits = bytes.iter().zip(mask).zip(xor);
            Some(bits.map(|((byte, mask), xor)| byte & mask ^ xor).collect::<Vec<u8>>())
        }
        _ => None,
    };
    registers.load(number(2), result.as_deref());
    Match::Yes
}

fn compare(registers: &Registers, body: &[u8]) -> Match {
    let number = |kind: u16| find(body, kind).and_then(be32);
    let value = find(body, 3).and_then(|value| find(value, data::VALUE)).unwrap_or_default();
    let Some(found) = registers.read(number(1), value.len()) else { return Match::Perhaps };
    match number(2) {
        Some(0) => decided(found == value),
        Some(1) => decided(found != value),
        _ => Match::Perhaps,
    }
}

fn decided(so: bool) -> Match {
    if so { Match::Yes } else { Match::No }
}

/// A lookup in a set is a match; one in a map of verdicts ends in one, which is the inner error.
fn lookup<E>(
    registers: &Registers,
    body: &[u8],
    elements: &mut impl FnMut(&str) -> Result<Vec<ForeignElement>, E>,
) -> Result<Result<Match, Verdict>, E> {
    const INVERT: u32 = 1;
    let number = |kind: u16| find(body, kind).and_then(be32);
    let set = find(body, 1).map(text).unwrap_or_default();
    let found = elements(&set)?;
    let length = found.iter().find_map(|element| element.key.as_ref()).map_or(0, Vec::len);
    let simple = found.iter().all(|element| element.key.is_some());
    let key = registers.read(number(2), length).filter(|_| simple);
    let of_verdicts = number(3) == Some(0);
    if found.is_empty() && !of_verdicts {
        return Ok(Ok(decided(number(5).unwrap_or(0) & INVERT != 0)));
    }
    let Some(key) = key else {
        let ends = of_verdicts && !found.is_empty();
        return Ok(if ends { Err(Verdict::Unknown) } else { Ok(Match::Perhaps) });
    };
    let member = found.iter().find(|element| element.key.as_deref() == Some(&key));
    Ok(match (of_verdicts, member) {
        (true, Some(element)) => Err(element.verdict.clone()),
        (true, None) => Ok(Match::No),
        (false, member) => Ok(decided(member.is_some() != (number(5).unwrap_or(0) & INVERT != 0))),
    })
}

/// An extension of iptables (`xt_*`) in a rule of iptables-nft: comments, `--ctstate`, and ports of UDP are read.
fn extension(body: &[u8], packet: &Packet) -> Match {
    let info = find(body, 3).unwrap_or_default();
    match find(body, 1).map(text).as_deref() {
        Some("comment") => Match::Yes,
        Some("conntrack") => connection_state(info, packet).unwrap_or(Match::Perhaps),
        Some("udp") if packet.question => names_port(info).unwrap_or(Match::Perhaps),
        Some("tcp" | "icmp" | "icmp6") if packet.question => Match::No,
        _ => Match::Perhaps,
    }
}

/// `struct xt_udp`, where nothing but the port that is asked is told.
fn names_port(info: &[u8]) -> Option<Match> {
    const OTHER_DESTINATION: u8 = 2;
    let port = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let (inverted, any_source) = (*info.get(8)?, (port(0)?, port(2)?) == (0, u16::MAX));
    let so = (port(4)?..=port(6)?).contains(&NAMES_PORT) != (inverted & OTHER_DESTINATION != 0);
    (any_source || !so).then(|| decided(so))
}

/// `struct xt_conntrack_mtinfo2` and `3`, where nothing but the state is asked for.
fn connection_state(info: &[u8], packet: &Packet) -> Option<Match> {
    const STATE: u16 = 1;
    /// `XT_CONNTRACK_STATE_BIT(IP_CT_NEW)` and `XT_CONNTRACK_STATE_DNAT`.
    const NEW: u16 = 1 << 3;
    const DNAT: u16 = 1 << 7;
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let (asked, inverted, mask) = (half(146)?, half(148)?, half(150)?);
    if asked != STATE {
        return None;
    }
    let state = if packet.published { NEW | DNAT } else { NEW };
    Some(decided((mask & state != 0) != (inverted & STATE != 0)))
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
