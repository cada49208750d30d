//! Containers that pretend to be somebody else. Each attack is launched with raw frames from inside a container, seen
//! to succeed where nothing guards against it, and to fail where something does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::backends::on_each_backend;
use lab::frames::{self, ARP, BROADCAST, IP, IP6};
use serde_json::json;

use lab::stage::{attack, ear, heard, neighbour, succeeds_unless_guarded, tries};

/// Frames with alice's MAC teach the bridge that she is at mallory's port: what is sent to her goes there.
fn a_neighbours_mac(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let forged = frames::ethernet(stage.bridge_mac, alice.mac, 0x88b5, b"i am alice");
        let speaker = ear(&stage.lab.host, "0.0.0.0:0");
        let to = SocketAddrV4::new(alice.v4, 9);
        let for_alice = |frame: &[u8]| frame.starts_with(&alice.mac) && frame.ends_with(b"for alice alone");
        attack(
            must,
            || {
                mallory.wire.send(&forged);
                speaker.send_to(b"for alice alone", to).unwrap();
            },
            || mallory.wire.hears(Duration::from_millis(40), for_alice),
        )
    });
}

/// A datagram with alice's address as its source: the host takes it for hers.
fn a_neighbours_address(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let server = ear(&stage.lab.host, "0.0.0.0:7000");
        let from = SocketAddrV4::new(stage.alice.v4, 1234);
        let packet = frames::udp4(from, SocketAddrV4::new(stage.gateway4, 7000), b"forged");
        let frame = frames::ethernet(stage.bridge_mac, stage.mallory.mac, IP, &packet);
        let victim = stage.alice.v4.to_string();
        attack(
            must,
            || stage.mallory.wire.send(&frame),
            || heard(&server, b"forged").is_some_and(|from| from == victim),
        )
    });
}

fn a_neighbours_ipv6_address(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let server = ear(&stage.lab.host, "[::]:7000");
        let from = SocketAddrV6::new(stage.alice.v6, 1234, 0, 0);
        let packet = frames::udp6(from, SocketAddrV6::new(stage.gateway6, 7000, 0, 0), b"forged");
        let frame = frames::ethernet(stage.bridge_mac, stage.mallory.mac, IP6, &packet);
        let victim = stage.alice.v6.to_string();
        attack(
            must,
            || stage.mallory.wire.send(&frame),
            || heard(&server, b"forged").is_some_and(|from| from == victim),
        )
    });
}

/// An address of the world outside, which nobody could answer: the way of reflected floods.
fn an_address_of_the_world(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let server = ear(&stage.outside, "0.0.0.0:7000");
        let from = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 1234);
        let packet = frames::udp4(from, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 7000), b"forged");
        let frame = frames::ethernet(stage.bridge_mac, stage.mallory.mac, IP, &packet);
        attack(must, || stage.mallory.wire.send(&frame), || heard(&server, b"forged").is_some())
    });
}

/// "The gateway is at mallory's": alice sends her traffic there.
fn the_gateway_by_arp(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let claim = frames::arp(2, (mallory.mac, stage.gateway4), (alice.mac, alice.v4));
        let frame = frames::ethernet(alice.mac, mallory.mac, ARP, &claim);
        attack(must, || mallory.wire.send(&frame), || neighbour(alice, stage.gateway4) == Some(mallory.mac))
    });
}

/// "Alice is at mallory's", to the host, in a question that the host answers.
fn a_neighbour_by_arp(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let claim = frames::arp(1, (mallory.mac, alice.v4), ([0; 6], stage.gateway4));
        let frame = frames::ethernet(BROADCAST, mallory.mac, ARP, &claim);
        attack(
            must,
            || mallory.wire.send(&frame),
            || neighbour(&stage.lab.host, alice.v4) == Some(mallory.mac),
        )
    });
}

/// The same behind a VLAN tag that receivers strip.
fn the_gateway_by_arp_in_a_vlan_tag(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let claim = frames::arp(2, (mallory.mac, stage.gateway4), (alice.mac, alice.v4));
        let frame = frames::tagged(alice.mac, mallory.mac, ARP, &claim);
        attack(must, || mallory.wire.send(&frame), || neighbour(alice, stage.gateway4) == Some(mallory.mac))
    });
}

/// An advertisement of the gateway's address, from mallory's own.
fn the_gateway_by_neighbour_advertisement(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        // Override, solicited; target; the target's link-layer address.
        let claim = [&[0x60, 0, 0, 0][..], &stage.gateway6.octets(), &[2, 1], &mallory.mac].concat();
        let packet = frames::icmp6(mallory.v6, alice.v6, 136, &claim);
        let frame = frames::ethernet(alice.mac, mallory.mac, IP6, &packet);
        attack(must, || mallory.wire.send(&frame), || neighbour(alice, stage.gateway6) == Some(mallory.mac))
    });
}

/// A solicitation in alice's name teaches the host where she is.
fn a_neighbour_by_neighbour_solicitation(backend: &'static str) {
    succeeds_unless_guarded(backend, |stage, must| {
        let (alice, mallory) = (&stage.alice, &stage.mallory);
        let question = [&[0, 0, 0, 0][..], &stage.gateway6.octets(), &[1, 1], &mallory.mac].concat();
        let packet = frames::icmp6(alice.v6, stage.gateway6, 135, &question);
        let frame = frames::ethernet(stage.bridge_mac, mallory.mac, IP6, &packet);
        attack(
            must,
            || mallory.wire.send(&frame),
            || neighbour(&stage.lab.host, alice.v6) == Some(mallory.mac),
        )
    });
}

/// "That address is mine", to whoever is about to take one: a container that looks first (`enabledad`) never starts.
fn an_address_that_is_about_to_be_taken(backend: &'static str) {
    for by_asking in [false, true] {
        succeeds_unless_guarded(backend, |stage, must| {
            let mallory = &stage.mallory;
            let wanted: Ipv6Addr = "fd00:88:1::50".parse().unwrap();
            let everybody: Ipv6Addr = "ff02::1".parse().unwrap();
            let packet = if by_asking {
                let target = [&[0, 0, 0, 0][..], &wanted.octets()].concat();
                let group: Ipv6Addr = "ff02::1:ff00:50".parse().unwrap();
                frames::icmp6(Ipv6Addr::UNSPECIFIED, group, 135, &target)
            } else {
                let claim = [&[0x20, 0, 0, 0][..], &wanted.octets(), &[2, 1], &mallory.mac].concat();
                frames::icmp6(mallory.v6, everybody, 136, &claim)
            };
            let to = if by_asking { [0x33, 0x33, 0xff, 0, 0, 0x50] } else { [0x33, 0x33, 0, 0, 0, 1] };
            let frame = frames::ethernet(to, mallory.mac, IP6, &packet);
            let late = stage.lab.container("late");
            let asked = json!({"enabledad": true, "runtimeConfig": {"ips": [wanted.to_string()]}});
            let call = stage.network.with(asked).on(&late);
            let is_refused = || {
                let done = AtomicBool::new(false);
                let outcome = std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            mallory.wire.send(&frame);
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    });
                    let outcome = call.add();
                    done.store(true, Ordering::Relaxed);
                    outcome
                });
                if outcome.succeeded() {
                    call.del().ok();
                } else {
                    assert!(outcome.words().contains("a neighbour has it"), "{}", outcome.words());
                }
                !outcome.succeeded()
            };
            lab::eventually(tries(must), is_refused)
        });
    }
}

on_each_backend! {
    a_neighbours_mac,
    a_neighbours_address,
    a_neighbours_ipv6_address,
    an_address_of_the_world,
    the_gateway_by_arp,
    a_neighbour_by_arp,
    the_gateway_by_arp_in_a_vlan_tag,
    the_gateway_by_neighbour_advertisement,
    a_neighbour_by_neighbour_solicitation,
    an_address_that_is_about_to_be_taken,
}
