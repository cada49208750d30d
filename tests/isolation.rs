//! Who reaches whom: walls between networks, internal networks, containers kept apart, neighbours that route to the
//! containers. The same on each firewall, and for IPv6.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::backends::on_each_backend;
use lab::outcome::{address, bridge, gateway, host_end};
use lab::talk::{tcp_reaches, udp_reaches};
use lab::town::{closed, goes_out, open, published, town};
use lab::{Outside, icmp, inspect};
use serde_json::json;

/// Without a word written: other networks and neighbours reach what is published and nothing else.
fn a_network_has_a_wall_by_default(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let (one, two) = (town.network(1, json!({})), town.network(2, json!({"isolation": "default"})));
    let a = town.attach(&one, "a", &["8080:80"]);
    let b = town.attach(&one, "b", &[]);
    let c = town.attach(&two, "c", &["8081:80"]);
    closed(&a, &c);
    closed(&c, &a);
    closed(&town.outside, &a);
    closed(&town.outside, &c);
    assert!(!icmp::pings_briefly(&town.outside, &address(&a.result, 4)));
    assert!(!icmp::pings_briefly(&c, &address(&a.result, 6)));
    open(&a, &b);
    open(&town.lab.host, &a);
    for from in [&*town.outside, &*c, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    published(&a, 8081, true);
    goes_out(&a, true);
    goes_out(&c, true);
    a.plugin.prev(&a.result).check().ok();
    c.plugin.prev(&c.result).check().ok();
}

/// The destination's wall decides.
fn a_network_without_a_wall_is_open(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let a = town.attach(&town.network(1, json!({"isolation": "none"})), "a", &[]);
    let b = town.attach(&town.network(2, json!({})), "b", &[]);
    let c = town.attach(&town.network(3, json!({"ingressPolicy": "open"})), "c", &[]);
    open(&town.outside, &a);
    open(&b, &a);
    open(&c, &a);
    open(&a, &c);
    open(&town.outside, &c);
    closed(&a, &b);
    goes_out(&a, true);
    a.plugin.prev(&a.result).check().ok();
}

/// A strict network and another have nothing to do with each other, whichever of the two is strict.
fn a_strict_network_is_strict_both_ways(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let strict = town.network(1, json!({"isolation": "strict"}));
    let a = town.attach(&strict, "a", &["8080:80"]);
    let b = town.attach(&strict, "b", &[]);
    let c = town.attach(&town.network(2, json!({"isolation": "none"})), "c", &["8081:80"]);
    closed(&a, &c);
    closed(&c, &a);
    published(&c, 8080, false);
    published(&a, 8081, false);
    open(&a, &b);
    for from in [&*town.outside, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    published(&town.outside, 8081, true);
    closed(&town.outside, &a);
    goes_out(&a, true);
    a.plugin.prev(&a.result).check().ok();
}

fn nothing_enters_or_leaves_an_internal_network(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let asked = json!({"routes": [{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.0/24"}]});
    let inner = town.network(1, json!({"internal": true})).with(json!({"ipam": asked}));
    let a = town.attach(&inner, "a", &[]);
    assert_eq!(
        inspect::routes_to(&a, 4, "198.51.100.0/24").len(),
        1,
        "other routes are as they were asked for"
    );
    let b = town.attach(&inner, "b", &[]);
    for family in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        assert_eq!(town.lab.host.sysctl(&format!("net.{family}")), "0", "{family}: nothing is forwarded");
    }
    let c = town.attach(&town.network(2, json!({"isolation": "none"})), "c", &["8080:80"]);
    for family in [4, 6] {
        assert!(inspect::routes_to(&a, family, "default").is_empty());
        // A container with CAP_NET_ADMIN gives itself the route.
        a.ip(&format!("-{family} route add default via {}", gateway(&a.result, family)));
    }
    goes_out(&a, false);
    assert!(!icmp::pings_briefly(&a, Outside::V4) && !icmp::pings_briefly(&a, Outside::V6));
    published(&a, 8080, false);
    for stranger in [&*town.outside, &*c] {
        closed(stranger, &a);
        assert!(!icmp::pings_briefly(stranger, &address(&a.result, 6)));
    }
    closed(&a, &c);
    open(&a, &b);
    open(&town.lab.host, &a);
    assert!(icmp::ping(&a, &gateway(&a.result, 4)), "the gateway is there");
    goes_out(&c, true);
    a.plugin.prev(&a.result).check().ok();
    let d = inner.on(&town.lab.container("d")).publish(&["8081:80"]).add();
    d.ok();
    assert!(d.stderr.contains("publishes no ports by it"), "{}", d.stderr);
}

/// Neither at layer 2 nor by way of the gateway; and no `br_netfilter` is needed.
fn containers_are_kept_apart(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    town.bridged_packets_are_seen("0");
    let apart = town.network(1, json!({"icc": false}));
    let a = town.attach(&apart, "a", &["8080:80"]);
    let b = town.attach(&apart, "b", &[]);
    closed(&a, &b);
    closed(&b, &a);
    let link = inspect::link(&town.lab.host, &host_end(&a.result)).unwrap();
    assert_eq!(link["linkinfo"]["info_slave_data"]["isolated"], true);
    for family in [4, 6] {
        let bits = if family == 4 { 32 } else { 128 };
        let to = address(&b.result, family);
        a.ip(&format!("-{family} route add {to}/{bits} via {}", gateway(&a.result, family)));
        assert!(icmp::ping(&a, &gateway(&a.result, family)), "the gateway is seen");
        // Two legs are needed: the answer, too, has to go by way of the gateway.
        let back = address(&a.result, family);
        b.ip(&format!("-{family} route add {back}/{bits} via {}", gateway(&b.result, family)));
    }
    closed(&a, &b);
    for from in [&*town.outside, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    goes_out(&a, true);
    open(&town.lab.host, &b);
    a.plugin.prev(&a.result).check().ok();
    // Where the firewall sees bridged packets, the kernel bridges what was translated to a sibling, and isolated
    // ports do not see each other.
    if town.bridged_packets_are_seen("1") {
        closed(&a, &b);
        published(&b, 8080, false);
        published(&town.outside, 8080, true);
    }
}

/// Interfaces by name and by a wildcard; networks are let in by their own name alone.
fn trusted_interfaces_are_let_in(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    for (n, trusted, neighbour, other) in [
        (1, json!(["uplink"]), true, false),
        (2, json!(["eth7", "upl*"]), true, false),
        (3, json!(["*"]), true, false),
        (4, json!(["down*", "lks*"]), false, false),
        (5, json!(["lks-net9"]), false, true),
    ] {
        let what = trusted.to_string();
        let a = town.attach(&town.network(n, json!({"trustedInterfaces": trusted})), &format!("a{n}"), &[]);
        let c = town.attach(&town.network(9, json!({})), &format!("c{n}"), &[]);
        let (four, six) = (format!("{}:80", a.at()[0]), format!("{}:53", a.at()[1]));
        assert_eq!(tcp_reaches(&town.outside, &four, neighbour), neighbour, "{what}");
        assert_eq!(udp_reaches(&town.outside, &six, neighbour), neighbour, "{what}");
        let (six, four) = (format!("{}:80", a.at()[1]), format!("{}:53", a.at()[0]));
        assert_eq!(tcp_reaches(&c, &six, other), other, "{what}");
        assert_eq!(udp_reaches(&c, &four, other), other, "{what}");
        a.plugin.prev(&a.result).check().ok();
    }
}

/// Networks may share a bridge, whatever each says: the strictest word holds.
fn networks_that_share_a_bridge_share_its_wall(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let one = town.network(1, json!({"bridge": "shared", "isolation": "default"}));
    let two = town.network(1, json!({"name": "two", "bridge": "shared", "isolation": "strict"}));
    let a = town.attach(&one, "a", &["8080:80"]);
    let ipam = json!({"ranges": [[{"subnet": "10.88.1.0/24", "rangeStart": "10.88.1.100"}],
        [{"subnet": "fd00:88:1::/64", "rangeStart": "fd00:88:1::100"}]]});
    let b = town.attach(&two.with(json!({"ipam": ipam})), "b", &[]);
    let c = town.attach(&town.network(3, json!({})), "c", &[]);
    assert_eq!(bridge(&a.result), bridge(&b.result));
    open(&a, &b);
    closed(&c, &a);
    closed(&town.outside, &b);
    published(&c, 8080, false);
    published(&town.outside, 8080, true);
    a.plugin.prev(&a.result).check().ok();
    b.plugin.prev(&b.result).check().ok();
}

on_each_backend! {
    a_network_has_a_wall_by_default,
    a_network_without_a_wall_is_open,
    a_strict_network_is_strict_both_ways,
    nothing_enters_or_leaves_an_internal_network,
    containers_are_kept_apart,
    trusted_interfaces_are_let_in,
    networks_that_share_a_bridge_share_its_wall,
}
