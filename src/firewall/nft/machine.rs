//! One rule, carried out for a packet of which perhaps only a part is known.
//!
//! Registers hold bytes that are known or not. What a rule compares with unknown bytes, or by an expression that is
//! not read here, may be so or not: [`Match::Perhaps`].

mod elements;
mod extension;
mod packet;
mod values;

use std::net::IpAddr;

use crate::model::attributes::{find, iterate};

use super::uapi::data;
use elements::Found;
pub use elements::{ForeignElement, ForeignSet, parse_foreign_elements};
pub(in crate::firewall) use extension::{matches as xt_match, target as xt_target};
use packet::Bytes;
pub use packet::{Packet, Tracking};
use values::Registers;

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum Match {
    Yes,
    Perhaps,
    No,
}

/// What follows from a rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) enum Verdict {
    /// The next rule.
    None,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Addresses are changed, and the packet is through with this chain.
    Translate(Translation),
    /// Something that is not read here, and may end the packet's way.
    Unknown,
}

/// What a rule makes of a packet's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// Whether the destination is changed; else the source.
    pub destination: bool,
    /// The new address; `None` where it is an interface's.
    pub address: Option<IpAddr>,
    /// The new port, where it is changed.
    pub port: Option<u16>,
    /// Whether the new address is that of the interface: `masquerade`, `redirect`.
    pub local: bool,
}

impl Translation {
    const fn masquerade() -> Self {
        Self { destination: false, address: None, port: None, local: true }
    }

    const fn redirect() -> Self {
        Self { destination: true, address: None, port: None, local: true }
    }
}

/// What a rule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) matched: Match,
    pub(super) verdict: Verdict,
    /// The first of its expressions that could not be decided.
    pub(super) undecided: Option<String>,
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

/// Carries out a rule: whether it matches, and what follows. Marks that it sets are set.
///
/// # Errors
/// Those of `sets`, which gives a set by its name.
pub(super) fn run<E>(
    expressions: &[u8],
    packet: &mut Packet,
    mut sets: impl FnMut(&str) -> Result<ForeignSet, E>,
) -> Result<Outcome, E> {
    let mut registers = Registers::new();
    let mut outcome = Outcome { matched: Match::Yes, verdict: Verdict::None, undecided: None };
    for (_, expression) in iterate(expressions) {
        let name = find(expression, 1).map(text).unwrap_or_default();
        let body = find(expression, 2).unwrap_or_default();
        let sure = outcome.matched == Match::Yes;
        let one = if name == "lookup" {
            let set = sets(&find(body, 1).map(text).unwrap_or_default())?;
            lookup(&mut registers, body, &set)
        } else {
            step(&name, body, &mut registers, packet, sure)
        };
        match one {
            Ok(Match::No) => {
                outcome.matched = Match::No;
                return Ok(outcome);
            }
            Ok(Match::Perhaps) => {
                outcome.matched = Match::Perhaps;
                outcome.undecided.get_or_insert_with(|| words(&name, body));
            }
            Ok(Match::Yes) => {}
            Err(Verdict::None) => {}
            Err(verdict) => {
                if verdict == Verdict::Unknown {
                    outcome.undecided.get_or_insert_with(|| words(&name, body));
                }
                outcome.verdict = verdict;
                return Ok(outcome);
            }
        }
    }
    Ok(outcome)
}

/// The name of an expression, or of the extension of iptables that it holds.
fn words(name: &str, body: &[u8]) -> String {
    match name {
        "match" | "target" => find(body, 1).map(text).unwrap_or_default(),
        "lookup" => format!("@{}", find(body, 1).map(text).unwrap_or_default()),
        _ => name.to_owned(),
    }
}

/// One expression; a verdict, which ends the rule, is the error.
fn step(
    name: &str,
    body: &[u8],
    registers: &mut Registers,
    packet: &mut Packet,
    sure: bool,
) -> Result<Match, Verdict> {
    let info = || find(body, 3).unwrap_or_default();
    match name {
        "meta" => Ok(values::meta(registers, body, packet, sure)),
        "ct" => Ok(values::conntrack(registers, body, packet, sure)),
        "payload" => Ok(values::payload(registers, body, packet)),
        "fib" => {
            let number = |kind: u16| find(body, kind).and_then(be32).unwrap_or(0);
            registers.load(find(body, 1).and_then(be32), packet.fib(number(2), number(3)));
            Ok(Match::Yes)
        }
        "bitwise" => Ok(values::bitwise(registers, body)),
        "byteorder" => Ok(values::byteorder(registers, body)),
        "cmp" => Ok(values::compare(registers, body)),
        "range" => Ok(values::range(registers, body)),
        "immediate" => match find(body, 2).and_then(|value| find(value, data::VERDICT)) {
            Some(verdict) => Err(read_verdict(verdict)),
            None => {
                let value = find(body, 2).and_then(|value| find(value, data::VALUE));
                let bytes = value.map(|value| value.iter().map(|byte| Some(*byte)).collect());
                registers.load(find(body, 1).and_then(be32), bytes);
                Ok(Match::Yes)
            }
        },
        "nat" => Err(values::translation(registers, body, packet)),
        "masq" => Err(Verdict::Translate(Translation::masquerade())),
        "redir" => {
            let port = find(body, 1).and_then(be32).and_then(|register| registers.port(register));
            Err(Verdict::Translate(Translation { port, ..Translation::redirect() }))
        }
        "reject" => Err(Verdict::Drop),
        "match" => {
            let name = find(body, 1).map(text).unwrap_or_default();
            Ok(extension::matches(&name, info(), packet))
        }
        "target" => {
            let name = find(body, 1).map(text).unwrap_or_default();
            Err(extension::target(&name, info(), packet, sure))
        }
        "notrack" => match extension::untrack(packet, sure) {
            Verdict::None => Ok(Match::Yes),
            unknown => Err(unknown),
        },
        "counter" | "log" | "flow_offload" | "objref" | "last" => Ok(Match::Yes),
        // Without a limit or the like of its own it adds an element, and goes on.
        "dynset" if find(body, 7).is_none() && find(body, 10).is_none() => Ok(Match::Yes),
        "queue" | "synproxy" | "tproxy" | "fwd" => Err(Verdict::Unknown),
        "rt" | "numgen" | "hash" | "socket" | "osf" | "tunnel" | "xfrm" | "exthdr" => {
            registers.load(find(body, 1).and_then(be32), None);
            Ok(Match::Yes)
        }
        // What is not read here may load any register, and may compare.
        _ => {
            *registers = Registers::new();
            Ok(Match::Perhaps)
        }
    }
}

fn decided(so: bool) -> Match {
    if so { Match::Yes } else { Match::No }
}

/// A lookup in a set is a match, one in a map loads a value; one in a map of verdicts ends in one, which is the error.
fn lookup(registers: &mut Registers, body: &[u8], set: &ForeignSet) -> Result<Match, Verdict> {
    const INVERT: u32 = 1;
    let number = |kind: u16| find(body, kind).and_then(be32);
    let inverted = number(5).unwrap_or(0) & INVERT != 0;
    let to = number(3);
    let of_verdicts = to == Some(0);
    if set.is_empty() {
        return Ok(decided(to.is_none() && inverted));
    }
    let key: Bytes = registers.read(number(2), set.key_length());
    match set.find(&key) {
        Found::Perhaps if of_verdicts => Err(Verdict::Unknown),
        Found::Perhaps => {
            registers.load(to, None);
            Ok(Match::Perhaps)
        }
        Found::Element(element) if of_verdicts => Err(element.verdict.clone()),
        Found::Element(element) => {
            let value = element.value.as_ref();
            registers.load(to, value.map(|value| value.iter().map(|byte| Some(*byte)).collect()));
            Ok(decided(!inverted))
        }
        Found::Nothing => Ok(decided(to.is_none() && inverted)),
    }
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
