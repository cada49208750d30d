//! The capability `portMappings`.

use super::*;
use crate::cni::{PortmapKeys, Reads};
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
        (mapping(65536, 80, ""), "hostPort = 65536: must be a whole number from 0 to 65535"),
        (mapping(80, 0, ""), "containerPort = 0"),
        (mapping(80, 65536, ""), "containerPort = 65536"),
        (json!({"hostPort": 80}), "containerPort is missing"),
        (json!({"hostPort": "80", "containerPort": 80}), "hostPort = \"80\""),
        (
            json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}),
            "protocol = \"icmp\": must be tcp, udp",
        ),
        (mapping(80, 80, "10.0.0"), "hostIP = \"10.0.0\""),
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
    let keys = read(&[mapping(80, 8080, "127.0.0.1"), mapping(80, 8080, "::ffff:127.0.0.1")]);
    assert_eq!(keys.mappings.len(), 1);
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
    assert_eq!((keys.snat, keys.masq_all), (false, true));
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

fn triples(mappings: &[Value]) -> Vec<(u16, u16, u16)> {
    let read = read(mappings).mappings;
    read.iter().map(|mapping| (mapping.host_port, mapping.container_port, mapping.count)).collect()
}

#[test]
fn ranges_are_read_in_both_spellings() {
    let text = |host: &str, container: &str| json!({"hostPort": host, "containerPort": container});
    assert_eq!(triples(&[text("8000-8010", "9000-9010")]), [(8000, 9000, 11)]);
    assert_eq!(triples(&[text("8000-8000", "80-80")]), [(8000, 80, 1)]);
    assert_eq!(triples(&[text("1-65535", "1-65535")]), [(1, 1, 65535)]);
    let podman = |range: u32| json!({"hostPort": 8000, "containerPort": 80, "range": range});
    assert_eq!(triples(&[podman(1)]), [(8000, 80, 1)]);
    assert_eq!(triples(&[podman(11)]), [(8000, 80, 11)]);
    let both = json!({"hostPort": "8000-8010", "containerPort": 80, "range": 11});
    assert_eq!(triples(&[both]), [(8000, 80, 11)]);
    for (wrong, expected) in [
        (
            text("8000-8010", "9000-9009"),
            "containerPort = \"9000-9009\": must be as many ports as hostPort has: 11, not 10",
        ),
        (json!({"hostPort": 8000, "containerPort": "80-90"}), "containerPort = \"80-90\": must be as many"),
        (json!({"hostPort": "8000-8010", "containerPort": 80}), "containerPort = 80: must be as many"),
        (
            json!({"hostPort": "8000-8010", "containerPort": "80-90", "range": 2}),
            "range = 2: must be as many",
        ),
        (podman(0), "range = 0: must be a whole number from 1 to 65535"),
        (podman(60_000), "hostPort = 8000: 60000 ports from there go past 65535"),
        (json!({"hostPort": 80, "containerPort": 65000, "range": 1000}), "containerPort = 65000: 1000 ports"),
        (text("8010-8000", "80-90"), "hostPort = \"8010-8000\": must be a range"),
        (text("0-10", "80-90"), "hostPort = \"0-10\": must be a range"),
        (text("65530-65540", "80-90"), "hostPort = \"65530-65540\": must be a range"),
        (text("8000-8010-8020", "80-90"), "hostPort = \"8000-8010-8020\": must be a range"),
        (text("8000-", "80-90"), "hostPort = \"8000-\": must be a range"),
        (text("8000", "8000"), "hostPort = \"8000\": must be a whole number from 0 to 65535, or a range"),
    ] {
        refuse(&[(with(&[wrong]), 7, &format!("runtimeConfig.portMappings[0].{expected}"))]);
    }
}

#[test]
fn ranges_that_overlap_are_refused_with_both() {
    let range = |host: u32, count: u32, ip: &str| json!({"hostPort": host, "containerPort": 80, "range": count, "hostIP": ip});
    for pair in [
        [range(8000, 11, ""), range(8010, 5, "")],
        [range(8000, 11, ""), range(8001, 2, "127.0.0.1")],
        [mapping(8005, 85, ""), range(8000, 11, "")],
        [range(8000, 11, "0.0.0.0"), mapping(8010, 90, "10.0.0.1")],
    ] {
        refuse(&[
            (with(&pair), 7, "runtimeConfig.portMappings[0] (tcp "),
            (with(&pair), 7, "and runtimeConfig.portMappings[1] (tcp "),
        ]);
    }
    refuse(&[(with(&[range(8000, 11, ""), range(8010, 5, "")]), 7, "port 8000-8010 to 80-90) and")]);
    assert_eq!(triples(&[range(8000, 11, ""), range(8011, 5, ""), range(7990, 10, "")]).len(), 3);
    assert_eq!(triples(&[range(8000, 11, "10.0.0.1"), range(8000, 11, "10.0.0.2")]).len(), 2);
    assert_eq!(triples(&[range(8000, 11, ""), range(8000, 11, "::"), range(8000, 11, "")]), [(8000, 80, 11)]);
}

/// The reference's `portmap` knows no port 0.
#[test]
fn an_automatic_port_is_linkspan_s_own() {
    assert_eq!(triples(&[mapping(0, 80, ""), mapping(0, 80, "")]), [(0, 80, 1), (0, 80, 1)]);
    assert_eq!(triples(&[json!({"hostPort": 0, "containerPort": "80-90"})]), [(0, 80, 11)]);
    assert_eq!(triples(&[json!({"hostPort": 0, "containerPort": 80, "range": 11})]), [(0, 80, 11)]);
    let bytes = document(&with(&[mapping(0, 80, "")]));
    let environment = environment(Command::Add, "");
    let reads = Reads { portmap: true, ..Reads::NONE };
    let portmap = Defaults { reads, ..Defaults::REFERENCE };
    let error = NetworkConfig::parse(&bytes, &environment, &portmap, Strictness::Strict).unwrap_err();
    assert!(error.to_string().contains("hostPort = 0: must be a whole number from 1 to 65535"), "{error}");
    let hold = |value: Value| strict(&json!({ "holdPorts": value }));
    assert!(hold(json!(true)).unwrap().portmap.hold && !hold(json!(false)).unwrap().portmap.hold);
    refuse(&[(json!({"holdPorts": "yes"}), 7, "holdPorts = \"yes\": must be true or false")]);
}
