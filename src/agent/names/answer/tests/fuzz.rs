//! Bytes of all kinds: nothing panics, nothing is answered that is no question, no answer is longer than it may be.
//! `LINKSPAN_FUZZ` says how many inputs (200,000 where it is not set).

use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use super::*;

/// No run may take longer whose number nobody asked for; it counts what it has done by then.
const LIMIT: Duration = Duration::from_secs(120);

/// A generator whose inputs are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ (self.0 >> 11)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll()).unwrap() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Questions to start from, with everything that a message may hold.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, kind) in [
        ("front.", RecordType::A),
        ("back.web.", RecordType::AAAA),
        ("example.org.", RecordType::MX),
        ("2.0.1.10.in-addr.arpa.", RecordType::PTR),
        (".", RecordType::NS),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.web.", RecordType::ANY),
    ] {
        let mut message = question(name, kind);
        seeds.push(message.to_vec().unwrap());
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        message.edns = Some(edns);
        seeds.push(message.to_vec().unwrap());
        message.add_answer(Record::from_rdata(
            message.queries[0].name().clone(),
            9,
            RData::A(std::net::Ipv4Addr::LOCALHOST.into()),
        ));
        seeds.push(message.to_vec().unwrap());
    }
    // A name that points at itself, and one that points ahead.
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    seeds.push([&header[..], &[0xc0, 12, 0, 1, 0, 1]].concat());
    seeds.push([&header[..], &[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]].concat());
    seeds
}

fn mutate(dice: &mut Dice, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.clear();
    if dice.below(8) == 0 {
        let longest = if dice.below(50) == 0 { 5000 } else { 120 };
        let length = dice.below(longest);
        bytes.extend((0..length).map(|_| dice.byte()));
        return;
    }
    bytes.extend_from_slice(&seeds[dice.below(seeds.len())]);
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len());
        match dice.below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            2 if !bytes.is_empty() => bytes[at] = dice.byte(),
            3 => bytes.insert(at, dice.byte()),
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            5 => {
                let other = &seeds[dice.below(seeds.len())];
                bytes.extend_from_slice(&other[dice.below(other.len())..]);
            }
            _ if bytes.len() > 12 => bytes[4 + dice.below(8)] = dice.byte(),
            _ => {}
        }
    }
}

#[test]
fn whatever_comes_is_survived() {
    let asked: Option<u32> = std::env::var("LINKSPAN_FUZZ").ok().map(|text| text.parse().unwrap());
    let (wanted, limit) = asked.map_or((200_000, LIMIT), |count| (count, Duration::MAX));
    let (table, seeds, mut shuffle) = (here(), seeds(), Shuffle::default());
    let mut dice = Dice(0x1234_5678_9abc_def0);
    let sources = [FRONT, "10.2.0.2", "fd00:1::3", "192.0.2.1", "10.1.0.1"].map(ip);
    let (begun, mut done, mut bytes) = (Instant::now(), 0, Vec::new());
    let mut seen = [0_u32; 4];
    while done < wanted && begun.elapsed() < limit {
        done += 1;
        mutate(&mut dice, &seeds, &mut bytes);
        let between = (sources[dice.below(sources.len())], ip("10.1.0.1"));
        let transport = if dice.below(4) == 0 { Transport::Tcp } else { Transport::Udp };
        let (kind, answer) = match judge(&table, &mut shuffle, between, &bytes, transport) {
            Verdict::Nothing => (0, None),
            Verdict::Answer(answer) => (1, Some(answer)),
            Verdict::Refusal(answer) => (2, Some(answer)),
            Verdict::Outside(question) => {
                // What goes out is what was understood: it can be written, and read again.
                let again = question.message.to_vec().and_then(|bytes| Ok(Message::from_vec(&bytes)?));
                assert!(again.is_ok() || question.message.to_vec().is_err(), "{bytes:02x?}");
                (3, None)
            }
        };
        seen[kind] += 1;
        let Some(answer) = answer else { continue };
        assert!(bytes.len() >= HEADER && bytes[2] & 0x80 == 0, "only questions are answered: {bytes:02x?}");
        assert!(answer.len() >= HEADER, "{bytes:02x?}");
        assert_eq!(answer[..2], bytes[..2], "the number is the question's");
        assert_eq!(answer[2] & 0x80, 0x80);
        let longest = if transport == Transport::Udp { usize::from(LONGEST_DATAGRAM) } else { 65_535 };
        assert!(answer.len() <= longest, "{} bytes for {bytes:02x?}", answer.len());
    }
    println!("{done} inputs: {seen:?} without an answer, answered, refused, asked outside");
    assert!(done == wanted || begun.elapsed() >= limit);
    assert!(seen.iter().all(|count| *count > done / 1000), "each verdict is reached: {seen:?} of {done}");
}
