//! The face `bridge` beside Debian's: the same configuration, the same result and the same host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::BTreeMap;
use std::fs;

use lab::chain::Bin;
use lab::outcome::{address, gateway, host_end};
use lab::talk::{tcp, tcp_server};
use lab::{Container, Lab, Outcome, icmp, inspect, programs};
use serde_json::{Value, json};

const NET: &str = "10.90.1.0/24";

fn ipam(n: u8) -> Value {
    json!({"type": "host-local", "subnet": format!("10.90.{n}.0/24"), "routes": [{"dst": "0.0.0.0/0"}]})
}

fn dual() -> Value {
    json!({
        "type": "host-local", "ranges": [[{"subnet": NET}], [{"subnet": "fd00:90:1::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.50.0.0/16", "gw": "10.90.1.7"}],
    })
}

/// Configurations that both must treat alike.
fn configurations() -> Vec<Value> {
    let fixed = json!({
        "type": "static", "addresses": [{"address": "10.90.1.9/24", "gateway": "10.90.1.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    vec![
        json!({"ipam": ipam(1)}),
        json!({"isGateway": true, "ipam": ipam(1)}),
        json!({"isDefaultGateway": true, "ipam": {"type": "host-local", "subnet": NET}}),
        json!({"isGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": 1400, "ipam": dual()}),
        json!({"bridge": "br9", "isGateway": true, "promiscMode": true, "ipam": ipam(1), "dns": {"domain": "x"}}),
        json!({"isGateway": true, "ipam": fixed}),
        json!({"isGateway": true, "ipam": fixed, "dns": {"nameservers": ["1.1.1.1"]}}),
        json!({
            "isGateway": true, "ipam": ipam(1), "args": {"cni": {"mac": "02:00:00:00:00:02"}},
            "runtimeConfig": {"mac": "02:00:00:00:00:03", "ips": ["10.90.1.77"], "dns": {"servers": ["9.9.9.9"]}},
        }),
        json!({"isGateway": true, "ipam": ipam(1), "args": {"cni": {"mac": "02:00:00:00:00:02", "ips": ["10.90.1.50"]}}}),
        json!({"BRIDGE": "upper", "isgateway": true, "unknownKey": 1, "ipam": ipam(1), "backend": "none", "snat": 5}),
        json!({}),
        json!({"ipam": {}}),
    ]
}

/// A result with what is chosen freely left out: names, addresses of hardware that nobody asked for.
fn comparable(mut result: Value, asked_mac: bool) -> Value {
    if let Some(interfaces) = result["interfaces"].as_array_mut() {
        for (index, interface) in interfaces.iter_mut().enumerate() {
            if index == 1 {
                interface["name"] = json!("host end");
            }
            if index != 2 || !asked_mac {
                assert_eq!(interface["mac"].as_str().unwrap().len(), 17);
                interface["mac"] = json!("any");
            }
        }
    }
    // 1.1.1 prints an empty one in every version, the specification none since 1.0.0.
    if result["dns"] == json!({}) {
        result.as_object_mut().unwrap().remove("dns");
    }
    result
}

/// What the host and the container are like, as far as both have to agree.
fn surroundings(lab: &Lab, container: &Container, bridge: &str) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut put = |key: String, value: String| facts.insert(key, value);
    for family in [4, 6] {
        for (place, space, device) in [("host", &lab.host, bridge), ("container", &**container, "eth0")] {
            for route in inspect::routes(space, family) {
                let (dst, dev) = (route["dst"].as_str().unwrap(), route["dev"].as_str().unwrap_or(""));
                if dev == device
                    && !dst.starts_with("fe80")
                    && !dst.starts_with("ff00")
                    && route["table"] != "local"
                {
                    put(format!("{place} route {dst} {dev}"), route["gateway"].to_string());
                }
            }
        }
    }
    for (place, space, device) in [("host", &lab.host, bridge), ("container", &**container, "eth0")] {
        let own: Vec<String> =
            inspect::addresses(space, device).into_iter().filter(|a| !a.starts_with("fe80")).collect();
        put(format!("{place} addresses"), format!("{own:?}"));
        let link = inspect::link(space, device).unwrap();
        put(format!("{place} mtu"), link["mtu"].to_string());
        put(format!("{place} promiscuous"), inspect::has_flag(&link, "PROMISC").to_string());
    }
    put("forwarding".into(), lab.host.sysctl("net/ipv4/ip_forward"));
    put("forwarding6".into(), lab.host.sysctl("net/ipv6/conf/all/forwarding"));
    put("accept_ra".into(), lab.host.sysctl(&format!("net/ipv6/conf/{bridge}/accept_ra")));
    if !inspect::addresses(container, "eth0").iter().all(|address| address.starts_with("fe80")) {
        put("arp_notify".into(), container.sysctl("net/ipv4/conf/eth0/arp_notify"));
    }
    put("route_localnet".into(), lab.host.sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet")));
    facts
}

/// ADD, CHECK and DEL of each configuration by one of the two.
fn through(ours: bool, version: &'static str) -> Option<Vec<(Value, BTreeMap<String, String>)>> {
    let each = move |conf: Value| {
        let lab = Lab::new()?;
        let bin = if ours { Bin::ours(&lab) } else { Bin::theirs(&lab) };
        let container = lab.container("a");
        let plugin = bin.plugin("bridge", json!({"name": "web"})).with(json!({"cniVersion": version}));
        let plugin = plugin.with(conf.clone()).on(&container).args("IgnoreUnknown=1;K8S_POD_NAME=p;FOO=bar");
        let result = plugin.add().ok();
        let bridge = conf["bridge"].as_str().or(conf["BRIDGE"].as_str()).unwrap_or("cni0").to_owned();
        let facts = surroundings(&lab, &container, &bridge);
        if version >= "0.4.0" && conf.get("ipam").is_some_and(|ipam| ipam != &json!({})) {
            plugin.prev(&result).check().ok();
        }
        let plugin = if version >= "0.4.0" { plugin.prev(&result) } else { plugin };
        plugin.del().ok();
        assert!(inspect::link(&container, "eth0").is_none());
        plugin.del().ok();
        let asked_mac = conf.to_string().contains("mac");
        Some((comparable(result, asked_mac), facts))
    };
    let mut all = Vec::new();
    for conf in configurations() {
        if version < "0.3.0" && conf.get("ipam").is_none_or(|ipam| ipam == &json!({})) {
            continue;
        }
        all.push(std::thread::spawn(move || each(conf)).join().unwrap()?);
    }
    Some(all)
}

fn side_by_side(version: &'static str) {
    let (Some(ours), Some(theirs)) = (through(true, version), through(false, version)) else { return };
    assert_eq!(ours.len(), theirs.len());
    for (n, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
        assert_eq!(ours.0, theirs.0, "result {n} of {version}");
        assert_eq!(ours.1, theirs.1, "host {n} of {version}");
    }
}

#[test]
fn beside_debians_in_0_1_0() {
    side_by_side("0.1.0");
}

#[test]
fn beside_debians_in_0_2_0() {
    side_by_side("0.2.0");
}

#[test]
fn beside_debians_in_0_3_1() {
    side_by_side("0.3.1");
}

#[test]
fn beside_debians_in_0_4_0() {
    side_by_side("0.4.0");
}

#[test]
fn beside_debians_in_1_0_0() {
    side_by_side("1.0.0");
}

/// What both refuse, and the words that callers match on.
#[test]
fn both_refuse_with_the_words_that_callers_know() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let container = lab.container("a");
    lab.ip("link add cni0 type bridge");
    lab.ip("address add 10.99.0.1/16 dev cni0");
    lab.ip("link add dummy-veth type veth peer name dummy-peer");
    let table: Vec<(Value, &str, u64, &str)> = vec![
        (json!({"isGateway": true, "ipam": ipam(1)}), "", 999, "already has an IP address different from"),
        (json!({"bridge": "dummy-veth", "ipam": ipam(1)}), "", 999, "bridge"),
        (json!({"hairpinMode": true, "promiscMode": true, "ipam": ipam(1)}), "", 999, "promiscMode"),
        (json!({"vlan": 4095, "ipam": ipam(1)}), "", 999, "vlan"),
        (json!({"ipam": {"type": "host-local"}}), "", 999, "no IP ranges specified"),
        (json!({"ipam": {"type": "nope"}}), "", 999, "failed to find plugin \"nope\" in path"),
        (json!({"ipam": {"type": "host-local", "subnet": "10.90.1.0/31"}}), "", 999, "too small"),
        (json!({"bridge": "b1", "ipam": ipam(1)}), "FOO=bar", 999, "FOO"),
        (json!({"bridge": "b2", "ipam": ipam(1)}), "MAC=xx", 999, "MAC"),
        (json!({"cniVersion": "9.0.0"}), "", 1, "9.0.0"),
        (json!({"name": null}), "", 7, "name"),
        (json!({"name": "a/b"}), "", 7, "name"),
    ];
    for (conf, args, code, words) in table {
        let of = |bin: &Bin| {
            bin.plugin("bridge", json!({"name": "web"})).with(conf.clone()).on(&container).args(args)
        };
        let said = of(&ours).add().refused(code);
        assert!(said.contains(words), "{conf}: {said}");
        let outcome = of(&theirs).add();
        assert_eq!(outcome.status.code(), Some(1), "theirs refuses {conf} too: {}", outcome.stdout);
        of(&theirs).del();
    }
    for both in [&ours, &theirs] {
        let plugin =
            both.plugin("bridge", json!({"name": "twice", "bridge": "b3", "ipam": ipam(3)})).on(&container);
        let result = plugin.add().ok();
        let words = |outcome: Outcome| {
            assert_eq!(outcome.status.code(), Some(1));
            outcome.stdout
        };
        assert!(words(plugin.add()).contains("already exists"));
        let other = plugin.env("CNI_CONTAINERID", "other");
        assert!(words(other.add()).contains("container veth name provided (eth0) already exists"));
        plugin.prev(&result).del().ok();
        other.del().ok();
    }
}

#[test]
fn dns_of_the_network_wins_where_it_says_anything() {
    let Some(lab) = Lab::new() else { return };
    let bin = Bin::ours(&lab);
    let fixed = json!({
        "type": "static", "addresses": [{"address": "10.90.1.9/24"}], "dns": {"nameservers": ["10.90.1.1"]},
    });
    for (n, (dns, expected)) in
        [(json!({}), json!({"nameservers": ["10.90.1.1"]})), (json!({"domain": "x"}), json!({"domain": "x"}))]
            .into_iter()
            .enumerate()
    {
        let container = lab.container(&format!("c{n}"));
        let plugin = bin.plugin("bridge", json!({"name": "web", "ipam": fixed, "dns": dns})).on(&container);
        assert_eq!(plugin.add().ok()["dns"], expected);
    }
}

/// The kernel clears host bits of a route of IPv6, and refuses them in one of IPv4; so does the reference.
#[test]
fn host_bits_of_a_route_of_ipv6_are_cleared() {
    for is_ours in [true, false] {
        let Some(lab) = Lab::new() else { return };
        let a = lab.container("a");
        let with = |dst: &str| {
            let mut section = dual();
            section["routes"] = json!([{"dst": dst}]);
            let bin = if is_ours { Bin::ours(&lab) } else { Bin::theirs(&lab) };
            bin.plugin("bridge", json!({"name": "web", "isGateway": true, "ipam": section})).on(&a)
        };
        let result = with("2001:db8::7/32").add().ok();
        assert_eq!(inspect::routes_to(&a, 6, "2001:db8::/32").len(), 1, "{result}");
        if is_ours {
            with("2001:db8::7/32").prev(&result).check().ok();
        }
        with("2001:db8::7/32").prev(&result).del().ok();
        assert!(!with("10.9.2.3/16").add().succeeded());
    }
}

#[test]
fn networks_share_a_bridge() {
    let Some(lab) = Lab::new() else { return };
    let bin = Bin::ours(&lab);
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let ipam = |range: &str| json!({"type": "host-local", "subnet": NET, "rangeStart": range});
    let keys = |name: &str, range: &str| json!({"name": name, "isDefaultGateway": true, "ipMasq": true, "ipam": ipam(range)});
    let one = bin.plugin("bridge", keys("one", "10.90.1.10")).on(&a);
    let two = bin.plugin("bridge", keys("two", "10.90.1.100")).on(&b);
    let (first, second) = (one.add().ok(), two.add().ok());
    assert_eq!(
        (&first["interfaces"][0]["name"], &second["interfaces"][0]["name"]),
        (&json!("cni0"), &json!("cni0"))
    );
    assert!(icmp::ping(&a, &address(&second, 4)));
    let clash =
        bin.plugin("bridge", json!({"name": "three", "isGateway": true, "ipam": self::ipam(3)})).on(&c);
    assert!(clash.add().refused(999).contains("failed to set bridge addr"));
    clash.with(json!({"forceAddress": true})).add().ok();
    assert_eq!(inspect::addresses(&lab.host, "cni0").iter().filter(|a| a.starts_with("10.")).count(), 1);
    one.prev(&first).del().ok();
    two.prev(&second).del().ok();
}

#[test]
fn masquerade_and_the_way_out() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
    let bin = Bin::ours(&lab);
    for backend in ["nftables", "iptables"] {
        let container = lab.container(backend);
        let keys = json!({"name": backend, "bridge": format!("br-{backend}"), "isDefaultGateway": true, "ipMasq": true,
            "ipMasqBackend": backend, "ipam": {"type": "host-local", "subnet": if backend == "iptables" { "10.91.1.0/24" } else { NET }}});
        let plugin = bin.plugin("bridge", keys).on(&container);
        let result = plugin.add().ok();
        let seen = tcp(&container, "192.0.2.2:80").peer.ip().to_string();
        assert_eq!(seen, "192.0.2.1", "{backend}");
        assert!(icmp::ping(&container, &gateway(&result, 4)));
        plugin.prev(&result).check().ok();
        plugin.prev(&result).del().ok();
        assert!(!inspect::firewall_text(&lab.host).contains(&address(&result, 4)));
    }
    // Without ipMasq nothing of a firewall is needed, and none is made.
    let plain = lab.container("plain");
    let rules = || lab.host.must(&["nft", "-s", "list", "ruleset"]);
    let before = rules();
    let keys = json!({"name": "plain", "bridge": "plain0", "isDefaultGateway": true, "ipam": ipam(7)});
    bin.plugin("bridge", keys).on(&plain).add().ok();
    let seen = tcp(&plain, "192.0.2.2:80").peer.ip().to_string();
    assert_eq!(seen, "10.90.7.2", "nobody masquerades");
    assert_eq!(rules(), before);
}

/// A guard needs no rules of the network; CHECK looks for no others than there are.
#[test]
fn a_guard_alone_is_whole_and_its_loss_is_seen() {
    for keys in [
        json!({"ipam": ipam(1)}),
        json!({"isGateway": true, "ipMasqBackend": "iptables", "ipam": ipam(1)}),
        json!({"ipam": {}}),
    ] {
        let Some(lab) = Lab::new() else { return };
        let container = lab.container("a");
        let guarded = json!({"name": "web", "macspoofchk": true});
        let plugin = Bin::ours(&lab).plugin("bridge", guarded).with(keys.clone()).on(&container);
        let result = plugin.add().ok();
        let checked = plugin.prev(&result).check();
        assert!(checked.succeeded(), "{keys}: {}", checked.stdout);
        lab.host.must(&["nft", "delete", "table", "bridge", "linkspan"]);
        assert!(plugin.prev(&result).check().refused(999).contains("bridge linkspan"), "{keys}");
        plugin.prev(&result).del().ok();
    }
}

/// A program `host-local` that only says that it was called.
fn logger(lab: &Lab) -> std::path::PathBuf {
    let directory = lab.work.path().join("logger");
    fs::create_dir_all(&directory).unwrap();
    let script = directory.join("host-local");
    let text = format!(
        "#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>{}/log\ntest $CNI_COMMAND != ADD || \
         echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.90.1.200/24\"}}]}}'\n",
        directory.display()
    );
    programs::put(&script, &text);
    directory
}

#[test]
fn the_first_host_local_of_the_path_is_the_one() {
    let Some(lab) = Lab::new() else { return };
    let directory = logger(&lab);
    let ours = Bin::ours(&lab);
    let plugin = ours.plugin("bridge", json!({"name": "web", "ipam": ipam(1)}));
    let own = plugin.conf.clone();
    let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
    let own_path = plugin.directory();
    let before = |first: &str, second: &str| plugin.env("CNI_PATH", &format!("{first}:{second}"));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let result = before(&own_path, directory.to_str().unwrap()).on(&a).add().ok();
    assert_eq!(log(), "", "ours comes first and is run in this process: {own}");
    assert_eq!(address(&result, 4), "10.90.1.2");
    let plugin = before(directory.to_str().unwrap(), &own_path).on(&b);
    let result = plugin.add().ok();
    assert_eq!(address(&result, 4), "10.90.1.200");
    plugin.prev(&result).del().ok();
    assert_eq!(log(), "ADD\nDEL\n");
}

#[test]
fn del_needs_neither_namespace_nor_previous_result() {
    let Some(lab) = Lab::new() else { return };
    let bin = Bin::ours(&lab);
    let container = lab.container("a");
    let plugin = bin
        .plugin("bridge", json!({"name": "web", "isGateway": true, "ipMasq": true, "ipam": ipam(1)}))
        .on(&container);
    let result = plugin.add().ok();
    container.unbind();
    plugin.without("CNI_NETNS").with(json!({"ipam": {"subnet": "nonsense"}, "bridge": "another"})).del().ok();
    assert!(inspect::link(&lab.host, &host_end(&result)).is_none());
    assert!(!inspect::firewall_text(&lab.host).contains(&address(&result, 4)));
    assert!(!std::path::Path::new("/var/lib/cni/networks/web/10.90.1.2").exists());
}
