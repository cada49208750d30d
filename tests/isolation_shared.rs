//! What holds while configurations change: networks that share a bridge keep what each of them wants, containers on a
//! bridge or backend that their network has left keep what their ADD made, and CHECK looks at what was written last.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::cli::linkspan;
use lab::inspect;
use lab::outcome::gateway;
use lab::plugin::dual_stack;
use lab::town::{House, Town, closed, goes_out, open, published, town};
use lab::{Plugin, icmp};
use serde_json::{Value, json};

/// Two networks on one bridge, with the same keys.
fn sharing(town: &Town, n: u8, keys: Value) -> [Plugin; 2] {
    let bridge = json!({"bridge": format!("shared{n}")});
    let one = town.network(n, keys).with(bridge);
    let ranges = json!({"ranges": [
        [{"subnet": format!("10.88.{n}.0/24"), "rangeStart": format!("10.88.{n}.100")}],
        [{"subnet": format!("fd00:88:{n}::/64"), "rangeStart": format!("fd00:88:{n}::100")}],
    ]});
    let two = one.with(json!({"name": format!("two{n}"), "ipam": ranges}));
    [one, two]
}

#[track_caller]
fn checks(house: &House) {
    house.plugin.prev(&house.result).check().ok();
}

/// The wall of a shared bridge stands until the last network lets go of it.
fn a_shared_wall_stands_for_who_wants_it(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let [one, two] = sharing(&town, 1, json!({"trustedInterfaces": ["eth9"]}));
    let a = town.attach(&one, "a", &["8080:80"]);
    town.attach(&two.with(json!({"trustedInterfaces": ["uplink"]})), "b", &[]);
    let open_two = two.with(json!({"isolation": "none", "trustedInterfaces": null}));
    let c = town.attach(&open_two, "c", &[]);
    closed(&town.outside, &a);
    open(&c, &a);
    published(&town.outside, 8080, true);
    checks(&a);
    checks(&c);
    // Its element carried the other's name for a while.
    let d = town.attach(&one.with(json!({"isolation": "none", "trustedInterfaces": null})), "d", &[]);
    open(&town.outside, &a);
    checks(&d);
}

fn a_shared_seal_stays_for_who_wants_it(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let [one, two] = sharing(&town, 1, json!({"internal": true}));
    let a = town.attach(&one, "a", &[]);
    town.attach(&two, "b", &[]);
    town.attach(&two.with(json!({"internal": false, "isolation": "none"})), "c", &[]);
    for family in [4, 6] {
        a.ip(&format!("-{family} route add default via {}", gateway(&a.result, family)));
    }
    goes_out(&a, false);
    closed(&town.outside, &a);
    assert!(icmp::ping(&a, &gateway(&a.result, 4)), "the gateway is there");
    checks(&a);
}

/// A network that nobody is attached to has its seal around nobody: neither where another comes to its bridge, nor where
/// that is there already and its last container goes.
fn an_idle_networks_seal_is_no_others(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let [sealed, two] = sharing(&town, 1, json!({"internal": true}));
    let two = two.with(json!({"internal": false}));
    let come_and_go = |name: &str| {
        let house = town.attach(&sealed, name, &[]);
        house.plugin.prev(&house.result).del().ok();
    };
    come_and_go("a");
    let b = town.attach(&two, "b", &["8080:80"]);
    let is_open = |what: &str| {
        goes_out(&b, true);
        published(&town.outside, 8080, true);
        checks(&b);
        assert_eq!(linkspan("reconcile --dry-run").ok().trim(), "nothing differs", "{what}");
    };
    is_open("another came");
    let c = town.attach(&sealed, "c", &[]);
    goes_out(&b, false);
    published(&town.outside, 8080, false);
    checks(&c);
    let why = linkspan(&format!("explain outside {}:80", b.container.id));
    assert!(why.stdout.contains("linkspan's wall of network net1"), "{}{}", why.stdout, why.stderr);
    linkspan("gc net1").ok();
    published(&town.outside, 8080, false);
    c.plugin.prev(&c.result).del().ok();
    let differs = linkspan("reconcile --dry-run");
    assert!(differs.stdout.contains("rules of network net1 on bridge shared1"), "{}", differs.stdout);
    linkspan("reconcile").ok();
    is_open("reconciled");
    come_and_go("d");
    two.gc(&[(&b.container.id, "eth0")]).ok();
    is_open("GC of the other");
    come_and_go("e");
    assert!(linkspan("gc net1 --dry-run").ok().contains("would delete its firewall rules"));
    assert!(linkspan("gc net1").ok().contains("deleted its firewall rules"));
    is_open("GC from the record");
    linkspan("gc net0").failed(1, "net0");
}

/// Whoever came first: what another needs is not taken along to another bridge.
fn a_network_that_moves_leaves_the_others_wall(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let [one, two] = sharing(&town, 1, json!({}));
    let first = town.attach(&two, "first", &[]);
    let a = town.attach(&one, "a", &[]);
    first.plugin.prev(&first.result).del().ok();
    let b = town.attach(&two.with(json!({"bridge": "other", "ipam": dual_stack(2)})), "b", &[]);
    closed(&town.outside, &a);
    closed(&b, &a);
    closed(&town.outside, &b);
    checks(&a);
    checks(&b);
}

/// What CHECK finds of one network when another on its bridge drops a key.
fn a_key_of_one_network_is_not_anothers_to_drop(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    for (n, key, value) in
        [(1, "icc", json!(false)), (2, "isolation", json!("strict")), (3, "masqAll", json!(true))]
    {
        let [one, two] = sharing(&town, n, json!({key: value}));
        let a = town.attach(&one, &format!("a{n}"), &[]);
        town.attach(&two, &format!("b{n}"), &[]);
        let plain = json!({key: if key == "icc" { json!(true) } else { Value::Null }});
        town.attach(&two.with(plain), &format!("c{n}"), &[]);
        checks(&a);
    }
}

/// Containers on the bridge that a network had before are as closed as they were.
fn a_bridge_that_a_network_left_is_guarded(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    for (n, keys) in [(1, json!({})), (2, json!({"internal": true}))] {
        let before = town.network(n, keys.clone()).with(json!({"bridge": format!("before{n}")}));
        let after = before.with(json!({"bridge": format!("after{n}"), "ipam": dual_stack(n + 10)}));
        let a = town.attach(&before, &format!("a{n}"), &[]);
        let b = town.attach(&after, &format!("b{n}"), &[]);
        for from in [&*town.outside, &*b] {
            closed(from, &a);
        }
        closed(&town.outside, &b);
        goes_out(&a, n == 1);
        goes_out(&b, n == 1);
        checks(&a);
        checks(&b);
        assert_eq!(linkspan("reconcile --dry-run").ok().trim(), "nothing differs");
        if backend == "nftables" {
            let wall = format!("delete element inet linkspan walls {{ before{n} }}");
            town.lab.host.must(&["nft", &wall]);
            assert!(a.plugin.prev(&a.result).check().refused(120).contains(&format!("before{n}")));
            linkspan("reconcile").ok();
            closed(&town.outside, &a);
            checks(&a);
        }
        a.plugin.prev(&a.result).del().ok();
        // GC or the next ADD takes away what nobody stands behind any more.
        if n == 1 {
            after.gc(&[(&b.container.id, "eth0")]).ok();
        } else {
            town.attach(&after, "c", &[]);
        }
        assert!(!rules_name(&town, &format!("before{n}")), "{}", rules(&town));
        checks(&b);
    }
}

/// The elements of networks, or all rules of iptables.
fn rules(town: &Town) -> String {
    let said = match town.backend {
        "nftables" => inspect::ruleset(&town.lab.host),
        _ => town.lab.host.must(&["iptables-save"]),
    };
    // A chain that nothing leads to stays.
    let counts = |line: &&str| !line.contains("chain wall-");
    said.lines().filter(counts).collect::<Vec<_>>().join("\n")
}

fn rules_name(town: &Town, bridge: &str) -> bool {
    rules(town).contains(bridge)
}

/// CHECK of what runs holds after a later ADD has changed the network's rules.
fn check_goes_by_what_was_written_last(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let outbound = json!({"outboundAddress4": "192.0.2.1"});
    for (n, before, after) in [
        (1, json!({}), json!({"ipMasq": false})),
        (2, json!({}), json!({"isolation": "none"})),
        (3, json!({}), json!({"mode": "routed"})),
        (4, json!({"mode": "routed"}), json!({"mode": null})),
        (5, json!({}), json!({"icc": false})),
        (6, json!({}), json!({"ingressPolicy": "isolated"})),
        (7, json!({}), json!({"snat": false})),
        (8, outbound, json!({"outboundAddress4": null})),
        (9, json!({"isolation": "none"}), json!({"isolation": null, "internal": true})),
        (10, json!({"iptablesAdminChainName": "ONE"}), json!({"iptablesAdminChainName": "TWO"})),
    ] {
        let network = town.network(n, before);
        let ports = format!("80{n:02}:80");
        let ports: &[&str] = if n == 9 { &[] } else { &[&ports] };
        let a = town.attach(&network, &format!("a{n}"), ports);
        let b = town.attach(&network.with(after.clone()), &format!("b{n}"), &[]);
        checks(&b);
        let now = a.plugin.with(after.clone()).prev(&a.result).check();
        assert!(now.succeeded(), "{after}: {}", now.words());
        assert_eq!(linkspan("reconcile --dry-run").ok().trim(), "nothing differs");
        a.plugin.prev(&a.result).del().ok();
    }
}

/// Rules of the backend that a network had before go with the last container that was made with them.
fn a_backend_that_a_network_left_lets_go(backend: &'static str) {
    if backend == "nftables" {
        return;
    }
    let Some(town) = town(backend) else { return };
    for (n, from, to) in [(1, "nftables", "iptables"), (2, "iptables", "nftables")] {
        let before = town.network(n, json!({"backend": from, "bridge": format!("left{n}")}));
        let after = before.with(json!({"backend": to, "isolation": "none"}));
        let first = town.attach(&before, &format!("first{n}"), &[]);
        first.plugin.prev(&first.result).del().ok();
        let a = town.attach(&after, &format!("a{n}"), &["8080:80"]);
        open(&town.outside, &a);
        published(&town.outside, 8080, true);
        checks(&a);
        a.plugin.prev(&a.result).del().ok();
        // Where somebody stands behind them, they stay.
        let before = town.network(n + 2, json!({"backend": from, "bridge": format!("left{}", n + 2)}));
        let after = before.with(json!({"backend": to, "isolation": "none"}));
        let old = town.attach(&before, &format!("old{n}"), &[]);
        let new = town.attach(&after, &format!("new{n}"), &[]);
        closed(&town.outside, &old);
        checks(&old);
        checks(&new);
        goes_out(&old, true);
        goes_out(&new, true);
        old.plugin.prev(&old.result).del().ok();
        town.attach(&after, &format!("next{n}"), &[]);
        open(&town.outside, &new);
    }
}

/// On nf_tables, where networks share elements, all of it; on iptables what its chains of each network may get wrong.
macro_rules! on {
    ($backend:ident at $number:literal: $($case:ident),+ $(,)?) => {
        mod $backend { $(#[test] fn $case() { super::$case(super::lab::backends::BACKENDS[$number]); })+ }
    };
}

on!(nftables at 0:
    a_shared_wall_stands_for_who_wants_it,
    a_shared_seal_stays_for_who_wants_it,
    an_idle_networks_seal_is_no_others,
    a_network_that_moves_leaves_the_others_wall,
    a_key_of_one_network_is_not_anothers_to_drop,
    a_bridge_that_a_network_left_is_guarded,
    check_goes_by_what_was_written_last,
    a_backend_that_a_network_left_lets_go,
);

on!(iptables_nft at 1:
    an_idle_networks_seal_is_no_others,
    a_bridge_that_a_network_left_is_guarded,
    check_goes_by_what_was_written_last,
    a_backend_that_a_network_left_lets_go,
);
