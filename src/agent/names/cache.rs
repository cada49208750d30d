//! Answers from outside, kept for as long as they say, within bounds.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Answers that are kept at most, and their bytes at most.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;
/// A longer answer is not kept.
const LONGEST: usize = 4096;
/// How long an answer is kept at most, whatever it says; and one that says that there is nothing.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
const LONGEST_NEGATIVE_LIFE: Duration = Duration::from_secs(60);

/// What has one answer: the name in lower case, the type, what the client said about DNSSEC, and who was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    name: Name,
    kind: RecordType,
    dnssec_ok: bool,
    checking_disabled: bool,
    edns: bool,
    servers: Rc<[IpAddr]>,
}

impl CacheKey {
    /// The key of a question; `None` where its answer is for this client alone (it has options, such as its address).
    pub(super) fn of(question: &Message, servers: &Rc<[IpAddr]>) -> Option<Self> {
        let query = question.queries.first()?;
        let edns = question.edns.as_ref();
        if edns.is_some_and(|edns| !edns.options().as_ref().is_empty()) {
            return None;
        }
        Some(Self {
            name: query.name().to_lowercase(),
            kind: query.query_type(),
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: question.metadata.checking_disabled,
            edns: edns.is_some(),
            servers: Rc::clone(servers),
        })
    }
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    since: Instant,
    life: Duration,
    /// The turn in which it was put in: an older turn in the queue is of an answer that was replaced.
    turn: u64,
}

/// The kept answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: HashMap<CacheKey, Kept>,
    order: VecDeque<(CacheKey, u64)>,
    bytes: usize,
    turn: u64,
}

impl Cache {
    /// The answer to a question, with what is left of its times, and with the question's own number and spelling.
    pub(super) fn get(&self, key: &CacheKey, question: &Message, now: Instant) -> Option<Message> {
        let kept = self.kept.get(key)?;
        let age = now.saturating_duration_since(kept.since);
        if age >= kept.life {
            return None;
        }
        let mut answer = Message::from_vec(&kept.bytes).ok()?;
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for section in [&mut answer.answers, &mut answer.authorities, &mut answer.additionals] {
            for record in section {
                record.ttl = record.ttl.saturating_sub(seconds);
            }
        }
        answer.metadata.id = question.metadata.id;
        answer.queries.clone_from(&question.queries);
        Some(answer)
    }

    /// Keeps an answer, where it says for how long.
    pub(super) fn put(&mut self, key: CacheKey, answer: &Message, bytes: &[u8], now: Instant) {
        let Some(life) = life(answer) else { return };
        if bytes.len() > LONGEST {
            return;
        }
        self.turn += 1;
        let kept = Kept { bytes: bytes.into(), since: now, life, turn: self.turn };
        self.bytes += bytes.len();
        self.order.push_back((key.clone(), self.turn));
        if let Some(old) = self.kept.insert(key, kept) {
            self.bytes -= old.bytes.len();
        }
        while self.kept.len() > MOST || self.bytes > MOST_BYTES || self.order.len() > 2 * MOST {
            let Some((oldest, turn)) = self.order.pop_front() else { break };
            if self.kept.get(&oldest).is_some_and(|kept| kept.turn == turn)
                && let Some(gone) = self.kept.remove(&oldest)
            {
                self.bytes -= gone.bytes.len();
            }
        }
    }

    /// Forgets everything: others are asked now.
    pub(super) fn clear(&mut self) {
        *self = Self { turn: self.turn, ..Self::default() };
    }

    /// How many answers are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// How long an answer may be kept: as long as its shortest-lived record, or as the zone says for what is not there
/// (RFC 2308, 5).
fn life(answer: &Message) -> Option<Duration> {
    if answer.metadata.truncation {
        return None;
    }
    let positive = answer.answers.iter().map(|record| record.ttl).min();
    let negative = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let (seconds, longest) = match (answer.metadata.response_code, positive, negative) {
        (ResponseCode::NoError, Some(ttl), _) => (ttl, LONGEST_LIFE),
        (ResponseCode::NoError | ResponseCode::NXDomain, None, Some(ttl)) => (ttl, LONGEST_NEGATIVE_LIFE),
        (ResponseCode::NXDomain, Some(chain), Some(ttl)) => (ttl.min(chain), LONGEST_NEGATIVE_LIFE),
        _ => return None,
    };
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(longest))
}

#[cfg(test)]
mod tests;
