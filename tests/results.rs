//! Results and errors against the specification, key by key: every plugin that answers, in every version.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::{Container, Lab, Plugin, Space, inspect};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A route with everything that 1.1.0 knows of one.
fn detour() -> Value {
    json!({"dst": "10.100.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 50, "table": 100, "scope": 0})
}

fn ipam(n: usize) -> Value {
    json!({
        "type": "host-local",
        "ranges": [[{"subnet": format!("10.61.{n}.0/24")}], [{"subnet": format!("fd00:61:a{n}::/64")}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, detour()],
    })
}

/// A plugin, called for a container, and what its result consists of.
struct Case {
    what: String,
    plugin: Plugin,
    container: Container,
    face: &'static str,
    /// How many of its interfaces are on the host.
    outer: usize,
    /// The network of its addresses, of [`ipam`].
    n: Option<usize>,
}

fn cases(lab: &Lab, version: &str) -> Vec<Case> {
    lab.ip("link add uplink type veth peer name far");
    lab.ip("link set uplink mtu 1450 up");
    lab.ip("link set far up");
    let bin = Bin::ours(lab);
    let fixed = json!({"type": "static", "addresses": [{"address": "10.62.0.9/24"}]});
    let ours = "linkspan";
    // The face, how many interfaces it makes on the host, the network of its addresses, its keys.
    let rows = [
        (ours, 2, Some(0), json!({})),
        (ours, 2, Some(1), json!({"mtu": 1400})),
        (ours, 2, Some(2), json!({"mtu": 9000})),
        ("bridge", 2, Some(3), json!({"bridge": "cni0", "isGateway": true})),
        ("bridge", 2, Some(4), json!({"bridge": "cni1", "isGateway": true, "mtu": 1400})),
        ("bridge", 2, None, json!({"bridge": "cni2", "ipam": {}})),
        ("ptp", 1, Some(6), json!({"mtu": 1400})),
        ("macvlan", 0, Some(7), json!({"master": "uplink"})),
        ("loopback", 0, None, json!({})),
        ("host-local", 0, Some(9), json!({})),
        ("static", 0, None, json!({"ipam": fixed})),
    ];
    let mut cases = Vec::new();
    for (at, (face, outer, n, mut keys)) in rows.into_iter().enumerate() {
        put(&mut keys, "ipam", n.map(ipam));
        let container = lab.container(&format!("c{at}-{}", version.replace('.', "-")));
        let plugin = bin.plugin(face, json!({"cniVersion": version, "name": format!("net{at}")}));
        let what = format!("{face} {keys} in {version}");
        let plugin = plugin.with(keys).on(&container);
        cases.push(Case { what, plugin, container, face, outer, n });
    }
    cases
}

/// An interface as it is: a result must say that and nothing else.
fn interface(space: &Space, name: &str, case: &Case, version: &str, inside: bool) -> Value {
    let link = inspect::link(space, name).unwrap_or_else(|| panic!("{}: there is no {name}", case.what));
    let mut told = json!({"name": name, "mac": link["address"]});
    if inside {
        told["sandbox"] = case.container.path.clone().into();
    }
    // No plugin of the reference tells it.
    if case.face == "linkspan" && version >= "1.0.0" {
        told["mtu"] = link["mtu"].clone();
    }
    told
}

/// The interfaces of a result: those on the host by the names that it gives, the container's by the name asked for.
fn interfaces(lab: &Lab, case: &Case, version: &str, result: &Value) -> Vec<Value> {
    let name = |at: usize| result["interfaces"][at]["name"].as_str().unwrap_or_default().to_owned();
    let outer = (0..case.outer).map(|at| interface(&lab.host, &name(at), case, version, false));
    let inner = match case.face {
        "host-local" | "static" => None,
        "loopback" => Some("lo"),
        _ => Some("eth0"),
    };
    let inner = inner.map(|name| interface(&case.container, name, case, version, true));
    outer.chain(inner).collect()
}

/// Address and gateway.
fn addresses(case: &Case) -> Vec<(String, Option<String>)> {
    match (case.face, case.n) {
        ("loopback", _) => vec![("127.0.0.1/8".to_owned(), None), ("::1/128".to_owned(), None)],
        ("static", _) => vec![("10.62.0.9/24".to_owned(), None)],
        (_, Some(n)) => vec![
            (format!("10.61.{n}.2/24"), Some(format!("10.61.{n}.1"))),
            (format!("fd00:61:a{n}::2/64"), Some(format!("fd00:61:a{n}::1"))),
        ],
        _ => Vec::new(),
    }
}

fn routes(case: &Case, version: &str) -> Vec<Value> {
    let last = if version == "1.1.0" { detour() } else { json!({"dst": detour()["dst"]}) };
    if case.n.is_some() {
        vec![json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"}), last]
    } else {
        Vec::new()
    }
}

/// The whole document, from the configuration and from what the kernel says: no key more, none empty, none null.
fn expected(lab: &Lab, case: &Case, version: &str, result: &Value) -> Value {
    let mut whole = json!({"cniVersion": version});
    if version < "1.0.0" {
        whole["dns"] = json!({});
    }
    if version < "0.3.0" {
        for (address, gateway) in addresses(case) {
            let (key, mark) = if address.contains(':') { ("ip6", ':') } else { ("ip4", '.') };
            let of_family = |route: &Value| route["dst"].as_str().unwrap().contains(mark);
            let routes: Vec<Value> = routes(case, version).into_iter().filter(of_family).collect();
            whole[key] = json!({"ip": address});
            put(&mut whole[key], "gateway", gateway.map(Value::from));
            put(&mut whole[key], "routes", (!routes.is_empty()).then(|| routes.into()));
        }
        return whole;
    }
    let interfaces = interfaces(lab, case, version, result);
    let ip = |(address, gateway): (String, Option<String>)| {
        let mut ip = json!({"address": address});
        put(&mut ip, "gateway", gateway.map(Value::from));
        put(&mut ip, "interface", interfaces.len().checked_sub(1).map(Value::from));
        let family = if address.contains(':') { "6" } else { "4" };
        put(&mut ip, "version", (version < "1.0.0").then(|| family.into()));
        ip
    };
    let ips: Vec<Value> = addresses(case).into_iter().map(ip).collect();
    for (key, list) in [("interfaces", interfaces.clone()), ("ips", ips), ("routes", routes(case, version))] {
        put(&mut whole, key, (!list.is_empty()).then(|| list.into()));
    }
    whole
}

fn put(onto: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        onto[key] = value;
    }
}

#[test]
fn every_result_is_what_its_version_says_and_the_kernel_has() {
    if lab::is_reference() {
        lab::skip!("the reference has other names and fewer plugins");
    }
    for version in VERSIONS {
        let Some(lab) = Lab::new() else { return };
        for case in cases(&lab, version) {
            let added = case.plugin.add();
            if version < "0.3.0" && addresses(&case).is_empty() {
                assert!(added.words().contains(version), "{}: it has no result: {added:?}", case.what);
                continue;
            }
            let result = added.ok();
            assert_eq!(result, expected(&lab, &case, version, &result), "{}", case.what);
            if version >= "0.4.0" {
                case.plugin.prev(&result).check().ok();
            }
            case.plugin.prev(&result).del().ok();
        }
    }
}

/// A bridge has the MTU that it has, whatever the network of the container says: here another interface keeps it low.
#[test]
fn the_bridges_mtu_is_its_own() {
    if lab::is_reference() {
        lab::skip!("the reference tells no MTU");
    }
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add shared type bridge");
    lab.ip("link add narrow type veth peer name far");
    lab.ip("link set narrow mtu 1280 master shared");
    let plugin = lab.plugin(json!({"bridge": "shared", "cniVersion": "1.1.0", "ipam": lab::plugin::v4(1)}));
    for name in ["a", "b"] {
        let container = lab.container(name);
        let result = plugin.on(&container).add().ok();
        let mtus: Vec<Value> =
            result["interfaces"].as_array().unwrap().iter().map(|one| one["mtu"].clone()).collect();
        assert_eq!(mtus, [1280, 1500, 1500], "{result}");
        assert_eq!(inspect::link(&lab.host, "shared").unwrap()["mtu"], 1280);
        plugin.on(&container).prev(&result).check().ok();
    }
}

/// The MTU that our result tells is no promise: a later plugin of somebody else's changes it and says nothing.
#[test]
fn a_tuned_mtu_that_nobody_tells_is_no_drift() {
    if lab::is_reference() {
        lab::skip!("the reference tells no MTU");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"cniVersion": "1.0.0", "ipam": lab::plugin::v4(1)})).on(&a);
    let result = plugin.add().ok();
    let tuning = Bin::theirs(&lab).plugin("tuning", json!({"name": plugin.conf["name"]})).on(&a);
    let tuning = tuning.with(json!({"mac": "02:00:00:00:00:09", "mtu": 1300}));
    let last = tuning.prev(&result).add().ok();
    assert_eq!(last["interfaces"][2]["mac"], "02:00:00:00:00:09");
    plugin.prev(&last).check().ok();
    a.ip("link set eth0 address 02:00:00:00:00:0a");
    plugin.prev(&last).check().refused(120);
}

/// Errors are one document of four keys in the caller's version, whoever answers.
#[test]
fn every_error_is_a_document_of_its_version() {
    if lab::is_reference() {
        lab::skip!("the reference leaves out details and writes 0.4.0 at times");
    }
    let Some(lab) = Lab::new() else { return };
    for version in VERSIONS {
        let bin = Bin::ours(&lab);
        let a = lab.container(&format!("e{}", version.replace('.', "-")));
        for face in ["linkspan", "bridge", "ptp", "macvlan", "loopback", "host-local", "static"] {
            let keys = json!({"cniVersion": version, "name": "net", "master": "lo", "ipam": ipam(0)});
            let good = bin.plugin(face, keys).on(&a);
            let mut calls = vec![
                ("no variables", good.without("CNI_CONTAINERID").without("CNI_IFNAME"), version),
                ("a configuration of another kind", good.stdin("[]"), "1.1.0"),
                ("no JSON", good.stdin("{\"cniVersion\": "), "1.1.0"),
                ("a version of the future", good.with(json!({"cniVersion": "9.0.0"})), "9.0.0"),
            ];
            match face {
                "host-local" | "static" => {
                    calls.push(("an IPAM of another kind", good.with(json!({"ipam": 5})), version));
                }
                _ => calls.push(("no such namespace", good.env("CNI_NETNS", "/run/netns/none"), version)),
            }
            for (why, call, spoken) in calls {
                let error = call.add();
                error.code();
                let document = error.json.clone().unwrap();
                let keys: Vec<&str> = document
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str)
                    .filter(|k| *k != "details")
                    .collect();
                assert_eq!(keys, ["cniVersion", "code", "msg"], "{face} in {version}, {why}: {document}");
                assert_eq!(document["cniVersion"], spoken, "{face} in {version}, {why}: {document}");
                let details = &document["details"];
                let told = details.as_str().is_some_and(|text| !text.is_empty());
                assert!(details.is_null() && document.get("details").is_none() || told, "{document}");
            }
        }
    }
}
