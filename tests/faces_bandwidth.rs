//! The face `bandwidth` beside the reference plugin of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::faces::{VERSIONS, Whose, bridged, plugin, told};
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{is_free, is_limited, pour, sink_server};
use lab::{Lab, inspect};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// 8 Mbit/s: a megabyte takes a second, less what the bucket holds.
const RATE: u64 = 8_000_000;
const BURST: u64 = 256_000;
const BYTES: usize = 1_200_000;

fn limits() -> Value {
    json!({
        "name": "web", "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE / 2, "egressBurst": BURST * 2,
    })
}

fn ifbs(lab: &Lab) -> Vec<String> {
    let of_kind = |link: &Value| link["linkinfo"]["info_kind"] == "ifb";
    let names = inspect::links(&lab.host).into_iter().filter(of_kind);
    names.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

/// The shaping as the kernel has it: disciplines with all their numbers, and the redirection.
fn shaping(lab: &Lab, host_end: &str) -> Value {
    let mut qdiscs = inspect::qdiscs(&lab.host);
    qdiscs.retain(|q| q["kind"] == "tbf" || q["kind"] == "ingress");
    let filters = lab.host.must(&["tc", "-j", "filter", "show", "dev", host_end, "parent", "ffff:"]);
    let filters: Value = serde_json::from_str(&filters).unwrap_or_default();
    let mut mirrored: Vec<Value> = inspect::rows(filters)
        .iter()
        .flat_map(|filter| inspect::rows(filter["options"]["actions"].clone()))
        .map(|action| json!([action["kind"], action["mirred_action"], action["direction"], action["to_dev"]]))
        .collect();
    // The reference names the device twice, and the first action already ends the packet's way.
    mirrored.dedup();
    let links: Vec<Value> = inspect::links(&lab.host)
        .into_iter()
        .filter(|link| link["linkinfo"]["info_kind"] == "ifb")
        .map(|link| json!([link["ifname"], link["mtu"], inspect::has_flag(&link, "UP")]))
        .collect();
    json!({"qdiscs": qdiscs, "mirrored": mirrored, "ifbs": links})
}

/// The host without limits, after a first queueing discipline, at which the kernel gives a link its queue's length.
fn bare(lab: &Lab, result: &Value) -> Snapshot {
    for verb in ["add", "del"] {
        lab.host.must(&["tc", "qdisc", verb, "dev", &host_end(result), "root", "pfifo"]);
    }
    Snapshot::take(lab)
}

fn host_end(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().unwrap().to_owned()
}

/// A result whose last interface's MAC is left out.
fn without_mac(mut result: Value) -> Value {
    if let Some(last) = result["interfaces"].as_array_mut().and_then(|rows| rows.last_mut()) {
        last["mac"] = json!("");
    }
    told(result)
}

#[test]
fn the_same_shaping_and_the_same_result_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.3.0") {
        let a = lab.container("a");
        let (bridge, result) = bridged(&lab, &a, version, 1);
        let bare = bare(&lab, &result);
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let conf = json!({"cniVersion": version});
            let bandwidth = plugin(&lab, whose, "bandwidth", limits()).with(conf).on(&a).prev(&result);
            let out = bandwidth.add().ok();
            seen.push((without_mac(out.clone()), shaping(&lab, &host_end(&result))));
            if version >= "0.4.0" {
                // Each finds what the other has made as it should be.
                for other in Whose::BOTH {
                    let conf = json!({"cniVersion": version});
                    let asked = plugin(&lab, other, "bandwidth", limits()).with(conf).on(&a).prev(&out);
                    asked.check().ok();
                }
            }
            bandwidth.del().ok();
            assert!(ifbs(&lab).is_empty(), "{version} {whose:?}");
            lab.host.exec(&["tc", "qdisc", "del", "dev", &host_end(&result), "root"]);
            lab.host.exec(&["tc", "qdisc", "del", "dev", &host_end(&result), "ingress"]);
        }
        assert_eq!(seen[0], seen[1], "{version}: ours and theirs");
        Snapshot::take(&lab).assert_same(&bare, "after DEL");
        bridge.del().ok();
    }
}

#[test]
fn what_one_made_the_other_takes_away() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let bare = bare(&lab, &result);
    for (adder, other) in [(Whose::Theirs, Whose::Ours), (Whose::Ours, Whose::Theirs)] {
        let of = |whose| plugin(&lab, whose, "bandwidth", limits()).on(&a).prev(&result);
        of(adder).add().ok();
        assert_eq!(ifbs(&lab).len(), 1);
        of(other).del().ok();
        assert!(ifbs(&lab).is_empty(), "{adder:?} made it, {other:?} took it away");
        of(adder).del().ok();
        for hook in ["root", "ingress"] {
            lab.host.exec(&["tc", "qdisc", "del", "dev", &host_end(&result), hook]);
        }
        Snapshot::take(&lab).assert_same(&bare, "after both");
    }
}

#[test]
fn both_directions_are_limited_and_free_again_after_del() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let _inside = sink_server(&a, "0.0.0.0:80");
    let _host = sink_server(&lab.host, "0.0.0.0:81");
    let bandwidth = plugin(&lab, Whose::Ours, "bandwidth", limits()).on(&a).prev(&result);
    let into = || pour(&lab.host, &format!("{}:80", address(&result, 4)), BYTES, LIMIT).unwrap();
    let out = || pour(&a, "10.88.1.1:81", BYTES, LIMIT).unwrap();
    let due = |rate: u64| Duration::from_secs(u64::try_from(BYTES * 8).unwrap() * 1000 / rate) / 1000;
    bandwidth.add().ok();
    is_limited(due(RATE), &into);
    is_limited(due(RATE / 2), &out);
    bandwidth.del().ok();
    is_free(due(RATE), &into);
    is_free(due(RATE / 2), &out);
}

#[test]
fn keys_win_over_the_capability_and_a_second_interface_does_not_collide() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let bandwidth = plugin(&lab, Whose::Ours, "bandwidth", json!({"name": "web"})).on(&a).prev(&result);
    assert_eq!(told(bandwidth.add().ok()), told(result.clone()), "without limits the result passes");
    let capable = bandwidth.cap(json!({"bandwidth": {"egressRate": RATE, "egressBurst": BURST}}));
    capable.add().ok();
    assert!(shaping(&lab, &host_end(&result))["qdiscs"].to_string().contains("1000000"));
    // Again without DEL, with keys: those of the capability count no more.
    let keyed = capable.with(json!({"ingressRate": RATE, "ingressBurst": BURST}));
    keyed.add().ok();
    assert!(ifbs(&lab).is_empty());
    capable.add().ok();
    let first = ifbs(&lab);
    let second_bridge = json!({"name": "web", "bridge": "cni1", "ipam": lab::plugin::v4(2)});
    let second = plugin(&lab, Whose::Theirs, "bridge", second_bridge).on(&a).ifname("eth1");
    let other = second.add().ok();
    let on_second = capable.ifname("eth1").prev(&other);
    let out = on_second.add().ok();
    assert_eq!(ifbs(&lab).len(), 2);
    assert!(!first.contains(&out["interfaces"][3]["name"].as_str().unwrap().to_owned()));
    capable.with(json!({"cniVersion": "0.4.0"})).prev(&result).check().ok();
    on_second.del().ok();
    on_second.del().ok();
    assert_eq!(ifbs(&lab), first, "the first interface keeps its device");
    capable.del().ok();
    assert!(ifbs(&lab).is_empty());
}

#[test]
fn check_sees_what_is_missing_and_gc_takes_what_is_idle() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let (other, second) = bridged(&lab, &b, "1.0.0", 1);
    let newer = json!({"cniVersion": "1.1.0"});
    let bandwidth = plugin(&lab, Whose::Ours, "bandwidth", limits()).with(newer);
    let out = bandwidth.on(&a).prev(&result).add().ok();
    let on_a = bandwidth.on(&a).prev(&out);
    on_a.check().ok();
    lab.host.must(&["tc", "qdisc", "del", "dev", &host_end(&result), "root"]);
    assert!(on_a.check().refused(999).contains(&host_end(&result)));
    // A container of the reference's that went without its DEL: its device has nothing sent to it any more.
    plugin(&lab, Whose::Theirs, "bandwidth", limits()).on(&b).prev(&second).add().ok();
    other.del().ok();
    assert_eq!(ifbs(&lab).len(), 2);
    bandwidth.status().ok();
    bandwidth.gc(&[(&a.id, "eth0")]).ok();
    assert_eq!(ifbs(&lab), [out["interfaces"][3]["name"].as_str().unwrap()]);
    bandwidth.gc(&[]).ok();
    assert!(ifbs(&lab).is_empty());
    a.unbind();
    on_a.del().ok();
}
