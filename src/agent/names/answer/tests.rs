use std::collections::HashSet;

use super::super::sample::{attachment, internal, question, table};
use super::*;

mod fuzz;

const FRONT: &str = "10.1.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn here() -> Table {
    table(&[
        attachment("web", "aaaaaaaaaaaaaaaa", 1, 2, &["front"]),
        attachment("web", "bbbbbbbbbbbbbbbb", 1, 3, &["back"]),
        attachment("web", "cccccccccccccccc", 1, 4, &["back"]),
        internal(attachment("in", "dddddddddddddddd", 2, 2, &["inner"])),
    ])
}

fn ask(source: &str, message: &Message) -> Verdict {
    let source = ip(source);
    let gateway = match source {
        IpAddr::V4(v4) => IpAddr::from([10, v4.octets()[1], 0, 1]),
        IpAddr::V6(_) => ip("fd00:1::1"),
    };
    judge(&here(), &mut Shuffle::default(), (source, gateway), &message.to_vec().unwrap(), Transport::Udp)
}

fn answered(source: &str, name: &str, kind: RecordType) -> Message {
    match ask(source, &question(name, kind)) {
        Verdict::Answer(bytes) | Verdict::Refusal(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{name} {kind}: {other:?}"),
    }
}

fn data(message: &Message) -> HashSet<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn names_have_the_addresses_of_the_family_that_is_asked_for() {
    let one = answered(FRONT, "FRONT.", RecordType::A);
    assert_eq!((one.metadata.id, one.metadata.authoritative), (0x1234, true));
    assert!(one.metadata.recursion_available && one.metadata.recursion_desired);
    assert_eq!(one.answers[0].name.to_ascii(), "FRONT.", "in the spelling of who asks");
    assert_eq!(one.answers[0].ttl, 0);
    let of = |name: &str, kind| data(&answered(FRONT, name, kind));
    let set = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<HashSet<_>>();
    assert_eq!(of("back.web.", RecordType::A), set(&["10.1.0.3", "10.1.0.4"]));
    assert_eq!(of("back.", RecordType::AAAA), set(&["fd00:1::3", "fd00:1::4"]));
    assert_eq!(of("aaaaaaaaaaaa.", RecordType::ANY), set(&["10.1.0.2", "fd00:1::2"]));
    assert_eq!(of("2.0.1.10.in-addr.arpa.", RecordType::PTR), set(&["front.web."]));
    let six = ip("fd00:1::3");
    let reversed = hickory_proto::rr::Name::from(six).to_ascii();
    assert_eq!(of(&reversed, RecordType::PTR), set(&["back.web."]));
}

#[test]
fn the_order_changes() {
    let firsts: HashSet<String> =
        (0..100).map(|_| answered(FRONT, "back.", RecordType::A).answers[0].data.to_string()).collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn local_names_never_leave() {
    let there = [
        ("front.", RecordType::MX),
        ("front.web.", RecordType::TXT),
        ("web.", RecordType::A),
        ("2.0.1.10.in-addr.arpa.", RecordType::A),
    ];
    for (name, kind) in there {
        let answer = answered(FRONT, name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
        assert!(answer.answers.is_empty());
    }
    let nowhere = [
        ("none.", RecordType::A),
        ("none.web.", RecordType::SRV),
        ("a.b.web.", RecordType::A),
        ("inner.", RecordType::A),
        ("inner.in.", RecordType::A),
        ("front.in.", RecordType::A),
        ("9.0.1.10.in-addr.arpa.", RecordType::PTR),
        ("2.0.2.10.in-addr.arpa.", RecordType::PTR),
    ];
    for (name, kind) in nowhere {
        let answer = answered(FRONT, name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name} {kind}");
        assert!(answer.answers.is_empty() && answer.authorities.is_empty(), "nobody is to keep that");
    }
}

#[test]
fn all_else_is_asked_outside_unless_the_network_is_internal() {
    for (name, kind) in [
        ("example.org.", RecordType::A),
        ("org.", RecordType::DS),
        (".", RecordType::NS),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ("a.frontweb.", RecordType::A),
    ] {
        let verdict = ask(FRONT, &question(name, kind));
        assert!(matches!(verdict, Verdict::Outside(_)), "{name} {kind}: {verdict:?}");
        let answer = answered("10.2.0.2", name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name} {kind}");
    }
    assert_eq!(data(&answered("10.2.0.2", "inner.", RecordType::A)).len(), 1);
}

#[test]
fn what_is_no_question_for_us_is_refused_in_kind() {
    let code = |verdict| match verdict {
        // 16 has two meanings, and here it is BADVERS.
        Verdict::Refusal(bytes) => match Message::from_vec(&bytes).unwrap().response_code {
            ResponseCode::BADSIG => ResponseCode::BADVERS,
            code => code,
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(code(ask("192.0.2.9", &question("front.", RecordType::A))), ResponseCode::Refused);
    assert_eq!(code(ask(FRONT, &question("web.", RecordType::AXFR))), ResponseCode::Refused);
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(ask(FRONT, &chaos)), ResponseCode::Refused);
    let mut two = question("front.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(ask(FRONT, &two)), ResponseCode::FormErr);
    let mut update = question("front.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(ask(FRONT, &update)), ResponseCode::NotImp);
    let mut edns = question("front.", RecordType::A);
    edns.edns = Some(Edns::new());
    edns.edns.as_mut().unwrap().set_version(1);
    assert_eq!(code(ask(FRONT, &edns)), ResponseCode::BADVERS);
    // An answer is nobody's question: answering it could go on for ever.
    let mut answer = question("front.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert!(matches!(ask(FRONT, &answer), Verdict::Nothing));
    let judged = |bytes: &[u8]| {
        judge(&here(), &mut Shuffle::default(), (ip(FRONT), ip("10.1.0.1")), bytes, Transport::Udp)
    };
    assert!(matches!(judged(b""), Verdict::Nothing) && matches!(judged(&[0; 11]), Verdict::Nothing));
    let mut torn = question("front.", RecordType::A).to_vec().unwrap();
    torn.truncate(20);
    assert_eq!(code(judged(&torn)), ResponseCode::FormErr);
    let mut long = question("front.", RecordType::A).to_vec().unwrap();
    long.resize(LONGEST_QUESTION + 1, 0);
    assert_eq!(code(judged(&long)), ResponseCode::FormErr);
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_is_asked_for_by_stream() {
    let many: Vec<_> =
        (2..=250).map(|last| attachment("web", &format!("c{last}"), 1, last, &["many"])).collect();
    let table = table(&many);
    let mut message = question("many.", RecordType::A);
    let answer = |message: &Message, transport| {
        let bytes = message.to_vec().unwrap();
        let between = (ip(FRONT), ip("10.1.0.1"));
        match judge(&table, &mut Shuffle::default(), between, &bytes, transport) {
            Verdict::Answer(bytes) => (bytes.len(), Message::from_vec(&bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let (length, short) = answer(&message, Transport::Udp);
    assert!(short.metadata.truncation && length <= 512 && short.answers.is_empty());
    let (_, whole) = answer(&message, Transport::Tcp);
    assert!(!whole.metadata.truncation && whole.answers.len() == 249);
    message.edns = Some(Edns::new());
    message.edns.as_mut().unwrap().set_max_payload(65_000);
    let (_, short) = answer(&message, Transport::Udp);
    assert!(short.metadata.truncation && short.edns.is_some(), "no longer than every path takes");
}
