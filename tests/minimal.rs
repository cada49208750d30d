//! `{"cniVersion":"1.1.0","name":"web","type":"linkspan"}` alone gives a container its network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use lab::outcome::{address, addresses, bridge, gateway, host_end, inner};
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Outside, icmp, inspect, talk};
use serde_json::{Value, json};

fn subnet_of(result: &Value) -> (Ipv4Addr, u32) {
    let text = addresses(result)[0].clone();
    let (address, length) = text.split_once('/').unwrap();
    let (address, length): (Ipv4Addr, u32) = (address.parse().unwrap(), length.parse().unwrap());
    (Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - length))), length)
}

#[test]
fn the_result_says_what_the_kernel_has() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let a = lab.container("a");
    let result = lab.plugin(json!({})).on(&a).add().ok();
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "{result}");
    assert_eq!(inner(&result), "eth0");
    assert_eq!(result["interfaces"][2]["sandbox"], json!(a.path));
    assert_eq!(result["ips"][0]["interface"], 2);

    assert_eq!(inspect::addresses(&a, "eth0"), addresses(&result));
    assert!(address(&result, 4).parse::<Ipv4Addr>().unwrap().is_private());
    let eth0 = inspect::link(&a, "eth0").unwrap();
    assert_eq!(eth0["address"], result["interfaces"][2]["mac"]);
    assert!(inspect::has_flag(&eth0, "UP"));
    let default = inspect::routes_to(&a, 4, "default");
    assert_eq!(default.len(), 1);
    assert_eq!(default[0]["gateway"], json!(gateway(&result, 4)));
    let listed = result["routes"].as_array().unwrap();
    assert!(listed.iter().any(|route| route["dst"] == "0.0.0.0/0"), "{result}");

    let bridge = bridge(&result);
    assert!(bridge.len() <= 15 && bridge.contains("web"), "{bridge}");
    let length = addresses(&result)[0].split('/').nth(1).unwrap().to_owned();
    assert_eq!(inspect::addresses(&lab.host, &bridge), [format!("{}/{length}", gateway(&result, 4))]);
    let link = inspect::link(&lab.host, &bridge).unwrap();
    assert_eq!(link["linkinfo"]["info_kind"], "bridge");
    assert_eq!(link["address"], result["interfaces"][0]["mac"]);
    let port = inspect::link(&lab.host, &host_end(&result)).unwrap();
    assert_eq!(port["master"], json!(bridge));
    assert_eq!(port["address"], result["interfaces"][1]["mac"]);
    assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], true);
    assert_eq!(lab.host.sysctl("net.ipv4.ip_forward"), "1");
}

#[test]
fn a_container_reaches_its_gateway_its_host_and_its_sibling() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = lab.plugin(json!({})).on(&a).add().ok();
    let second = lab.plugin(json!({})).on(&b).add().ok();
    let (ip_a, ip_b) = (address(&first, 4), address(&second, 4));
    assert_ne!(ip_a, ip_b);
    assert!(icmp::ping(&a, &gateway(&first, 4)), "the gateway");
    assert!(icmp::ping(&a, Outside::HOST4), "the host by another of its addresses");
    assert!(icmp::ping(&a, &ip_b) && icmp::ping(&b, &ip_a), "siblings");
    assert!(icmp::ping(&lab.host, &ip_a), "the host reaches the container");

    let _sibling = talk::tcp_server(&b, "0.0.0.0:80", "b");
    assert_eq!(
        talk::tcp(&a, &format!("{ip_b}:80")).peer.ip().to_string(),
        ip_a,
        "siblings are not masqueraded"
    );
    let _host = talk::tcp_server(&lab.host, "0.0.0.0:81", "host");
    let seen = talk::tcp(&a, &format!("{}:81", gateway(&first, 4)));
    assert_eq!(seen.peer.ip().to_string(), ip_a, "nor is what stays on the host");
}

#[test]
fn what_leaves_the_network_is_masqueraded() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    lab.plugin(json!({})).on(&a).add().ok();
    let _tcp = talk::tcp_server(&outside, "0.0.0.0:80", "outside");
    let _udp = talk::udp_server(&outside, "0.0.0.0:53", "outside");
    assert_eq!(talk::tcp(&a, "192.0.2.2:80").peer.ip().to_string(), Outside::HOST4);
    assert_eq!(talk::udp(&a, "192.0.2.2:53").peer.ip().to_string(), Outside::HOST4);
    assert!(icmp::ping(&a, Outside::V4));
}

#[test]
fn without_masquerade_the_container_keeps_its_address() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let result = lab.plugin(json!({"ipMasq": false})).on(&a).add().ok();
    let _tcp = talk::tcp_server(&outside, "0.0.0.0:80", "outside");
    assert_eq!(talk::tcp(&a, "192.0.2.2:80").peer.ip().to_string(), address(&result, 4));
}

/// With `br_netfilter`, frames that are only bridged go through the IP hooks too, where a careless rule would
/// masquerade them.
#[test]
fn multicast_between_siblings_keeps_its_source() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = lab.plugin(json!({})).on(&a).add().ok();
    lab.plugin(json!({})).on(&b).add().ok();
    if std::path::Path::new("/proc/sys/net/bridge").exists() {
        lab.host.set_sysctl("net.bridge.bridge-nf-call-iptables", "1");
    }
    let group: Ipv4Addr = "239.1.2.3".parse().unwrap();
    let ear = b.in_ns(|| {
        let socket = UdpSocket::bind("0.0.0.0:5000").unwrap();
        socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    });
    let mouth = a.in_ns(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let mut heard = None;
    let came = lab::eventually(talk::PATIENCE, || {
        mouth.send_to(b"hello", (group, 5000)).unwrap();
        heard = ear.recv_from(&mut [0; 16]).ok();
        heard.is_some()
    });
    assert!(came, "multicast does not reach the sibling");
    assert_eq!(heard.unwrap().1.ip().to_string(), address(&first, 4));
}

fn attach_and_detach(lab: &Lab, conf: &Value, container: &Container) -> Value {
    let plugin = lab.plugin(conf.clone()).on(container);
    let result = plugin.add().ok();
    plugin.prev(&result).del().ok();
    result
}

#[test]
fn the_choice_of_a_subnet_is_remembered_and_collides_with_no_route() {
    if lab::is_reference() {
        lab::skip!("the reference has no subnet to choose");
    }
    let conf = json!({});
    let (chosen, length) = {
        let Some(lab) = Lab::new() else { return };
        let _outside = lab.outside();
        let (a, b) = (lab.container("a"), lab.container("b"));
        let once = subnet_of(&attach_and_detach(&lab, &conf, &a));
        assert_eq!(subnet_of(&attach_and_detach(&lab, &conf, &b)), once, "remembered");
        assert!(once.0.is_private(), "{once:?}");
        let other = attach_and_detach(&lab, &json!({"name": "other"}), &a);
        assert_ne!(subnet_of(&other), once, "networks have subnets of their own");
        once
    };
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    lab.ip(&format!("route add {chosen}/{length} via 192.0.2.2"));
    let again = subnet_of(&attach_and_detach(&lab, &conf, &lab.container("a")));
    assert_ne!(again.0, chosen, "a route of the host was in the way");
}

#[test]
fn a_foreign_interface_of_the_bridges_name_is_left_alone() {
    if lab::is_reference() {
        lab::skip!("the reference has no bridge name to choose");
    }
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    lab.ip("link add lks-web type veth peer name stranger");
    let before = inspect::link(&lab.host, "lks-web").unwrap();
    let a = lab.container("a");
    let result = lab.plugin(json!({})).on(&a).add().ok();
    assert_ne!(bridge(&result), "lks-web");
    assert!(icmp::ping(&a, &gateway(&result, 4)));
    let after = inspect::link(&lab.host, "lks-web").unwrap();
    assert_eq!((&before["address"], &before["flags"]), (&after["address"], &after["flags"]));
    assert!(after["master"].is_null());
    let second = lab.plugin(json!({})).on(&lab.container("b")).add().ok();
    assert_eq!(bridge(&second), bridge(&result), "the name is remembered");
}

#[test]
fn long_network_names_have_bridges_of_their_own() {
    if lab::is_reference() {
        lab::skip!("the reference has no bridge name to choose");
    }
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let stem = "a-network-with-a-very-long-name-that-differs-only-at-its-end";
    let (a, b) = (lab.container("a"), lab.container("b"));
    let one = lab.plugin(json!({"name": format!("{stem}-1")})).on(&a).add().ok();
    let two = lab.plugin(json!({"name": format!("{stem}-2")})).on(&b).add().ok();
    assert_ne!(bridge(&one), bridge(&two));
    assert!(bridge(&one).len() <= 15 && bridge(&two).len() <= 15);
    assert!(icmp::ping(&a, &gateway(&one, 4)) && icmp::ping(&b, &gateway(&two, 4)));
}

#[test]
fn two_interfaces_of_one_container_in_two_networks() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let a = lab.container("a");
    let first = lab.plugin(json!({"ipam": lab::plugin::v4(1)})).on(&a).add().ok();
    let keys = json!({"name": "back", "isDefaultGateway": false, "ipam": lab::plugin::v4(2)});
    let second = lab.plugin(keys).on(&a).ifname("eth1").add().ok();
    assert_eq!(inner(&second), "eth1");
    assert!(icmp::ping(&a, &gateway(&first, 4)) && icmp::ping(&a, &gateway(&second, 4)));
    assert_eq!(inspect::routes_to(&a, 4, "default").len(), 1);
}

#[test]
fn del_leaves_only_what_the_network_shares() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let clean = Snapshot::take(&lab);
    let a = lab.container("a");
    let plugin = lab.plugin(json!({})).on(&a);
    let result = plugin.add().ok();
    assert!(inspect::link(&lab.host, &host_end(&result)).is_some());
    plugin.prev(&result).del().ok();
    assert!(inspect::link(&a, "eth0").is_none());
    let after = Snapshot::take(&lab);
    if !lab::is_reference() {
        let traces = [a.id.clone(), address(&result, 4), host_end(&result)];
        let traces: Vec<&str> = traces.iter().map(String::as_str).collect();
        after.assert_only_shared(&clean, &bridge(&result), &traces);
    }
    let again = plugin.add().ok();
    plugin.prev(&again).del().ok();
    Snapshot::take(&lab).assert_same(&after, "the second time round, all is as it was");
}

/// What cannot be set may be set already.
#[test]
fn settings_that_are_made_already_need_no_writing() {
    let Some(mut lab) = Lab::new() else { return };
    if lab::is_reference() {
        lab::skip!("the reference sets others");
    }
    let (first, second) = (lab.container("c1"), lab.container("c2"));
    let network = lab.plugin(json!({}));
    network.on(&first).add().ok();
    for key in ["accept_ra", "autoconf"] {
        second.set_sysctl(&format!("net.ipv6.conf.default.{key}"), "0");
    }
    lab.freeze("/proc/sys");
    let result = network.on(&second).add().ok();
    network.on(&second).prev(&result).check().ok();
}
