use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::*;
use crate::firewall::nft::{TRACE, Traced, remove_trace, trace_table};
use crate::sys::netlink::{Heard, Monitor};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::probe::{Kind, Probe};
use crate::sys::testing::on_loopback;

const INET: u8 = Traced::FAMILIES[0];

fn traced(probe: &Probe, to: &str) -> Traced {
    let to: std::net::SocketAddr = to.parse().unwrap();
    let echo = probe.kind() == Kind::Echo;
    Traced {
        from: Some(probe.source().ip()),
        to: Some(to.ip()),
        from_port: (!echo).then(|| probe.source().port()),
        to_port: (!echo).then_some(to.port()),
        echo: echo.then(|| probe.source().port()),
        ..Traced::all(to.is_ipv4(), probe.kind().number(to.is_ipv4()))
    }
}

/// Everything that is told until an answer is there, and a little longer.
fn told(monitor: &mut Monitor, probe: &Probe) -> Vec<Event> {
    let mut events = Vec::new();
    let mut end = Instant::now() + Duration::from_secs(5);
    let mut answered = false;
    while Instant::now() < end {
        if !answered && probe.reply().is_some() {
            (answered, end) = (true, Instant::now() + Duration::from_millis(50));
        }
        match monitor.hear() {
            Ok(Heard::Told(all)) => events.extend(all.iter().filter_map(|(kind, body)| event(*kind, body))),
            Ok(Heard::Lost) => panic!("told too fast"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!(answered);
    events
}

#[test]
fn a_probe_is_told_of_from_hook_to_hook() {
    on_loopback(|| {
        for (kind, to) in [
            (Kind::Tcp, "127.0.0.1:80"),
            (Kind::Udp, "[::1]:53"),
            (Kind::Echo, "127.0.0.1:0"),
            (Kind::Echo, "[::1]:0"),
        ] {
            let probe = Probe::prepare(kind, to.parse().unwrap(), None).unwrap();
            let mut monitor = monitor().unwrap();
            let mut nft = NftSocket::open().unwrap();
            let these = traced(&probe, to);
            nft.commit(&trace_table(INET, &these, Some(&these.reversed()), true, true)).unwrap();
            probe.send(8).unwrap();
            let events = told(&mut monitor, &probe);
            let places: Vec<&str> = events
                .iter()
                .filter(|event| event.met == Met::Policy)
                .map(|event| event.chain.as_str())
                .collect();
            let way = ["output", "output-tracked", "postrouting", "postrouting-end"];
            let back = ["prerouting", "prerouting-tracked", "input", "input-end"];
            let whole: Vec<&str> = way.into_iter().chain(back).collect();
            assert_eq!(&places[..8], whole, "{kind:?} to {to}: {places:?}");
            let first = events[0].packet.unwrap();
            assert_eq!((first.from, first.to), (probe.source().ip(), these.to.unwrap()));
            assert!(events.iter().all(|event| event.table == TRACE && event.family == INET));
            assert_eq!((events[0].input, events[0].output), (None, Some(1)), "lo has number 1");
            // Closing the socket takes the table away.
            drop(nft);
            let gone = NftSocket::open().unwrap().commit(&[remove_trace(INET)]).unwrap_err();
            assert_eq!(gone.errno, Errno::ENOENT);
        }
    });
}

#[test]
fn the_table_is_nobody_else_s() {
    on_loopback(|| {
        let these = Traced::all(true, 6);
        let mut owner = NftSocket::open().unwrap();
        owner.commit(&trace_table(INET, &these, None, false, true)).unwrap();
        let mut other = NftSocket::open().unwrap();
        let refused = other.commit(&trace_table(INET, &these, None, false, true)).unwrap_err();
        assert!(matches!(refused.errno, Errno::EPERM | Errno::EEXIST), "{refused}");
        assert_eq!(other.commit(&[remove_trace(INET)]).unwrap_err().errno, Errno::EPERM);
        owner.commit(&[remove_trace(INET)]).unwrap();
    });
}

#[test]
fn what_is_not_the_probe_s_is_not_told() {
    on_loopback(|| {
        let (probe, other) = ("127.0.0.1:80", "127.0.0.1:81");
        let probe = Probe::prepare(Kind::Tcp, probe.parse().unwrap(), None).unwrap();
        let mut monitor = monitor().unwrap();
        let mut nft = NftSocket::open().unwrap();
        let these = traced(&probe, "127.0.0.1:80");
        nft.commit(&trace_table(INET, &these, Some(&these.reversed()), true, true)).unwrap();
        let stranger = Probe::prepare(Kind::Tcp, other.parse().unwrap(), None).unwrap();
        stranger.send(0).unwrap();
        assert_eq!(told(&mut monitor, &stranger), []);
    });
}

#[test]
fn other_notifications_are_no_events() {
    assert_eq!(event(SUBSYSTEM << 8, &[0; 40]), None);
    assert_eq!(event(super::MESSAGE, &[1, 0, 0, 0]), None);
    assert_eq!(event(super::MESSAGE, &[]), None);
}
