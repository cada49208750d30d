//! Keys of `bridge`, `firewall`, `tuning`, `bandwidth`, and the precedence of what comes with the call.

use super::*;
use crate::cni::{Backend, VlanTrunk};
use crate::model::{IngressPolicy, Rate};

#[test]
fn the_defaults_are_those_of_the_face() {
    let ours = strict(&json!({})).unwrap();
    assert_eq!(ours.bridge, Defaults::LINKSPAN.bridge_keys());
    assert!(ours.bridge.is_default_gateway && ours.bridge.ip_masq && ours.bridge.hairpin);
    assert!(matches!(&ours.ipam, Ipam::HostLocal(keys) if keys.range_sets.is_empty()));
    assert_eq!((ours.backend, ours.log_level), (Backend::Auto, LogLevel::Warning));
    assert!(ours.portmap.snat);
    assert_eq!(ours.firewall.admin_chain, "CNI-ADMIN");

    let environment = environment(Command::Add, "");
    let bytes = document(&json!({}));
    let theirs =
        NetworkConfig::parse(&bytes, &environment, &Defaults::REFERENCE, Strictness::Strict).unwrap();
    assert_eq!(theirs.bridge.bridge.as_deref(), Some("cni0"));
    assert!(!theirs.bridge.is_gateway && !theirs.bridge.hairpin);
    assert_eq!(theirs.ipam, Ipam::None);
}

#[test]
fn keys_of_the_bridge() {
    let keys = strict(&json!({
        "BRIDGE": "br0", "isGateway": true, "isDefaultGateway": false, "ipMasq": false, "forceAddress": true,
        "mtu": 1400, "promiscMode": true, "vlan": 4094, "preserveDefaultVlan": true, "macspoofchk": true,
        "enabledad": true, "portIsolation": true,
    }))
    .unwrap()
    .bridge;
    assert_eq!(keys.bridge.as_deref(), Some("br0"));
    assert_eq!((keys.is_gateway, keys.is_default_gateway, keys.hairpin), (true, false, false));
    assert_eq!((keys.mtu, keys.vlan), (Some(1400), Some(4094)));
    assert!(keys.promisc && keys.mac_spoof_check && keys.enable_dad && keys.port_isolation);
    let keys = strict(&json!({"isGateway": false, "mtu": 0, "vlan": 0})).unwrap().bridge;
    assert_eq!((keys.is_gateway, keys.is_default_gateway), (false, false));
    assert_eq!((keys.mtu, keys.vlan), (None, None));
    assert!(strict(&json!({"isGateway": false, "isDefaultGateway": true})).unwrap().bridge.is_gateway);
}

#[test]
fn wrong_keys_of_the_bridge() {
    refuse(&[
        (json!({"bridge": "a-name-of-16-byt"}), 7, "bridge"),
        (json!({"bridge": "a/b"}), 7, "bridge"),
        (json!({"mtu": 67}), 7, "from 68 to 65535"),
        (json!({"mtu": 65536}), 7, "mtu = 65536"),
        (json!({"mtu": 1279, "ipam": {"subnet": "fd00:1::/64"}}), 7, "mtu = 1279 and an IPv6 address"),
        (json!({"mtu": "1500"}), 7, "mtu = \"1500\""),
        (json!({"mtu": 1500.0}), 7, "whole number"),
        (json!({"vlan": 4095}), 7, "vlan = 4095"),
        (json!({"vlan": -1}), 7, "vlan"),
        (json!({"vlan": 5, "vlanTrunk": [{"id": 6}]}), 7, "vlan and vlanTrunk"),
        (json!({"vlanTrunk": [{"id": 0}]}), 7, "vlanTrunk[0].id"),
        (json!({"vlanTrunk": [{}]}), 7, "vlanTrunk[0].id is missing"),
        (json!({"vlanTrunk": [{"minID": 5}]}), 7, "vlanTrunk[0].maxID is missing"),
        (json!({"vlanTrunk": [{"maxID": 5}]}), 7, "vlanTrunk[0].minID is missing"),
        (json!({"vlanTrunk": [{"minID": 6, "maxID": 5}]}), 7, "must not be above"),
        (json!({"vlanTrunk": {"id": 1}}), 7, "must be a list"),
        (json!({"hairpinMode": true, "promiscMode": true}), 7, "hairpinMode"),
        (json!({"ipMasq": "true"}), 7, "ipMasq"),
        (
            json!({"disableContainerInterface": true, "ipam": {"type": "dhcp"}}),
            7,
            "disableContainerInterface",
        ),
    ]);
    assert_eq!(strict(&json!({"disableContainerInterface": true})).unwrap().ipam, Ipam::None);
}

#[test]
fn a_trunk_is_put_in_order() {
    let trunk =
        json!([{"id": 30}, {"minID": 10, "maxID": 12}, {"id": 13}, {"minID": 11, "maxID": 11, "id": 1}]);
    let keys = strict(&json!({ "vlanTrunk": trunk })).unwrap().bridge;
    let expected = [(1, 1), (10, 13), (30, 30)].map(|(first, last)| VlanTrunk { first, last });
    assert_eq!(keys.vlan_trunk, expected);
}

#[test]
fn backends() {
    let conditions = json!(["!", "-d", "192.0.2.0/24"]);
    let table = [
        (json!({}), Backend::Auto),
        (json!({"backend": "nftables"}), Backend::Nftables),
        (json!({"ipMasqBackend": "iptables"}), Backend::Iptables),
        (json!({"ipMasqBackend": "iptables", "backend": "auto"}), Backend::Iptables),
        (json!({"ipMasqBackend": "nftables", "backend": "nftables"}), Backend::Nftables),
        (json!({"conditionsV4": conditions}), Backend::Iptables),
        (json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}), Backend::Iptables),
    ];
    for (extra, expected) in table {
        assert_eq!(strict(&extra).unwrap().backend, expected, "{extra}");
    }
    refuse(&[
        (json!({"backend": "firewalld"}), 7, "must be auto, nftables or iptables"),
        (json!({"ipMasqBackend": "ipvs"}), 7, "ipMasqBackend = \"ipvs\""),
        (json!({"ipMasqBackend": "nftables", "backend": "iptables"}), 7, "contradict"),
        (json!({"backend": "nftables", "conditionsV6": ["-4"]}), 2, "conditionsV6 = [\"-4\"]"),
        (json!({"backend": "nftables", "externalSetMarkChain": "X"}), 2, "externalSetMarkChain = \"X\""),
    ]);
}

#[test]
fn keys_of_the_firewall_and_the_log() {
    let config = strict(&json!({"ingressPolicy": "same-bridge", "iptablesAdminChainName": "MINE",
                                "firewalldZone": "work", "logLevel": "debug", "logFile": "/x"}))
    .unwrap();
    assert_eq!(config.firewall.ingress, IngressPolicy::SameBridge);
    assert_eq!(
        (config.firewall.admin_chain.as_str(), config.firewall.firewalld_zone.as_deref()),
        ("MINE", Some("work"))
    );
    assert_eq!((config.log_level, config.log_file.as_deref()), (LogLevel::Debug, Some("/x")));
    refuse(&[
        (json!({"ingressPolicy": "closed"}), 7, "open, same-bridge or isolated"),
        (json!({"iptablesAdminChainName": "-j ACCEPT"}), 7, "name of a chain"),
        (json!({"iptablesAdminChainName": "a".repeat(29)}), 7, "name of a chain"),
        (json!({"iptablesAdminChainName": "forward"}), 7, "administrator's own"),
        (json!({"iptablesAdminChainName": "net-web"}), 7, "administrator's own"),
        (json!({"iptablesAdminChainName": "FORWARD"}), 7, "administrator's own"),
        (json!({"iptablesAdminChainName": "LINKSPAN-FORWARD"}), 7, "administrator's own"),
        (json!({"bridge": "br%d"}), 7, "bridge = \"br%d\""),
        (json!({"firewalldZone": "my zone"}), 7, "name of a zone"),
        (json!({"firewalldZone": 1}), 7, "firewalldZone"),
        (json!({"logLevel": "loud"}), 7, "error, warning, info or debug"),
    ]);
}

#[test]
fn sysctls_become_paths() {
    let tuning = strict(&json!({
        "sysctl": {"net.core.somaxconn": "500", "//net/ipv4/conf/IFNAME/arp_filter": "1",
                   "net.ipv4.conf.eth0/100.forwarding": "1"},
        "promisc": true, "allmulti": false, "txQLen": 500,
        "args": {"cni": {"sysctl": {"net/core/somaxconn": "600"}, "txQLen": 600, "mtu": 1300}},
    }))
    .unwrap();
    assert_eq!(tuning.bridge.mtu, Some(1300));
    let tuning = tuning.tuning;
    assert_eq!((tuning.promisc, tuning.allmulti, tuning.tx_queue_len), (true, Some(false), Some(600)));
    let paths: Vec<_> = tuning.sysctl.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        paths,
        [
            ("net/core/somaxconn", "600"),
            ("net/ipv4/conf/eth0.100/forwarding", "1"),
            ("net/ipv4/conf/eth0/arp_filter", "1"),
        ]
    );
    for key in [
        "kernel.shmmax",
        "net",
        "net..core",
        "net/../kernel/x",
        "/kernel/shmmax",
        "/",
        "net.core.",
        "netx.a",
        "",
    ] {
        refuse(&[(json!({"sysctl": {key: "1"}}), 7, "sysctl")]);
    }
    refuse(&[
        (json!({"sysctl": {"net.core.x": 1}}), 7, "must be a string: \"1\""),
        (json!({"sysctl": {"net.core.x": "1", "net/core/x": "2"}}), 7, "both are /proc/sys/net/core/x"),
        (
            json!({"sysctl": {"net.ipv4.conf.eth0.x": "1", "net.ipv4.conf.IFNAME.x": "2"}}),
            7,
            "both are /proc/sys/net/ipv4/conf/eth0/x",
        ),
    ]);
}

#[test]
fn status_has_no_interface_to_put_into_a_sysctl() {
    let bytes = document(&json!({"sysctl": {"net.ipv4.conf.IFNAME.x": "1"}}));
    let status = Environment { interface: String::new(), ..environment(Command::Status, "") };
    let config = NetworkConfig::parse(&bytes, &status, &Defaults::LINKSPAN, Strictness::Strict).unwrap();
    assert!(config.tuning.sysctl.contains_key("net/ipv4/conf/IFNAME/x"));
}

#[test]
fn rates_come_in_pairs() {
    let both =
        json!({"bandWidth": {"ingressRate": 8000, "ingressBurst": 16000, "egressRate": 0, "egressBurst": 0}});
    let capability = strict(&json!({"RuntimeConfig": both})).unwrap().bandwidth;
    assert_eq!((capability.ingress, capability.egress), (Some(Rate { rate: 8000, burst: 16000 }), None));
    let keys =
        strict(&json!({"egressRate": 9000, "egressBurst": 9000, "runtimeConfig": both})).unwrap().bandwidth;
    assert_eq!((keys.ingress, keys.egress), (None, Some(Rate { rate: 9000, burst: 9000 })));
    let edge = (u64::from(u32::MAX) * 8) - 1;
    assert!(strict(&json!({"egressRate": 9000, "egressBurst": edge})).is_ok());
    refuse(&[
        (json!({"egressRate": 9000}), 7, "egressBurst is missing"),
        (json!({"ingressBurst": 9000}), 7, "ingressRate is missing"),
        (json!({"egressRate": 9000, "egressBurst": edge + 1}), 7, "4 GiB"),
        (json!({"egressRate": -1, "egressBurst": 9000}), 7, "egressRate"),
        (json!({"egressRate": 9000, "egressBurst": 7}), 7, "egressBurst"),
        (
            json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1e9}}}),
            7,
            "runtimeConfig.bandwidth.ingressRate",
        ),
    ]);
}

#[test]
fn the_mac_of_the_call_wins() {
    let mac = |last: u8| format!("02:00:00:00:00:{last:02x}");
    let args = format!("MAC={}", mac(2));
    let read = |extra: &Value, args: &str| {
        parse(extra, Command::Add, args).unwrap().mac.map(|mac| mac.0[5]).unwrap_or_default()
    };
    let mut extra = json!({"mac": mac(1)});
    assert_eq!(read(&extra, ""), 1);
    assert_eq!(read(&extra, &args), 2);
    extra["args"] = json!({"cni": {"mac": mac(3)}});
    assert_eq!(read(&extra, &args), 3);
    extra["runtimeConfig"] = json!({"mac": mac(4)});
    assert_eq!(read(&extra, &args), 4);
    extra["runtimeConfig"]["mac"] = json!("");
    assert_eq!(read(&extra, &args), 3);
    refuse(&[
        (json!({"mac": "01:00:00:00:00:01"}), 7, "no unicast"),
        (json!({"runtimeConfig": {"mac": "x"}}), 7, "runtimeConfig.mac"),
    ]);
    let error = parse(&json!({}), Command::Add, "MAC").unwrap_err();
    assert_eq!(error.code().number(), 4);
}

#[test]
fn dns_of_the_capability_wins() {
    let extra = json!({"dns": {"nameservers": ["192.0.2.1"], "domain": "a"}});
    assert_eq!(strict(&extra).unwrap().dns.domain, "a");
    let mut extra = extra;
    extra["runtimeConfig"] = json!({"dns": {"servers": ["192.0.2.2"], "searches": ["b"], "options": ["ndots:1"]},
                                    "aliases": {"web": ["x"]}});
    let dns = strict(&extra).unwrap().dns;
    assert_eq!(
        (dns.nameservers, dns.search, dns.domain),
        (vec!["192.0.2.2".into()], vec!["b".into()], "".into())
    );
    extra["runtimeConfig"] = json!({"dns": {}});
    assert_eq!(strict(&extra).unwrap().dns.domain, "a");
}
