//! The face `macvlan` beside the reference plugin of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::faces::{Two, VERSIONS, Whose, plugin, refusal, shape, two};
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_reaches, tcp_server};
use lab::{Container, Lab, Outside, inspect};
use serde_json::{Value, json};

/// Addresses of the network that the uplink is on.
fn on_uplink() -> Value {
    json!({"name": "lan", "master": "uplink", "ipam": {
        "type": "host-local",
        "ranges": [
            [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100", "rangeEnd": "192.0.2.110", "gateway": "192.0.2.2"}],
            [{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::100", "rangeEnd": "2001:db8::110"}],
        ],
        "routes": [{"dst": "0.0.0.0/0"}],
    }})
}

/// A first attachment, after which the network's own files are there.
fn warm_up(lab: &Lab, macvlan: &lab::Plugin) {
    let first = lab.container("first");
    macvlan.on(&first).add().ok();
    // Debian's version does not know this one.
    let announced = first.must(&["cat", "/proc/sys/net/ipv6/conf/eth0/ndisc_notify"]);
    assert_eq!(announced.trim(), "1");
    macvlan.on(&first).del().ok();
}

fn view(container: &Container) -> Value {
    let link = inspect::link(container, "eth0").expect("eth0 is there");
    let mut routes: Vec<String> = [4, 6]
        .into_iter()
        .flat_map(|family| inspect::routes(container, family))
        .filter(|r| r["table"] != "local" && r["dst"] != "fe80::/64" && r["dst"] != "ff00::/8")
        .map(|r| json!([r["dst"], r["gateway"], r["dev"], r["prefsrc"], r["scope"]]).to_string())
        .collect();
    routes.sort();
    let sysctl = |key: &str| container.must(&["cat", &format!("/proc/sys/net/{key}")]).trim().to_owned();
    let addresses = inspect::addresses(container, "eth0");
    // Without an address there is nothing to announce, and whether it would be does not matter.
    let announced = if addresses.is_empty() { String::new() } else { sysctl("ipv4/conf/eth0/arp_notify") };
    json!({
        "kind": link["linkinfo"]["info_kind"], "mode": link["linkinfo"]["info_data"]["mode"],
        "queue": link["linkinfo"]["info_data"]["bcqueuelen"], "mtu": link["mtu"],
        "up": inspect::has_flag(&link, "UP"), "addresses": addresses, "routes": routes,
        "arp_notify": announced, "accept_ra": sysctl("ipv6/conf/eth0/accept_ra"),
    })
}

#[test]
fn the_same_device_addresses_and_result_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let before = Snapshot::take(&lab);
    for version in VERSIONS {
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let a = lab.container("a");
            let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
            let conf = json!({"cniVersion": version, "mtu": 1400});
            let macvlan = plugin(&lab, whose, "macvlan", on_uplink()).with(conf).on(&a);
            let result = macvlan.add().ok();
            let _server = tcp_server(&a, "0.0.0.0:80", "a");
            assert_eq!(tcp(&outside, "192.0.2.100:80").peer.ip().to_string(), Outside::V4);
            seen.push((shape(result.clone()), view(&a)));
            if version >= "0.4.0" {
                macvlan.prev(&result).check().ok();
            }
            macvlan.prev(&result).del().ok();
            assert!(inspect::link(&a, "eth0").is_none());
            macvlan.del().ok();
        }
        assert_eq!(seen[0], seen[1], "{version}");
        let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
    }
    Snapshot::take(&lab).assert_same(&before, "after all of them");
}

#[test]
fn every_mode_and_key_is_as_theirs() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let table = [
        json!({"mode": "bridge"}),
        json!({"mode": "private"}),
        json!({"mode": "vepa"}),
        json!({"mode": "passthru", "ipam": null}),
        json!({"master": null}),
        json!({"ipam": {}, "mac": "02:00:5e:10:00:07"}),
        json!({"ipam": null}),
    ];
    for keys in table {
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let a = lab.container("a");
            let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
            let macvlan = plugin(&lab, whose, "macvlan", on_uplink()).with(keys.clone()).on(&a);
            let result = macvlan.add().ok();
            let mac = inspect::link(&a, "eth0").unwrap()["address"].clone();
            assert_eq!(result["interfaces"][0]["mac"], mac, "{whose:?} {keys}");
            if keys["mac"].is_string() {
                assert_eq!(mac, keys["mac"]);
            }
            if keys["mode"] == "passthru" {
                assert_eq!(mac, inspect::link(&lab.host, "uplink").unwrap()["address"]);
            }
            macvlan.prev(&result).check().ok();
            seen.push((shape(result.clone()), view(&a)));
            macvlan.del().ok();
        }
        assert_eq!(seen[0], seen[1], "{keys}");
    }
}

#[test]
fn containers_of_one_device_meet_by_their_mode() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    for (mode, meet) in [("bridge", true), ("private", false)] {
        let macvlan = plugin(&lab, Whose::Ours, "macvlan", on_uplink()).with(json!({"mode": mode}));
        let Two { a: (a, ra), b: (b, rb), .. } = &two(&lab, &macvlan);
        let to_b = format!("{}:80", address(rb, 4));
        assert_eq!(tcp(&outside, &to_b).tag, "b");
        assert_eq!(tcp_reaches(a, &to_b, meet), meet, "{mode}");
        macvlan.on(a).prev(ra).del().ok();
        macvlan.on(b).prev(rb).del().ok();
    }
}

#[test]
fn the_mac_comes_from_key_arguments_and_capability() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let mac = |n: u8| format!("02:00:00:00:00:0{n}");
    for whose in Whose::BOTH {
        let base = plugin(&lab, whose, "macvlan", on_uplink()).with(json!({"mac": mac(1), "ipam": null}));
        let args = base.args(&format!("IgnoreUnknown=1;MAC={}", mac(2)));
        let capable = args.cap(json!({"mac": mac(3)})).with(json!({"args": {"cni": {"mac": mac(4)}}}));
        for (n, macvlan) in [(1, base), (2, args), (3, capable)] {
            let a = lab.container("a");
            let result = macvlan.on(&a).add().ok();
            assert_eq!(result["interfaces"][0]["mac"], mac(n), "{whose:?}");
            macvlan.on(&a).del().ok();
        }
    }
}

#[test]
fn a_device_in_the_container_can_be_the_lower_one() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Vec::new();
    for whose in Whose::BOTH {
        let a = lab.container("a");
        a.ip("link add below type veth peer name other");
        a.ip("link set below up");
        let conf = json!({"name": "lan", "master": "below", "linkInContainer": true, "mtu": 1300});
        let macvlan = plugin(&lab, whose, "macvlan", conf).on(&a);
        // Debian's version does not know the key, and looks on the host.
        let outcome = macvlan.add();
        if whose == Whose::Theirs && !outcome.succeeded() {
            continue;
        }
        let result = outcome.ok();
        seen.push(view(&a));
        macvlan.prev(&result).check().ok();
        a.ip("link del other");
        assert!(inspect::link(&a, "eth0").is_none(), "it goes with the lower one");
        macvlan.del().ok();
    }
    assert_eq!(seen[0]["mtu"], 1300);
    assert_eq!(seen[0]["kind"], "macvlan");
    assert!(seen.len() == 1 || seen[0] == seen[1]);
}

#[test]
fn a_name_that_the_host_has_too_is_no_obstacle_and_a_failed_add_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    lab.ip("link add eth0 type veth peer name other");
    let a = lab.container("a");
    let macvlan = plugin(&lab, Whose::Ours, "macvlan", on_uplink()).on(&a);
    warm_up(&lab, &macvlan);
    let before = Snapshot::take(&lab);
    macvlan.add().ok();
    macvlan.del().ok();
    let bad_route = json!({"ipam": {"routes": [{"dst": "198.51.100.0/24", "gw": "203.0.113.1"}]}});
    macvlan.with(bad_route).add().refused(999);
    let links: Vec<Value> =
        inspect::links(&a).iter().map(|l| l["ifname"].clone()).filter(|n| n != "sit0").collect();
    assert_eq!(links, ["lo"]);
    Snapshot::take(&lab).assert_same(&before, "after DEL and a refusal");
}

/// MACs that follow from the address would be one, which the kernel does not give twice over one device.
#[test]
fn two_networks_over_one_device_may_give_the_same_address() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let of = |name: &str, container: &Container| {
        let keys = json!({"name": name, "mode": "private"});
        plugin(&lab, Whose::Ours, "macvlan", on_uplink()).with(keys).on(container)
    };
    let (ra, rb) = (of("blue", &a).add().ok(), of("green", &b).add().ok());
    assert_eq!(address(&ra, 4), address(&rb, 4));
    for (name, container, result) in [("blue", &a, &ra), ("green", &b, &rb)] {
        let link = inspect::link(container, "eth0").unwrap();
        assert_eq!(link["address"], result["interfaces"][0]["mac"], "{name}");
        of(name, container).prev(result).check().ok();
        let routes = inspect::routes_to(container, 4, "default");
        assert_eq!(routes.len(), 1, "{name}: {routes:?}");
    }
    assert_ne!(ra["interfaces"][0]["mac"], rb["interfaces"][0]["mac"]);
    // Who asks for one gets that or nothing.
    let taken = ra["interfaces"][0]["mac"].as_str().unwrap();
    of("red", &c).add().ok();
    of("red", &c).del().ok();
    let before = Snapshot::take(&lab);
    let asked = of("red", &c).cap(json!({"mac": taken})).add();
    assert!(asked.refused(999).contains(taken), "{}", asked.words());
    Snapshot::take(&lab).assert_same(&before, "refused");
    for (name, container, result) in [("blue", &a, &ra), ("green", &b, &rb)] {
        of(name, container).prev(result).del().ok();
        assert!(inspect::link(container, "eth0").is_none());
    }
}

#[test]
fn check_status_gc_and_a_lost_namespace() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let (a, b) = (lab.container("a"), lab.container("b"));
    let macvlan = plugin(&lab, Whose::Ours, "macvlan", on_uplink()).with(json!({"cniVersion": "1.1.0"}));
    warm_up(&lab, &macvlan);
    let before = Snapshot::take(&lab);
    macvlan.status().ok();
    assert!(macvlan.with(json!({"master": "nowhere"})).status().refused(50).contains("nowhere"));
    let (ra, rb) = (macvlan.on(&a).add().ok(), macvlan.on(&b).add().ok());
    let on_a = macvlan.on(&a).prev(&ra);
    on_a.check().ok();
    on_a.with(json!({"cniVersion": "1.1.0"})).add().refused(999);
    a.ip(&format!("address del {}/24 dev eth0", address(&ra, 4)));
    assert!(on_a.check().refused(999).contains(&address(&ra, 4)));
    macvlan.gc(&[(&b.id, "eth0")]).ok();
    assert!(inspect::link(&a, "eth0").is_none());
    macvlan.on(&b).prev(&rb).check().ok();
    b.unbind();
    let on_b = macvlan.on(&b).prev(&rb);
    drop(b);
    on_b.del().ok();
    on_b.without("CNI_NETNS").del().ok();
    // The kernel takes its time with a namespace that is gone.
    let same = || Snapshot::take(&lab).differs(&before).is_none();
    assert!(lab::eventually(lab::talk::PATIENCE, same), "{:?}", Snapshot::take(&lab).differs(&before));
}

#[test]
fn bad_input_is_refused_side_by_side() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let a = lab.container("a");
    let before = Snapshot::take(&lab);
    let table = [
        (json!({"master": "nowhere"}), 999, "Link not found"),
        (json!({"mode": "sideways"}), 999, "unknown macvlan mode"),
        (json!({"mtu": 9000}), 999, "invalid MTU 9000, must be [0, master MTU(1500)]"),
        (json!({"mac": "x"}), 999, ""),
        (json!({"mtu": "x"}), 999, "mtu"),
    ];
    for (keys, code, words) in table {
        for whose in Whose::BOTH {
            let macvlan = plugin(&lab, whose, "macvlan", on_uplink()).with(keys.clone()).on(&a);
            let (status, found, text) = refusal(&macvlan.add());
            assert_eq!(status, Some(1), "{whose:?} {keys}");
            assert!(text.contains(words), "{whose:?} {keys}: {text}");
            if whose == Whose::Ours {
                assert_eq!(found, code, "{keys}: {text}");
            }
        }
    }
    lab.ip("route del default");
    lab.ip("-6 route del default");
    for whose in Whose::BOTH {
        let macvlan = plugin(&lab, whose, "macvlan", on_uplink()).with(json!({"master": null})).on(&a);
        assert!(refusal(&macvlan.add()).2.contains("no default route interface found"), "{whose:?}");
    }
    lab.ip("route add default via 192.0.2.2");
    lab.ip("-6 route add default via 2001:db8::2");
    Snapshot::take(&lab).assert_same(&before, "after refusals");
}

#[test]
fn what_one_attached_the_other_checks_and_detaches() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    for (adder, other) in [(Whose::Theirs, Whose::Ours), (Whose::Ours, Whose::Theirs)] {
        let a = lab.container("a");
        let of = |whose| plugin(&lab, whose, "macvlan", on_uplink()).on(&a);
        let result = of(adder).add().ok();
        of(other).prev(&result).check().ok();
        of(other).prev(&result).del().ok();
        assert!(inspect::link(&a, "eth0").is_none(), "{adder:?} attached, {other:?} detached");
        assert!(
            !std::path::Path::new(&format!("/var/lib/cni/networks/lan/{}", address(&result, 4))).exists()
        );
        of(adder).prev(&result).del().ok();
    }
}
