//! What a firewall reload or a careless administrator took away comes back with the next ADD.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Lab, Outside};
use serde_json::json;

fn reload(backend: &str, flush: impl Fn(&Lab)) {
    if lab::is_reference() {
        lab::skip!("the reference does not");
    }
    let Some(mut lab) = Lab::new() else { return };
    if backend == "iptables" && !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let outside = lab.outside();
    let network = lab.plugin(json!({"backend": backend, "ipam": dual_stack(1)}));
    let other = network.with(json!({"name": "other", "ipam": dual_stack(2), "macspoofchk": true}));
    let (a, b, c, d) = (lab.container("a"), lab.container("b"), lab.container("c"), lab.container("d"));
    let warm = network.on(&d);
    warm.prev(&warm.add().ok()).del().ok();
    let first = network.on(&a).publish(&["8080:80", "127.0.0.1:9090:80"]);
    let result = first.add().ok();
    let second = other.on(&b).publish(&["8081:80"]);
    let result_b = second.add().ok();
    let whole = Snapshot::take(&lab);
    let _servers = [
        tcp_server(&a, "[::]:80", "a"),
        tcp_server(&b, "[::]:80", "b"),
        tcp_server(&outside, "[::]:80", "o"),
    ];
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a");
    flush(&lab);
    assert!(!tcp_answers(&outside, "192.0.2.1:8080"), "the flush took it");
    first.prev(&result).check().refused(120);

    let third = network.on(&c);
    let result_c = third.add().ok();
    for (at, tag) in [("192.0.2.1:8080", "a"), ("[2001:db8::1]:8080", "a"), ("192.0.2.1:8081", "b")] {
        assert_eq!(tcp(&outside, at).tag, tag, "{at} is back");
    }
    assert_eq!(tcp(&lab.host, "127.0.0.1:9090").tag, "a");
    assert_eq!(
        tcp(&b, "192.0.2.2:80").peer.ip().to_string(),
        format!("::ffff:{}", Outside::HOST4),
        "masquerade too"
    );
    assert!(!tcp_answers(&b, &format!("{}:80", address(&result, 4))), "the walls too");
    assert!(!tcp_answers(&outside, &format!("{}:80", address(&result, 4))));
    first.prev(&result).check().ok();
    second.prev(&result_b).check().ok();
    third.prev(&result_c).del().ok();
    Snapshot::take(&lab).assert_same(&whole, "as it was before the flush");
    first.prev(&result).del().ok();
    second.prev(&result_b).del().ok();
    Snapshot::take(&lab).assert_without(&[&a.id, &b.id, &address(&result, 4), &address(&result_b, 4)]);
}

#[test]
fn nftables_flushed() {
    reload("nftables", |lab| drop(lab.host.must(&["nft", "flush", "ruleset"])));
}

#[test]
fn iptables_flushed() {
    reload("iptables", |lab| {
        for tool in ["iptables", "ip6tables"] {
            for table in ["filter", "nat", "mangle", "raw"] {
                lab.host.must(&[tool, "-t", table, "-F"]);
                lab.host.must(&[tool, "-t", table, "-X"]);
            }
        }
    });
}

/// DEL under a flushed firewall finds nothing to take away, and says nothing of it.
#[test]
fn del_after_a_flush() {
    if lab::is_reference() {
        lab::skip!("the reference has its own ways");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).publish(&["8080:80"]);
    let result = plugin.add().ok();
    lab.host.must(&["nft", "flush", "ruleset"]);
    plugin.prev(&result).del().ok();
    Snapshot::take(&lab).assert_without(&[&a.id, &address(&result, 4)]);
    plugin.add().ok();
}
