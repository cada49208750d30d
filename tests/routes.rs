//! Routes are applied with everything that they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::{Lab, icmp, inspect};
use serde_json::{Value, json};

fn only(mut routes: Vec<Value>, what: &str) -> Value {
    assert_eq!(routes.len(), 1, "{what}: {routes:?}");
    routes.remove(0)
}

fn metric(route: &Value, key: &str) -> Value {
    let metrics = route["metrics"].as_array().cloned().unwrap_or_default();
    metrics.iter().map(|m| m[key].clone()).find(|value| !value.is_null()).unwrap_or_default()
}

#[test]
fn each_attribute_of_a_route_reaches_the_kernel() {
    if lab::is_reference() {
        lab::skip!("the reference of Debian knows only dst and gw");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let conf = json!({"ipam": {"type": "host-local", "ranges": [
        [{"subnet": "10.88.1.0/24"}], [{"subnet": "fd00:88:1::/64"}]], "routes": [
        {"dst": "10.100.0.0/16"},
        {"dst": "10.101.0.0/16", "gw": "10.88.1.77"},
        {"dst": "10.102.0.0/16", "mtu": 1400, "advmss": 1300},
        {"dst": "10.103.0.0/16", "priority": 77},
        {"dst": "10.104.0.0/16", "table": 4242},
        {"dst": "10.105.0.0/16", "scope": 253},
        {"dst": "fd00:100::/48", "mtu": 1380, "priority": 5},
        {"dst": "fd00:101::/48", "gw": "fd00:88:1::77", "table": 4242},
    ]}});
    let plugin = lab.plugin(conf).on(&a);
    let result = plugin.add().ok();
    let to = |dst: &str| only(inspect::routes_to(&a, if dst.contains(':') { 6 } else { 4 }, dst), dst);
    assert_eq!(to("10.100.0.0/16")["gateway"], "10.88.1.1");
    assert_eq!(to("10.101.0.0/16")["gateway"], "10.88.1.77");
    let sized = to("10.102.0.0/16");
    assert_eq!((metric(&sized, "mtu"), metric(&sized, "advmss")), (json!(1400), json!(1300)));
    assert_eq!(to("10.103.0.0/16")["metric"], 77);
    assert_eq!(to("10.104.0.0/16")["table"], "4242");
    let near = to("10.105.0.0/16");
    assert_eq!(near["scope"], "link");
    assert!(near["gateway"].is_null(), "a link has no gateway: {near}");
    let six = to("fd00:100::/48");
    assert_eq!((&six["gateway"], &six["metric"]), (&json!("fd00:88:1::1"), &json!(5)));
    assert_eq!(metric(&six, "mtu"), 1380);
    let six = to("fd00:101::/48");
    assert_eq!((&six["gateway"], &six["table"]), (&json!("fd00:88:1::77"), &json!("4242")));

    let listed = result["routes"].as_array().unwrap();
    let told = listed.iter().find(|r| r["dst"] == "10.102.0.0/16").unwrap();
    assert_eq!((&told["mtu"], &told["advmss"]), (&json!(1400), &json!(1300)), "the result says so too");
    plugin.prev(&result).check().ok();
    a.ip("route del 10.104.0.0/16 table 4242");
    assert!(
        plugin.prev(&result).check().refused(120).contains("10.104.0.0/16"),
        "CHECK looks into other tables"
    );
    plugin.prev(&result).del().ok();
}

#[test]
fn a_plain_route_goes_through_the_gateway() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let mut ipam = v4(1);
    ipam["routes"] = json!([{"dst": "10.100.0.0/16"}, {"dst": "10.101.0.0/16", "gw": "10.88.1.77"}]);
    let result = lab.plugin(json!({"ipam": ipam, "isDefaultGateway": false})).on(&a).add().ok();
    assert_eq!(only(inspect::routes_to(&a, 4, "10.100.0.0/16"), "plain")["gateway"], "10.88.1.1");
    assert_eq!(only(inspect::routes_to(&a, 4, "10.101.0.0/16"), "gw")["gateway"], "10.88.1.77");
    assert!(inspect::routes_to(&a, 4, "default").is_empty());
    assert_eq!(result["routes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_default_route_of_the_configuration_is_not_doubled() {
    if lab::is_reference() {
        lab::skip!("the reference answers `file exists`, or lists it twice");
    }
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    for (n, default) in [json!({}), json!({"isDefaultGateway": false})].into_iter().enumerate() {
        let a = lab.container(&format!("c{n}"));
        let mut ipam = v4(1);
        ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        let plugin = lab.plugin(json!({"ipam": ipam})).with(default).on(&a);
        let result = plugin.add().ok();
        assert_eq!(only(inspect::routes_to(&a, 4, "default"), "default")["gateway"], "10.88.1.1");
        let told = result["routes"].as_array().unwrap().iter().filter(|r| r["dst"] == "0.0.0.0/0").count();
        assert_eq!(told, 1, "{result}");
        assert!(icmp::ping(&a, "192.0.2.2"));
        plugin.prev(&result).check().ok();
    }
}

/// The next hops to a destination in the order of the kernel's list, those of one IPv6 route among them.
fn next_hops(space: &lab::Space, family: u8, dst: &str) -> Vec<String> {
    let hops = |route: Value| match route["nexthops"].as_array() {
        Some(hops) => hops.clone(),
        None => vec![route],
    };
    let all = inspect::routes_to(space, family, dst).into_iter().flat_map(hops);
    all.map(|hop| hop["gateway"].as_str().unwrap_or("link").to_owned()).collect()
}

#[test]
fn several_routes_to_one_destination_are_all_made() {
    if lab::is_reference() {
        lab::skip!("the reference of Debian has the last first");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let conf = json!({"ipam": {"type": "host-local", "ranges": [
        [{"subnet": "10.88.1.0/24"}], [{"subnet": "fd00:88:1::/64"}]], "routes": [
        {"dst": "0.0.0.0/0"},
        {"dst": "0.0.0.0/0", "gw": "10.88.1.8"},
        {"dst": "10.100.0.0/16", "gw": "10.88.1.7"},
        {"dst": "10.100.0.0/16", "gw": "10.88.1.8"},
        {"dst": "10.100.0.0/16", "gw": "10.88.1.8"},
        {"dst": "10.101.0.0/16", "mtu": 1400},
        {"dst": "10.101.0.0/16", "mtu": 1300},
        {"dst": "10.88.1.0/24"},
        {"dst": "fd00:100::/48", "gw": "fd00:88:1::7", "mtu": 1400},
        {"dst": "fd00:100::/48", "gw": "fd00:88:1::8", "priority": 1024},
    ]}});
    let plugin = lab.plugin(conf).on(&a);
    let result = plugin.add().ok();
    assert_eq!(next_hops(&a, 4, "default"), ["10.88.1.1", "10.88.1.8"], "the first is the one that is used");
    assert_eq!(next_hops(&a, 4, "10.100.0.0/16"), ["10.88.1.7", "10.88.1.8"]);
    let sized = inspect::routes_to(&a, 4, "10.101.0.0/16");
    assert_eq!(sized.iter().map(|r| metric(r, "mtu")).collect::<Vec<_>>(), [json!(1400), json!(1300)]);
    assert_eq!(next_hops(&a, 4, "10.88.1.0/24"), ["10.88.1.1", "link"], "before the kernel's own");
    assert_eq!(next_hops(&a, 6, "fd00:100::/48"), ["fd00:88:1::7", "fd00:88:1::8"]);
    plugin.prev(&result).check().ok();
    for (family, gone) in [("-4", "10.100.0.0/16 via 10.88.1.8"), ("-6", "fd00:100::/48 via fd00:88:1::8")] {
        a.ip(&format!("{family} route del {gone}"));
        let said = plugin.prev(&result).check().refused(120);
        assert!(said.contains(gone), "{said}");
    }
    plugin.prev(&result).del().ok();
}

#[test]
fn what_an_earlier_interface_has_to_a_destination_stays_first() {
    if lab::is_reference() {
        lab::skip!("the reference puts the later interface's routes first");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let network = |n: u8| {
        let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": format!("10.88.{n}.8")},
                            {"dst": "::/0"}, {"dst": "::/0", "gw": format!("fd00:88:{n}::8")}]);
        json!({"name": format!("n{n}"), "ipam": {"type": "host-local", "ranges": [
            [{"subnet": format!("10.88.{n}.0/24")}], [{"subnet": format!("fd00:88:{n}::/64")}]], "routes": routes}})
    };
    let expected = |of: &[u8]| {
        [("10.88.", "."), ("fd00:88:", "::")].map(|(net, dot)| {
            let hops = of.iter().flat_map(|n| [1, 8].map(|at| format!("{net}{n}{dot}{at}")));
            hops.collect::<Vec<_>>()
        })
    };
    let there = || [4, 6].map(|family| next_hops(&a, family, "default"));
    let plugins = [1, 2].map(|n| lab.plugin(network(n)).on(&a).ifname(&format!("eth{n}")));
    let first = plugins[0].add().ok();
    assert_eq!(there(), expected(&[1]));
    let second = plugins[1].add().ok();
    assert_eq!(there(), expected(&[1, 2]));
    plugins[0].prev(&first).check().ok();
    plugins[1].prev(&second).check().ok();
    plugins[0].prev(&first).del().ok();
    assert_eq!(there(), expected(&[2]));
    plugins[1].prev(&second).check().ok();
}

#[test]
fn a_route_that_the_kernel_refuses_undoes_the_add() {
    if lab::is_reference() {
        lab::skip!("the reference leaves the lease and the veth pair");
    }
    let Some(lab) = Lab::new() else { return };
    let plugin = |routes: Value| {
        let set = json!([{"subnet": "10.88.1.0/24"}, {"subnet": "10.89.1.0/24"}]);
        lab.plugin(json!({"ipam": {"type": "host-local", "ranges": [set], "routes": routes}}))
    };
    let (warm, a) = (lab.container("warm"), lab.container("a"));
    plugin(json!([])).on(&warm).add().ok();
    let before = Snapshot::take(&lab);
    // The container's address is of the other range, which does not reach this gateway.
    let added =
        plugin(json!([{"dst": "10.100.0.0/16", "gw": "10.89.1.9"}])).on(&a).publish(&["8080:80"]).add();
    let said = added.refused(110);
    assert!(said.contains("10.100.0.0/16"), "{said}");
    Snapshot::take(&lab).assert_same(&before, "an ADD that failed half-way");
    assert!(inspect::link(&a, "eth0").is_none());
}
