use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use super::*;
use crate::sys::testing::on_loopback;

fn asked(kind: Kind, to: &str) -> Reply {
    let probe = Probe::prepare(kind, to.parse().unwrap(), None).unwrap();
    assert!(probe.source().port() != 0 && probe.source().ip().is_loopback());
    probe.send(0).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(reply) = probe.reply() {
            return reply;
        }
        assert!(Instant::now() < end, "nothing came back from {to}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child that another test has just begun may have what was closed, until it becomes its program.
fn let_go() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_listener_answers_and_a_closed_port_resets() {
    on_loopback(|| {
        for at in ["127.0.0.1:80", "[::1]:80"] {
            let listener = TcpListener::bind(at).unwrap();
            assert_eq!(asked(Kind::Tcp, at), Reply::Answered);
            drop(listener);
            let_go();
            assert_eq!(asked(Kind::Tcp, at), Reply::Reset);
        }
    });
}

#[test]
fn datagrams_are_answered_or_refused_by_icmp() {
    on_loopback(|| {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        let thread = std::thread::spawn(move || {
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            server.send_to(b"hello", from).unwrap();
        });
        assert_eq!(asked(Kind::Udp, "127.0.0.1:53"), Reply::Answered);
        thread.join().unwrap();
        let_go();
        let Reply::Icmp(error) = asked(Kind::Udp, "127.0.0.1:53") else { panic!("an ICMP error") };
        assert_eq!((error.kind, error.code, error.v6), (3, 3, false));
        assert_eq!(error.from, Some("127.0.0.1".parse().unwrap()));
        let Reply::Icmp(error) = asked(Kind::Udp, "[::1]:53") else { panic!("an ICMPv6 error") };
        assert_eq!((error.kind, error.code, error.v6), (1, 4, true));
    });
}

#[test]
fn echo_requests_are_answered() {
    on_loopback(|| {
        assert_eq!(asked(Kind::Echo, "127.0.0.1:0"), Reply::Answered);
        assert_eq!(asked(Kind::Echo, "[::1]:0"), Reply::Answered);
    });
}

#[test]
fn without_a_route_nothing_is_sent() {
    on_loopback(|| {
        let error = Probe::prepare(Kind::Tcp, "192.0.2.1:80".parse().unwrap(), None).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENETUNREACH));
    });
}

#[test]
fn the_source_port_can_be_asked_for() {
    on_loopback(|| {
        let probe = Probe::prepare(Kind::Udp, "127.0.0.1:53".parse().unwrap(), Some(4000)).unwrap();
        assert_eq!(probe.source().port(), 4000);
        probe.never_fragment().unwrap();
        assert_eq!(probe.kind(), Kind::Udp);
    });
}
