//! One question, from bytes to bytes: what is answered from the table, what is refused, what is asked outside. No I/O.

use std::net::IpAddr;
use std::rc::Rc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::shuffle::Shuffle;
use super::table::{Known, Scope, Table};

/// The longest question that is read, in bytes: a name has 255, and options of EDNS are short.
pub(super) const LONGEST_QUESTION: usize = 2048;
/// The longest answer in a datagram, whatever the client takes: it fits every path (DNS flag day 2020).
pub(super) const LONGEST_DATAGRAM: u16 = 1232;
/// The header of a message (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// How a question came, which decides how long an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing: it is no question, or nobody could be answered.
    Nothing,
    /// This is the answer.
    Answer(Vec<u8>),
    /// As [`Verdict::Answer`]: it was refused, as none of ours or as none at all.
    Refusal(Vec<u8>),
    /// It is to be asked outside.
    Outside(Box<Question>),
}

/// A question for somebody else.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The whole message.
    pub(super) message: Message,
    /// How it came.
    pub(super) transport: Transport,
    /// Who is to be asked; nobody in particular where it is empty.
    pub(super) upstreams: Rc<[IpAddr]>,
}

/// Judges one message that came from `source` to the gateway.
pub(super) fn judge(
    table: &Table,
    shuffle: &mut Shuffle,
    (source, gateway): (IpAddr, IpAddr),
    bytes: &[u8],
    transport: Transport,
) -> Verdict {
    // An answer, or less than a header: whoever answers such things can be made to talk to himself.
    if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
        return Verdict::Nothing;
    }
    let message = match Message::from_vec(bytes) {
        Ok(message) if bytes.len() <= LONGEST_QUESTION => message,
        _ => return Verdict::Refusal(malformed(bytes)),
    };
    let refuse = |code| Verdict::Refusal(encode(&reply(&message, code), &message, transport));
    let Some(scope) = table.scope(source, gateway) else { return refuse(ResponseCode::Refused) };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    if query.query_class() != DNSClass::IN
        || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR)
    {
        return refuse(ResponseCode::Refused);
    }
    match local(table, shuffle, &scope, query) {
        Some((code, answers)) => {
            let mut answer = reply(&message, code);
            answer.metadata.authoritative = true;
            answer.answers = answers;
            Verdict::Answer(encode(&answer, &message, transport))
        }
        // Nothing that is asked on an internal network is told outside.
        None if scope.internal => {
            Verdict::Answer(encode(&reply(&message, ResponseCode::NXDomain), &message, transport))
        }
        None => {
            let upstreams = Rc::clone(&scope.upstreams);
            Verdict::Outside(Box::new(Question { message, transport, upstreams }))
        }
    }
}

/// What the table says; `None` where it has nothing to say.
///
/// Answers have a TTL of 0 and refusals no SOA, so that nobody keeps them: a name is gone when DEL has returned.
fn local(
    table: &Table,
    shuffle: &mut Shuffle,
    scope: &Scope,
    query: &Query,
) -> Option<(ResponseCode, Vec<Record>)> {
    let (name, kind) = (query.name(), query.query_type());
    if let Some(address) = address_of(name) {
        let found = if kind == RecordType::PTR || kind == RecordType::ANY {
            table.reverse(scope, address).and_then(|found| Name::from_ascii(found + ".").ok())
        } else {
            None
        };
        return match found {
            Some(found) => {
                let record = Record::from_rdata(name.clone(), 0, RData::PTR(PTR(found)));
                Some((ResponseCode::NoError, vec![record]))
            }
            None if table.reverse(scope, address).is_some() => Some((ResponseCode::NoError, Vec::new())),
            None => table.is_ours(address).then(|| (ResponseCode::NXDomain, Vec::new())),
        };
    }
    match table.find(scope, &text_of(name)?) {
        Known::Addresses(mut addresses) => {
            let wanted = |address: &IpAddr| match kind {
                RecordType::A => address.is_ipv4(),
                RecordType::AAAA => address.is_ipv6(),
                RecordType::ANY => true,
                _ => false,
            };
            addresses.retain(wanted);
            shuffle.shuffle(&mut addresses);
            let record = |address: IpAddr| {
                let data = match address {
                    IpAddr::V4(v4) => RData::A(v4.into()),
                    IpAddr::V6(v6) => RData::AAAA(v6.into()),
                };
                Record::from_rdata(name.clone(), 0, data)
            };
            Some((ResponseCode::NoError, addresses.into_iter().map(record).collect()))
        }
        Known::Zone => Some((ResponseCode::NoError, Vec::new())),
        // What a validating resolver asks about a top-level domain is no container's name.
        Known::Nobody if name.num_labels() == 1 && is_about_zones(kind) => None,
        Known::Nobody => Some((ResponseCode::NXDomain, Vec::new())),
        Known::Foreign => None,
    }
}

fn is_about_zones(kind: RecordType) -> bool {
    matches!(kind, RecordType::NS | RecordType::SOA | RecordType::DS | RecordType::DNSKEY)
}

/// The name as the table has it, with `?` for what no container's name holds; `None` for the root.
fn text_of(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            let plain = byte.is_ascii_graphic() && *byte != b'.';
            text.push(if plain { char::from(byte.to_ascii_lowercase()) } else { '?' });
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for, where it is a whole one.
fn address_of(name: &Name) -> Option<IpAddr> {
    let labels = usize::from(name.num_labels());
    // A quick look first: most names are no addresses.
    if labels != 6 && labels != 34 || !name.iter().next_back()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// An answer without records.
pub(super) fn reply(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    answer.metadata.response_code = code;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.checking_disabled = question.metadata.checking_disabled;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_DATAGRAM).set_version(0);
        edns.set_rcode_high(code.high());
        answer.edns = Some(edns);
    }
    answer
}

/// The bytes of an answer; where they are more than the client takes, it is told to come by TCP.
pub(super) fn encode(answer: &Message, question: &Message, transport: Transport) -> Vec<u8> {
    let bytes = answer.to_vec().unwrap_or_default();
    if bytes.len() <= longest(question, transport) && !bytes.is_empty() {
        return bytes;
    }
    let mut short = reply(question, answer.metadata.response_code);
    short.metadata.truncation = true;
    short.to_vec().unwrap_or_default()
}

/// How long an answer the client takes, in bytes.
pub(super) fn longest(question: &Message, transport: Transport) -> usize {
    match (transport, &question.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(512, LONGEST_DATAGRAM)),
    }
}

/// The answer to what cannot be read: its number, and FORMERR.
fn malformed(bytes: &[u8]) -> Vec<u8> {
    let opcode = bytes[2] & 0x78;
    let mut answer = vec![bytes[0], bytes[1], 0x80 | opcode, 1];
    answer.resize(HEADER, 0);
    answer
}

#[cfg(test)]
mod tests;
