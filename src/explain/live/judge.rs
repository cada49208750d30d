//! What became of the probe, judged by all that was seen.

use std::net::SocketAddr;

use serde::Serialize;

use crate::sys::probe::{IcmpError, Kind};

use super::run::Order;
use super::seen::{Answer, Direction, Live, Step, Tracked};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It arrived and was answered.
    Answered,
    /// It was given to the target, from which nothing has to come back: a datagram.
    Delivered,
    /// It left this host for somebody outside, and no answer has come.
    Left,
    /// It arrived, and nobody took it.
    Unwanted,
    /// Another than the target answered.
    Misled,
    /// It, or its answer, was lost on the way.
    Lost,
    /// Packets of full size were lost, though small ones are answered.
    Swallowed,
    /// Nothing could be sent.
    Unsent,
    /// No packet came that could have been followed.
    Unseen,
}

impl Outcome {
    /// Whether it got as far as this host can tell.
    pub fn is_through(self) -> bool {
        matches!(self, Self::Answered | Self::Delivered | Self::Left)
    }
}

/// The rule that dropped a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Whose namespace.
    pub place: String,
    /// Which packet.
    pub direction: Direction,
    /// `ip`, `ip6`, `inet`, `bridge`.
    pub family: String,
    /// The table.
    pub table: String,
    /// The base chain.
    pub base: String,
    /// The chain that the rule is in.
    pub chain: String,
    /// The rule's number; absent for the base chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
}

impl Live {
    fn new(order: &Order, source: Option<SocketAddr>, answer: Answer) -> Self {
        Self {
            source,
            destination: order.to,
            awaited: order.awaited,
            steps: Vec::new(),
            answer,
            tracked: None,
            counters: Vec::new(),
            outcome: Outcome::Unsent,
            words: String::new(),
            dropped: None,
            size: None,
            unseen: Vec::new(),
        }
    }
}

/// Nothing could be sent: no route.
pub(super) fn unsent(order: &Order, words: String) -> Live {
    let who = order.from.as_ref().map_or("the host", |from| from.name.as_str());
    let text = format!("{who} has nowhere to send it: {words}");
    Live { words: text, ..Live::new(order, None, Answer::Refused { words }) }
}

/// No packet came.
pub(super) fn no_packet(order: &Order) -> Live {
    let words = format!(
        "no such packet for {} came in {} seconds: send one from outside while this waits (--wait SECONDS)",
        order.to,
        order.wait.as_secs()
    );
    Live { outcome: Outcome::Unseen, words, ..Live::new(order, None, Answer::NoPacket) }
}

/// Judges what was sent.
pub(super) fn sent(
    order: &Order,
    source: SocketAddr,
    mut steps: Vec<Step>,
    answer: Answer,
    tracked: Option<Tracked>,
) -> Live {
    in_order(&mut steps, order);
    let mut live = Live { steps, tracked, ..Live::new(order, Some(source), answer) };
    live.dropped = live.steps.iter().find(|step| step.verdict == "drop").map(dropped);
    (live.outcome, live.words) = judge(order, &live);
    live
}

/// There before back, each in the order of its way: sender, host, target, and the other way round. A container that is
/// both sends at one end and receives at the other.
fn in_order(steps: &mut [Step], order: &Order) {
    let name = |party: &Option<super::Party>| party.as_ref().map(|party| party.name.clone());
    let (from, target) = (name(&order.from), name(&order.target));
    let receives = |step: &Step| matches!(step.hook, "prerouting" | "input");
    let place = |step: &Step| match &step.place {
        place if place == "host" => 1,
        _ if from == target => 2 * usize::from(receives(step) == (step.direction == Direction::There)),
        place if Some(place) == target.as_ref() => 2,
        _ => 0,
    };
    steps.sort_by_key(|step| match step.direction {
        Direction::There => (0, place(step)),
        Direction::Back => (1, 2 - place(step)),
        Direction::Error => (2, 2 - place(step)),
    });
}

fn dropped(step: &Step) -> Dropped {
    let by = step.rules.last().filter(|rule| rule.verdict == "drop");
    Dropped {
        place: step.place.clone(),
        direction: step.direction,
        family: step.family.clone(),
        table: step.table.clone(),
        base: step.chain.clone(),
        chain: by.map_or_else(|| step.chain.clone(), |rule| rule.chain.clone()),
        handle: by.map(|rule| rule.handle),
    }
}

fn judge(order: &Order, live: &Live) -> (Outcome, String) {
    if let Some(dropped) = &live.dropped {
        return (Outcome::Lost, dropped.to_string());
    }
    let to_target = |place: &str| {
        let at_end =
            |step: &&Step| step.watch && step.chain == "input-end" && step.direction == Direction::There;
        live.steps.iter().filter(at_end).any(|step| step.place == place)
    };
    let end = order.target.as_ref().map_or("host", |target| target.name.as_str());
    let is_ours = order.target.is_some() || order.to_host;
    match &live.answer {
        Answer::Answered | Answer::Elsewhere { answered: true }
            if is_ours && !to_target(end) && !unwatched(order, live) =>
        {
            (Outcome::Misled, format!("it was answered, but not by {end}: {}", whither(live)))
        }
        Answer::Answered | Answer::Elsewhere { answered: true } => {
            (Outcome::Answered, "it was answered".to_owned())
        }
        Answer::Reset => {
            (Outcome::Unwanted, format!("{} reset the connection: nobody listens there", answerer(live)))
        }
        Answer::Icmp { from, words, .. } => {
            let from = from.map_or_else(|| "somebody".to_owned(), |from| from.to_string());
            let is_unwanted = to_target(end);
            let outcome = if is_unwanted { Outcome::Unwanted } else { Outcome::Lost };
            (outcome, format!("{from} answered by ICMP: {words}"))
        }
        Answer::Refused { words } => {
            (Outcome::Lost, format!("the sender's own kernel gave up: {words}; {}", last_seen(live)))
        }
        Answer::Silence | Answer::Elsewhere { answered: false } => {
            silence(order, live, is_ours && to_target(end))
        }
        Answer::NoPacket => (Outcome::Unseen, String::new()),
    }
}

/// Whether the target's namespace tells nothing, as where no table could be made in it.
fn unwatched(order: &Order, live: &Live) -> bool {
    let Some(target) = &order.target else { return false };
    live.unseen.iter().any(|what| what.contains(&target.name))
}

/// Nothing came back.
fn silence(order: &Order, live: &Live, arrived: bool) -> (Outcome, String) {
    if arrived && order.kind == Kind::Udp {
        let what = "it was delivered, and nothing came back, as with a datagram nothing has to";
        return (Outcome::Delivered, what.to_owned());
    }
    if arrived {
        return (Outcome::Lost, format!("it arrived, and no answer came back; {}", last_seen(live)));
    }
    let left = live.steps.iter().find(|step| {
        step.watch
            && step.place == "host"
            && step.chain == "postrouting-end"
            && step.direction == Direction::There
    });
    let is_ours = order.target.is_some() || order.to_host;
    if let (Some(step), false) = (left, is_ours) {
        let by = step.output.as_deref().unwrap_or("an interface");
        return (Outcome::Left, format!("it left the host by {by}, and no answer came back"));
    }
    (Outcome::Lost, format!("no answer came back; {}", last_seen(live)))
}

/// Who answered, by the tracked connection.
fn answerer(live: &Live) -> String {
    live.tracked
        .as_ref()
        .map_or_else(|| live.destination.ip().to_string(), |tracked| tracked.answered_by.ip().to_string())
}

/// Where an answered packet went.
fn whither(live: &Live) -> String {
    let last = live.steps.iter().rfind(|step| step.direction == Direction::There);
    match last {
        Some(step) => match (&step.output, step.hook) {
            (Some(output), _) => format!("it went out by {output} of {}", step.place),
            (None, _) => format!("it ended in {} of {}", step.hook, step.place),
        },
        None => "it was never seen".to_owned(),
    }
}

/// Where the packet, or its answer, was seen last.
fn last_seen(live: &Live) -> String {
    let of = |direction| live.steps.iter().rfind(|step| step.direction == direction);
    let (whose, step) = match (of(Direction::Back), of(Direction::There)) {
        (Some(step), _) => ("its answer", step),
        (None, Some(step)) => ("it", step),
        (None, None) => return "no hook saw it".to_owned(),
    };
    let by = match (&step.input, &step.output) {
        (_, Some(output)) => format!(" on its way to {output}"),
        (Some(input), None) => format!(" coming from {input}"),
        (None, None) => String::new(),
    };
    format!("{whose} was seen last in {} of {}{by}", step.hook, step.place)
}

/// Takes a lost packet of full size into the judgement.
pub(super) fn weigh_size(live: &mut Live) {
    if let Some(size) = live.size.filter(super::SizeTest::is_swallowed) {
        live.outcome = Outcome::Swallowed;
        live.words = format!(
            "small packets are answered, and one of {} bytes to {} got lost without a word",
            size.bytes, size.to
        );
    }
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.direction {
            Direction::There => "it was",
            Direction::Back => "its answer was",
            Direction::Error => "an ICMP error about it was",
        };
        let at = format!("chain {} of table {} {} of {}", self.chain, self.family, self.table, self.place);
        match self.handle {
            Some(handle) => write!(f, "{what} dropped by the rule with handle {handle} in {at}"),
            None => write!(f, "{what} dropped by the policy of {at}"),
        }
    }
}

/// What an ICMP error says (RFC 792, RFC 4443).
pub(super) fn icmp_words(error: &IcmpError) -> String {
    let words = match (error.v6, error.kind, error.code) {
        (false, 3, 0) | (true, 1, 0) => "no route to the network",
        (false, 3, 1) | (true, 1, 3) => "the host cannot be reached",
        (false, 3, 2) => "the protocol is not known there",
        (false, 3, 3) | (true, 1, 4) => "nobody listens on that port",
        (false, 3, 4) | (true, 2, _) => "it does not fit through the next link",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "forbidden by an administrator",
        (true, 1, 5 | 6) => "refused by a route or a policy",
        (false, 11, _) | (true, 3, _) => "it went in circles until its time was over",
        _ => return format!("type {}, code {}", error.kind, error.code),
    };
    words.to_owned()
}
