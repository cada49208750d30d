use std::net::UdpSocket;

use nix::errno::Errno;

use super::conntrack::{self, FlowEnd, Flows, count};
use super::*;
use crate::model::Protocol;
use crate::model::attributes::{Attributes, find};
use crate::model::nft::NftMessage;
use crate::sys::netlink::{self, Socket};
use crate::sys::rtnl::{LinkChange, LinkTarget, set_link};
use crate::sys::testing::isolated;

const NEWTABLE: u8 = 0;
const GETTABLE: u8 = 1;
const DELTABLE: u8 = 2;
const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;
const GETSETELEM: u8 = 13;
/// `NLM_F_CREATE`, `NLM_F_EXCL`.
const CREATE: u16 = 0x400;
const EXCL: u16 = 0x200;

fn message(kind: u8, flags: u16, fill: impl FnOnce(&mut Attributes)) -> NftMessage {
    let mut attributes = Attributes::new();
    fill(&mut attributes);
    NftMessage { kind, family: 1, flags, attributes: attributes.into_bytes() }
}

fn table(kind: u8, flags: u16, name: &str) -> NftMessage {
    message(kind, flags, |a| {
        a.put_str(1, name);
    })
}

/// A set `s` of 32-bit numbers in the table `t`.
fn set() -> NftMessage {
    message(NEWSET, CREATE, |a| {
        a.put_str(1, "t").put_str(2, "s").put_be32(3, 0).put_be32(4, 0).put_be32(5, 4).put_be32(10, 1);
    })
}

fn elements(kind: u8, range: std::ops::Range<u32>) -> NftMessage {
    message(kind, if kind == NEWSETELEM { CREATE } else { 0 }, |a| {
        a.put_str(1, "t").put_str(2, "s").nest(3, |list| {
            for key in range {
                list.nest(1, |element| {
                    element.nest(1, |data| {
                        data.put(1, &key.to_be_bytes());
                    });
                });
            }
        });
    })
}

#[test]
fn a_transaction_is_made_read_back_and_undone() {
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        assert_eq!(nft.get(&table(GETTABLE, 0, "t")).unwrap(), None);
        nft.commit(&[table(NEWTABLE, CREATE, "t"), set(), elements(NEWSETELEM, 0..5)]).unwrap();
        let found = nft.get(&table(GETTABLE, 0, "t")).unwrap().unwrap();
        assert_eq!(find(&found, 1), Some(&b"t\0"[..]));
        assert!(nft.get(&elements(GETSETELEM, 3..4)).unwrap().is_some());
        assert_eq!(nft.get(&elements(GETSETELEM, 9..10)).unwrap(), None);
        let all = message(GETTABLE, 0, |_| {});
        assert_eq!(nft.dump(&all).unwrap().len(), 1);
        nft.commit(&[table(DELTABLE, 0, "t")]).unwrap();
        assert!(nft.dump(&all).unwrap().is_empty());
        nft.leave_open();
    });
}

#[test]
fn a_refused_transaction_names_the_message_and_leaves_nothing() {
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        let error =
            nft.commit(&[table(NEWTABLE, CREATE, "t"), table(DELTABLE, 0, "gone"), set()]).unwrap_err();
        assert_eq!((error.index, error.errno), (Some(1), Errno::ENOENT));
        assert!(
            error.to_string().starts_with("message 1 of the firewall transaction was refused: No such file")
        );
        let error = nft.commit(&[table(NEWTABLE, CREATE, "t"), table(DELTABLE, 0, "gone")]).unwrap_err();
        assert_eq!(error.index, Some(1), "the last message too");
        assert_eq!(nft.get(&table(GETTABLE, 0, "t")).unwrap(), None);
        nft.commit(&[table(NEWTABLE, CREATE | EXCL, "t")]).unwrap();
        assert_eq!(nft.commit(&[table(NEWTABLE, CREATE | EXCL, "t")]).unwrap_err().errno, Errno::EEXIST);
        assert_eq!(nft.commit(&[]), Ok(()));
    });
}

#[test]
fn many_elements_travel_in_one_transaction() {
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        let mut messages = vec![table(NEWTABLE, CREATE, "t"), set()];
        messages.extend((0..20).map(|n| elements(NEWSETELEM, n * 1000..(n + 1) * 1000)));
        nft.commit(&messages).unwrap();
        let listed = nft.dump(&message(GETSETELEM, 0, |a| {
            a.put_str(1, "t").put_str(2, "s");
        }));
        let count = |body: &Vec<u8>| crate::model::attributes::iterate(find(body, 3).unwrap()).count();
        assert_eq!(listed.unwrap().iter().map(count).sum::<usize>(), 20_000);
    });
}

/// One message an element, each refused or not: the answers must fit.
#[test]
fn many_messages_are_answered_for_too() {
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        let mut messages = vec![table(NEWTABLE, CREATE, "t"), set()];
        messages.extend((0..3000).map(|n| elements(NEWSETELEM, n..n + 1)));
        nft.commit(&messages).unwrap();
        let gone: Vec<_> = (0..2000).map(|_| table(DELTABLE, 0, "gone")).collect();
        let error = nft.commit(&gone).unwrap_err();
        assert_eq!((error.index, error.errno), (Some(0), Errno::ENOENT));
        nft.commit(&[table(DELTABLE, 0, "t")]).unwrap();
    });
}

/// More questions than go in one datagram, every other about nothing.
#[test]
fn many_questions_are_answered_in_their_order() {
    const GETTABLE: u8 = 1;
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        let name = |n: usize| format!("t{n}");
        let made: Vec<_> = (0..70).step_by(2).map(|n| table(NEWTABLE, CREATE, &name(n))).collect();
        nft.commit(&made).unwrap();
        let asked: Vec<_> = (0..70).map(|n| table(GETTABLE, 0, &name(n))).collect();
        let answers = nft.get_each(&asked).unwrap();
        assert_eq!(answers.len(), 70);
        for (n, answer) in answers.iter().enumerate() {
            let found = answer.as_ref().and_then(|body| find(body, 1)).map(<[u8]>::to_vec);
            let there = (n % 2 == 0).then(|| [name(n).as_bytes(), b"\0"].concat());
            assert_eq!(found, there, "table {n}");
        }
        assert_eq!(nft.get_each(&[]).unwrap(), Vec::<Option<Vec<u8>>>::new());
        assert!(nft.get(&asked[2]).unwrap().is_some(), "the socket goes on as it was");
    });
}

/// One whose answer is longer than most: long names, and a comment.
#[test]
fn a_long_answer_among_others_is_whole() {
    const GETCHAIN: u8 = 4;
    isolated(|| {
        let mut nft = NftSocket::open().unwrap();
        let (long, words) = ("l".repeat(127), vec![7; 250]);
        let chain = |kind, flags, name: &str, words: &[u8]| {
            message(kind, flags, |a| {
                a.put_str(1, &long).put_str(3, name);
                if !words.is_empty() {
                    a.put(12, words);
                }
            })
        };
        let made =
            [table(NEWTABLE, CREATE, &long), chain(3, CREATE, "s", &[]), chain(3, CREATE, &long, &words)];
        nft.commit(&made).unwrap();
        let asked = ["s", &long, "none", "s"].map(|name| chain(GETCHAIN, 0, name, &[]));
        let answers = nft.get_each(&asked).unwrap();
        let names: Vec<_> = answers.iter().map(|answer| find(answer.as_ref()?, 3).map(<[u8]>::len)).collect();
        assert_eq!(names, [Some(2), Some(128), None, Some(2)]);
        let answer = answers[1].as_ref().unwrap();
        assert!(answer.len() > 512 && find(answer, 12) == Some(&words[..]), "{answer:?}");
    });
}

/// A chain whose one rule asks for the connection's state, which turns tracking on in the namespace.
fn track(nft: &mut NftSocket) {
    let chain = message(3, CREATE, |a| {
        a.put_str(1, "t").put_str(3, "c").nest(4, |hook| {
            hook.put_be32(1, 3).put_be32(2, 0);
        });
        a.put_str(7, "filter");
    });
    let rule = message(6, CREATE | 0x800, |a| {
        a.put_str(1, "t").put_str(2, "c").nest(4, |list| {
            list.nest(1, |expression| {
                expression.put_str(1, "ct").nest(2, |data| {
                    data.put_be32(1, 1).put_be32(2, 0);
                });
            });
        });
    });
    nft.commit(&[table(NEWTABLE, CREATE, "t"), chain, rule]).unwrap();
}

fn flows(end: FlowEnd) -> Flows {
    Flows { protocol: Protocol::Udp, end, count: 1 }
}

fn forget(socket: &mut Socket, flows: &[Flows]) -> Result<usize, crate::sys::SysError> {
    conntrack::forget(socket, flows, |_, _| true)
}

#[test]
fn flows_are_forgotten_by_where_they_went_and_by_who_answers() {
    isolated(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut route = Socket::open(netlink::Protocol::Route).unwrap();
        route.transact(&[set_link(LinkTarget::Name("lo"), &up)]).unwrap();
        let mut socket = Socket::open(netlink::Protocol::Netfilter).unwrap();
        let anywhere = |port| flows(FlowEnd::To(format!("0.0.0.0:{port}").parse().unwrap()));
        assert_eq!(forget(&mut socket, &[anywhere(53)]).unwrap(), 0, "nothing is tracked");

        let mut nft = NftSocket::open().unwrap();
        track(&mut nft);
        let sender = UdpSocket::bind("127.0.0.1:9").unwrap();
        let sender6 = UdpSocket::bind("[::1]:9").unwrap();
        for port in [53, 54, 55] {
            sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
            sender6.send_to(b"x", ("::1", port)).unwrap();
        }
        assert_eq!(count(&mut socket).unwrap(), 6);
        assert_eq!(forget(&mut socket, &[anywhere(99)]).unwrap(), 0);
        assert_eq!(forget(&mut socket, &[anywhere(53)]).unwrap(), 1, "IPv4 alone");
        let v6 = flows(FlowEnd::To("[::1]:53".parse().unwrap()));
        assert_eq!(forget(&mut socket, &[v6]).unwrap(), 1);
        let other = flows(FlowEnd::To("127.0.0.2:54".parse().unwrap()));
        assert_eq!(forget(&mut socket, &[other]).unwrap(), 0, "another address");
        let answered = flows(FlowEnd::AnsweredBy("127.0.0.1:54".parse().unwrap()));
        assert_eq!(forget(&mut socket, &[answered]).unwrap(), 1);
        let all = flows(FlowEnd::AnsweredBy("[::1]:0".parse().unwrap()));
        assert_eq!(forget(&mut socket, &[all]).unwrap(), 2);
        assert_eq!(count(&mut socket).unwrap(), 1);
    });
}

/// Runs of ports, and many questions, are one list: what is forgotten is the same.
#[test]
fn runs_of_ports_and_many_questions_forget_what_they_mean() {
    isolated(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut route = Socket::open(netlink::Protocol::Route).unwrap();
        route.transact(&[set_link(LinkTarget::Name("lo"), &up)]).unwrap();
        let mut socket = Socket::open(netlink::Protocol::Netfilter).unwrap();
        track(&mut NftSocket::open().unwrap());
        let sender = UdpSocket::bind("127.0.0.1:9").unwrap();
        let sender6 = UdpSocket::bind("[::1]:9").unwrap();
        for port in 100..120 {
            sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
            sender6.send_to(b"x", ("::1", port)).unwrap();
        }
        assert_eq!(count(&mut socket).unwrap(), 40);
        let run = Flows { count: 5, ..flows(FlowEnd::To("0.0.0.0:103".parse().unwrap())) };
        let none = conntrack::forget(&mut socket, &[run], |_, flow| flow.to.port() > 200).unwrap();
        assert_eq!(none, 0, "whom the caller spares");
        assert_eq!(forget(&mut socket, &[run]).unwrap(), 5);
        let answered = Flows { count: 3, ..flows(FlowEnd::AnsweredBy("[::1]:118".parse().unwrap())) };
        assert_eq!(forget(&mut socket, &[answered]).unwrap(), 2);
        let many: Vec<Flows> =
            (99..112).map(|port| flows(FlowEnd::To(format!("[::1]:{port}").parse().unwrap()))).collect();
        assert_eq!(forget(&mut socket, &many).unwrap(), 12);
        assert_eq!(count(&mut socket).unwrap(), 21);
    });
}
