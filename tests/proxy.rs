//! Published ports on the host's side: held (`holdPorts`), and served where the kernel does not translate
//! (`userlandProxy`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use lab::agent::{Agent, Stray, status};
use lab::hold::Holder;
use lab::plugin::{dual_stack, v4};
use lab::talk::{http_get, http_server, pour, sink_server, tcp, tcp_answers, tcp_server, udp, udp_server};
use lab::{Lab, Plugin, eventually, hold};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

fn network(lab: &Lab, keys: serde_json::Value) -> Plugin {
    lab.plugin(json!({"ipam": dual_stack(1)})).with(keys)
}

/// Whether nobody has a port, of TCP and of UDP: without taking it for a moment.
fn is_free(lab: &Lab, address: &str) -> bool {
    hold::is_free(&lab.host, "tcp", address) && hold::is_free(&lab.host, "udp", address)
}

/// Whether a process of the host could take a TCP port, and a UDP port, at an address.
fn free(lab: &Lab, address: &str) -> (bool, bool) {
    lab.host.in_ns(|| (TcpListener::bind(address).is_ok(), UdpSocket::bind(address).is_ok()))
}

#[test]
fn held_ports_cannot_be_taken() {
    if lab::is_reference() {
        lab::skip!("the reference holds no ports");
    }
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let outside = lab.outside();
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = network(&lab, json!({"holdPorts": true}));
    let plugin = network.on(&a).publish(&["8080:80", "192.0.2.1:8081:81/udp", "9000-9003:9000-9003"]);
    // The first ADD that asks for it starts the agent.
    let result = plugin.add().ok();
    let _servers = [tcp_server(&a, "[::]:80", "a"), udp_server(&a, "0.0.0.0:81", "u")];
    for (address, expected) in [
        ("0.0.0.0:8080", (false, true)),
        ("127.0.0.1:8080", (false, true)),
        ("[::]:8080", (false, true)),
        ("[::1]:8080", (false, true)),
        ("192.0.2.1:8081", (true, false)),
        ("127.0.0.1:8081", (true, true)),
        ("0.0.0.0:9003", (false, true)),
        ("0.0.0.0:9004", (true, true)),
    ] {
        assert_eq!(free(&lab, address), expected, "{address}");
    }
    assert_eq!(status()["services"]["ports"]["held"], 11, "one socket for each port and family");
    // The kernel translates as before: the container sees who asks.
    let seen = tcp(&outside, "192.0.2.1:8080");
    assert_eq!((seen.tag.as_str(), seen.peer.ip().to_string().as_str()), ("a", "::ffff:192.0.2.2"));
    assert_eq!(tcp(&lab.host, "127.0.0.1:8080").tag, "a");
    assert_eq!(udp(&outside, "192.0.2.1:8081").tag, "u");
    // Nobody listens at [::1], and so it is.
    assert!(!tcp_answers(&lab.host, "[::1]:8080"));
    network.on(&b).publish(&["8080:80"]).add().refused(102);
    plugin.prev(&result).del().ok();
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8081", "0.0.0.0:9003"] {
        assert!(eventually(LIMIT, || is_free(&lab, address)), "{address} is free again");
    }
    // Sockets of connections that have just ended, or of a container that has just gone, stand in nobody's way.
    for _ in 0..3 {
        let next = network.on(&b).publish(&["8080:80"]);
        let result = next.add().ok();
        assert!(!is_free(&lab, "0.0.0.0:8080"));
        next.prev(&result).del().ok();
    }
}

#[test]
fn a_process_that_has_the_port_keeps_it() {
    if lab::is_reference() {
        lab::skip!("the reference holds no ports");
    }
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let a = lab.container("a");
    let taken = Holder::tcp(&lab.host, "127.0.0.1:8080", "nginx", &[]);
    let plugin = network(&lab, json!({"holdPorts": true})).on(&a).publish(&["8080:80"]);
    plugin.add().refused(102);
    drop(taken);
    plugin.add().ok();
}

fn serves_loopback(keys: serde_json::Value, range: bool) {
    if lab::is_reference() {
        lab::skip!("the reference has no proxy");
    }
    let Some(mut lab) = Lab::new() else { return };
    if keys["backend"] == "iptables" && !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let _stray = Stray;
    let (a, b) = (lab.container("a"), lab.container("b"));
    let both = network(&lab, keys.clone());
    let only_v4 = both.with(json!({"name": "four", "ipam": v4(2)}));
    let mut ports = vec!["8080:80", "8081:81", "8082:82/udp", "8083:83"];
    if range {
        ports.push("9000-9003:9000-9003");
    }
    let plugin = both.on(&a).publish(&ports);
    let result = plugin.add().ok();
    only_v4.on(&b).publish(&["8090:80"]).add().ok();
    let _servers = [
        tcp_server(&a, "[::]:80", "a"),
        sink_server(&a, "[::]:81"),
        udp_server(&a, "[::]:82", "u"),
        http_server(&a, "[::]:83", "web"),
        tcp_server(&a, "[::]:9002", "r"),
        tcp_server(&b, "0.0.0.0:80", "b"),
    ];
    for host in ["[::1]", "127.0.0.1"] {
        let seen = tcp(&lab.host, &format!("{host}:8080"));
        assert_eq!(seen.tag, "a", "{host}");
        pour(&lab.host, &format!("{host}:8081"), 8 << 20, LIMIT).unwrap();
        assert_eq!(udp(&lab.host, &format!("{host}:8082")).tag, "u", "{host}");
        assert_eq!(http_get(&lab.host, &format!("{host}:8083")).unwrap(), "web", "{host}");
        assert_eq!(tcp(&lab.host, &format!("{host}:8090")).tag, "b", "{host} of a container without IPv6");
        if range {
            assert_eq!(tcp(&lab.host, &format!("{host}:9002")).tag, "r", "{host}, in a range");
        }
    }
    // What is passed on comes from the bridge.
    assert_eq!(tcp(&lab.host, "[::1]:8080").peer.ip().to_string(), lab::outcome::gateway(&result, 6));
    plugin.prev(&result).check().ok();
    let ports = status()["services"]["ports"].clone();
    assert!(ports["bytes"].as_u64() >= Some(8 << 20), "{ports}");
    plugin.prev(&result).del().ok();
    assert!(eventually(LIMIT, || !tcp_answers(&lab.host, "[::1]:8080")));
    assert!(eventually(LIMIT, || is_free(&lab, "[::1]:8080")));
}

#[test]
fn loopback_is_served() {
    serves_loopback(json!({"userlandProxy": true}), true);
}

#[test]
fn loopback_is_served_at_held_ports() {
    serves_loopback(json!({"userlandProxy": true, "holdPorts": true}), true);
}

#[test]
fn loopback_is_served_where_nothing_from_there_is_routed() {
    serves_loopback(json!({"userlandProxy": true, "snat": false}), false);
}

#[test]
fn loopback_is_served_beside_iptables() {
    serves_loopback(json!({"userlandProxy": true, "snat": false, "backend": "iptables"}), false);
}

/// A container that does not answer is a refused connection; a client that goes early harms nobody.
#[test]
fn what_cannot_be_passed_on_is_refused() {
    if lab::is_reference() {
        lab::skip!("the reference has no proxy");
    }
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let a = lab.container("a");
    network(&lab, json!({"userlandProxy": true})).on(&a).publish(&["8080:80", "8082:82/udp"]).add().ok();
    for _ in 0..20 {
        assert!(!tcp_answers(&lab.host, "[::1]:8080"), "nobody listens in the container");
    }
    let early: Vec<_> =
        lab.host.in_ns(|| (0..50).map(|_| std::net::TcpStream::connect("[::1]:8080")).collect());
    drop(early);
    let client = lab.host.in_ns(|| UdpSocket::bind("[::1]:0").unwrap());
    client.send_to(b"nobody", "[::1]:8082").unwrap();
    assert!(eventually(LIMIT, || status()["services"]["ports"]["failed"].as_u64() >= Some(20)));
    let _servers = [tcp_server(&a, "[::]:80", "a"), udp_server(&a, "[::]:82", "u")];
    assert_eq!(tcp(&lab.host, "[::1]:8080").tag, "a");
    assert_eq!(udp(&lab.host, "[::1]:8082").tag, "u");
    // Only the UDP clients are left.
    assert!(eventually(LIMIT, || status()["services"]["ports"]["open"].as_u64() <= Some(2)));
}

/// Holds and proxies come back with the agent, and what the kernel translates never notices that it was gone.
#[test]
fn a_killed_agent_takes_nothing_with_it() {
    if lab::is_reference() {
        lab::skip!("the reference holds no ports");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let agent = Agent::start();
    let keys = json!({"userlandProxy": true, "holdPorts": true});
    network(&lab, keys).on(&a).publish(&["8080:80"]).add().ok();
    let _server = tcp_server(&a, "[::]:80", "a");
    for _ in 0..20 {
        assert_eq!(tcp(&lab.host, "[::1]:8080").tag, "a");
    }
    agent.kill();
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a");
    assert!(!tcp_answers(&lab.host, "[::1]:8080"));
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || tcp_answers(&lab.host, "[::1]:8080")));
    assert!(!free(&lab, "[::]:8080").0);
}

/// Thousands of held ports are sockets of one process, and little memory.
#[test]
fn thousands_of_ports_are_held() {
    if lab::is_reference() {
        lab::skip!("the reference holds no ports");
    }
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start();
    let a = lab.container("a");
    let plugin = network(&lab, json!({"holdPorts": true})).on(&a).publish(&["10000-12999:10000-12999"]);
    let result = plugin.add().ok();
    assert!(eventually(LIMIT, || status()["services"]["ports"]["held"] == 6000), "{}", status());
    let free = |port: u16| lab.host.in_ns(|| TcpListener::bind(("0.0.0.0", port)).is_ok());
    assert!(!free(10000) && !free(11500) && !free(12999) && free(13000));
    let (own, _) = agent.resident();
    assert!(own < 20 * 1024, "{own} KiB for 6,000 sockets");
    plugin.prev(&result).del().ok();
    assert!(eventually(LIMIT, || is_free(&lab, "0.0.0.0:11500")));
}
