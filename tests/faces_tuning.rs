//! The face `tuning` beside the reference plugin of that name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::Path;

use lab::faces::{VERSIONS, Whose, bridged, plugin, refusal, told};
use lab::snapshot::Snapshot;
use lab::{Container, Lab, inspect};
use serde_json::{Value, json};

const MAC: &str = "02:00:5e:10:00:01";

/// What `tuning` can change of an interface.
fn facts(container: &Container) -> Value {
    let link = inspect::link(container, "eth0").expect("eth0 is there");
    json!({
        "mac": link["address"], "mtu": link["mtu"], "txqlen": link["txqlen"],
        "promisc": inspect::has_flag(&link, "PROMISC"), "allmulti": inspect::has_flag(&link, "ALLMULTI"),
    })
}

fn sysctl(container: &Container, key: &str) -> String {
    container.must(&["cat", &format!("/proc/sys/net/{key}")]).trim().to_owned()
}

/// What Debian's version knows as well; `txQLen`, the token `IFNAME` and the allowlist came later.
fn everything() -> Value {
    json!({
        "name": "web", "mac": MAC, "mtu": 1400, "promisc": true, "allmulti": true,
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1", "net/core/somaxconn": "500"},
    })
}

/// Where either keeps what it changed.
fn saved(container: &Container) -> String {
    format!("/run/cni/tuning/{}_eth0.json", container.id)
}

#[test]
fn the_same_settings_and_the_same_result_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    for version in VERSIONS {
        let a = lab.container("a");
        let (bridge, result) = bridged(&lab, &a, version, 1);
        let untouched = facts(&a);
        let mut seen = Vec::new();
        for whose in Whose::BOTH {
            let conf = json!({"cniVersion": version});
            let tuning = plugin(&lab, whose, "tuning", everything()).with(conf).on(&a).prev(&result);
            let out = told(tuning.add().ok());
            let file: Value = serde_json::from_str(&fs::read_to_string(saved(&a)).unwrap()).unwrap();
            seen.push((
                out,
                facts(&a),
                sysctl(&a, "ipv4/conf/eth0/arp_filter"),
                sysctl(&a, "core/somaxconn"),
                file,
            ));
            if version >= "0.4.0" {
                let after = tuning.prev(&seen[0].0);
                after.check().ok();
            }
            tuning.del().ok();
            assert_eq!(facts(&a), untouched, "{version} {whose:?}: DEL gives back what was");
            assert!(!Path::new(&saved(&a)).exists());
            assert_eq!(sysctl(&a, "core/somaxconn"), "500", "sysctls stay");
            a.must(&[
                "sh",
                "-c",
                "echo 128 > /proc/sys/net/core/somaxconn; echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter",
            ]);
            tuning.del().ok();
        }
        assert_eq!(seen[0], seen[1], "{version}: ours and theirs");
        bridge.del().ok();
    }
}

/// The reference tells a new MTU nowhere, so that the result still has ours.
#[test]
fn check_of_the_interface_takes_the_mtu_of_a_later_tuning() {
    if lab::is_reference() {
        lab::skip!("the reference does not compare the MTU");
    }
    let Some(lab) = Lab::new() else { return };
    for whose in Whose::BOTH {
        let a = lab.container("a");
        let linkspan = lab.plugin(json!({"name": "web", "ipam": lab::plugin::v4(1)})).on(&a);
        let result = linkspan.add().ok();
        let conf = json!({"cniVersion": "1.0.0", "name": "web", "mtu": 1300});
        let mut told = result.clone();
        told["cniVersion"] = json!("1.0.0");
        let tuning = plugin(&lab, whose, "tuning", conf).on(&a).prev(&told);
        let mut last = tuning.add().ok();
        last["cniVersion"] = result["cniVersion"].clone();
        assert_eq!(facts(&a)["mtu"], 1300);
        linkspan.prev(&last).check().ok();
        tuning.del().ok();
        a.ip("link set eth0 mtu 1280");
        let said = linkspan.prev(&result).check().refused(120);
        assert!(said.contains("MTU of interface eth0"), "nobody noted that one: {said}");
        linkspan.del().ok();
    }
}

#[test]
fn what_one_changed_the_other_restores_and_checks() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let untouched = facts(&a);
    for (adder, other) in [(Whose::Ours, Whose::Theirs), (Whose::Theirs, Whose::Ours)] {
        let of = |whose| plugin(&lab, whose, "tuning", everything()).on(&a).prev(&result);
        let out = of(adder).add().ok();
        assert_ne!(facts(&a), untouched);
        of(other).prev(&out).check().ok();
        of(other).del().ok();
        assert_eq!(facts(&a), untouched, "{adder:?} changed, {other:?} restored");
        // The one that made it is asked as well: there is nothing left to do.
        of(adder).del().ok();
        assert_eq!(facts(&a), untouched);
    }
}

#[test]
fn the_strongest_mac_is_that_of_args() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let mac = |n: u8| format!("02:00:00:00:00:0{n}");
    for whose in Whose::BOTH {
        let base = plugin(&lab, whose, "tuning", json!({"name": "web", "mac": mac(1)})).on(&a).prev(&result);
        let by_args = base.args(&format!("IgnoreUnknown=1;MAC={}", mac(2)));
        let by_capability = by_args.cap(json!({"mac": mac(3)}));
        let by_cni_args = by_capability.with(json!({"args": {"cni": {"mac": mac(4), "mtu": 1300}}}));
        for (n, tuning) in [(1, base), (2, by_args), (3, by_capability), (4, by_cni_args)] {
            let out = tuning.add().ok();
            assert_eq!(facts(&a)["mac"], mac(n), "{whose:?}");
            assert_eq!(out["interfaces"][2]["mac"], mac(n), "{whose:?}: {out}");
            assert_eq!(facts(&a)["mtu"], if n == 4 { 1300 } else { 1500 });
            tuning.del().ok();
        }
    }
}

#[test]
fn a_second_add_keeps_the_first_values_to_go_back_to() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let untouched = facts(&a);
    let tuning = plugin(&lab, Whose::Ours, "tuning", everything()).on(&a).prev(&result);
    tuning.add().ok();
    tuning.with(json!({"mtu": 1200})).add().ok();
    assert_eq!(facts(&a)["mtu"], 1200);
    tuning.del().ok();
    assert_eq!(facts(&a), untouched);
}

#[test]
fn an_add_that_fails_leaves_the_interface_as_it_was() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let untouched = facts(&a);
    let before = Snapshot::with(&lab, &["/run/cni"]);
    let tuning = plugin(&lab, Whose::Ours, "tuning", everything()).on(&a).prev(&result);
    // The kernel refuses the value; nothing before it may stay.
    tuning.with(json!({"sysctl": {"net/core/somaxconn": "many"}})).add().refused(999);
    tuning.with(json!({"mtu": 65535, "sysctl": null})).add().ok();
    tuning.del().ok();
    assert_eq!(facts(&a), untouched);
    Snapshot::with(&lab, &["/run/cni"]).assert_same(&before, "after refusal and DEL");
}

#[test]
fn check_names_the_drift_and_gc_and_a_lost_namespace_leave_nothing() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let (_other, second) = bridged(&lab, &b, "1.0.0", 1);
    let newer = json!({
        "cniVersion": "1.1.0", "txQLen": 777,
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": null, "net.ipv4.conf.IFNAME.arp_filter": "1"},
    });
    let tuning = plugin(&lab, Whose::Ours, "tuning", everything()).with(newer);
    let before = Snapshot::with(&lab, &["/run/cni"]);
    let (on_a, on_b) = (tuning.on(&a).prev(&result), tuning.on(&b).prev(&second));
    let out = on_a.add().ok();
    on_b.add().ok();
    assert_eq!(
        (facts(&a)["txqlen"].clone(), sysctl(&a, "ipv4/conf/eth0/arp_filter")),
        (json!(777), "1".into())
    );
    for (change, word) in [
        ("true", ""),
        ("ip link set eth0 mtu 1300", "MTU"),
        ("ip link set eth0 promisc off", "promisc"),
        ("ip link set eth0 txqueuelen 5", "txQLen"),
        ("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter", "arp_filter"),
    ] {
        a.must(&["sh", "-c", change]);
        if word.is_empty() {
            on_a.prev(&out).check().ok();
            continue;
        }
        assert!(on_a.prev(&out).check().refused(999).contains(word), "{word}");
    }
    tuning.status().ok();
    // GC restores what is not valid any more, and leaves the rest.
    tuning.gc(&[(&a.id, "eth0")]).ok();
    assert_eq!(facts(&b)["mtu"], 1500);
    assert_eq!(facts(&a)["mac"], MAC);
    a.unbind();
    on_a.del().ok();
    on_a.without("CNI_NETNS").del().ok();
    Snapshot::with(&lab, &["/run/cni"]).assert_same(&before, "after GC and DEL");
}

/// Keys as they are copied from paths.
#[test]
fn a_slash_before_a_key_says_nothing() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    for whose in Whose::BOTH {
        for (key, value) in [("/net/core/somaxconn", "501"), ("//net.core.somaxconn", "502")] {
            let conf = json!({"name": "web", "sysctl": {key: value}});
            let tuning = plugin(&lab, whose, "tuning", conf).on(&a).prev(&result);
            let out = tuning.add().ok();
            assert_eq!(sysctl(&a, "core/somaxconn"), value, "{whose:?} {key}");
            tuning.prev(&out).check().ok();
            tuning.del().ok();
        }
        let conf = json!({"name": "web", "sysctl": {"/kernel/hostname": "x"}});
        let said = plugin(&lab, whose, "tuning", conf).on(&a).prev(&result).add();
        assert!(said.stdout.contains("invalid net sysctl key"), "{}", said.stdout);
    }
}

#[test]
fn the_allowlist_holds_for_the_face_and_for_linkspan() {
    let Some(lab) = Lab::new() else { return };
    if !Path::new("/etc/cni").is_dir() {
        lab::skip!("there is no /etc/cni to cover");
    }
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    fs::create_dir_all("/etc/cni/tuning").unwrap();
    fs::write("/etc/cni/tuning/allowlist.conf", "\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n").unwrap();
    let set = |key: &str| json!({"name": "web", "sysctl": {key: "1"}});
    let tuning = |key: &str| plugin(&lab, Whose::Ours, "tuning", set(key)).on(&a).prev(&result);
    tuning("net.ipv4.conf.IFNAME.arp_filter").add().ok();
    tuning("net.ipv4.conf.IFNAME.arp_filter").del().ok();
    let words = tuning("net.core.somaxconn").add().refused(999);
    let expected = "Sysctl net.core.somaxconn is not allowed. Only the following sysctls are allowed: \
                    [^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$]";
    assert!(words.starts_with(expected), "{words}");
    let own = lab.plugin(json!({"name": "own", "ipam": lab::plugin::v4(2)})).on(&lab.container("b"));
    assert!(own.with(set("net.core.somaxconn")).add().refused(7).contains("is not allowed"));
}

#[test]
fn bad_input_is_refused_side_by_side() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_bridge, result) = bridged(&lab, &a, "1.0.0", 1);
    let before = Snapshot::with(&lab, &["/run/cni"]);
    let untouched = facts(&a);
    // The configuration, our code, and words that both say.
    let table = [
        (json!({"prevResult": null}), 999, "Required prevResult missing"),
        (json!({"sysctl": {"kernel.hostname": "x"}}), 999, ""),
        (json!({"sysctl": {"net.nothing.here": "1"}}), 999, "/proc/sys/net/nothing/here"),
        (json!({"mac": "not a mac"}), 999, "not a mac"),
        (json!({"mtu": "1400"}), 999, "mtu"),
        (json!({"promisc": 1}), 999, "promisc"),
        (json!({"cniVersion": "9.9.9"}), 1, "9.9.9"),
    ];
    for (keys, code, words) in table {
        for whose in Whose::BOTH {
            let tuning = plugin(&lab, whose, "tuning", json!({"name": "web"})).on(&a).prev(&result);
            let outcome = tuning.with(keys.clone()).add();
            let (status, found, text) = refusal(&outcome);
            assert_eq!(status, Some(1), "{whose:?} {keys}");
            assert!(text.contains(words), "{whose:?} {keys}: {text}");
            assert_eq!(outcome.stdout.trim_end().lines().next_back(), Some("}"), "one document and no more");
            if whose == Whose::Ours {
                assert_eq!(found, code, "{keys}: {text}");
            } else {
                // What the reference saved before it failed.
                let _ = fs::remove_file(saved(&a));
            }
        }
    }
    let twice = r#"{"cniVersion":"1.0.0","name":"web","type":"tuning","sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"},"prevResult":{}}"#;
    // Debian's version takes the last of the two; later ones refuse as well.
    let repeated = plugin(&lab, Whose::Ours, "tuning", json!({})).on(&a).stdin(twice);
    assert!(repeated.add().refused(999).contains("duplicated sysctl keys are not allowed"));
    assert_eq!(facts(&a), untouched);
    Snapshot::with(&lab, &["/run/cni"]).assert_same(&before, "after refusals");
}

#[test]
fn the_plugins_before_and_after_agree_on_what_was_tuned() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let ipam = json!({"type": "host-local", "subnet": "10.88.3.0/24", "routes": [{"dst": "0.0.0.0/0"}]});
    let names = ["bridge", "tuning", "sbr", "bandwidth"];
    let conf = [
        json!({"bridge": "cni3", "isGateway": true, "ipam": ipam}),
        everything(),
        json!({}),
        json!({"ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 8_000_000, "egressBurst": 800_000}),
    ];
    let chain: Vec<_> = names
        .iter()
        .zip(conf)
        .map(|(name, conf)| plugin(&lab, Whose::Ours, name, conf).with(json!({"name": "web"})).on(&a))
        .collect();
    let mut result = chain[0].add().ok();
    for next in &chain[1..] {
        result = next.prev(&result).add().ok();
    }
    for plugin in &chain {
        plugin.prev(&result).check().ok();
    }
    a.ip("link set eth0 mtu 1280");
    assert!(chain[0].prev(&result).check().refused(999).contains("expected 1400, found 1280"));
    for plugin in chain.iter().rev() {
        plugin.prev(&result).del().ok();
    }
    let left = Snapshot::with(&lab, &["/run/cni"]);
    left.assert_without(&[&a.id, "bwp", "10.88.3.2"]);
}

/// What an earlier plugin says of its own work is passed on, also where linkspan itself would never say so.
#[test]
fn results_that_linkspan_would_not_write_are_passed_on() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_, result) = bridged(&lab, &a, "1.0.0", 1);
    let mut earlier = result.clone();
    earlier["ips"][0]["interface"] = json!(-1);
    earlier["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "fe80::1"}]);
    let outs = Whose::BOTH.map(|whose| {
        let tuning = plugin(&lab, whose, "tuning", json!({"name": "web", "mtu": 1400}));
        let tuning = tuning.with(json!({"cniVersion": "1.0.0"})).on(&a).prev(&earlier);
        let out = told(tuning.add().ok());
        assert_eq!(
            (&out["ips"][0]["interface"], &out["routes"]),
            (&json!(-1), &earlier["routes"]),
            "{whose:?}"
        );
        tuning.prev(&out).del().ok();
        out
    });
    assert_eq!(outs[0], outs[1]);
}
