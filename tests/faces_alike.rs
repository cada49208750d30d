//! Keys, arguments and capabilities one by one: what a face makes of them, side by side with Debian's plugin of its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::beside::Beside;
use lab::faces::{Whose, plugin, shape, told};
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Container, Lab, Outcome, Plugin, inspect};
use serde_json::{Value, json};

/// Addresses and routes of a container's interface, as a table of what matters of them.
fn view(container: &Container) -> Value {
    let mut routes: Vec<String> = [4, 6]
        .into_iter()
        .flat_map(|family| inspect::routes(container, family))
        .filter(|r| r["table"] != "local" && r["dst"] != "fe80::/64" && r["dst"] != "ff00::/8")
        .map(|r| json!([r["dst"], r["gateway"], r["dev"]]).to_string())
        .collect();
    routes.sort();
    routes.dedup();
    let addresses: Vec<String> =
        inspect::addresses(container, "eth0").into_iter().filter(|a| !a.starts_with("fe80")).collect();
    json!({"addresses": addresses, "routes": routes, "mtu": inspect::link(container, "eth0").unwrap()["mtu"]})
}

/// ADD, CHECK and DEL by each of the two, in the same container: result and interface are the same.
fn alike(stage: &Beside, face: &str, keys: &Value, call: impl Fn(Plugin) -> Plugin) {
    let mut seen = Vec::new();
    for whose in Whose::BOTH {
        let _ = fs::remove_dir_all("/var/lib/cni/networks/n");
        let plugin = call(stage.good(whose, face).with(keys.clone()));
        let result = plugin.add().ok();
        seen.push((shape(result.clone()), view(&stage.bare)));
        let checked = plugin.prev(&result).check();
        // Debian's version does not find a route whose next hop it has chosen itself.
        assert!(checked.succeeded() || checked.words().contains("Expected Route"), "{face}: {checked:?}");
        assert!(checked.succeeded() || whose == Whose::Theirs, "{face}: {checked:?}");
        plugin.prev(&result).del().ok();
        plugin.del().ok();
    }
    assert_eq!(seen[0], seen[1], "{face} {keys}");
}

#[test]
fn interfaces() {
    let Some(stage) = Beside::new() else { return };
    let fixed = |rest: Value| {
        let mut ipam = json!({"type": "static", "subnet": null, "addresses": [{"address": "10.9.0.5/24"}]});
        lab::plugin::merge(&mut ipam, rest);
        json!({ "ipam": ipam })
    };
    let default = json!({"routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]});
    let with = |mut keys: Value, more: Value| {
        lab::plugin::merge(&mut keys, more);
        keys
    };
    let gateway = json!({"isDefaultGateway": true});
    let small = |bridge: &str, address: &str| {
        let keys = json!({"bridge": bridge, "isDefaultGateway": true});
        with(fixed(json!({"addresses": [{"address": address}]})), keys)
    };
    for keys in [
        fixed(json!({})),
        with(fixed(json!({})), gateway.clone()),
        with(fixed(default.clone()), gateway.clone()),
        with(json!({"ipam": {"routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.9"}]}}), gateway.clone()),
        json!({"ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16"}, {"dst": "10.7.0.0/16", "gw": "10.9.0.9"}]}}),
        json!({"isGateway": false, "ipam": {"gateway": "10.9.0.9"}}),
        json!({"dns": {"domain": "d", "options": ["o"]}}),
        json!({"mtu": 1280, "macspoofchk": true}),
        small("br31", "10.9.0.4/31"),
        small("br127", "fd00:9::4/127"),
    ] {
        alike(&stage, "bridge", &keys, |plugin| plugin);
    }
    for keys in [
        json!({"mtu": 1280, "dns": {"search": ["s"]}}),
        json!({"ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16"}], "gateway": "10.9.0.9"}}),
        fixed(json!({"addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]})),
        // A next hop behind the gateway, which alone is on the link.
        json!({"ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.7.0.0/16", "gw": "10.9.0.9"}]}}),
        json!({"ipam": {"subnet": "fd00:9::/64", "routes": [{"dst": "fd07::/64", "gw": "fd00:9::9"}, {"dst": "::/0"}]}}),
    ] {
        alike(&stage, "ptp", &keys, |plugin| plugin);
    }
    // An empty list is one, and `null` is none. Debian's `bridge` takes none for one too; later ones do not.
    let told = json!({"addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}], "dns": {"nameservers": ["10.2.2.2"]}});
    let dns = |dns: Value| with(fixed(told.clone()), json!({ "dns": dns }));
    for empty in [json!({"nameservers": []}), json!({"options": []})] {
        alike(&stage, "bridge", &dns(empty.clone()), |plugin| plugin);
        alike(&stage, "ptp", &dns(empty), |plugin| plugin);
    }
    for none in [json!({"search": null}), json!({})] {
        alike(&stage, "ptp", &dns(none), |plugin| plugin);
    }
    for keys in [json!({"mtu": 0}), json!({"mtu": 1280, "mode": "bridge"}), json!({"dns": {"domain": "d"}})] {
        alike(&stage, "macvlan", &keys, |plugin| plugin);
    }
    for face in ["bridge", "ptp", "macvlan"] {
        let ips = json!({"ips": ["10.9.0.77"]});
        alike(&stage, face, &json!({}), |plugin| plugin.cap(ips.clone()));
        alike(&stage, face, &json!({"args": {"cni": ips}}), |plugin| plugin.args("IgnoreUnknown=1"));
        alike(&stage, face, &json!({}), |plugin| plugin.args("IgnoreUnknown=true;IP=10.9.0.78"));
        let ranges = json!({"ipRanges": [[{"subnet": "10.6.0.0/24", "rangeStart": "10.6.0.9"}]]});
        alike(&stage, face, &json!({"isGateway": false}), |plugin| plugin.cap(ranges.clone()));
    }
}

#[test]
fn files_of_leases() {
    let Some(stage) = Beside::new() else { return };
    let keys = json!({"ipam": {"dataDir": "/run/leases", "ranges": [[{"subnet": "fd00:9::/64", "rangeStart": "fd00:9::10"}]]}});
    let mut seen = Vec::new();
    for whose in Whose::BOTH {
        let plugin = stage.good(whose, "host-local").with(keys.clone());
        let result = told(plugin.add().ok());
        plugin.id("second").add().ok();
        plugin.check().ok();
        let mut files: Vec<_> = fs::read_dir("/run/leases/n")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
            .map(|path| {
                // Debian's version has 644; later ones have what ours has.
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert!(whose == Whose::Theirs || mode == 0o600, "{}: {mode:o}", path.display());
                (path.display().to_string(), fs::read_to_string(&path).unwrap())
            })
            .collect();
        files.sort();
        assert_eq!(files.len(), 7, "four leases, two marks, a lock: {files:?}");
        seen.push((result, files));
        plugin.del().ok();
        plugin.id("second").del().ok();
        plugin.id("never").del().ok();
        assert!(!Path::new("/run/leases/n/10.9.0.2").exists(), "{whose:?}");
        fs::remove_dir_all("/run/leases").unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

/// CHECK of `static` is about gateways alone, and its DEL about nothing.
#[test]
fn checks_of_static() {
    let Some(stage) = Beside::new() else { return };
    let ipam = json!({"addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}], "routes": [{"dst": "10.8.0.0/16"}]});
    for whose in Whose::BOTH {
        let plugin = stage.good(whose, "static").with(json!({ "ipam": ipam }));
        let good = plugin.add().ok();
        let changed = |path: &str, value: Value| {
            let mut result = good.clone();
            *result.pointer_mut(path).unwrap() = value;
            plugin.prev(&result).check().succeeded()
        };
        let passes = [
            changed("/routes/0/dst", json!("10.7.0.0/16")),
            changed("/ips/0/gateway", json!("10.9.0.2")),
            changed("/ips/0/address", json!("10.9.0.6/24")),
        ];
        assert_eq!(passes, [true, false, true], "{whose:?}");
        plugin.without("CNI_NETNS").del().ok();
        plugin.del().ok();
    }
}

/// A container with two addresses of IPv4, to which parts are added.
fn two_addresses(lab: &Lab, container: &Container) -> Value {
    let ipam = json!({"type": "static", "addresses": [
        {"address": "10.88.2.2/24", "gateway": "10.88.2.1"}, {"address": "10.88.2.3/24", "gateway": "10.88.2.1"}]});
    let conf =
        json!({"name": "two", "bridge": "cni2", "isGateway": true, "isDefaultGateway": true, "ipam": ipam});
    plugin(lab, Whose::Theirs, "bridge", conf).on(container).add().ok()
}

#[test]
fn mappings_of_every_kind() {
    let Some(stage) = Beside::new() else { return };
    let _outside = stage.lab.outside();
    let two = two_addresses(&stage.lab, &stage.bare);
    let mut many: Vec<Value> =
        (0..20).map(|n| json!({"hostPort": 7000 + n, "containerPort": 80, "protocol": "tcp"})).collect();
    // An address of a family that the container lacks is passed over; an empty one is none.
    many.push(json!({"hostPort": 7100, "containerPort": 80, "protocol": "tcp", "hostIP": "2001:db8::1"}));
    many.push(json!({"hostPort": 7101, "containerPort": 80, "protocol": "tcp", "hostIP": ""}));
    many.push(json!({"hostPort": 7102, "containerPort": 80, "protocol": "tcp", "hostIP": "0.0.0.0"}));
    many.push(json!({"hostPort": 7103, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}));
    let _first = tcp_server(&stage.bare, "10.88.2.2:80", "first");
    let _second = tcp_server(&stage.bare, "10.88.2.3:80", "second");
    for whose in Whose::BOTH {
        let portmap = plugin(&stage.lab, whose, "portmap", json!({"name": "two"}))
            .cap(json!({"portMappings": many}))
            .on(&stage.bare)
            .prev(&two);
        assert_eq!(told(portmap.add().ok()), told(two.clone()), "{whose:?}: the result passes");
        for port in [7000, 7014, 7015, 7019, 7101, 7102, 7103] {
            assert_eq!(tcp(&_outside, &format!("192.0.2.1:{port}")).tag, "first", "{whose:?} {port}");
        }
        assert!(!tcp_answers(&_outside, "192.0.2.1:7100"), "{whose:?}");
        assert!(!tcp_answers(&stage.lab.host, "127.0.0.1:7103"), "{whose:?}: of one address alone");
        portmap.del().ok();
        portmap.del().ok();
        assert!(!tcp_answers(&_outside, "192.0.2.1:7000"), "{whose:?}");
    }
    for empty in [json!([]), json!(null)] {
        for whose in Whose::BOTH {
            let mut portmap =
                plugin(&stage.lab, whose, "portmap", json!({"name": "two"})).on(&stage.bare).prev(&two);
            portmap.conf["runtimeConfig"] = json!({ "portMappings": empty });
            assert_eq!(told(portmap.add().ok()), told(two.clone()), "{whose:?}");
            portmap.check().ok();
            portmap.del().ok();
        }
    }
}

/// What plugins before said and the specification does not know goes on; so does a result without `cniVersion`.
#[test]
fn results_of_others_pass_whole() {
    let Some(stage) = Beside::new() else { return };
    let mut odd = stage.result.clone();
    odd["x-vendor"] = json!({"a": [1]});
    odd["interfaces"][2]["x-pci"] = json!("0000");
    let mut bare = stage.result.clone();
    bare.as_object_mut().unwrap().remove("cniVersion");
    for face in ["portmap", "firewall", "tuning", "bandwidth", "sbr"] {
        let run = |result: &Value| -> Outcome {
            let call = stage.good(Whose::Ours, face).with(json!({"prevResult": null})).prev(result);
            let outcome = call.add();
            call.del().ok();
            outcome
        };
        let out = run(&odd).ok();
        assert_eq!(
            (&out["x-vendor"], &out["interfaces"][2]["x-pci"]),
            (&odd["x-vendor"], &json!("0000")),
            "{face}"
        );
        assert_eq!(run(&bare).ok()["cniVersion"], "1.0.0", "{face}");
    }
}
