//! Which addresses a container gets, and that they work at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::{address, addresses, gateway};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::{Lab, Plugin, icmp, inspect, talk};
use serde_json::{Value, json};

fn ranges(lab: &Lab, ranges: Value) -> Plugin {
    lab.plugin(json!({"ipam": {"type": "host-local", "ranges": ranges}}))
}

#[test]
fn a_subnet_in_each_notation() {
    let Some(lab) = Lab::new() else { return };
    for (name, ipam, first, via) in [
        ("ranges", json!({"ranges": [[{"subnet": "10.1.0.0/24"}]]}), "10.1.0.2/24", "10.1.0.1"),
        ("subnet", json!({"subnet": "10.2.0.0/24"}), "10.2.0.2/24", "10.2.0.1"),
        ("gateway", json!({"subnet": "10.3.0.0/24", "gateway": "10.3.0.254"}), "10.3.0.1/24", "10.3.0.254"),
        (
            "start",
            json!({"subnet": "10.4.0.0/16", "rangeStart": "10.4.7.9", "rangeEnd": "10.4.7.20"}),
            "10.4.7.9/16",
            "10.4.0.1",
        ),
        ("small", json!({"subnet": "10.5.0.0/30"}), "10.5.0.2/30", "10.5.0.1"),
    ] {
        let a = lab.container(name);
        let mut ipam = ipam;
        ipam["type"] = json!("host-local");
        let result =
            lab.plugin(json!({"name": name, "bridge": format!("br-{name}"), "ipam": ipam})).on(&a).add().ok();
        assert_eq!(addresses(&result), [first], "{name}");
        assert_eq!(gateway(&result, 4), via, "{name}");
        assert_eq!(inspect::addresses(&a, "eth0"), [first]);
        assert!(icmp::ping(&a, via), "{name}");
    }
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let result = ranges(&lab, json!([[{"subnet": "fd00:1::/64"}]])).on(&a).add().ok();
    let flags = |row: &Value, flag: &str| row[flag] == true;
    let mine = inspect::address_rows(&a, "eth0");
    let bridge = result["interfaces"][0]["name"].as_str().unwrap();
    let gateways = inspect::address_rows(&lab.host, bridge);
    for row in mine.iter().chain(&gateways).filter(|row| row["scope"] == "global") {
        assert!(!flags(row, "tentative") && !flags(row, "dadfailed"), "{row}");
    }
    let _server = talk::tcp_server(&lab.host, "[::]:80", "host");
    let answer = talk::tcp(&a, "[fd00:1::1]:80");
    assert_eq!(answer.peer.ip().to_string(), address(&result, 6));
    let _far = talk::tcp_server(&outside, "[::]:80", "outside");
    assert_eq!(talk::tcp(&a, "[2001:db8::2]:80").peer.ip().to_string(), lab::Outside::HOST6, "masqueraded");
    assert_eq!(a.sysctl("net.ipv6.conf.eth0.accept_dad"), "0");
    assert_eq!(lab.host.sysctl("net.ipv6.conf.all.forwarding"), "1");
}

#[test]
fn an_ipv6_container_configures_nothing_by_itself() {
    if lab::is_reference() {
        lab::skip!("the reference leaves accept_ra on");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    ranges(&lab, json!([[{"subnet": "fd00:1::/64"}]])).on(&a).add().ok();
    assert_eq!(a.sysctl("net.ipv6.conf.eth0.accept_ra"), "0");
    assert_eq!(a.sysctl("net.ipv6.conf.eth0.autoconf"), "0");
}

/// Forwarding makes the kernel ignore router advertisements unless `accept_ra` is 2.
#[test]
fn forwarding_does_not_cost_the_host_its_advertised_route() {
    if lab::is_reference() {
        lab::skip!("the reference loses it");
    }
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    lab.ip("-6 route del default via 2001:db8::2");
    lab.ip("-6 route add default via 2001:db8::2 dev uplink proto ra expires 1800");
    assert_eq!(lab.host.sysctl("net.ipv6.conf.uplink.accept_ra"), "1");
    ranges(&lab, json!([[{"subnet": "fd00:1::/64"}]])).on(&lab.container("a")).add().ok();
    assert_eq!(lab.host.sysctl("net.ipv6.conf.uplink.accept_ra"), "2");
    assert_eq!(inspect::routes_to(&lab.host, 6, "default").len(), 1);
}

#[test]
fn dual_stack_gives_one_address_of_each_family() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)}));
    let first = plugin.on(&a).add().ok();
    let second = plugin.on(&b).add().ok();
    assert_eq!(addresses(&first), ["10.88.1.2/24", "fd00:88:1::2/64"]);
    for to in [gateway(&first, 4), gateway(&first, 6), address(&second, 4), address(&second, 6)] {
        assert!(icmp::ping(&a, &to), "{to}");
    }
    assert_eq!(inspect::routes_to(&a, 6, "default").len(), 1);
}

#[test]
fn ranges_of_several_subnets_have_a_gateway_each() {
    if lab::is_reference() {
        lab::skip!("the reference gives a bridge one IPv4 address only");
    }
    let Some(lab) = Lab::new() else { return };
    let plugin = ranges(
        &lab,
        json!([[
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.10"},
            {"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.5", "rangeEnd": "10.2.0.5"},
        ]]),
    );
    let (a, b) = (lab.container("a"), lab.container("b"));
    let mut given = Vec::new();
    for container in [&a, &b] {
        let result = plugin.on(container).add().ok();
        assert!(icmp::ping(container, &gateway(&result, 4)));
        given.extend(addresses(&result));
    }
    given.sort();
    assert_eq!(given, ["10.1.0.10/24", "10.2.0.5/24"]);
}

#[test]
fn several_ranges_of_one_set_are_used_in_turn() {
    let Some(lab) = Lab::new() else { return };
    let plugin = ranges(
        &lab,
        json!([[
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.11"},
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.25", "rangeEnd": "10.1.0.25"},
        ]]),
    );
    let containers: Vec<_> = (0..4).map(|n| lab.container(&format!("c{n}"))).collect();
    let mut given = Vec::new();
    for container in &containers[..3] {
        let result = plugin.on(container).add().ok();
        assert!(icmp::ping(container, &gateway(&result, 4)));
        given.extend(addresses(&result));
    }
    given.sort();
    assert_eq!(given, ["10.1.0.10/24", "10.1.0.11/24", "10.1.0.25/24"]);
    let before = Snapshot::take(&lab);
    let full = plugin.on(&containers[3]).add();
    if lab::is_reference() {
        assert!(!full.succeeded());
        return;
    }
    full.refused(100);
    Snapshot::take(&lab).assert_same(&before, "an ADD without an address");
    assert!(inspect::link(&containers[3], "eth0").is_none());
    plugin.on(&containers[1]).del().ok();
    assert_eq!(
        addresses(&plugin.on(&containers[3]).add().ok()),
        ["10.1.0.11/24"],
        "what is given back is given again"
    );
}

#[test]
fn an_address_that_was_given_back_is_not_given_at_once() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let plugin = lab.plugin(json!({"ipam": v4(1)}));
    let first = plugin.on(&a).add().ok();
    plugin.on(&a).prev(&first).del().ok();
    assert_ne!(address(&plugin.on(&b).add().ok(), 4), address(&first, 4), "round robin");
}

#[test]
fn addresses_are_asked_for_in_three_ways() {
    let Some(lab) = Lab::new() else { return };
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)}));
    let cases = [
        (
            "args",
            plugin.args("IgnoreUnknown=1;IP=10.88.1.70;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n"),
            "10.88.1.70",
        ),
        ("cni", plugin.with(json!({"args": {"cni": {"ips": ["10.88.1.71"]}}})), "10.88.1.71"),
        ("cap", plugin.cap(json!({"ips": ["10.88.1.72/24"]})), "10.88.1.72"),
        ("cap6", plugin.cap(json!({"ips": ["fd00:88:1::77"]})), "fd00:88:1::77"),
    ];
    for (name, plugin, wanted) in cases {
        let container = lab.container(name);
        let result = plugin.on(&container).add().ok();
        assert_eq!(address(&result, if wanted.contains(':') { 6 } else { 4 }), wanted, "{name}");
        assert!(inspect::addresses(&container, "eth0").iter().any(|a| a.starts_with(&format!("{wanted}/"))));
    }
    let before = Snapshot::take(&lab);
    for (why, ip) in [("taken", "10.88.1.70"), ("outside", "10.99.0.7"), ("the gateway", "10.88.1.1")] {
        let refused = plugin.args(&format!("IP={ip}")).on(&lab.container("late")).add();
        assert!(!refused.succeeded(), "{why}: {ip} was given");
        if !lab::is_reference() {
            assert!(refused.code() > 0 && refused.words().contains(ip), "{why}: {}", refused.stdout);
            Snapshot::take(&lab).assert_same(&before, why);
        }
    }
}

#[test]
fn a_range_by_capability_is_searched_first() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": {"type": "host-local"}}));
    let result = plugin.cap(json!({"ipRanges": [[{"subnet": "10.77.0.0/24"}]]})).on(&a).add().ok();
    assert_eq!(addresses(&result), ["10.77.0.2/24"]);
    assert!(icmp::ping(&a, "10.77.0.1"));
}

#[test]
fn a_mac_is_asked_for_in_three_ways() {
    let Some(lab) = Lab::new() else { return };
    let plugin = lab.plugin(json!({"ipam": v4(1)}));
    let by_args = plugin.args("IgnoreUnknown=1;MAC=02:00:00:00:00:01");
    let by_cni = by_args.with(json!({"args": {"cni": {"mac": "02:00:00:00:00:02"}}}));
    let by_cap = by_cni.cap(json!({"mac": "02:00:00:00:00:03"}));
    for (n, plugin) in [by_args, by_cni, by_cap].iter().enumerate() {
        let container = lab.container(&format!("c{n}"));
        let result = plugin.on(&container).add().ok();
        let wanted = json!(format!("02:00:00:00:00:0{}", n + 1));
        assert_eq!(inspect::link(&container, "eth0").unwrap()["address"], wanted);
        assert_eq!(result["interfaces"][2]["mac"], wanted);
        assert!(icmp::ping(&container, &gateway(&result, 4)));
    }
}

#[test]
fn static_addresses_are_those_of_the_configuration() {
    let Some(lab) = Lab::new() else { return };
    let ipam = json!({"type": "static", "addresses": [
        {"address": "10.7.0.9/24", "gateway": "10.7.0.1"}, {"address": "fd00:7::9/64", "gateway": "fd00:7::1"},
    ], "routes": [{"dst": "10.70.0.0/16"}], "dns": {"nameservers": ["10.7.0.1"], "domain": "example"}});
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": ipam})).on(&a);
    let result = plugin.add().ok();
    assert_eq!(addresses(&result), ["10.7.0.9/24", "fd00:7::9/64"]);
    if !lab::is_reference() {
        assert_eq!(result["dns"]["nameservers"], json!(["10.7.0.1"]), "the old reference drops it");
    }
    assert!(icmp::ping(&a, "10.7.0.1") && icmp::ping(&a, "fd00:7::1"));
    assert_eq!(inspect::routes_to(&a, 4, "10.70.0.0/16")[0]["gateway"], "10.7.0.1");
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();

    let by_args = lab.plugin(json!({"ipam": {"type": "static"}})).args("IP=10.7.0.20/24;GATEWAY=10.7.0.1");
    let result = by_args.on(&lab.container("b")).add().ok();
    assert_eq!(addresses(&result), ["10.7.0.20/24"]);
    assert_eq!(gateway(&result, 4), "10.7.0.1");
    let by_cap = plugin.cap(json!({"ips": ["10.7.0.30/24"]})).on(&lab.container("c")).add().ok();
    assert_eq!(addresses(&by_cap), ["10.7.0.30/24"], "the capability replaces all");
}

#[test]
fn a_layer_two_attachment_has_no_address() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let plugin =
        lab.plugin(json!({"ipam": {}, "isGateway": false, "isDefaultGateway": false, "ipMasq": false}));
    let result = plugin.on(&a).add().ok();
    plugin.on(&b).add().ok();
    assert!(addresses(&result).is_empty());
    assert!(inspect::addresses(&a, "eth0").is_empty());
    a.ip("address add 10.9.0.1/24 dev eth0");
    b.ip("address add 10.9.0.2/24 dev eth0");
    assert!(icmp::ping(&a, "10.9.0.2"), "frames pass");
}

/// Sets of one subnet: what one set's configuration names as the gateway is on the bridge, and no container's.
#[test]
fn the_gateway_of_another_set_is_never_given() {
    if lab::is_reference() {
        lab::skip!("the reference gives it away");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let set = |start: &str, end: &str| json!({"subnet": "10.1.0.0/24", "rangeStart": start, "rangeEnd": end});
    let mut second = set("10.1.0.30", "10.1.0.40");
    second["gateway"] = json!("10.1.0.10");
    let plugin = ranges(&lab, json!([[set("10.1.0.10", "10.1.0.20")], [second]])).on(&a);
    plugin.with(json!({"runtimeConfig": {"ips": ["10.1.0.10"]}})).add().refused(7);
    assert_eq!(addresses(&plugin.add().ok()), ["10.1.0.11/24", "10.1.0.30/24"]);
}
