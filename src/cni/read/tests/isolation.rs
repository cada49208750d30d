//! Keys about who reaches whom.

use super::{environment, refuse, strict};
use crate::cni::{Command, Defaults, NetworkConfig, Strictness};
use crate::model::{IngressPolicy, Isolation, Mode};
use serde_json::json;

#[test]
fn a_wall_stands_unless_somebody_says_otherwise() {
    let keys = strict(&json!({})).unwrap().isolation;
    assert_eq!(keys, Defaults::LINKSPAN.isolation_keys());
    assert_eq!((keys.isolation, keys.mode, keys.icc), (Isolation::Default, Mode::Nat, true));
    for (word, isolation) in
        [("none", Isolation::None), ("default", Isolation::Default), ("strict", Isolation::Strict)]
    {
        assert_eq!(strict(&json!({"ISOLATION": word})).unwrap().isolation.isolation, isolation);
    }
    assert_eq!(strict(&json!({"isolation": ""})).unwrap().isolation.isolation, Isolation::Default);
}

/// On a bridge whose gateway is somebody else's there may be others than containers.
#[test]
fn a_bridge_that_the_host_does_not_route_for_has_no_wall_unless_asked() {
    let without = json!({"isGateway": false});
    assert_eq!(strict(&without).unwrap().isolation.isolation, Isolation::None);
    let asked = json!({"isGateway": false, "isolation": "strict"});
    assert_eq!(strict(&asked).unwrap().isolation.isolation, Isolation::Strict);
    refuse(&[(json!({"isGateway": false, "trustedInterfaces": ["eth1"]}), 7, "isGateway = false")]);
}

/// The reference's word means what it means there.
#[test]
fn a_policy_of_the_reference_stands_alone() {
    for (word, policy) in [("open", IngressPolicy::Open), ("same-bridge", IngressPolicy::SameBridge)] {
        let config = strict(&json!({"ingressPolicy": word})).unwrap();
        assert_eq!((config.firewall.ingress, config.isolation.isolation), (policy, Isolation::None));
    }
    refuse(&[(json!({"ingressPolicy": "open", "isolation": "none"}), 7, "ingressPolicy and isolation")]);
}

#[test]
fn faces_of_the_reference_know_none_of_them() {
    let keys = json!({"cniVersion": "1.0.0", "name": "web", "type": "bridge", "isolation": 7, "internal": "x",
        "icc": false, "mode": "routed", "trustedInterfaces": 1, "outboundAddress4": "y", "ipspoofchk": true});
    let bytes = keys.to_string().into_bytes();
    let environment = environment(Command::Check, "");
    let config = NetworkConfig::parse(&bytes, &environment, &Defaults::REFERENCE, Strictness::Strict);
    let keys = config.unwrap().isolation;
    assert_eq!(keys, Defaults::REFERENCE.isolation_keys());
    assert_eq!(keys.isolation, Isolation::None);
}

#[test]
fn what_they_imply_for_the_bridge() {
    let keys = strict(&json!({"internal": true})).unwrap().bridge;
    assert!(keys.is_gateway && !keys.is_default_gateway && !keys.ip_masq);
    let keys = strict(&json!({"mode": "routed"})).unwrap().bridge;
    assert!(keys.is_default_gateway && !keys.ip_masq);
    assert!(strict(&json!({"icc": false})).unwrap().bridge.port_isolation);
    assert!(strict(&json!({"icc": true, "portIsolation": true})).unwrap().bridge.port_isolation);
    // A layer-2 network has no wall: nothing is routed to it.
    assert_eq!(strict(&json!({"ipam": {}})).unwrap().isolation.isolation, Isolation::None);
    assert!(strict(&json!({"ipam": {}, "icc": false, "isolation": "none"})).is_ok());
}

#[test]
fn interfaces_are_trusted_once_each() {
    let keys = strict(&json!({"trustedInterfaces": ["eth1", "wg*", "eth1", "*"]})).unwrap().isolation;
    let words: Vec<String> = keys.trusted.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["eth1", "wg*", "*"]);
    let many: Vec<String> = (0..65).map(|n| format!("eth{n}")).collect();
    refuse(&[
        (json!({"trustedInterfaces": many}), 7, "at most 64"),
        (json!({"trustedInterfaces": ["a b"]}), 7, "trustedInterfaces[0]"),
        (json!({"trustedInterfaces": ["wan+"]}), 7, "write '*'"),
        (json!({"trustedInterfaces": ["."]}), 7, "trustedInterfaces[0]"),
    ]);
}

#[test]
fn an_address_to_leave_with_is_one_that_a_host_can_have() {
    let keys = strict(&json!({"outboundAddress4": "192.0.2.1", "outboundAddress6": "2001:db8::1"})).unwrap();
    assert!(keys.isolation.outbound4.is_some() && keys.isolation.outbound6.is_some());
    refuse(&[
        (json!({"outboundAddress4": "2001:db8::1"}), 7, "outboundAddress6"),
        (json!({"outboundAddress6": "192.0.2.1"}), 7, "outboundAddress4"),
        (json!({"outboundAddress4": "0.0.0.0"}), 7, "can send with"),
        (json!({"outboundAddress4": "224.0.0.1"}), 7, "can send with"),
        (json!({"outboundAddress6": "fe80::1"}), 7, "can send with"),
        (json!({"outboundAddress6": "::"}), 7, "can send with"),
        (json!({"outboundAddress6": "::ffff:192.0.2.1"}), 7, "192.0.2.1"),
        (json!({"outboundAddress4": "192.0.2.1/24"}), 7, "outboundAddress4"),
    ]);
}
