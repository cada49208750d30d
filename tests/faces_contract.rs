//! What every face has in common: versions, environment, spelling of keys, output, verbs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::Snapshot;
use lab::beside::{Beside, Is, all, document};
use lab::faces::{Whose, plugin};
use lab::inspect;
use serde_json::json;

#[test]
fn version_is_answered_without_anything_and_names_what_each_face_speaks() {
    let Some(stage) = Beside::new() else { return };
    for face in all() {
        let known = |whose| {
            let bare = plugin(&stage.lab, whose, face, json!({})).without("CNI_PATH");
            let answer = bare.stdin("{\"cniVersion\":\"1.0.0\"}").version().ok();
            let mut known = answer["supportedVersions"].as_array().unwrap().clone();
            known.retain(|version| version != "1.1.0");
            known
        };
        assert_eq!(known(Whose::Ours), known(Whose::Theirs), "{face}");
        let empty = plugin(&stage.lab, Whose::Ours, face, json!({})).without("CNI_PATH").stdin("");
        assert_eq!(empty.version().ok()["cniVersion"], "1.1.0", "{face}: standard input may be empty");
        for whose in Whose::BOTH {
            let about = plugin(&stage.lab, whose, face, json!({})).run("");
            assert!(about.succeeded() && about.stdout.is_empty(), "{face}: {about:?}");
            assert!(about.stderr.contains("CNI protocol versions supported: "), "{face}: {about:?}");
        }
    }
}

#[test]
fn status_and_gc_are_done_by_every_face_and_need_no_container() {
    let Some(stage) = Beside::new() else { return };
    for face in all() {
        let newest = stage.good(Whose::Ours, face).with(json!({"cniVersion": "1.1.0", "prevResult": null}));
        let bare = newest.without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME");
        for outcome in [bare.status(), bare.gc(&[])] {
            outcome.ok();
            assert_eq!(outcome.stdout, "", "{face}: neither has a result");
        }
        assert_eq!(bare.without("CNI_PATH").status().code(), 4, "{face}");
        assert_eq!(bare.with(json!({"cniVersion": "1.0.0"})).gc(&[]).code(), 1, "{face}");
        if face != "loopback" {
            assert_eq!(bare.run("GC").code(), 7, "{face}");
        }
    }
}

#[test]
fn names_of_interfaces_that_the_kernel_would_not_take() {
    let Some(stage) = Beside::new() else { return };
    for face in ["bridge", "host-local", "portmap"] {
        for name in ["a:b", ".", "a\tb", "a\u{a0}b"] {
            let run = |whose| stage.good(whose, face).ifname(name).add();
            stage.compare(&format!("{face} {name:?}"), Is::Same, run);
        }
    }
}

/// Go's decoder knows a key in any case, and tests of the reference plugins have it so.
#[test]
fn keys_are_known_in_any_case() {
    let Some(stage) = Beside::new() else { return };
    for whose in Whose::BOTH {
        let bandwidth = plugin(&stage.lab, whose, "bandwidth", json!({"name": "n"}))
            .with(
                json!({"RuntimeConfig": {"bandWidth": {"INGRESSRATE": 8_000_000, "ingressburst": 800_000}}}),
            )
            .on(&stage.attached)
            .prev(&stage.result);
        bandwidth.add().ok();
        let shaped = inspect::qdiscs(&stage.lab.host).iter().filter(|q| q["kind"] == "tbf").count();
        assert_eq!(shaped, 1, "{whose:?}");
        bandwidth.del().ok();
        let end = stage.result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        stage.lab.host.exec(&["tc", "qdisc", "del", "dev", &end, "root"]);
        let tuning = plugin(&stage.lab, whose, "tuning", json!({"NAME": "n", "MTU": 1300, "Promisc": true}))
            .on(&stage.attached)
            .prev(&stage.result);
        tuning.add().ok();
        let eth0 = inspect::link(&stage.attached, "eth0").unwrap();
        assert_eq!((&eth0["mtu"], inspect::has_flag(&eth0, "PROMISC")), (&json!(1300), true), "{whose:?}");
        tuning.del().ok();
        let fixed = json!({"Name": "n", "IPAM": {"Type": "static", "ADDRESSES": [
            {"address": "10.9.0.5/24", "GateWay": "10.9.0.1"}], "Routes": [{"Dst": "10.8.0.0/16", "GW": "10.9.0.9"}]}});
        let given = plugin(&stage.lab, whose, "static", fixed).on(&stage.bare).add().ok();
        assert_eq!(given["ips"][0]["gateway"], "10.9.0.1", "{whose:?}: {given}");
        assert_eq!(given["routes"][0]["gw"], "10.9.0.9", "{whose:?}: {given}");
    }
}

/// What is printed, byte by byte: the order of keys, the indentation, the line end.
#[test]
fn documents_are_printed_as_theirs() {
    let Some(stage) = Beside::new() else { return };
    let ipam = json!({"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16", "gw": "10.9.0.9"}],
        "dns": {"nameservers": ["10.9.0.1"], "domain": "x", "search": ["y"], "options": ["z"]}});
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        let conf = json!({"name": "n", "cniVersion": version, "ipam": ipam});
        let text = |whose| plugin(&stage.lab, whose, "static", conf.clone()).on(&stage.bare).add().stdout;
        let (ours, theirs) = (text(Whose::Ours), text(Whose::Theirs));
        assert_eq!(ours.trim_end(), theirs.trim_end(), "{version}");
    }
    let error = stage.good(Whose::Ours, "bridge").ifname("a/b").add().stdout;
    assert!(
        error.starts_with("{\n    \"cniVersion\": \"1.0.0\",\n    \"code\": 4,\n    \"msg\": "),
        "{error}"
    );
    // An absent version is the first.
    let first = |whose| stage.good(whose, "static").with(json!({"cniVersion": null})).add().ok();
    assert_eq!(first(Whose::Ours), first(Whose::Theirs));
    assert_eq!(first(Whose::Ours)["ip4"]["ip"], "10.9.0.5/24");
}

/// A namespace may be the plugin's own where the runtime says that it means it.
#[test]
fn the_plugins_own_namespace_is_taken_where_that_is_meant() {
    let Some(stage) = Beside::new() else { return };
    for face in ["tuning", "portmap", "loopback"] {
        let own = stage.good(Whose::Ours, face).inside(&stage.attached).env("CNI_NETNS", "/proc/self/ns/net");
        assert_eq!(document(&own.add())["code"], 8, "{face}");
        for (word, code) in [("0", 8), ("yes", 8)] {
            assert_eq!(document(&own.env("CNI_NETNS_OVERRIDE", word).add())["code"], code, "{face} {word}");
        }
        for word in ["1", "true", "TRUE"] {
            own.env("CNI_NETNS_OVERRIDE", word).add().ok();
            own.env("CNI_NETNS_OVERRIDE", word).del().ok();
        }
    }
}

/// `CNI_ARGS` are not the business of those that add a part, and what is theirs is in exact spelling.
#[test]
fn arguments_are_read_by_those_whose_they_are() {
    let Some(stage) = Beside::new() else { return };
    for face in ["portmap", "firewall", "bandwidth", "sbr", "loopback"] {
        for whose in Whose::BOTH {
            let call = stage.good(whose, face).args("none;;A=b=c");
            call.add().ok();
            call.del().ok();
        }
    }
    let end = stage.result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    stage.lab.host.exec(&["tc", "qdisc", "del", "dev", &end, "root"]);
    for (face, args) in [("bridge", "mac=02:00:00:00:00:01"), ("static", "ip=10.9.0.9/24"), ("ptp", "none")] {
        stage.compare(&format!("{face} {args}"), Is::Same, |whose| {
            let outcome = stage.good(whose, face).args(args).add();
            stage.good(whose, face).del();
            outcome
        });
    }
    // `IP` is host-local's and `MAC` is bridge's: theirs stumbles over the one that is not its own.
    let both = |whose| {
        let call = stage.good(whose, "bridge").args("IP=10.9.0.7;MAC=02:00:00:00:00:07");
        let outcome = call.add();
        call.del();
        outcome
    };
    assert_eq!(both(Whose::Ours).ok()["interfaces"][2]["mac"], "02:00:00:00:00:07");
    assert!(both(Whose::Theirs).words().contains("unknown args"));
    // A list of addresses; each gateway is of the address whose subnet holds it.
    let given = |whose| {
        let args = "IP=10.3.0.5/24,fd00:3::5/64;GATEWAY=10.3.0.1,fd00:3::1";
        stage.good(whose, "static").args(args).add().ok()["ips"].clone()
    };
    assert_eq!(given(Whose::Ours), given(Whose::Theirs));
    assert_eq!(given(Whose::Ours)[2]["gateway"], "fd00:3::1");
}

#[test]
fn an_existing_interface_is_refused_by_all_who_make_one_and_stays() {
    let Some(stage) = Beside::new() else { return };
    stage.bare.ip("link add eth0 type veth peer name other");
    let before = Snapshot::take(&stage.lab);
    for face in ["bridge", "ptp", "macvlan"] {
        assert!(stage.good(Whose::Ours, face).add().refused(999).contains("eth0"), "{face}");
    }
    Snapshot::take(&stage.lab).assert_same(&before, "after refusals");
    assert_eq!(inspect::link(&stage.bare, "eth0").unwrap()["linkinfo"]["info_kind"], "veth");
}
