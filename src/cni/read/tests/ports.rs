//! The capability `portMappings`.

use super::*;
use crate::cni::PortmapKeys;
use crate::model::Protocol;

fn mapping(host_port: u32, container_port: u32, host_ip: &str) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "hostIP": host_ip})
}

fn with(mappings: &[Value]) -> Value {
    json!({"runtimeConfig": {"portMappings": mappings}})
}

fn read(mappings: &[Value]) -> PortmapKeys {
    strict(&with(mappings)).unwrap().portmap
}

#[test]
fn only_the_capability_counts() {
    let one = json!([mapping(80, 80, "")]);
    assert!(strict(&json!({ "portMappings": one })).unwrap().portmap.mappings.is_empty());
    assert!(strict(&json!({"runtimeConfig": {"portMappings": null}})).unwrap().portmap.mappings.is_empty());
    let keys = strict(&json!({"RUNTIMECONFIG": {"PortMappings": one}})).unwrap().portmap;
    assert_eq!((keys.mappings[0].protocol, keys.mappings[0].host_ip), (Protocol::Tcp, None));
}

#[test]
fn wrong_mappings_are_named() {
    let path = "runtimeConfig.portMappings[0]";
    for (entry, expected) in [
        (mapping(0, 80, ""), "hostPort = 0: must be a whole number from 1 to 65535"),
        (mapping(65536, 80, ""), "hostPort = 65536"),
        (mapping(80, 0, ""), "containerPort = 0"),
        (mapping(80, 65536, ""), "containerPort = 65536"),
        (json!({"hostPort": 80}), "containerPort is missing"),
        (json!({"hostPort": "80", "containerPort": 80}), "hostPort = \"80\""),
        (
            json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}),
            "protocol = \"icmp\": must be tcp, udp",
        ),
        (mapping(80, 80, "10.0.0"), "hostIP = \"10.0.0\""),
        (mapping(80, 80, "::ffff:10.0.0.1"), "hostIP"),
        (json!(80), " = 80: must be an object"),
    ] {
        let expected = if expected.starts_with(' ') { expected.to_owned() } else { format!(".{expected}") };
        refuse(&[(with(&[entry]), 7, &format!("{path}{expected}"))]);
    }
}

#[test]
fn what_is_said_twice_counts_once() {
    let keys = read(&[mapping(80, 8080, ""), mapping(80, 8080, ""), mapping(80, 8080, "0.0.0.0")]);
    assert_eq!(keys.mappings.len(), 1);
    let keys =
        read(&[mapping(80, 8080, "127.0.0.1"), mapping(80, 8080, "2001:db8::1"), mapping(80, 8080, "")]);
    assert_eq!((keys.mappings.len(), keys.mappings[0].host_ip), (1, None));
    let keys =
        read(&[mapping(80, 8080, "0.0.0.0"), mapping(80, 8080, "::"), mapping(80, 8080, "2001:db8::1")]);
    assert_eq!(keys.mappings.len(), 2);
}

#[test]
fn what_cannot_both_be_is_refused_with_both() {
    let table = [
        [mapping(80, 1, ""), mapping(80, 2, "")],
        [mapping(80, 1, "127.0.0.1"), mapping(80, 2, "")],
        [mapping(80, 1, "0.0.0.0"), mapping(80, 2, "127.0.0.1")],
        [mapping(80, 1, "::"), mapping(80, 2, "2001:db8::1")],
    ];
    for pair in table {
        refuse(&[
            (with(&pair), 7, "runtimeConfig.portMappings[0] (tcp "),
            (with(&pair), 7, "and runtimeConfig.portMappings[1] (tcp "),
        ]);
    }
    let apart = [
        mapping(80, 1, "127.0.0.1"),
        mapping(80, 2, "127.0.0.2"),
        mapping(80, 3, "::"),
        mapping(81, 4, ""),
        json!({"hostPort": 80, "containerPort": 5, "protocol": "UDP"}),
    ];
    assert_eq!(read(&apart).mappings.len(), 5);
}

#[test]
fn keys_of_the_port_map() {
    let keys =
        strict(&json!({"snat": false, "masqAll": true, "markMasqBit": 31, "conditionsV4": ["-i", "x"]}));
    let keys = keys.unwrap().portmap;
    assert_eq!((keys.snat, keys.masq_all, keys.mark_masq_bit), (false, true, 31));
    refuse(&[
        (json!({"markMasqBit": 32}), 7, "from 0 to 31"),
        (json!({"markMasqBit": 3, "externalSetMarkChain": "X"}), 7, "markMasqBit and externalSetMarkChain"),
        (json!({"externalSetMarkChain": "a b"}), 7, "name of a chain"),
        (json!({"conditionsV4": ["a\nCOMMIT"]}), 7, "conditionsV4[0]"),
        (json!({"conditionsV4": "-i x"}), 7, "must be a list"),
    ]);
}

#[test]
fn a_thousand_ports_are_read_in_no_time() {
    let many: Vec<Value> = (1..=5000).map(|port| mapping(port, port, "")).collect();
    assert_eq!(read(&many).mappings.len(), 5000);
}

/// The kernel cannot translate what is sent to [::1]: better a word than a port that is silently dead.
#[test]
fn the_loopback_of_ipv6_is_refused() {
    let mapping = json!({"hostPort": 80, "containerPort": 80, "hostIP": "::1"});
    refuse(&[(
        json!({"runtimeConfig": {"portMappings": [mapping]}}),
        2,
        "runtimeConfig.portMappings[0].hostIP = \"::1\"",
    )]);
}
