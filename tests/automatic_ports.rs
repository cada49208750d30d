//! Host port 0: ADD chooses a free port, and says which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::HashSet;

use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_server, udp, udp_server};
use lab::{Lab, Plugin};
use serde_json::{Value, json};

fn mapping(container_port: u16, protocol: &str) -> Value {
    json!({"hostPort": 0, "containerPort": container_port, "protocol": protocol})
}

fn publishing(network: &Plugin, mappings: &[Value]) -> Plugin {
    network.cap(json!({ "portMappings": mappings }))
}

/// The host ports that a result tells of.
fn told(result: &Value) -> Vec<u64> {
    let rows = result["linkspan"]["portMappings"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row["hostPort"].as_u64().unwrap()).collect()
}

/// Makes the host hand out ports from a few only.
fn few_ports(lab: &Lab, range: &str, reserved: &str) {
    lab.host.set_sysctl("net.ipv4.ip_local_port_range", range);
    lab.host.set_sysctl("net.ipv4.ip_local_reserved_ports", reserved);
}

fn a_port_is_chosen_for_both_families(backend: &str) {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let network = lab.plugin(json!({"backend": backend, "ipam": dual_stack(1)}));
    few_ports(&lab, "40000\t40099", "");
    let a = lab.container("a");
    let plugin = publishing(&network.on(&a), &[mapping(80, "tcp"), mapping(53, "udp")]);
    let result = plugin.add().ok();
    let ports = told(&result);
    assert_eq!(ports.len(), 2, "{result}");
    assert!(ports.iter().all(|port| (40000..=40099).contains(port)), "{ports:?}");
    let entry = &result["linkspan"]["portMappings"][1];
    assert_eq!(*entry, json!({"hostPort": ports[1], "containerPort": 53, "protocol": "udp"}));
    let _servers = [
        tcp_server(&a, "[::]:80", "web"),
        udp_server(&a, "0.0.0.0:53", "dns4"),
        udp_server(&a, &format!("[{}]:53", lab::outcome::address(&result, 6)), "dns6"),
    ];
    for at in ["192.0.2.1", "[2001:db8::1]"] {
        assert_eq!(tcp(&outside, &format!("{at}:{}", ports[0])).tag, "web", "{at}");
        assert!(udp(&outside, &format!("{at}:{}", ports[1])).tag.starts_with("dns"), "{at}");
    }
    // The record says the same, for both families.
    let record = std::fs::read_to_string(format!("/run/linkspan/ready/{}:eth0", a.id)).unwrap();
    for host in ["0.0.0.0", "[::]"] {
        assert!(record.contains(&format!("\"host\":\"{host}:{}\"", ports[0])), "{record}");
    }
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
    // The same container gets the same ports again where they are free.
    assert_eq!(told(&plugin.add().ok()), ports);
}

#[test]
fn on_nftables() {
    a_port_is_chosen_for_both_families("nftables");
}

#[test]
fn on_iptables() {
    a_port_is_chosen_for_both_families("iptables");
}

/// Not what an administrator keeps back, not what another attachment publishes, not what a process of the host has
/// bound on any of the addresses, and not twice.
#[test]
fn what_somebody_has_is_not_chosen() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    few_ports(&lab, "40000\t40009", "40003,40007-40008");
    network
        .on(&lab.container("named"))
        .publish(&["127.0.0.1:40001:80", "40004-40005:40004-40005"])
        .add()
        .ok();
    let _host = lab.host.in_ns(|| {
        let bind = |at: &str| std::net::TcpListener::bind(at).unwrap();
        [bind("127.0.0.1:40000"), bind("[2001:db8::1]:40006")]
    });
    let a = lab.container("a");
    let left = publishing(&network.on(&a), &[mapping(80, "tcp"), mapping(81, "tcp")]);
    let result = left.add().ok();
    let ports: HashSet<u64> = told(&result).into_iter().collect();
    assert_eq!(ports, HashSet::from([40002, 40009]));
    // UDP is another matter: of the ten, three are kept back.
    let b = lab.container("b");
    let seven: Vec<Value> = (0..7).map(|n| mapping(80 + n, "udp")).collect();
    let ports: HashSet<u64> = told(&publishing(&network.on(&b), &seven).add().ok()).into_iter().collect();
    assert_eq!(ports.len(), 7, "{ports:?}");
    drop(outside);
}

#[test]
fn ports_beside_named_ones_and_in_runs() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    few_ports(&lab, "40000\t40011", "40005");
    let a = lab.container("a");
    let named = json!({"hostPort": 40000, "containerPort": 80, "protocol": "tcp"});
    let run = json!({"hostPort": 0, "containerPort": "9000-9005", "protocol": "tcp"});
    let result = publishing(&network.on(&a), &[named.clone(), run.clone(), mapping(80, "udp")]).add().ok();
    let rows = &result["linkspan"]["portMappings"];
    assert_eq!(rows.as_array().unwrap().len(), 2, "only what was chosen: {rows}");
    assert_eq!(rows[0], json!({"hostPort": 40006, "containerPort": 9000, "protocol": "tcp", "range": 6}));
    let _server = tcp_server(&a, "0.0.0.0:9005", "last");
    assert_eq!(tcp(&lab.host, "127.0.0.1:40011").tag, "last");
}

#[test]
fn where_none_is_free_nothing_is_left() {
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    few_ports(&lab, "40000\t40001", "");
    network.on(&lab.container("a")).publish(&["40000:80", "40001:81"]).add().ok();
    let b = lab.container("b");
    let before = Snapshot::take(&lab);
    let said = publishing(&network.on(&b), &[mapping(80, "tcp")]).add().refused(102);
    assert!(said.contains("container port 80/tcp") && said.contains("40000 to 40001"), "{said}");
    Snapshot::take(&lab).assert_same(&before, "no port was free");
    let run = json!({"hostPort": 0, "containerPort": 80, "range": 3, "protocol": "udp"});
    assert!(publishing(&network.on(&b), &[run]).add().refused(102).contains("run of 3 ports"));
    Snapshot::take(&lab).assert_same(&before, "no run was free");
}

/// Another network's containers ask the same host.
#[test]
fn many_at_once_get_a_port_each() {
    let Some(lab) = Lab::new() else { return };
    few_ports(&lab, "40000\t40015", "");
    let networks: Vec<Plugin> =
        (1..=2).map(|n| lab.plugin(json!({"name": format!("net{n}"), "ipam": v4(n)}))).collect();
    let containers: Vec<_> = (0..16).map(|n| lab.container(&format!("c{n}"))).collect();
    let running: Vec<_> = containers
        .iter()
        .enumerate()
        .map(|(n, container)| publishing(&networks[n % 2].on(container), &[mapping(80, "tcp")]).start("ADD"))
        .collect();
    let ports: HashSet<u64> = running.into_iter().flat_map(|run| told(&run.finish().ok())).collect();
    assert_eq!(ports.len(), 16, "{ports:?}");
}
