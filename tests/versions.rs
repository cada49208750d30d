//! Results in the shape of each version of the specification, and earlier results read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::{Lab, Plugin, inspect};
use serde_json::{Value, json};

fn network(lab: &Lab, version: &str) -> Plugin {
    let mut ipam = dual_stack(1);
    ipam["routes"] = json!([{"dst": "10.100.0.0/16"}]);
    lab.plugin(json!({"cniVersion": version, "ipam": ipam, "dns": {"nameservers": ["10.88.1.1"]}}))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_first_versions_have_ip4_and_ip6() {
    let Some(lab) = Lab::new() else { return };
    for version in ["0.1.0", "0.2.0"] {
        let a = lab.container(&format!("c{}", version.replace('.', "-")));
        let plugin = network(&lab, version).on(&a);
        let result = plugin.add().ok();
        assert_eq!(result["cniVersion"], version);
        for absent in ["ips", "interfaces", "routes"] {
            assert!(result[absent].is_null(), "{absent} in {version}: {result}");
        }
        assert_eq!(result["ip4"]["gateway"], "10.88.1.1");
        assert!(result["ip4"]["ip"].as_str().unwrap().ends_with("/24"), "{result}");
        assert!(result["ip6"]["ip"].as_str().unwrap().starts_with("fd00:88:1::"), "{result}");
        let routes = result["ip4"]["routes"].as_array().unwrap();
        assert!(routes.iter().any(|r| r["dst"] == "10.100.0.0/16"), "{result}");
        assert!(routes.iter().all(|r| !r["dst"].as_str().unwrap().contains(':')), "{result}");
        assert_eq!(result["dns"]["nameservers"], json!(["10.88.1.1"]));
        plugin.del().ok();
    }
}

#[test]
fn the_middle_versions_number_each_address() {
    let Some(lab) = Lab::new() else { return };
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let a = lab.container(&format!("c{}", version.replace('.', "-")));
        let plugin = network(&lab, version).on(&a);
        let result = plugin.add().ok();
        assert_eq!(result["cniVersion"], version);
        assert!(result["ip4"].is_null());
        let numbers: Vec<_> =
            result["ips"].as_array().unwrap().iter().map(|ip| ip["version"].clone()).collect();
        assert_eq!(numbers, ["4", "6"], "{result}");
        for interface in result["interfaces"].as_array().unwrap() {
            for key in keys(interface) {
                assert!(["name", "mac", "sandbox"].contains(&key), "{key} is not of {version}: {interface}");
            }
        }
        if version == "0.4.0" && !lab::is_reference() {
            plugin.prev(&result).check().ok();
        }
        plugin.prev(&result).del().ok();
    }
}

#[test]
fn the_late_versions_do_not() {
    let Some(lab) = Lab::new() else { return };
    for version in ["1.0.0", "1.1.0"] {
        let a = lab.container(&format!("c{}", version.replace('.', "-")));
        let plugin = network(&lab, version).on(&a);
        let result = plugin.add().ok();
        assert_eq!(result["cniVersion"], version);
        for ip in result["ips"].as_array().unwrap() {
            assert!(ip["version"].is_null(), "{ip}");
            assert_eq!(ip["interface"], 2);
        }
        let mtu = result["interfaces"][2]["mtu"].clone();
        assert!(version >= "1.0.0" || mtu.is_null(), "mtu came with 1.0.0: {result}");
        if !lab::is_reference() {
            plugin.prev(&result).check().ok();
        }
        plugin.prev(&result).del().ok();
    }
}

#[test]
fn an_absent_version_is_the_first() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = network(&lab, "1.1.0").on(&a).with(json!({"cniVersion": null}));
    let result = plugin.add().ok();
    assert_eq!(result["cniVersion"], "0.1.0");
    assert!(result["ip4"]["ip"].is_string(), "{result}");
    plugin.del().ok();
}

#[test]
fn verbs_are_refused_in_versions_that_do_not_have_them() {
    if lab::is_reference() {
        lab::skip!("the stand-in does not look");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let old = network(&lab, "0.3.1").on(&a);
    let result = old.add().ok();
    assert_eq!(old.prev(&result).check().code(), 1);
    assert_eq!(network(&lab, "1.0.0").status().code(), 1);
    assert_eq!(network(&lab, "1.0.0").gc(&[]).code(), 1);
    assert!(inspect::link(&a, "eth0").is_some());
}

/// The runtime hands over the last result of a chain, in which later plugins have changed and added things.
#[test]
fn a_result_that_others_have_worked_on() {
    if lab::is_reference() {
        lab::skip!("the stand-in passes it to plugins that do mind");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = network(&lab, "1.1.0").on(&a);
    let mut result = plugin.add().ok();
    let clean = Snapshot::take(&lab);
    let rows = result["interfaces"].as_array_mut().unwrap();
    rows.push(
        json!({"name": "bwp0", "mac": "02:00:00:00:00:77", "sandbox": "", "socketPath": "/x", "pciID": "0"}),
    );
    result["unknown"] = json!({"from": "another plugin"});
    result["ips"].as_array_mut().unwrap().push(json!({"address": "172.31.0.9/24"}));
    plugin.prev(&result).check().ok();
    result.as_object_mut().unwrap().remove("cniVersion");
    plugin.prev(&result).check().ok();
    Snapshot::take(&lab).assert_same(&clean, "CHECK changes nothing");
    plugin.prev(&result).del().ok();
    assert!(inspect::link(&a, "eth0").is_none());
}

/// A chain with the reference plugins on both sides speaks one language.
#[test]
fn reference_plugins_read_our_result() {
    let Some(lab) = Lab::new() else { return };
    let portmap = format!("{}/portmap", lab::plugin::REFERENCE);
    if !std::path::Path::new(&portmap).exists() {
        lab::skip!("{portmap} is not installed");
    }
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let name = format!("c{}", version.replace('.', "-"));
        let a = lab.container(&name);
        let plugin = network(&lab, version).on(&a);
        let result = plugin.add().ok();
        let next = lab.plugin(json!({"cniVersion": version, "type": "portmap"})).of(portmap.as_str()).on(&a);
        let next =
            next.cap(json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}));
        let last = next.prev(&result).add().ok();
        assert_eq!(last["ips"], result["ips"], "{version}");
        next.prev(&last).del();
        plugin.prev(&last).del().ok();
    }
}
