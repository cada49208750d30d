//! The face `sbr` beside the reference plugin of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::faces::{VERSIONS, Whose, plugin, refusal, told};
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Container, Lab, Outside, Plugin, inspect};
use serde_json::{Value, json};

/// Attaches a container to a network `n` of Debian's `bridge`.
fn attach(
    lab: &Lab,
    container: &Container,
    version: &str,
    ifname: &str,
    n: u8,
    ranges: Value,
) -> (Plugin, Value) {
    let conf = json!({
        "cniVersion": version, "name": format!("net{n}"), "bridge": format!("cni{n}"), "isGateway": true,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "198.51.100.0/24"}]},
    });
    let bridge = plugin(lab, Whose::Theirs, "bridge", conf).on(container).ifname(ifname);
    let result = bridge.add().ok();
    (bridge, result)
}

fn four(n: u8) -> Value {
    json!([[{"subnet": format!("10.9{n}.0.0/24")}]])
}

fn dual(n: u8) -> Value {
    json!([[{"subnet": format!("10.9{n}.0.0/24")}], [{"subnet": format!("fd00:9{n}::/64")}]])
}

fn rules(container: &Container) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for family in ["-4", "-6"] {
        let rows = inspect::rows(inspect::json(container, &["ip", family, "-j", "rule", "show"]));
        all.extend(
            rows.iter().map(|r| json!([r["priority"], r["src"], r["srclen"], r["table"]]).to_string()),
        );
    }
    all
}

/// The routes of every table; link-local ones are the difference that the page on differences tells of.
fn routes(container: &Container) -> Vec<String> {
    let mut all: Vec<String> = [4, 6]
        .into_iter()
        .flat_map(|family| inspect::routes(container, family))
        .filter(|r| {
            r["table"] != "local" && !r["dst"].as_str().unwrap().starts_with('f')
                || r["dst"].as_str().unwrap().starts_with("fd")
        })
        .filter(|r| r["table"] != "local")
        .map(|r| {
            json!([r["table"], r["dst"], r["gateway"], r["dev"], r["prefsrc"], r["scope"], r["metric"]])
                .to_string()
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_same_rules_routes_and_result_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    for version in VERSIONS {
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
            let a = lab.container("a");
            let (first, _) = attach(&lab, &a, version, "eth0", 1, four(1));
            let (second, result) = attach(&lab, &a, version, "eth1", 2, dual(2));
            let bare = (rules(&a), routes(&a));
            let conf = json!({"cniVersion": version, "name": "net2"});
            let sbr = plugin(&lab, whose, "sbr", conf).on(&a).ifname("eth1").prev(&result);
            let out = sbr.add().ok();
            assert_eq!(told(out.clone()), told(result.clone()), "the result passes");
            // Debian's puts routes of IPv6 into the table of an address of IPv4 as well.
            let mut moved = routes(&a);
            moved.retain(|route| !route.contains("\"100\",\"fd00"));
            seen.push((rules(&a), moved));
            if version >= "0.4.0" {
                sbr.prev(&out).check().ok();
            }
            sbr.del().ok();
            assert_eq!(rules(&a), bare.0, "{version} {whose:?}");
            if whose == Whose::Ours {
                assert_eq!(routes(&a), bare.1, "{version}: DEL moves the routes back");
            }
            sbr.del().ok();
            second.del().ok();
            first.del().ok();
        }
        assert_eq!(seen[0], seen[1], "{version}");
    }
}

#[test]
fn what_comes_by_the_second_interface_is_answered_by_it() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    for whose in Whose::BOTH {
        let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
        let a = lab.container("a");
        let (_, _) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
        let (_, result) = attach(&lab, &a, "1.0.0", "eth1", 2, four(2));
        lab.host.must(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        a.ip("route add default via 10.91.0.1 dev eth0");
        // As a host does that knows which way a source must come.
        lab.host.must(&["sh", "-c", "for i in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $i; done"]);
        // The host knew the last container of this address.
        lab.ip("neigh flush all");
        let _server = tcp_server(&a, "0.0.0.0:80", "a");
        let to = "10.92.0.2:80";
        let sbr = plugin(&lab, whose, "sbr", json!({"name": "net2"})).on(&a).ifname("eth1").prev(&result);
        assert!(!tcp_answers(&outside, to), "by eth0 the answer has the wrong source");
        sbr.add().ok();
        assert_eq!(tcp(&outside, to).peer.ip().to_string(), Outside::V4, "{whose:?}");
        sbr.del().ok();
    }
}

#[test]
fn an_administrators_table_and_taken_tables() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Vec::new();
    for whose in Whose::BOTH {
        let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
        let a = lab.container("a");
        let (_, result) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
        a.ip("rule add from 203.0.113.1 table 100");
        let sbr = plugin(&lab, whose, "sbr", json!({"name": "net1"})).on(&a).prev(&result);
        sbr.add().ok();
        assert!(rules(&a).iter().any(|rule| rule.contains("\"101\"")), "{:?}", rules(&a));
        seen.push((rules(&a), routes(&a)));
        sbr.del().ok();
        assert!(rules(&a).iter().any(|rule| rule.contains("203.0.113.1")), "another's rule stays");
    }
    assert_eq!(seen[0], seen[1]);
    // Debian's version does not know the key.
    let a = lab.container("b");
    let (_, result) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
    let bare = (rules(&a), routes(&a));
    let sbr = plugin(&lab, Whose::Ours, "sbr", json!({"name": "net1", "table": 5000})).on(&a).prev(&result);
    sbr.add().ok();
    assert!(
        rules(&a).iter().any(|rule| rule.contains("5000") && rule.contains("10.91.0.")),
        "{:?}",
        rules(&a)
    );
    assert_eq!(routes(&a), bare.1, "no route moves");
    sbr.prev(&result).check().ok();
    sbr.del().ok();
    assert_eq!(rules(&a), bare.0);
}

#[test]
fn check_is_real_and_what_one_made_the_other_takes_away() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_, result) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
    let bare = (rules(&a), routes(&a));
    let of = |whose| plugin(&lab, whose, "sbr", json!({"name": "net1"})).on(&a).prev(&result);
    for (adder, other) in [(Whose::Theirs, Whose::Ours), (Whose::Ours, Whose::Theirs)] {
        of(adder).add().ok();
        of(other).check().ok();
        if adder == Whose::Theirs {
            a.ip("rule del from 10.91.0.2");
            assert!(of(Whose::Ours).check().refused(999).contains("10.91.0.2"));
            a.ip("rule add from 10.91.0.2 table 100");
        }
        of(other).del().ok();
        assert_eq!(rules(&a), bare.0, "{adder:?} made, {other:?} took away");
        of(adder).del().ok();
        a.ip("address flush dev eth0");
        a.ip("route flush table 100");
        // Debian's moves the interface's link-local route as well.
        a.ip("-6 route flush table 100");
        a.ip("address add 10.91.0.2/24 dev eth0");
        a.ip("route add 198.51.100.0/24 via 10.91.0.1");
    }
    of(Whose::Ours).add().ok();
    a.ip("route flush table 100");
    assert!(of(Whose::Ours).check().refused(999).contains("in table 100"));
}

/// The gateway of `ptp` alone is on its link: what is behind it was taken for a next hop once, by either.
#[test]
fn next_hops_that_no_route_leads_to_move_along() {
    let Some(lab) = Lab::new() else { return };
    let routes_asked = json!([{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.0/24", "gw": "10.97.0.9"}]);
    let conf = json!({"name": "p2p", "ipam": {"type": "host-local", "subnet": "10.97.0.0/24", "routes": routes_asked}});
    for whose in Whose::BOTH {
        let a = lab.container("a");
        let ptp = plugin(&lab, whose, "ptp", conf.clone()).on(&a);
        let result = ptp.add().ok();
        let before = inspect::routes_to(&a, 4, "198.51.100.0/24");
        assert_eq!(before.len(), 1, "{whose:?}");
        let sbr = plugin(&lab, Whose::Ours, "sbr", json!({"name": "p2p"})).on(&a).prev(&result);
        sbr.add().ok();
        sbr.check().ok();
        assert!(a.ip("route show table 100").contains("198.51.100.0/24 via 10.97.0.9"), "{whose:?}");
        sbr.del().ok();
        let after = inspect::routes_to(&a, 4, "198.51.100.0/24");
        assert_eq!((after.len(), &after[0]["gateway"]), (1, &json!("10.97.0.9")), "{whose:?}");
        ptp.del().ok();
    }
}

#[test]
fn del_and_gc_without_a_namespace_succeed_and_leave_no_file() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (_, ra) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
    let (_, rb) = attach(&lab, &b, "1.0.0", "eth0", 1, four(1));
    let before = Snapshot::with(&lab, &["/run/netns"]);
    let bare = rules(&b);
    let sbr = plugin(&lab, Whose::Ours, "sbr", json!({"name": "net1", "cniVersion": "1.1.0"}));
    sbr.on(&a).prev(&ra).add().ok();
    sbr.on(&b).prev(&rb).add().ok();
    sbr.status().ok();
    a.unbind();
    sbr.on(&a).prev(&ra).del().ok();
    sbr.on(&a).prev(&ra).del().ok();
    assert!(!std::path::Path::new(&a.path).exists(), "no stray file");
    sbr.gc(&[]).ok();
    assert_eq!(rules(&b), bare);
    let changes = Snapshot::with(&lab, &["/run/netns"]).differs(&before);
    assert!(changes.is_none_or(|text| text.trim().lines().all(|line| line.contains("/run/netns/a"))));
}

#[test]
fn bad_input_is_refused_side_by_side() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_, result) = attach(&lab, &a, "1.0.0", "eth0", 1, four(1));
    let bare = (rules(&a), routes(&a));
    let empty = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": a.path}]});
    let table = [
        (json!({"prevResult": null}), 999, "must be called as chained plugin"),
        (empty, 999, "No IP addresses supplied on interface: eth0"),
        (json!({"cniVersion": "9.9.9"}), 1, "9.9.9"),
    ];
    for (keys, code, words) in table {
        for whose in Whose::BOTH {
            let sbr = plugin(&lab, whose, "sbr", json!({"name": "net1"})).on(&a).prev(&result);
            let sbr = match keys.get("interfaces") {
                Some(_) => sbr.with(json!({"prevResult": null})).prev(&keys),
                None => sbr.with(keys.clone()),
            };
            let (status, found, text) = refusal(&sbr.add());
            assert_eq!(status, Some(1), "{whose:?} {keys}");
            assert!(text.contains(words), "{whose:?} {keys}: {text}");
            if whose == Whose::Ours {
                assert_eq!(found, code, "{keys}: {text}");
            }
        }
    }
    let sbr = plugin(&lab, Whose::Ours, "sbr", json!({"name": "net1"})).on(&a).prev(&result);
    assert!(sbr.with(json!({"table": "main"})).add().refused(999).contains("table"));
    assert!(sbr.ifname("eth7").add().succeeded(), "no address of the result is eth7's");
    assert_eq!((rules(&a), routes(&a)), bare);
}
