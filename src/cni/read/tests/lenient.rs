//! DEL and GC read what they need and pass the rest by.

use super::*;
use crate::model::AttachmentKey;

#[test]
fn del_survives_whatever_the_configuration_became() {
    let extra = json!({
        "bridge": 1, "mtu": "x", "vlan": 9999, "mac": "x", "ipMasqBackend": "x", "ingressPolicy": "x", "sysctl": 1,
        "egressRate": 1, "dns": [], "logLevel": "x", "logFile": 1, "type": 1, "markMasqBit": 99, "args": 1,
        "runtimeConfig": {"portMappings": [{}], "ips": 1, "dns": 1},
        "ipam": {"type": "host-local", "subnet": "10.1.0.1/24", "routes": 1, "resolvConf": 1, "dataDir": "/x"},
        "cni.dev/valid-attachments": 1,
    });
    let config = parse(&extra, Command::Del, "none").unwrap();
    assert!(config.warnings.len() > 12, "{:?}", config.warnings);
    assert_eq!(config.bridge, Defaults::LINKSPAN.bridge_keys());
    let Ipam::HostLocal(keys) = &config.ipam else { panic!("{:?}", config.ipam) };
    assert_eq!((keys.data_dir.as_deref(), keys.range_sets.len()), (Some("/x"), 0));
    assert_eq!(config.valid_attachments, None);
    assert_eq!(config.raw["mtu"], "x");
    assert!(strict(&json!({})).unwrap().warnings.is_empty());
}

#[test]
fn even_del_needs_a_version_and_a_name() {
    assert_eq!(parse(&json!({"cniVersion": "7"}), Command::Del, "").unwrap_err().code().number(), 1);
    assert_eq!(parse(&json!({"name": ""}), Command::Del, "").unwrap_err().code().number(), 7);
}

#[test]
fn gc_knows_nothing_none_and_some_apart() {
    let read = |extra: &Value| parse(extra, Command::Gc, "").map(|config| config.valid_attachments);
    let one = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let key = AttachmentKey::new("c1", "eth0");
    assert_eq!(read(&json!({})).unwrap(), None);
    for none in [json!([]), json!(null)] {
        assert_eq!(read(&json!({"cni.dev/valid-attachments": none})).unwrap(), Some(vec![]));
        assert_eq!(read(&json!({"cni.dev/attachments": none})).unwrap(), Some(vec![]));
    }
    assert_eq!(read(&json!({"cni.dev/valid-attachments": one})).unwrap(), Some(vec![key.clone()]));
    assert_eq!(read(&json!({"cni.dev/attachments": one})).unwrap(), Some(vec![key.clone()]));
    let both = json!({"cni.dev/valid-attachments": [], "cni.dev/attachments": one});
    assert_eq!(read(&both).unwrap(), Some(vec![key]), "what either calls valid is valid");
}

#[test]
fn gc_does_not_guess_what_a_broken_list_meant() {
    for list in [
        json!({}),
        json!("c1"),
        json!([null]),
        json!([{"containerID": "c1"}]),
        json!([{"containerID": "../c1", "ifname": "eth0"}]),
        json!([{"containerID": "c1", "ifname": "a/b"}]),
        json!([{"containerID": 1, "ifname": "eth0"}]),
    ] {
        let error = parse(&json!({"cni.dev/valid-attachments": list}), Command::Gc, "").unwrap_err();
        assert_eq!(error.code().number(), 7, "{list}: {error}");
        assert!(error.to_string().starts_with("cni.dev/valid-attachments"), "{error}");
    }
}
