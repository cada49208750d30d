//! Nothing that comes in makes the reading panic, and what is read keeps its invariants.

use super::*;
use crate::cni::{CniError, CniResult, versions};
use proptest::prelude::*;

fn full() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "web", "type": "linkspan", "bridge": "br0", "isGateway": true, "mtu": 1400,
        "isolation": "strict", "icc": false, "trustedInterfaces": ["eth1", "wg*"], "outboundAddress4": "192.0.2.1",
        "vlanTrunk": [{"minID": 5, "maxID": 9}, {"id": 11}], "mac": "02:00:00:00:00:01", "backend": "iptables",
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.99",
                 "gateway": "10.1.0.1", "ranges": [[{"subnet": "fd00::/64"}]], "dataDir": "/x",
                 "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
                 "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300}]},
        "sysctl": {"net.core.somaxconn": "5", "net/ipv4/conf/IFNAME/x": "1"}, "txQLen": 5, "conditionsV4": ["-i"],
        "ingressRate": 9000, "ingressBurst": 9000, "markMasqBit": 5, "dns": {"nameservers": ["192.0.2.1"]},
        "runtimeConfig": {"ips": ["10.1.0.7"], "portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "2001:db8::1"}],
                          "bandwidth": {"egressRate": 9000}, "dns": {"servers": []}, "ipRanges": []},
        "args": {"cni": {"ips": ["10.1.0.8/24"]}},
        "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
        "prevResult": {"interfaces": [{"name": "x"}], "ips": [{"address": "10.0.0.9/24", "interface": 0}],
                       "routes": [{"dst": "10.0.0.0/8"}], "dns": {}, "ip4": {"ip": "10.0.0.9/24"}},
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        Just(String::new()),
        Just("10.1.0.0/24".into()),
        Just("::/0".into()),
        Just("0.0.0.0".into()),
        Just("255.255.255.255/32".into()),
        Just("static".into()),
        Just("ffff::/1".into()),
        Just("0.2.0".into()),
        "[0-9.:/]{0,20}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
        (0u32..70000).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec(("[a-zA-Z]{1,8}", inner), 0..3)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                places(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                places(inner, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn exercise(bytes: &[u8], args: &str) {
    let faces = [Defaults::LINKSPAN, Defaults::REFERENCE];
    for command in [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status] {
        for strictness in [Strictness::Strict, Strictness::Lenient] {
            for defaults in &faces {
                let read = NetworkConfig::parse(bytes, &environment(command, args), defaults, strictness);
                match read {
                    Ok(config) => hold(&config),
                    Err(error) => assert!(CniError::from(error).to_json(None).starts_with('{')),
                }
            }
        }
    }
    versions(bytes, Version::V0_1_0);
    if let Ok(result) = CniResult::from_plugin(bytes, "x", Version::V0_2_0) {
        for version in Version::SUPPORTED {
            let _ = result.to_json(version);
        }
    }
}

/// What other rooms rely on.
fn hold(config: &NetworkConfig) {
    let _ = config.previous();
    if let Ipam::HostLocal(keys) = &config.ipam {
        for range in keys.range_sets.iter().flatten() {
            assert!(range.start <= range.end);
            assert!(range.subnet.contains(range.start) && range.subnet.contains(range.end));
            assert!(range.subnet.contains(range.gateway.unwrap()));
        }
    }
    let mappings = &config.portmap.mappings;
    assert!(mappings.iter().all(|mapping| mapping.host_port != 0 && mapping.container_port != 0));
    assert!(config.tuning.sysctl.keys().all(|path| path.starts_with("net/") && !path.contains("..")));
    assert!(config.mac.is_none_or(crate::model::MacAddress::is_unicast));
    assert!(config.bridge.vlan.is_none() || config.bridge.vlan_trunk.is_empty());
}

proptest! {
    #[test]
    fn a_changed_value_anywhere(place in any::<prop::sample::Index>(), value in any_value(),
                                second in any::<prop::sample::Index>(), other in any_value(), args in ".{0,20}") {
        let mut document = full();
        for (place, value) in [(place, value), (second, other)] {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            *document.pointer_mut(&found[place.index(found.len())]).unwrap() = value;
        }
        exercise(document.to_string().as_bytes(), &args);
    }

    #[test]
    fn a_changed_byte_anywhere(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = full().to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        exercise(&bytes, "");
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes, "");
    }
}

#[test]
fn the_document_that_is_changed_is_right() {
    let config = raw(full().to_string().as_bytes()).unwrap();
    assert_eq!(config.previous().unwrap().unwrap().ips.len(), 1);
}
