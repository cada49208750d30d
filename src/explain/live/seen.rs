//! What was seen, as a plain value: what `--json` prints (docs/json.md).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::firewall::nft::{TRACE, trace_chains};
use crate::sys::nfnetlink::trace::{Event, Met, Packet, Verdict};

use super::place::Place;
use super::{Dropped, Moved, Outcome, SizeTest};

/// All that was seen of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Where it was sent from; port 0, or for an echo request its identifier. Absent where nothing could be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
    /// Where it was sent to; port 0 for an echo request.
    pub destination: SocketAddr,
    /// Whether it was a packet of somebody else's that came from outside.
    pub awaited: bool,
    /// Each chain that told of it, in order; of packets that were sent again, the first.
    pub steps: Vec<Step>,
    /// What came back.
    pub answer: Answer,
    /// The connection that the kernel tracked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracked: Option<Tracked>,
    /// Counters that moved meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Moved>,
    /// What became of it.
    pub outcome: Outcome,
    /// The same in words: where it was seen last, who answered.
    pub words: String,
    /// The rule that dropped it, or its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Whether packets of full size get through too, where that could be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeTest>,
    /// What could not be seen, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

/// Which packet of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The probe.
    There,
    /// Its answer.
    Back,
    /// An ICMP error about it.
    Error,
}

/// A base chain that the packet went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Whose namespace: `host`, `container shop`.
    pub place: String,
    /// Which packet.
    pub direction: Direction,
    /// `ip`, `ip6`, `inet`, `bridge`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The base chain.
    pub chain: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`.
    pub hook: &'static str,
    /// Lower goes first.
    pub priority: i32,
    /// By which interface it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// By which it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Its source as it was here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SocketAddr>,
    /// Its destination as it was here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<SocketAddr>,
    /// The rules that it matched, also in chains that were jumped to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Matched>,
    /// `accept`, `drop`, or `taken`, by a program or a device.
    pub verdict: &'static str,
    /// Whether it is one of the watch's own, which decide nothing.
    pub watch: bool,
}

/// A rule that the packet matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// The chain that it is in.
    pub chain: String,
    /// Its number in its table (`nft -a list chain`).
    pub handle: u64,
    /// What it said: `accept`, `drop`, `continue`, `return`, `jump NAME`, `goto NAME`.
    pub verdict: String,
}

/// What came back to the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// SYN-ACK, a datagram, an echo reply.
    Answered,
    /// A TCP reset.
    Reset,
    /// An ICMP error.
    Icmp {
        /// Who sent it.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
        /// Its type.
        #[serde(rename = "type")]
        kind: u8,
        /// Its code.
        code: u8,
        /// What it says.
        words: String,
    },
    /// The sender's own kernel refused to send it.
    Refused {
        /// Why.
        words: String,
    },
    /// Nothing.
    Silence,
    /// It was somebody else's packet, and the tracked connection says whether it was answered.
    Elsewhere {
        /// Whether it was.
        answered: bool,
    },
    /// No packet came.
    NoPacket,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracked {
    /// Where its first packet came from.
    pub from: SocketAddr,
    /// Where that was sent to.
    pub to: SocketAddr,
    /// Who answers, after translation.
    pub answered_by: SocketAddr,
    /// To whom the answer goes before it is translated back.
    pub answered_to: SocketAddr,
    /// Whether an answer has come.
    pub answered: bool,
}

/// `NF_INET_*`; `NF_BR_*` agree.
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// A step that grows with the events of its chain.
struct Growing {
    id: u32,
    step: Step,
    done: bool,
}

/// The events of a place as steps, in order. `which` says which packet of the exchange one is, `None` for a stranger's.
pub(super) fn steps(
    place: &Place,
    events: &[Event],
    which: impl Fn(&Packet) -> Option<Direction>,
) -> Vec<Step> {
    let mut grown: Vec<Growing> = Vec::new();
    for event in events {
        // The headers are told once for each base chain, with the first thing that the packet met there.
        if let Some(packet) = &event.packet {
            if let Some(direction) = which(packet) {
                let mut begun = begin(place, event, direction);
                begun.add(event);
                grown.push(begun);
            }
            continue;
        }
        let goes_on = |grown: &&mut Growing| {
            !grown.done
                && grown.id == event.id
                && grown.step.table == event.table
                && grown.step.family == family(event)
        };
        if let Some(found) = grown.iter_mut().rev().find(goes_on) {
            found.add(event);
        }
    }
    let mut seen = HashSet::new();
    let steps = grown.into_iter().map(|grown| grown.step);
    steps
        .filter(|step| {
            seen.insert((
                step.direction,
                step.family.clone(),
                step.table.clone(),
                step.chain.clone(),
                step.input.clone(),
                step.output.clone(),
            ))
        })
        .collect()
}

fn family(event: &Event) -> &'static str {
    match event.family {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        7 => "bridge",
        _ => "?",
    }
}

fn begin(place: &Place, event: &Event, direction: Direction) -> Growing {
    let watch = event.table == TRACE;
    let base = place.base(event.family, &event.table, &event.chain).and_then(|chain| chain.base.as_ref());
    // The chains of the watch are not among those that were there before, and are called by their hooks.
    let hook = match base {
        Some(base) => HOOKS.get(base.hook as usize).copied().unwrap_or("?"),
        None => HOOKS.into_iter().find(|hook| watch && event.chain.starts_with(hook)).unwrap_or("?"),
    };
    let packet = event.packet;
    let end = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
    let is_icmp = packet.is_some_and(|packet| matches!(packet.protocol, 1 | 58));
    let step = Step {
        place: place.name.clone(),
        direction,
        family: family(event).to_owned(),
        table: event.table.clone(),
        chain: event.chain.clone(),
        hook,
        priority: base.map_or(0, |base| base.priority),
        input: event.input.map(|index| place.link(index)),
        output: event.output.map(|index| place.link(index)),
        from: packet.map(|p| end(p.from, if is_icmp { 0 } else { p.from_port })),
        to: packet.map(|p| end(p.to, if is_icmp { 0 } else { p.to_port })),
        rules: Vec::new(),
        verdict: "accept",
        watch,
    };
    debug_assert!(!watch || trace_chains().any(|name| name == event.chain), "{}", event.chain);
    Growing { id: event.id, step, done: false }
}

impl Growing {
    fn add(&mut self, event: &Event) {
        // The end of a chain is told as a rule without a number.
        if let Met::Rule(handle @ 1..) = event.met {
            let verdict = match &event.verdict {
                Verdict::Drop => "drop".to_owned(),
                Verdict::Accept => "accept".to_owned(),
                Verdict::Continue => "continue".to_owned(),
                Verdict::Return => "return".to_owned(),
                Verdict::Jump(chain) => format!("jump {chain}"),
                Verdict::Goto(chain) => format!("goto {chain}"),
                Verdict::Taken => "taken".to_owned(),
            };
            if !self.step.watch {
                self.step.rules.push(Matched { chain: event.chain.clone(), handle, verdict });
            }
        }
        let ends = match (&event.verdict, event.met) {
            (Verdict::Drop, _) => Some("drop"),
            (Verdict::Taken, _) => Some("taken"),
            (Verdict::Accept, _) | (_, Met::Policy) => Some("accept"),
            _ => None,
        };
        if let Some(verdict) = ends {
            self.step.verdict = verdict;
            self.done = true;
        }
    }
}
