//! Each key of the reference `bridge`, seen in the kernel and in traffic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::faces::{Whose, plugin};
use lab::outcome::{address, bridge, gateway, host_end};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::{Lab, icmp, inspect};
use serde_json::json;

#[test]
fn mtu_is_set_on_both_ends() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let result = lab.plugin(json!({"mtu": 1400, "ipam": v4(1)})).on(&a).add().ok();
    assert_eq!(inspect::link(&a, "eth0").unwrap()["mtu"], 1400);
    assert_eq!(inspect::link(&lab.host, &host_end(&result)).unwrap()["mtu"], 1400);
    assert_eq!(inspect::link(&lab.host, &bridge(&result)).unwrap()["mtu"], 1400);
    assert!(icmp::ping(&a, &gateway(&result, 4)));
}

#[test]
fn the_bridge_keeps_its_mac_when_ports_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    let plugin = lab.plugin(json!({"ipam": v4(1)}));
    let mac = |name: &str| inspect::link(&lab.host, name).unwrap()["address"].clone();
    let first = plugin.on(&lab.container("a")).add().ok();
    let pinned = mac(&bridge(&first));
    for n in 0..4 {
        let container = lab.container(&format!("c{n}"));
        let result = plugin.on(&container).add().ok();
        assert_eq!(mac(&bridge(&result)), pinned);
        plugin.on(&container).prev(&result).del().ok();
        assert_eq!(mac(&bridge(&result)), pinned);
    }
}

/// A port takes nothing for itself. What it forwards is not concerned, and a host end that is the gateway needs its own.
#[test]
fn a_port_has_no_ipv6_of_its_own() {
    let Some(lab) = Lab::new() else { return };
    if lab::is_reference() {
        lab::skip!("the reference leaves it on");
    }
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let web = lab.plugin(json!({"ipam": dual_stack(1)}));
    let (first, second) = (web.on(&a).add().ok(), web.on(&b).add().ok());
    let end = host_end(&first);
    assert_eq!(lab.host.sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6")), "1");
    assert_eq!(inspect::address_rows(&lab.host, &end), Vec::<serde_json::Value>::new());
    assert!(!lab.host.ip("-6 route show table all").contains(&end));
    assert!(icmp::ping(&a, &address(&second, 6)) && icmp::ping(&a, &gateway(&first, 6)));
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]);
    let conf = json!({"name": "p2p", "ipam": {"type": "host-local", "ranges": ranges}});
    let third = plugin(&lab, Whose::Ours, "ptp", conf).on(&c).add().ok();
    let end = third["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(lab.host.sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6")), "0");
}

#[test]
fn hairpin_and_promiscuous_mode() {
    let Some(lab) = Lab::new() else { return };
    let hairpin = |name: &str| {
        inspect::link(&lab.host, name).unwrap()["linkinfo"]["info_slave_data"]["hairpin"].clone()
    };
    let promiscuous = |name: &str| inspect::has_flag(&inspect::link(&lab.host, name).unwrap(), "PROMISC");
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let on = lab.plugin(json!({"ipam": v4(1)})).on(&a).add().ok();
    assert_eq!(hairpin(&host_end(&on)), true, "the default");
    assert!(!promiscuous(&bridge(&on)));
    let keys = json!({"name": "off", "hairpinMode": false, "ipam": v4(2)});
    let off = lab.plugin(keys).on(&b).add().ok();
    assert_eq!(hairpin(&host_end(&off)), false);
    let keys = json!({"name": "promisc", "promiscMode": true, "ipam": v4(3)});
    let plugin = lab.plugin(keys).on(&c);
    let promisc = plugin.add().ok();
    assert!(promiscuous(&bridge(&promisc)));
    assert_eq!(hairpin(&host_end(&promisc)), false, "one of the two");
    plugin.prev(&promisc).check().ok();
}

#[test]
fn isolated_ports_do_not_see_each_other() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let open = lab.plugin(json!({"name": "open", "ipam": v4(1)}));
    let open = [open.on(&a).add().ok(), open.on(&b).add().ok()];
    assert!(icmp::ping(&a, &address(&open[1], 4)), "the control");
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no portIsolation");
    }
    let shut =
        lab.plugin(json!({"name": "shut", "portIsolation": true, "isDefaultGateway": false, "ipam": v4(2)}));
    let shut = [shut.on(&a).ifname("eth1").add().ok(), shut.on(&b).ifname("eth1").add().ok()];
    assert!(!icmp::pings_briefly(&a, &address(&shut[1], 4)));
    assert!(icmp::ping(&a, &gateway(&shut[0], 4)), "the gateway is seen");
    let link = inspect::link(&lab.host, &host_end(&shut[0])).unwrap();
    assert_eq!(link["linkinfo"]["info_slave_data"]["isolated"], true);
}

#[test]
fn a_forged_mac_gets_nowhere_with_macspoofchk() {
    let Some(lab) = Lab::new() else { return };
    let forge = |container: &lab::Container| {
        container.ip("link set eth0 down");
        container.ip("link set eth0 address 02:de:ad:be:ef:01");
        container.ip("link set eth0 up");
    };
    let (open, shut) = (lab.container("open"), lab.container("shut"));
    let without = lab.plugin(json!({"name": "open", "ipam": v4(1)})).on(&open).add().ok();
    forge(&open);
    assert!(icmp::ping(&open, &gateway(&without, 4)), "without the check the attack succeeds");
    let plugin = lab.plugin(json!({"name": "shut", "macspoofchk": true, "ipam": v4(2)})).on(&shut);
    let with = plugin.add().ok();
    assert!(icmp::ping(&shut, &gateway(&with, 4)), "the honest MAC");
    plugin.prev(&with).check().ok();
    forge(&shut);
    assert!(!icmp::pings_briefly(&shut, &gateway(&with, 4)), "the forged MAC");
    plugin.prev(&with).del().ok();
    Snapshot::take(&lab).assert_without(&[&host_end(&with), &shut.id]);
}

#[test]
fn duplicate_address_detection_is_an_option() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).add().ok();
    assert_eq!(a.sysctl("net.ipv6.conf.eth0.accept_dad"), "0");
    let result =
        lab.plugin(json!({"name": "dad", "enabledad": true, "ipam": dual_stack(2)})).on(&b).add().ok();
    assert_eq!(b.sysctl("net.ipv6.conf.eth0.accept_dad"), "1");
    assert!(icmp::ping(&b, &gateway(&result, 6)));
    let rows = inspect::address_rows(&b, "eth0");
    assert!(rows.iter().all(|row| row["dadfailed"] != true), "{rows:?}");
}

#[test]
fn a_bridge_without_a_gateway_has_no_address() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let keys = json!({"isGateway": false, "isDefaultGateway": false, "ipMasq": false, "ipam": v4(1)});
    let plugin = lab.plugin(keys);
    let first = plugin.on(&a).add().ok();
    let second = plugin.on(&b).add().ok();
    assert!(inspect::addresses(&lab.host, &bridge(&first)).is_empty());
    assert!(inspect::routes_to(&a, 4, "default").is_empty());
    assert!(icmp::ping(&a, &address(&second, 4)), "siblings talk");
    plugin.on(&a).prev(&first).check().ok();
}

#[test]
fn a_gateway_need_not_be_the_default_one() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let result = lab.plugin(json!({"isDefaultGateway": false, "ipam": v4(1)})).on(&a).add().ok();
    assert!(inspect::routes_to(&a, 4, "default").is_empty());
    assert!(icmp::ping(&a, &gateway(&result, 4)));
    assert_eq!(inspect::addresses(&lab.host, &bridge(&result)), ["10.88.1.1/24"]);
}

#[test]
fn an_address_in_the_way_needs_force() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add br0 type bridge");
    lab.ip("address add 10.88.1.9/24 dev br0");
    let (a, b) = (lab.container("a"), lab.container("b"));
    let before = Snapshot::take(&lab);
    let plugin = lab.plugin(json!({"bridge": "br0", "ipam": v4(1)}));
    let refused = plugin.on(&a).add();
    if lab::is_reference() {
        assert!(!refused.succeeded());
    } else {
        refused.code();
        assert!(
            refused.words().contains("br0") && refused.words().contains("10.88.1.9"),
            "{}",
            refused.stdout
        );
        Snapshot::take(&lab).assert_same(&before, "another address is on the bridge");
    }
    plugin.with(json!({"forceAddress": true})).on(&b).add().ok();
    assert_eq!(inspect::addresses(&lab.host, "br0"), ["10.88.1.1/24"]);
    assert!(icmp::ping(&b, "10.88.1.1"));
}

#[test]
fn force_replaces_a_gateway_of_another_prefix() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add br0 type bridge");
    lab.ip("link set br0 up");
    lab.ip("address add fd00:9::1/64 dev br0 nodad");
    let a = lab.container("a");
    let ipam = json!({"type": "host-local", "subnet": "fd00:9::/48", "rangeStart": "fd00:9:0:5::2"});
    let plugin = lab.plugin(json!({"bridge": "br0", "forceAddress": true, "ipam": ipam})).on(&a);
    let result = plugin.add().ok();
    let scopes = inspect::addresses(&lab.host, "br0");
    assert!(scopes.iter().any(|address| address == "fd00:9::1/48"), "{scopes:?}");
    assert!(scopes.iter().all(|address| address != "fd00:9::1/64"), "{scopes:?}");
    plugin.prev(&result).check().ok();
}

/// A container that says it is a router is not believed by a host that is the router.
#[test]
fn a_bridge_with_our_gateway_learns_no_routes() {
    let Some(lab) = Lab::new() else { return };
    let accept = "net.ipv6.conf.br0.accept_ra";
    lab.ip("link add br0 type bridge");
    lab.host.set_sysctl(accept, "1");
    lab.ip("link set br0 up");
    let a = lab.container("a");
    lab.plugin(json!({"bridge": "br0", "ipam": dual_stack(1)})).on(&a).add().ok();
    assert_eq!(lab.host.sysctl(accept), "0");
}

#[test]
fn a_bridge_of_the_administrators_is_used_and_stays() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add br0 mtu 1300 type bridge");
    lab.ip("link set br0 up");
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"bridge": "br0", "ipam": v4(1)})).on(&a);
    let result = plugin.add().ok();
    assert_eq!(bridge(&result), "br0");
    assert!(icmp::ping(&a, "10.88.1.1"));
    plugin.prev(&result).del().ok();
    assert!(inspect::link(&lab.host, "br0").is_some());
}

#[test]
fn the_interface_in_the_container_can_be_left_down() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no disableContainerInterface");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let keys = json!({"disableContainerInterface": true, "isGateway": false, "isDefaultGateway": false,
        "ipMasq": false, "ipam": {}});
    let plugin = lab.plugin(keys).on(&a);
    let result = plugin.add().ok();
    let eth0 = inspect::link(&a, "eth0").unwrap();
    assert!(!inspect::has_flag(&eth0, "UP"), "{eth0}");
    plugin.prev(&result).check().ok();
}

#[test]
fn vlans() {
    let Some(lab) = Lab::new() else { return };
    if !lab.host.exec(&["ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"]).ok {
        lab::skip!("this kernel has no VLAN filtering of bridges (CONFIG_BRIDGE_VLAN_FILTERING)");
    }
    let containers: Vec<_> = (0..3).map(|n| lab.container(&format!("c{n}"))).collect();
    let keys = json!({"isGateway": false, "isDefaultGateway": false, "ipMasq": false, "ipam": v4(1)});
    let results: Vec<_> = [100, 100, 200]
        .iter()
        .zip(&containers)
        .map(|(vlan, c)| lab.plugin(keys.clone()).with(json!({"vlan": vlan})).on(c).add().ok())
        .collect();
    assert!(icmp::ping(&containers[0], &address(&results[1], 4)), "the same VLAN");
    assert!(!icmp::pings_briefly(&containers[0], &address(&results[2], 4)), "another VLAN");
    let vlans = lab.host.must(&["bridge", "-j", "vlan", "show", "dev", &host_end(&results[0])]);
    assert!(vlans.contains("100") && !vlans.contains("\"vlan\":1,"), "{vlans}");
}

/// Where the kernel cannot keep VLANs apart, a configuration that asks for it is refused, not half obeyed.
#[test]
fn vlans_are_refused_where_the_kernel_has_none() {
    let Some(lab) = Lab::new() else { return };
    if lab.host.exec(&["ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"]).ok {
        lab::skip!("this kernel has VLAN filtering of bridges");
    }
    let a = lab.container("a");
    let refused = lab.plugin(json!({"vlan": 100, "ipam": v4(1)})).on(&a).add();
    assert!(!refused.succeeded());
    if !lab::is_reference() {
        refused.code();
        Snapshot::take(&lab).assert_without(&[&a.id]);
    }
    assert!(inspect::link(&a, "eth0").is_none());
}

#[test]
fn an_interface_that_is_there_already_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": v4(1)})).on(&a);
    plugin.add().ok();
    let before = Snapshot::take(&lab);
    let again = plugin.add();
    assert!(!again.succeeded());
    if !lab::is_reference() {
        again.refused(103);
        Snapshot::take(&lab).assert_same(&before, "a duplicate attachment");
    }
    let b = lab.container("b");
    b.ip("link add eth0 type bridge");
    let foreign = lab.plugin(json!({"ipam": v4(1)})).on(&b).add();
    assert!(!foreign.succeeded());
    if !lab::is_reference() {
        assert!(foreign.refused(101).contains("eth0"));
        Snapshot::take(&lab).assert_same(&before, "a foreign interface of the name");
    }
    assert_eq!(inspect::link(&b, "eth0").unwrap()["linkinfo"]["info_kind"], "bridge");
}
