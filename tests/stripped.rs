//! Runtimes on libcni hand back no more of a result than the specification knows: CHECK and DEL need no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::outcome::host_end;
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Chain, Lab};
use serde_json::{Value, json};

/// What libcni's type of a result of 1.1.0 keeps, and nothing else.
fn stripped(result: &Value) -> Value {
    let mut kept = only(result, &["cniVersion", "interfaces", "ips", "routes", "dns"]);
    for (list, keys) in [
        ("interfaces", &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"][..]),
        ("ips", &["interface", "address", "gateway"]),
        ("routes", &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"]),
    ] {
        for entry in kept[list].as_array_mut().into_iter().flatten() {
            *entry = only(entry, keys);
        }
    }
    kept
}

fn only(object: &Value, keys: &[&str]) -> Value {
    let entries = object.as_object().unwrap().iter().filter(|(key, _)| keys.contains(&key.as_str()));
    Value::Object(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The list with everything that ours can put into an attachment.
fn rich(lab: &Lab) -> Chain {
    let rates = json!({"ingressRate": 80_000_000, "ingressBurst": 800_000, "egressRate": 80_000_000,
        "egressBurst": 800_000});
    let mut one = json!({"type": "linkspan", "ipam": dual_stack(1), "macspoofchk": true, "mtu": 1400,
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}, "capabilities": {"portMappings": true}});
    lab::plugin::merge(&mut one, rates);
    Bin::ours(lab).chain(json!({"name": "web", "cniVersion": "1.1.0", "plugins": [one]}))
}

/// The same from the faces, each with its part.
fn faces(lab: &Lab) -> Chain {
    let shaped = json!({"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 800_000,
        "egressRate": 80_000_000, "egressBurst": 800_000});
    Bin::ours(lab).chain(json!({"name": "web", "cniVersion": "1.1.0", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": v4(1)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "firewall"},
        {"type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:09"},
        shaped,
    ]}))
}

/// ADD, CHECK, a CHECK that must fail, DEL: with the whole result and with what is left of it.
fn the_same_with_less(make: fn(&Lab) -> Chain, port: u16) {
    if lab::is_reference() {
        lab::skip!("the reference has no keys of its own");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let chain = make(&lab).cap(json!({"portMappings": [
        {"hostPort": port, "containerPort": 80, "protocol": "tcp"}]}));
    let warm = lab.container("warm");
    chain.del(&warm, &chain.add(&warm).ok());
    let clean = Snapshot::take(&lab);
    let mut answers = Vec::new();
    for strips in [false, true] {
        let a = lab.container("a");
        let whole = chain.add(&a).ok();
        let told = whole["linkspan"]["portMappings"][0]["hostPort"].as_u64();
        assert_eq!(told.is_some(), port == 0, "an automatic port is told: {whole}");
        let result = if strips { stripped(&whole) } else { whole.clone() };
        assert!(!strips || result["linkspan"].is_null());
        let _server = tcp_server(&a, "[::]:80", "a");
        let at = format!("192.0.2.1:{}", told.unwrap_or(port.into()));
        assert_eq!(tcp(&outside, &at).tag, "a");
        chain.check(&a, &result).ok();
        // A port that does not lead where it should, and a link that is down, are seen as well as ever.
        lab.host.must(&["nft", "flush", "map", "inet", "linkspan", "ports4_any"]);
        let drift = chain.check(&a, &result);
        lab.ip(&format!("link set {} down", host_end(&whole)));
        answers.push((drift.code(), chain.check(&a, &result).code()));
        chain.del(&a, &result);
        assert!(!tcp_answers(&outside, &at));
        Snapshot::take(&lab).assert_same(&clean, "nothing is left");
        drop(a);
    }
    assert_eq!(answers[0], answers[1], "CHECK answers the same");
}

#[test]
fn an_attachment_of_ours_with_an_automatic_port() {
    the_same_with_less(rich, 0);
}

#[test]
fn an_attachment_of_ours_with_a_port() {
    the_same_with_less(rich, 8080);
}

#[test]
fn a_list_of_faces() {
    the_same_with_less(faces, 8080);
}
