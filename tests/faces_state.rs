//! One code path: a list of faces leaves the same kernel state as one `linkspan` entry with the same keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::outcome::addresses;
use lab::snapshot::Snapshot;
use lab::{Lab, inspect};
use serde_json::{Value, json};

/// What each face of the list reads. All of it together is what the one entry reads.
fn faces() -> Vec<(&'static str, Value)> {
    vec![
        (
            "bridge",
            json!({
                "bridge": "web0", "isGateway": true, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
                "mtu": 1400,
                "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks", "ranges": [
                    [{"subnet": "10.88.1.0/24"}], [{"subnet": "fd00:88:1::/64"}]
                ]},
            }),
        ),
        ("portmap", json!({"capabilities": {"portMappings": true}})),
        ("firewall", json!({"ingressPolicy": "same-bridge"})),
        ("tuning", json!({"sysctl": {"net.ipv4.conf.eth0.arp_announce": "2"}, "allmulti": true})),
        (
            "bandwidth",
            json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000}),
        ),
    ]
}

const PORTS: [&str; 3] = ["8080:80", "8053:53/udp", "192.0.2.1:8443:443"];

/// All facts about host and container, with what names the plugin that made them left out.
fn facts(lab: &Lab, container: &lab::Container) -> Vec<String> {
    let bridge_mac = inspect::link(&lab.host, "web0").unwrap()["address"].as_str().unwrap().to_owned();
    let mut facts = Vec::new();
    for (place, snapshot) in
        [("host", Snapshot::of(&lab.host, &[])), ("container", Snapshot::of(container, &[]))]
    {
        // The way out has a MAC of its own in every host.
        for line in snapshot.lines().filter(|line| !line.starts_with("link uplink")) {
            let line = line.replace(&bridge_mac, "BRIDGE-MAC");
            let line = Part::ALL.iter().fold(line, |line, part| line.replace(part, ":eth0"));
            facts.push(format!("{place}: {}", without_device_names(&line)));
        }
    }
    for key in ["ip_forward", "conf/web0/route_localnet", "conf/all/route_localnet"] {
        facts.push(format!("{key} = {}", lab.host.sysctl(&format!("net/ipv4/{key}"))));
    }
    facts.push(format!("forwarding = {}", lab.host.sysctl("net/ipv6/conf/all/forwarding")));
    facts.sort();
    facts
}

/// The device that limits what the container sends has the name that the reference gives it, or linkspan's, and with
/// the latter its mark.
fn without_device_names(line: &str) -> String {
    let mut line = line.to_owned();
    for prefix in ["bwp", "lksi"] {
        let Some(start) = line.find(prefix) else { continue };
        let length = line[start..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len() - start);
        line.replace_range(start..start + length, "IFB");
    }
    match line.strip_prefix("link IFB = ").and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        Some(mut device) => {
            device["address"].take();
            device["group"].take();
            format!("link IFB = {device}")
        }
        None => line,
    }
}

struct Part;

impl Part {
    const ALL: [&'static str; 4] = [":eth0:portmap", ":eth0:firewall", ":eth0:tuning", ":eth0:bandwidth"];
}

/// Attaches a container and takes it away again, each in a host of its own: what was there, and what was left.
fn run(as_list: bool) -> Option<(Vec<String>, Vec<String>, Vec<String>)> {
    let thread = std::thread::spawn(move || {
        let lab = Lab::new()?;
        let _outside = lab.outside();
        let bin = Bin::ours(&lab);
        let container = lab.container("a");
        let list = if as_list {
            let plugins: Vec<Value> = faces()
                .into_iter()
                .map(|(face, mut keys)| {
                    keys["type"] = json!(face);
                    keys
                })
                .collect();
            json!({"name": "web", "plugins": plugins})
        } else {
            let mut entry = json!({"type": "linkspan"});
            for (_, keys) in faces() {
                lab::plugin::merge(&mut entry, keys);
            }
            bin.install_ours(&["linkspan"]);
            json!({"name": "web", "plugins": [entry]})
        };
        let chain = bin.chain(list).publish(&PORTS);
        let result = chain.add(&container).ok();
        chain.check(&container, &result).ok();
        let there = facts(&lab, &container);
        chain.del(&container, &result);
        let left = facts(&lab, &container);
        Some((addresses(&result), there, left))
    });
    thread.join().unwrap()
}

#[test]
fn a_list_of_faces_and_one_entry_make_the_same() {
    let (Some(list), Some(entry)) = (run(true), run(false)) else { return };
    assert_eq!(list.0, entry.0, "addresses");
    for (what, list, entry) in [("attached", list.1, entry.1), ("detached", list.2, entry.2)] {
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|fact| !other.contains(fact)).cloned().collect()
        };
        let (more, less) = (only(&list, &entry), only(&entry, &list));
        assert!(
            more.is_empty() && less.is_empty(),
            "{what}\nonly the list: {more:#?}\nonly the entry: {less:#?}"
        );
        assert!(list.len() > 40, "{list:#?}");
    }
}
