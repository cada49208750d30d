//! Containers that attack the network, the host and its other networks, with raw frames; each attack is seen to succeed
//! where nothing guards against it. And honest traffic, which no guard may stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use lab::backends::on_each_backend;
use lab::frames::{self, ARP, BROADCAST, IP, IP6, Wire};
use lab::outcome::{address, bridge, gateway};
use lab::plugin::dual_stack;
use lab::stage::{Side, Stage, attach, attack, ear, guards, heard, stage, succeeds_unless_guarded};
use lab::talk::{PATIENCE, UdpClient, tcp, tcp_server, udp, udp_server};
use lab::{Outside, Space, icmp, inspect};
use serde_json::{Value, json};

/// A router advertisement of mallory's, bare or behind a header of destination options.
fn advertisement(mallory: &Side, hidden: bool) -> Vec<u8> {
    let everybody: Ipv6Addr = "ff02::1".parse().unwrap();
    let own = frames::link_local(mallory.mac);
    // Hop limit, flags, a router for half an hour, timers; its link-layer address.
    let said = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &[1, 1], &mallory.mac].concat();
    let message = frames::icmp6_message(own, everybody, 134, &said);
    let packet = if hidden {
        let options = [frames::ICMPV6, 0, 1, 4, 0, 0, 0, 0];
        frames::ipv6(own, everybody, 60, &[&options[..], &message].concat())
    } else {
        frames::ipv6(own, everybody, frames::ICMPV6, &message)
    };
    frames::ethernet([0x33, 0x33, 0, 0, 0, 1], mallory.mac, IP6, &packet)
}

fn routed_by_mallory(stage: &Stage, victim: &Space) -> bool {
    let via = frames::link_local(stage.mallory.mac).to_string();
    inspect::routes_to(victim, 6, "default").iter().any(|route| route["gateway"] == via.as_str())
}

/// "I am the router": who listens sends its IPv6 traffic to mallory (CVE-2020-10749). Our containers and our bridges
/// do not listen; a guard keeps the word from those that were told to.
fn a_router(backend: &'static str) {
    for hidden in [false, true] {
        let Some(stage) = stage(backend, json!({})) else { return };
        let frame = advertisement(&stage.mallory, hidden);
        let send = || stage.mallory.wire.send(&frame);
        let believed = attack(false, send, || {
            routed_by_mallory(&stage, &stage.alice) || routed_by_mallory(&stage, &stage.lab.host)
        });
        assert!(!believed, "nobody listens by default");
        drop(stage);
        succeeds_unless_guarded(backend, |stage, must| {
            stage.alice.set_sysctl("net.ipv6.conf.eth0.accept_ra", "1");
            let frame = advertisement(&stage.mallory, hidden);
            attack(must, || stage.mallory.wire.send(&frame), || routed_by_mallory(stage, &stage.alice))
        });
    }
}

/// "For the world, send to mallory", in the gateway's name.
fn a_redirect(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let world: Ipv4Addr = Outside::V4.parse().unwrap();
        // What alice is told to have sent: an echo reply.
        let sent = frames::icmp4(alice.v4, world, [0, 0], [0, 1, 0, 1], &[]);
        let packet = frames::icmp4(stage.gateway4, alice.v4, [5, 1], mallory.v4.octets(), &sent);
        let frame = frames::ethernet(alice.mac, mallory.mac, IP, &packet);
        let via = format!("via {}", mallory.v4);
        attack(must, || mallory.wire.send(&frame), || alice.ip("route get 192.0.2.2").contains(&via))
    });
}

/// An answer of a DHCP server, from mallory's own address.
fn a_dhcp_server(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let client = ear(alice, "0.0.0.0:68");
        let from = SocketAddrV4::new(mallory.v4, 67);
        let packet = frames::udp4(from, SocketAddrV4::new(alice.v4, 68), b"take this address");
        let frame = frames::ethernet(alice.mac, mallory.mac, IP, &packet);
        attack(must, || mallory.wire.send(&frame), || heard(&client, b"take this address").is_some())
    });
}

/// What no rule knows is dropped, since it may carry what the rules are about.
fn a_frame_of_an_unknown_kind(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let inner = [&[0, 0][..], &frames::ARP.to_be_bytes(), b"behind two tags"].concat();
        let frame = frames::tagged(alice.mac, mallory.mac, frames::VLAN, &inner);
        attack(
            must,
            || mallory.wire.send(&frame),
            || {
                alice.wire.hears(Duration::from_millis(40), |heard| {
                    heard.windows(15).any(|w| w == b"behind two tags")
                })
            },
        )
    });
}

/// What listens on 127.0.0.1 of the host alone (CVE-2020-8558): `route_localnet` lets such packets in, and a rule of
/// ours that is always there keeps them out. Without the rule they arrive.
fn what_listens_on_loopback(backend: &'static str) {
    let Some(stage) = stage(backend, json!({})) else { return };
    assert_eq!(stage.lab.host.sysctl(&format!("net.ipv4.conf.{}.route_localnet", stage.bridge)), "1");
    let server = ear(&stage.lab.host, "127.0.0.1:7000");
    let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7000);
    let packet = |from: Ipv4Addr| frames::udp4(SocketAddrV4::new(from, 1234), loopback, b"into the host");
    let reaches = |from: Ipv4Addr, must: bool| {
        let frame = frames::ethernet(stage.bridge_mac, stage.mallory.mac, IP, &packet(from));
        attack(must, || stage.mallory.wire.send(&frame), || heard(&server, b"into the host").is_some())
    };
    assert!(!reaches(stage.mallory.v4, false), "the rule is always there");
    assert!(!reaches(Ipv4Addr::LOCALHOST, false), "nor in the host's own name");
    if backend == "nftables" {
        stage.lab.host.must(&["nft", "flush", "chain", "inet", "linkspan", "localnet"]);
    } else {
        stage.lab.host.must(&["iptables", "-t", "raw", "-F", "LINKSPAN-LOCALNET"]);
    }
    assert!(reaches(stage.mallory.v4, true), "without the rule the attack succeeds");
    let said = stage.alice.plugin.prev(&stage.alice.result).check().refused(120);
    assert!(said.to_lowercase().contains("localnet"), "CHECK misses the rule: {said}");
}

/// Another network's port: neither by publishing it once more, nor by answering in the owner's name.
fn another_networks_port(backend: &'static str) {
    let hijack = |keys: Value, must: bool| {
        let stage = stage(backend, json!({}))?;
        let owner = stage.lab.container("owner");
        let served = stage.network.on(&owner).publish(&["8080:80/udp"]).add().ok();
        let _server = udp_server(&owner, "0.0.0.0:80", "owner");
        let other = stage.network.with(json!({"name": "other", "ipam": dual_stack(2)})).with(keys);
        let said = other.on(&stage.lab.container("thief")).publish(&["8080:80/udp"]).add().refused(102);
        assert!(said.contains(&owner.id), "{said}");
        let forger = attach(&stage.lab, &other, "forger");
        assert!(icmp::ping(&forger, &gateway(&forger.result, 4)));
        let client = UdpClient::new(&stage.outside, "192.0.2.2:5000");
        assert_eq!(client.ask("192.0.2.1:8080", PATIENCE).unwrap().tag, "owner");
        drop(client);
        let client = ear(&stage.outside, "192.0.2.2:5000");
        let bridge = bridge(&forger.result);
        let bridge = inspect::link(&stage.lab.host, &bridge).unwrap();
        let bridge_mac = frames::mac(bridge["address"].as_str().unwrap());
        let from = SocketAddrV4::new(address(&served, 4).parse().unwrap(), 80);
        let packet = frames::udp4(from, "192.0.2.2:5000".parse().unwrap(), b"owned");
        let frame = frames::ethernet(bridge_mac, forger.mac, IP, &packet);
        Some(attack(
            must,
            || forger.wire.send(&frame),
            || heard(&client, b"owned").is_some_and(|from| from == Outside::HOST4),
        ))
    };
    let Some(open) = hijack(json!({}), true) else { return };
    assert!(open, "without a guard an answer in the owner's name arrives in the host's");
    assert_eq!(hijack(guards(), false), Some(false), "with both guards it does not");
}

/// The host forwards, so it does not listen to redirects, whatever a container says.
fn the_host_is_not_redirected(backend: &'static str) {
    let Some(stage) = stage(backend, json!({})) else { return };
    assert_eq!(stage.lab.host.sysctl("net.ipv4.conf.all.accept_redirects"), "0");
    stage.lab.ip("route add 198.51.100.0/24 via 10.88.1.2");
    let target = Ipv4Addr::new(198, 51, 100, 1);
    let (alice, mallory) = (&stage.alice, &stage.mallory);
    let sent = frames::icmp4(stage.gateway4, target, [0, 0], [0, 1, 0, 1], &[]);
    let packet = frames::icmp4(alice.v4, stage.gateway4, [5, 1], mallory.v4.octets(), &sent);
    let frame = frames::ethernet(stage.bridge_mac, mallory.mac, IP, &packet);
    let via = format!("via {}", mallory.v4);
    let redirected = || stage.lab.host.ip("route get 198.51.100.1").contains(&via);
    assert!(!attack(false, || mallory.wire.send(&frame), redirected), "a host that forwards does not listen");
    // The same frame works on a host that does not forward.
    stage.lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    stage.lab.host.set_sysctl("net.ipv4.conf.all.accept_redirects", "1");
    assert!(attack(true, || mallory.wire.send(&frame), redirected), "the control");
}

/// An ICMP error about somebody else's connection carries anything: it is no way out of a sealed network.
fn a_seal_holds_against_icmp_errors(backend: &'static str) {
    let leaks = |keys: Value, must: bool| {
        let stage = stage(backend, keys)?;
        let _server = udp_server(&stage.lab.host, "0.0.0.0:7000", "host");
        let client = UdpClient::new(&stage.outside, "192.0.2.2:5000");
        assert_eq!(client.ask("192.0.2.1:7000", PATIENCE).unwrap().tag, "host");
        let accomplice = Wire::open(&stage.outside, "eth0");
        // The packet of the accomplice's that the error is about: to the host, long answered.
        let theirs = frames::udp4(
            "192.0.2.2:5000".parse().unwrap(),
            "192.0.2.1:7000".parse().unwrap(),
            b"secrets of the sealed network",
        );
        let world: Ipv4Addr = Outside::V4.parse().unwrap();
        let packet = frames::icmp4(stage.mallory.v4, world, [3, 3], [0; 4], &theirs);
        let frame = frames::ethernet(stage.bridge_mac, stage.mallory.mac, IP, &packet);
        let secret =
            |heard: &[u8]| heard.windows(7).any(|window| window == b"secrets") && heard[23] == frames::ICMP;
        stage.lab.host.set_sysctl("net.ipv4.ip_forward", "1");
        Some(attack(
            must,
            || stage.mallory.wire.send(&frame),
            || accomplice.hears(Duration::from_millis(40), secret),
        ))
    };
    let Some(open) = leaks(json!({}), true) else { return };
    assert!(open, "an ICMP error passes out of a network that is not sealed");
    assert_eq!(leaks(json!({"internal": true}), false), Some(false), "and not out of one that is");
}

/// What guarded containers do all day still works.
fn honest_traffic_passes_the_guards(backend: &'static str) {
    let Some(stage) = stage(backend, guards()) else { return };
    let dad = stage.network.with(json!({"enabledad": true}));
    let late = stage.lab.container("late");
    let added = dad.on(&late).publish(&["8080:80"]).add().ok();
    let _server = tcp_server(&late, "[::]:80", "late");
    let _world = [tcp_server(&stage.outside, "[::]:80", "world")];
    let _echo = udp_server(&stage.alice, &format!("[{}]:53", stage.alice.v6), "alice");
    for from in [&*stage.alice, &*stage.mallory, &*stage.outside, &stage.lab.host] {
        assert_eq!(tcp(from, "192.0.2.1:8080").tag, "late", "{}", from.name());
        assert_eq!(tcp(from, "[2001:db8::1]:8080").tag, "late", "{}", from.name());
    }
    assert_eq!(tcp(&late, "192.0.2.1:8080").tag, "late", "hairpin");
    assert_eq!(tcp(&late, "192.0.2.2:80").tag, "world");
    assert_eq!(tcp(&late, "[2001:db8::2]:80").tag, "world");
    assert_eq!(udp(&late, &format!("[{}]:53", stage.alice.v6)).tag, "alice");
    assert_eq!(udp(&stage.mallory, &format!("[{}]:53", stage.alice.v6)).tag, "alice");
    // Neighbours that have forgotten each other find each other again, by link-local address too.
    for side in [&stage.alice, &stage.mallory] {
        side.ip("neigh flush all");
    }
    stage.lab.ip("neigh flush all");
    assert!(icmp::ping(&stage.alice, &stage.mallory.v4.to_string()));
    assert!(icmp::ping(&stage.alice, &stage.mallory.v6.to_string()));
    let link_local = frames::link_local(stage.mallory.mac);
    let shown = stage.mallory.ip("-6 address show dev eth0 scope link");
    assert!(shown.contains(&link_local.to_string()), "{shown}");
    // A probe (RFC 5227) claims nothing, and the owner answers it.
    let probe = frames::arp(1, (stage.mallory.mac, Ipv4Addr::UNSPECIFIED), ([0; 6], stage.alice.v4));
    stage.mallory.wire.send(&frames::ethernet(BROADCAST, stage.mallory.mac, ARP, &probe));
    let answer = |frame: &[u8]| {
        frame[12..14] == ARP.to_be_bytes() && frame[6..12] == stage.alice.mac && frame[38..42] == [0; 4]
    };
    assert!(stage.mallory.wire.hears(PATIENCE, answer), "the probe is answered");
    dad.on(&late).prev(&added).check().ok();
}

on_each_backend! {
    a_router,
    a_redirect,
    a_dhcp_server,
    a_frame_of_an_unknown_kind,
    what_listens_on_loopback,
    another_networks_port,
    the_host_is_not_redirected,
    a_seal_holds_against_icmp_errors,
    honest_traffic_passes_the_guards,
}
