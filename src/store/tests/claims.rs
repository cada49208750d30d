use super::*;
use crate::model::{Protocol, Publication};

fn publication(protocol: Protocol, host: &str) -> Publication {
    Publication { protocol, host: host.parse().unwrap(), target: host.parse().unwrap(), count: 1 }
}

fn tcp(host: &str) -> Publication {
    publication(Protocol::Tcp, host)
}

#[test]
fn a_port_has_one_owner_and_wildcards_cover_their_family() {
    let (base, state) = state();
    state.claim(&[tcp("0.0.0.0:80"), tcp("[::]:80")], &key("a")).unwrap();
    state.claim(&[tcp("0.0.0.0:80"), tcp("[::]:80")], &key("a")).unwrap();
    for host in ["0.0.0.0:80", "127.0.0.1:80", "[::1]:80"] {
        let error = state.claim(&[tcp(host)], &key("b")).unwrap_err();
        assert!(matches!(&error, StoreError::Claimed { owner, .. } if owner == "a:eth0"), "{error}");
        assert_eq!(state.owner(&tcp(host)).unwrap().as_deref(), Some("a:eth0"));
    }
    state.claim(&[tcp("0.0.0.0:81"), publication(Protocol::Udp, "0.0.0.0:80")], &key("b")).unwrap();
    assert_eq!(state.claims().unwrap().len(), 4);
    state.release(&[tcp("0.0.0.0:80"), tcp("[::]:80")], &key("b")).1.unwrap();
    assert_eq!(state.owner(&tcp("0.0.0.0:80")).unwrap().as_deref(), Some("a:eth0"));
    state.release(&[tcp("0.0.0.0:80"), tcp("[::]:80")], &key("a")).1.unwrap();
    state.release(&[tcp("0.0.0.0:80")], &key("a")).1.unwrap();
    assert_eq!(state.owner(&tcp("0.0.0.0:80")).unwrap(), None);
    assert!(!base.path().join("run/linkspan/ports/tcp-80").exists());
}

#[test]
fn a_specific_address_keeps_a_wildcard_out_but_not_its_neighbour() {
    let (_base, state) = state();
    state.claim(&[tcp("10.0.0.1:80")], &key("a")).unwrap();
    state.claim(&[tcp("10.0.0.2:80")], &key("b")).unwrap();
    assert!(state.claim(&[tcp("0.0.0.0:80")], &key("c")).is_err());
    assert_eq!(state.claims().unwrap().len(), 2);
    let owners: Vec<String> =
        state.owners(&[tcp("0.0.0.0:80")]).unwrap().into_iter().map(|(_, owner)| owner).collect();
    assert_eq!(owners, ["a:eth0", "b:eth0"], "each that is in the way");
}

fn range(host: &str, count: u16) -> Publication {
    Publication { count, ..tcp(host) }
}

/// Every pair of a range with another or with a single port, on the same address, a covering one and another.
#[test]
fn ranges_overlap_each_other_and_single_ports() {
    let (base, state) = state();
    state.claim(&[range("0.0.0.0:8000", 11)], &key("a")).unwrap();
    state.claim(&[tcp("10.0.0.1:9000")], &key("b")).unwrap();
    for (wanted, owner) in [
        (tcp("0.0.0.0:8000"), Some("a:eth0")),
        (tcp("127.0.0.1:8010"), Some("a:eth0")),
        (tcp("0.0.0.0:8011"), None),
        (tcp("[::]:8005"), None),
        (publication(Protocol::Udp, "0.0.0.0:8005"), None),
        (range("0.0.0.0:7990", 11), Some("a:eth0")),
        (range("10.0.0.1:8010", 5), Some("a:eth0")),
        (range("0.0.0.0:7990", 10), None),
        (range("0.0.0.0:8900", 200), Some("b:eth0")),
        (range("10.0.0.1:8900", 200), Some("b:eth0")),
        (range("10.0.0.2:8900", 200), None),
        (range("0.0.0.0:9001", 200), None),
        (range("0.0.0.0:1", 65535), Some("a:eth0")),
    ] {
        assert_eq!(state.owner(&wanted).unwrap().as_deref(), owner, "{wanted}");
        let owners = state.owners(&[wanted]).unwrap();
        assert_eq!(owners.first().map(|(_, owner)| owner.as_str()), owner, "{wanted}");
        let claimed = state.claim(&[tcp("0.0.0.0:1234"), wanted], &key("c"));
        match owner {
            None => assert!(state.release(&[tcp("0.0.0.0:1234"), wanted], &key("c")).0.is_empty()),
            Some(_) => assert!(matches!(claimed, Err(StoreError::Claimed { .. })), "{wanted}"),
        }
        assert_eq!(state.claims().unwrap().len(), 2, "{wanted}: all or nothing");
    }
    state.claim(&[range("0.0.0.0:8000", 11)], &key("a")).unwrap();
    assert_eq!(state.claimed_ports().unwrap(), [(Protocol::Tcp, 8000, 11), (Protocol::Tcp, 9000, 1)]);
    let unknown = state.claims_of_unknown(|owner| *owner == key("b")).unwrap();
    assert_eq!((unknown.len(), unknown[0].count), (1, 11));
    state.drop_claim(&unknown[0]).unwrap();
    assert!(!base.path().join("run/linkspan/ranges").exists());
    assert_eq!(state.owner(&tcp("0.0.0.0:8005")).unwrap(), None);
}

/// Who waits keeps nobody out, is told when the claim goes, and leaves nothing behind.
#[test]
fn who_waits_is_told_by_the_release() {
    let (base, state) = state();
    for ports in [vec![tcp("0.0.0.0:80"), tcp("[::]:80")], vec![range("0.0.0.0:8000", 11)]] {
        state.claim(&ports, &key("a")).unwrap();
        state.wait_for(&ports, &key("b")).unwrap();
        state.wait_for(&ports, &key("b")).unwrap();
        state.wait_for(&ports, &key("c")).unwrap();
        assert_eq!(state.claims().unwrap().len(), ports.len());
        state.stop_waiting(&ports, &[], &key("c")).unwrap();
        assert!(state.release(&ports[1..], &key("b")).0.is_empty(), "what it does not have");
        assert_eq!(state.release(&ports, &key("a")).0, [key("b")]);
        state.claim(&ports, &key("b")).unwrap();
        state.stop_waiting(&ports, &[], &key("b")).unwrap();
        assert!(state.release(&ports, &key("b")).0.is_empty());
        state.wait_for(&ports, &key("d")).unwrap();
        assert!(state.claims_of_unknown(|owner| *owner == key("a")).unwrap().is_empty());
        for directory in ["ports/tcp-80", "ranges"] {
            assert!(!base.path().join("run/linkspan").join(directory).exists(), "{directory}");
        }
    }
}

/// What was let go is told of, whatever becomes of the rest; and once more where it was let go before.
#[test]
fn who_waits_is_told_whatever_else_fails() {
    let (base, state) = state();
    let ports = [tcp("0.0.0.0:80"), tcp("0.0.0.0:81"), tcp("0.0.0.0:82")];
    state.claim(&ports, &key("a")).unwrap();
    state.wait_for(&ports[..1], &key("b")).unwrap();
    // No claim reads so.
    let odd = base.path().join("run/linkspan/ports/tcp-81/4-0.0.0.0");
    std::fs::remove_file(&odd).unwrap();
    std::fs::write(&odd, "").unwrap();
    for _ in 0..2 {
        let (waiters, outcome) = state.release(&ports, &key("a"));
        assert!(outcome.is_err());
        assert_eq!(waiters, [key("b")]);
    }
    assert_eq!(state.owner(&ports[2]).unwrap(), None);
}

/// Ranges have their links in one directory: who takes one up waits for the other all the time.
#[test]
fn who_waits_for_the_rest_keeps_its_link() {
    let (_base, state) = state();
    let ports = [range("0.0.0.0:8000", 11), range("0.0.0.0:9000", 11)];
    state.claim(&ports, &key("a")).unwrap();
    state.wait_for(&ports, &key("b")).unwrap();
    state.stop_waiting(&ports[..1], &ports[1..], &key("b")).unwrap();
    assert_eq!(state.release(&ports[1..], &key("a")).0, [key("b")]);
}

#[test]
fn a_claim_is_all_or_nothing() {
    let (_base, state) = state();
    state.claim(&[tcp("0.0.0.0:82")], &key("a")).unwrap();
    let mine = [tcp("0.0.0.0:80"), tcp("0.0.0.0:81"), tcp("0.0.0.0:82")];
    assert!(state.claim(&mine, &key("b")).is_err());
    assert_eq!(state.claims().unwrap().len(), 1);
    state.claim(&mine[..1], &key("b")).unwrap();
    assert!(state.claim(&mine, &key("b")).is_err());
    // What it had before the failed claim, it has still.
    assert_eq!(state.owner(&mine[0]).unwrap().as_deref(), Some("b:eth0"));
}

#[test]
fn claims_of_owners_without_a_record_are_found_and_dropped() {
    let (_base, state) = state();
    state.claim(&[tcp("0.0.0.0:80")], &key("a")).unwrap();
    state.claim(&[tcp("[fd00::1]:80")], &key("b")).unwrap();
    let unknown = state.claims_of_unknown(|owner| *owner == key("a")).unwrap();
    assert_eq!(unknown.len(), 1);
    assert_eq!((unknown[0].host, unknown[0].owner.as_str()), ("[fd00::1]:80".parse().unwrap(), "b:eth0"));
    state.drop_claim(&unknown[0]).unwrap();
    state.drop_claim(&unknown[0]).unwrap();
    assert!(state.claims_of_unknown(|owner| *owner == key("a")).unwrap().is_empty());
}

#[test]
fn of_many_who_claim_at_once_one_wins() {
    let (base, _state) = state();
    let root = base.path().join("run/linkspan");
    for port in 0..50 {
        let wins: usize = std::thread::scope(|scope| {
            let claimants: Vec<_> = (0..4)
                .map(|n| {
                    let root = &root;
                    scope.spawn(move || {
                        let state = State::open(root).unwrap();
                        let _guard = state.lock(Deadline::default()).unwrap();
                        let host = if n % 2 == 0 { "0.0.0.0" } else { "127.0.0.1" };
                        let wanted = [tcp(&format!("{host}:{}", 8000 + port))];
                        usize::from(state.claim(&wanted, &key(&format!("c{n}"))).is_ok())
                    })
                })
                .collect();
            claimants.into_iter().map(|claimant| claimant.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }
}
