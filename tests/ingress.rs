//! Who may open connections into a network: `ingressPolicy` and the administrator's chain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::address;
use lab::plugin::v4;
use lab::talk::{Server, tcp, tcp_answers, tcp_reaches, tcp_server};
use lab::{Container, Lab, Outside, Plugin, inspect};
use serde_json::{Value, json};

struct Walled {
    _servers: Vec<Server>,
    containers: Vec<Container>,
    results: Vec<Value>,
    plugin: Plugin,
    outside: Outside,
    lab: Lab,
}

/// Containers 0 and 1 in a network with a policy, 2 in another with the same; all serve port 80, 0 publishes it.
fn walled(backend: &str, policy: &str) -> Option<Walled> {
    let mut lab = Lab::new()?;
    if backend == "iptables" && !lab.iptables("nft") {
        lab::skipped("iptables-nft is not here");
        return None;
    }
    let outside = lab.outside();
    let containers: Vec<_> = (0..3).map(|n| lab.container(&format!("c{n}"))).collect();
    let plugin = lab.plugin(json!({"backend": backend, "ingressPolicy": policy, "ipam": v4(1)}));
    let other = plugin.with(json!({"name": "other", "ipam": v4(2)}));
    let results = vec![
        plugin.on(&containers[0]).publish(&["8080:80"]).add().ok(),
        plugin.on(&containers[1]).add().ok(),
        other.on(&containers[2]).add().ok(),
    ];
    let servers = containers.iter().map(|c| tcp_server(c, "0.0.0.0:80", c.name())).collect();
    Some(Walled { _servers: servers, containers, results, plugin, outside, lab })
}

impl Walled {
    /// One container reaches another, as it must or must not.
    #[track_caller]
    fn reach(&self, pairs: &[(usize, usize)], must: bool) {
        for (from, to) in pairs {
            let at = format!("{}:80", address(&self.results[*to], 4));
            assert_eq!(tcp_reaches(&self.containers[*from], &at, must), must, "c{from} to c{to}");
        }
    }

    /// What holds under every policy: the way out, and what is published.
    fn the_rest_works(&self) {
        let _server = tcp_server(&self.outside, "0.0.0.0:80", "outside");
        for container in &self.containers {
            assert_eq!(tcp(container, "192.0.2.2:80").tag, "outside", "{} goes out", container.name());
        }
        assert_eq!(tcp(&self.outside, "192.0.2.1:8080").tag, "c0", "what is published is published");
        assert_eq!(tcp(&self.lab.host, "127.0.0.1:8080").tag, "c0");
        let direct = format!("{}:80", address(&self.results[0], 4));
        assert_eq!(tcp(&self.lab.host, &direct).tag, "c0", "the host reaches its containers");
    }
}

fn each_backend(test: impl Fn(&str)) {
    for backend in ["nftables", "iptables"] {
        test(backend);
    }
}

#[test]
fn open_networks_reach_each_other() {
    each_backend(|backend| {
        let Some(town) = walled(backend, "open") else { return };
        town.reach(&[(0, 1), (0, 2), (2, 0)], true);
        town.the_rest_works();
    });
}

#[test]
fn same_bridge_keeps_other_networks_out() {
    each_backend(|backend| {
        let Some(town) = walled(backend, "same-bridge") else { return };
        town.reach(&[(0, 1), (1, 0)], true);
        town.reach(&[(2, 0), (0, 2)], false);
        town.the_rest_works();
    });
}

#[test]
fn isolated_keeps_siblings_out_too() {
    if lab::is_reference() {
        lab::skip!("the reference needs br_netfilter for it");
    }
    each_backend(|backend| {
        let Some(town) = walled(backend, "isolated") else { return };
        town.reach(&[(0, 1), (1, 0), (2, 0), (0, 2)], false);
        town.the_rest_works();
    });
}

/// A published port is open to all, containers of walled networks included.
#[test]
fn a_published_port_is_reached_across_the_wall() {
    if lab::is_reference() {
        lab::skip!("the reference drops it");
    }
    each_backend(|backend| {
        let Some(town) = walled(backend, "same-bridge") else { return };
        assert_eq!(tcp(&town.containers[2], "192.0.2.1:8080").tag, "c0", "{backend}");
        assert_eq!(tcp(&town.containers[1], "192.0.2.1:8080").tag, "c0", "{backend}");
    });
}

/// The administrator's chain comes first and is never flushed.
#[test]
fn the_administrators_chain_decides_and_stays() {
    let Some(town) = walled("iptables", "open") else { return };
    let target = address(&town.results[1], 4);
    let out = format!("{target}:80");
    assert_eq!(tcp(&town.outside, &out).tag, "c1", "routed in, before");
    town.lab.host.must(&[
        "iptables",
        "-A",
        "CNI-ADMIN",
        "-d",
        &target,
        "-p",
        "tcp",
        "--dport",
        "80",
        "-j",
        "DROP",
    ]);
    assert!(!tcp_answers(&town.outside, &out), "the administrator's word");
    let d = town.lab.container("d");
    let added = town.plugin.on(&d).add().ok();
    town.plugin.on(&d).prev(&added).del().ok();
    assert!(!tcp_answers(&town.outside, &out), "it outlives other attachments");
    assert!(inspect::firewall_text(&town.lab.host).contains(&format!("-A CNI-ADMIN -d {target}/32")));
}
