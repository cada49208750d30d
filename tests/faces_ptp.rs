//! The face `ptp` beside the reference plugin of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::faces::{Two, VERSIONS, Whose, plugin, shape, two};
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{BRIEF, PATIENCE, tcp, tcp_server, tcp_within};
use lab::{Container, Lab, Outside, inspect};
use serde_json::{Value, json};

fn both_families() -> Value {
    json!({"name": "p2p", "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "gw": "10.77.0.1"}],
    }})
}

/// What of a route matters: who made it and what the kernel adds by itself does not.
fn plain(route: &Value) -> Value {
    json!([route["dst"], route["gateway"], route["dev"], route["prefsrc"], route["scope"]])
}

/// The container's addresses and routes, and the host's to it.
fn view(lab: &Lab, container: &Container, host_end: &str) -> Value {
    let inner = |family| -> Vec<String> {
        let mut routes: Vec<String> = inspect::routes(container, family)
            .iter()
            .filter(|route| route["table"] != "local" && !route["dst"].as_str().unwrap().starts_with("fe80"))
            .filter(|route| route["type"] != "multicast" && route["dst"] != "ff00::/8")
            .map(|route| plain(route).to_string())
            .collect();
        routes.sort();
        routes
    };
    let outer: Vec<Value> = [4, 6]
        .into_iter()
        .flat_map(|family| inspect::routes(&lab.host, family))
        .filter(|r| r["dev"] == host_end && r["table"] != "local")
        .filter(|r| {
            !r["dst"].as_str().unwrap().starts_with('f') || r["dst"].as_str().unwrap().starts_with("fd00")
        })
        .map(|r| json!([r["dst"], r["gateway"], r["scope"]]))
        .collect();
    let mut outer: Vec<String> = outer
        .iter()
        .map(ToString::to_string)
        .filter(|r| !r.contains("10.77.0.1\"") && !r.contains("::1\""))
        .collect();
    outer.sort();
    json!({
        "addresses": inspect::addresses(container, "eth0"), "four": inner(4), "six": inner(6),
        "host": inspect::addresses(&lab.host, host_end), "to it": outer,
        "mtu": inspect::link(container, "eth0").unwrap()["mtu"],
        "forwarding": lab.host.must(&["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"]),
    })
}

fn host_end(lab: &Lab) -> String {
    let veths = inspect::links(&lab.host)
        .into_iter()
        .filter(|l| l["linkinfo"]["info_kind"] == "veth" && l["ifname"] != "uplink");
    veths.map(|l| l["ifname"].as_str().unwrap().to_owned()).next().expect("a host end")
}

#[test]
fn the_same_addresses_routes_and_result_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    for version in VERSIONS {
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let a = lab.container("a");
            let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
            let conf = json!({"cniVersion": version, "mtu": 1400});
            let ptp = plugin(&lab, whose, "ptp", both_families()).with(conf).on(&a);
            let result = ptp.add().ok();
            let end = host_end(&lab);
            let _server = tcp_server(&a, "0.0.0.0:80", "a");
            let _six = tcp_server(&a, "[::]:81", "six");
            assert_eq!(tcp(&lab.host, "10.77.0.2:80").peer.ip().to_string(), "10.77.0.1");
            // Debian's version leaves the host's address to the search for duplicates, which takes its time.
            if whose == Whose::Ours {
                let rows = inspect::address_rows(&lab.host, &end);
                assert!(
                    rows.iter().all(|row| row["scope"] == "link" || row["tentative"] != true),
                    "{rows:?}"
                );
            }
            let answers = || tcp_within(&lab.host, "[fd00:77::2]:81", BRIEF).is_ok();
            assert!(lab::eventually(PATIENCE, answers), "{whose:?}");
            seen.push((shape(result.clone()), view(&lab, &a, &end)));
            if version >= "0.4.0" {
                ptp.prev(&result).check().ok();
            }
            ptp.prev(&result).del().ok();
            assert!(inspect::link(&lab.host, &end).is_none());
            ptp.del().ok();
        }
        assert_eq!(seen[0], seen[1], "{version}");
    }
}

#[test]
fn containers_reach_each_other_and_what_leaves_is_masqueraded() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let before = Snapshot::take(&lab);
    let ptp = plugin(&lab, Whose::Ours, "ptp", both_families()).with(json!({"ipMasq": true}));
    let Two { a: (a, ra), b: (b, rb), .. } = &two(&lab, &ptp);
    let seen = tcp(a, &format!("{}:80", address(rb, 4)));
    assert_eq!(seen.peer.ip().to_string(), address(ra, 4), "their own subnet is not masqueraded");
    let _six = tcp_server(b, "[::]:81", "six");
    assert_eq!(tcp(a, &format!("[{}]:81", address(rb, 6))).peer.ip().to_string(), address(ra, 6));
    let _world = tcp_server(&outside, "0.0.0.0:80", "world");
    let seen = tcp(a, &format!("{}:80", Outside::V4));
    assert_eq!(seen.peer.ip().to_string(), Outside::HOST4, "what leaves is");
    ptp.on(a).prev(ra).check().ok();
    ptp.on(a).prev(ra).del().ok();
    assert_eq!(tcp(b, &format!("{}:80", Outside::V4)).tag, "world");
    // A container whose namespace went before its DEL.
    b.unbind();
    ptp.on(b).prev(rb).del().ok();
    let now = Snapshot::take(&lab);
    now.assert_without(&[&address(ra, 4), &address(rb, 4), &a.id, &b.id]);
    let links = |s: &Snapshot| s.lines().filter(|l| l.starts_with("link ")).collect::<Vec<_>>();
    assert_eq!(links(&now), links(&before));
}

#[test]
fn check_status_and_gc() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let ptp = plugin(&lab, Whose::Ours, "ptp", both_families()).with(json!({"cniVersion": "1.1.0"}));
    ptp.status().ok();
    let (ra, rb) = (ptp.on(&a).add().ok(), ptp.on(&b).add().ok());
    let (on_a, end) = (ptp.on(&a).prev(&ra), ra["interfaces"][0]["name"].as_str().unwrap().to_owned());
    on_a.check().ok();
    lab.ip(&format!("route del 10.77.0.2/32 dev {end}"));
    assert!(on_a.check().refused(999).contains("10.77.0.2"));
    lab.ip(&format!("route add 10.77.0.2/32 dev {end}"));
    lab.ip(&format!("address del 10.77.0.1/32 dev {end}"));
    assert!(on_a.check().refused(999).contains("10.77.0.1/32"));
    ptp.on(&b).prev(&rb).check().ok();
    a.ip("route del 10.77.0.0/24");
    assert!(on_a.check().refused(999).contains("10.77.0.0/24"));
    ptp.gc(&[(&b.id, "eth0")]).ok();
    assert!(inspect::link(&lab.host, &end).is_none());
    ptp.on(&b).prev(&rb).check().ok();
    ptp.on(&b).del().ok();
    let full =
        json!({"ipam": {"type": "host-local", "ranges": null, "routes": null, "subnet": "10.79.0.0/30"}});
    let small = ptp.with(full).with(json!({"name": "small"}));
    small.status().ok();
    small.on(&a).add().ok();
    small.status().refused(50);
    small.on(&a).del().ok();
}

#[test]
fn an_add_that_fails_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let before = Snapshot::take(&lab);
    a.ip("link add eth0 type veth peer name other");
    plugin(&lab, Whose::Ours, "ptp", both_families()).on(&a).add().refused(999);
    let bad_route = json!({"ipam": {"routes": [{"dst": "198.51.100.0/24", "gw": "203.0.113.1"}]}});
    a.ip("link del eth0");
    plugin(&lab, Whose::Ours, "ptp", both_families()).with(bad_route).on(&a).add().refused(999);
    assert!(inspect::link(&a, "eth0").is_none());
    let after = Snapshot::take(&lab);
    after.assert_without(&["10.77.0.2", &a.id]);
    let links = |s: &Snapshot| s.lines().filter(|l| l.starts_with("link ")).collect::<Vec<_>>();
    assert_eq!(links(&after), links(&before));
}

#[test]
fn what_one_attached_the_other_checks_and_detaches() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    for (adder, other) in [(Whose::Theirs, Whose::Ours), (Whose::Ours, Whose::Theirs)] {
        let a = lab.container("a");
        // Debian's DEL fails where the chain of its masquerade is not there; without masquerade it takes ours away.
        let masquerade = json!({"ipMasq": adder == Whose::Theirs});
        let of = |whose| plugin(&lab, whose, "ptp", both_families()).with(masquerade.clone()).on(&a);
        let result = of(adder).add().ok();
        let end = host_end(&lab);
        of(other).prev(&result).check().ok();
        of(other).prev(&result).del().ok();
        assert!(inspect::link(&lab.host, &end).is_none(), "{adder:?} attached, {other:?} detached");
        assert!(
            !std::path::Path::new(&format!("/var/lib/cni/networks/p2p/{}", address(&result, 4))).exists()
        );
        of(adder).prev(&result).del().ok();
        let firewall = inspect::firewall_text(&lab.host);
        assert!(!firewall.contains(&address(&result, 4)), "{adder:?}, {other:?}: {firewall}");
    }
}

/// An address with no other beside it needs no gateway, where the interface is routed to.
#[test]
fn an_address_alone_is_attached_without_a_gateway() {
    let Some(lab) = Lab::new() else { return };
    for addresses in [
        json!([{"address": "10.77.0.5/32"}]),
        json!([{"address": "fd00:77::5/128"}]),
        json!([{"address": "10.77.0.5/24"}, {"address": "fd00:77::5/128"}]),
    ] {
        let a = lab.container("a");
        let ipam = json!({"type": "static", "addresses": addresses});
        let ptp = plugin(&lab, Whose::Ours, "ptp", json!({"name": "p2p", "ipam": ipam})).on(&a);
        let result = ptp.add().ok();
        ptp.prev(&result).check().ok();
        for entry in addresses.as_array().unwrap() {
            let own = entry["address"].as_str().unwrap().split('/').next().unwrap();
            let family = if own.contains(':') { 6 } else { 4 };
            assert_eq!(inspect::routes_to(&lab.host, family, own).len(), 1, "the host's way to {own}");
        }
        ptp.prev(&result).del().ok();
    }
}
