//! Published ports that cannot be: refused before any effect, or told of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::rows::{each_changes_nothing, ready, row};
use lab::talk::{tcp, tcp_server};
use lab::{Lab, inspect};
use serde_json::{Value, json};

#[test]
fn ranges_that_cannot_be() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |why: &str, mapping: Value, names: &str| {
        row(why, good.cap(json!({"portMappings": [mapping]})), "ADD", 7, names)
    };
    let text = |host: &str, container: &str| json!({"hostPort": host, "containerPort": container});
    let podman = |host: u32, range: i32| json!({"hostPort": host, "containerPort": 80, "range": range});
    let rows = vec![
        bad("a range of nothing", podman(8000, 0), "range"),
        bad("a range below zero", podman(8000, -1), "range"),
        bad("a range past the last port", podman(65000, 1000), "65535"),
        bad("a text past the last port", text("65000-66000", "1-1001"), "65000-66000"),
        bad("other lengths", text("8000-8010", "80-89"), "80-89"),
        bad("one port for many", json!({"hostPort": "8000-8010", "containerPort": 80}), "containerPort"),
        bad(
            "a text and another length",
            json!({"hostPort": "8000-8010", "containerPort": "80-90", "range": 5}),
            "range",
        ),
        bad("backwards", text("8010-8000", "80-90"), "8010-8000"),
        bad("from port 0", text("0-10", "80-90"), "0-10"),
        bad("no end", text("8000-", "80-90"), "8000-"),
        row(
            "overlapping ranges",
            good.publish(&["8000-8010:80-90", "8010-8020:80-90"]),
            "ADD",
            7,
            "8010-8020",
        ),
        row("a port within a range", good.publish(&["8000-8010:80-90", "8005:99"]), "ADD", 7, "8005"),
        row("a neighbour's port in a range", good.publish(&["6990-7010:80-100"]), "ADD", 102, "neighbour"),
        row("holdPorts is no truth value", good.with(json!({"holdPorts": 1})), "ADD", 7, "holdPorts"),
    ];
    each_changes_nothing(&lab, &a, rows);
}

/// The network of these rows has IPv4 alone.
#[test]
fn a_host_address_of_a_family_that_the_container_lacks() {
    let Some((lab, a, good)) = ready() else { return };
    let rows = vec![
        row(
            "IPv6 alone",
            good.publish(&["[2001:db8::1]:8080:80"]),
            "ADD",
            7,
            "2001:db8::1: the container has no IPv6",
        ),
        row(
            "among others",
            good.publish(&["8080:80", "[2001:db8::1]:8081-8089:81-89"]),
            "ADD",
            7,
            "2001:db8::1",
        ),
        row(
            "an automatic port",
            good.cap(
                json!({"portMappings": [{"hostPort": 0, "containerPort": 80, "hostIP": "2001:db8::1"}]}),
            ),
            "ADD",
            7,
            "container port 80",
        ),
        row(
            "a network without addresses",
            good.with(json!({"ipam": {"type": null, "ranges": null}})).publish(&["192.0.2.1:8080:80"]),
            "ADD",
            7,
            "192.0.2.1",
        ),
    ];
    each_changes_nothing(&lab, &a, rows);
    // `::` is every IPv6 address, of which the container has none: the mapping is passed over, with a word.
    let outcome = good.publish(&["[::]:8080:80"]).add();
    outcome.ok();
    assert!(outcome.stderr.contains("container port 80 is not published"), "{}", outcome.stderr);
}

/// An address may come later, with a VPN or a failover: the port answers from then on.
#[test]
fn a_host_address_that_is_not_there_yet() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    for (id, ports) in
        [("a", &["192.0.2.77:8080:80"][..]), ("b", &["192.0.2.77:8081-8085:81-85", "[2001:db8::77]:8081:80"])]
    {
        let container = lab.container(id);
        let outcome = network.on(&container).publish(ports).add();
        let result = outcome.ok();
        let words = &outcome.stderr;
        assert_eq!(words.matches("hostIP 192.0.2.77 is no address of this host").count(), 1, "{words}");
        assert_eq!(words.contains("hostIP 2001:db8::77"), id == "b", "{words}");
        assert!(!address(&result, 4).is_empty());
        if id == "a" {
            let _server = tcp_server(&container, "0.0.0.0:80", "later");
            lab.ip("address add 192.0.2.77/24 dev uplink");
            assert_eq!(tcp(&outside, "192.0.2.77:8080").tag, "later");
            lab.ip("address delete 192.0.2.77/24 dev uplink");
        }
    }
}

/// linkspan's agent binds the ports, started by the ADD that needs it; the plugin writes down that it should.
#[test]
fn ports_to_be_held_are_written_down() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1), "holdPorts": true})).on(&a);
    let outcome = plugin.publish(&["8080:80"]).add();
    outcome.ok();
    assert!(!outcome.stderr.contains("holdPorts"), "{}", outcome.stderr);
    let record: Value =
        serde_json::from_slice(&std::fs::read(format!("/run/linkspan/ready/{}:eth0", a.id)).unwrap())
            .unwrap();
    let steps = inspect::rows(record["plan"].clone());
    let claims = steps.iter().find(|step| step["step"] == "claims").unwrap();
    assert_eq!(claims["hold"], true, "{record}");
    let b = lab.container("b");
    let quiet = lab.plugin(json!({"ipam": dual_stack(1), "holdPorts": true})).on(&b).add();
    quiet.ok();
    assert!(!quiet.stderr.contains("holdPorts"), "nothing to hold: {}", quiet.stderr);
}
