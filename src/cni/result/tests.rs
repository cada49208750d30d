use super::*;
use crate::cni::{Code, Error, NetworkConfig, Version};
use proptest::prelude::*;
use serde_json::json;

fn mac(text: &str) -> MacAddress {
    text.parse().unwrap()
}

fn sample() -> CniResult {
    let mut inside = Interface::new("eth0", mac("0a:58:0a:01:00:02"), "/run/netns/a");
    inside.mtu = Some(1400);
    let mut route = Route::via("0.0.0.0/0".parse().unwrap(), Some("10.1.0.1".parse().unwrap()));
    (route.mtu, route.priority, route.scope) = (Some(1300), Some(7), Some(0));
    CniResult {
        interfaces: vec![Interface::new("lks-web", mac("0a:5c:00:00:00:01"), ""), inside],
        ips: vec![
            Ip::new("10.1.0.2/24".parse().unwrap(), Some("10.1.0.1".parse().unwrap()), Some(1)),
            Ip::new("fd00::2/64".parse().unwrap(), None, Some(1)),
        ],
        routes: vec![route, Route::via("::/0".parse().unwrap(), None)],
        ..CniResult::default()
    }
}

#[test]
fn the_newest_version_says_everything() {
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "lks-web", "mac": "0a:5c:00:00:00:01"},
            {"name": "eth0", "mac": "0a:58:0a:01:00:02", "mtu": 1400, "sandbox": "/run/netns/a"},
        ],
        "ips": [
            {"interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"},
            {"interface": 1, "address": "fd00::2/64"},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300, "priority": 7, "scope": 0},
            {"dst": "::/0"},
        ],
    });
    assert_eq!(sample().to_value(Version::V1_1_0).unwrap(), expected);
    let text = sample().to_json(Version::V1_1_0).unwrap();
    assert!(
        text.starts_with("{\n    \"cniVersion\": \"1.1.0\",\n    \"interfaces\": [\n        {\n"),
        "{text}"
    );
}

#[test]
fn one_dot_zero_has_no_attributes_of_routes() {
    let value = sample().to_value(Version::V1_0_0).unwrap();
    assert_eq!(value["interfaces"][1]["mtu"], json!(1400));
    assert_eq!(value["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "10.1.0.1"}));
    assert_eq!(value.get("dns"), None);
}

#[test]
fn before_one_dot_zero_families_are_named_and_dns_is_printed() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let mut result = sample();
        result.interfaces[1].pci_id = "0000:00:01.0".into();
        let value = result.to_value(version).unwrap();
        assert_eq!(value["cniVersion"], version.as_str());
        assert_eq!(
            value["ips"][0],
            json!({"version": "4", "interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"})
        );
        assert_eq!(value["ips"][1]["version"], "6");
        assert_eq!(value["dns"], json!({}));
        assert_eq!(value["interfaces"][1].get("pciID"), None);
    }
    assert!(sample().to_json(Version::V0_4_0).unwrap().ends_with("    \"dns\": {}\n}"));
}

#[test]
fn the_oldest_versions_have_one_address_a_family_with_its_routes() {
    let mut result = sample();
    result.ips.push(Ip::new("10.2.0.2/24".parse().unwrap(), None, Some(1)));
    result.dns.domain = "example".into();
    assert_eq!(
        result.to_value(Version::V0_2_0).unwrap(),
        json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1",
                    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
            "ip6": {"ip": "fd00::2/64", "routes": [{"dst": "::/0"}]},
            "dns": {"domain": "example"},
        })
    );
    result.ips.clear();
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let error = result.to_value(version).unwrap_err();
        assert!(matches!(error, Error::NoAddress { .. }), "{error}");
    }
}

#[test]
fn results_of_other_plugins_keep_what_we_do_not_know() {
    let value = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "socketPath": "/x", "pciID": "1", "vendor": {"a": 1}}],
        "ips": [{"address": "10.0.0.9/24", "interface": 0, "label": "x"}],
        "routes": [{"dst": "10.3.0.7/16"}],
        "DNS": {"nameservers": ["10.0.0.53"]},
        "vendor": [1],
    });
    let result = CniResult::parse(&value, "prevResult", Version::V0_4_0).unwrap();
    assert_eq!(result.routes[0].dst.to_string(), "10.3.0.0/16");
    assert_eq!(result.dns.nameservers, ["10.0.0.53"]);
    let again = result.to_value(Version::V1_0_0).unwrap();
    for key in ["interfaces", "ips", "vendor"] {
        assert_eq!(again[key], value[key]);
    }
}

#[test]
fn what_the_reference_passes_on_is_passed_on() {
    let value = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
        "ips": [{"address": "10.0.0.9/24", "interface": -1}, {"address": "10.0.0.8/24", "interface": 7},
                {"address": "10.0.0.7/24", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "fe80::1"}, {"dst": "fd00::/64", "gw": "10.0.0.1"}],
    });
    let result = CniResult::parse(&value, "prevResult", Version::V1_0_0).unwrap();
    let again = result.to_value(Version::V1_0_0).unwrap();
    for key in ["interfaces", "ips", "routes"] {
        assert_eq!(again[key], value[key]);
    }
    assert_eq!(result.addresses_on("eth0").len(), 3, "an index that leads nowhere says nothing");
    for key in ["\"0\"", "1.5", "1e30"] {
        let bad = format!(r#"{{"ips": [{{"address": "10.0.0.9/24", "interface": {key}}}]}}"#);
        let bad = serde_json::from_str(&bad).unwrap();
        assert!(CniResult::parse(&bad, "prevResult", Version::V1_0_0).is_err(), "{key}");
    }
}

#[test]
fn old_results_are_read_with_the_version_assumed() {
    let value =
        json!({"ip4": {"ip": "10.0.0.9/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]}});
    let result = CniResult::parse(&value, "prevResult", Version::V0_2_0).unwrap();
    assert_eq!((result.ips.len(), result.routes.len()), (1, 1));
    let value =
        json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.9/24"}], "dns": {}});
    let result = CniResult::parse(&value, "prevResult", Version::V0_2_0).unwrap();
    assert_eq!(result.ips[0].extra.len(), 0);
}

#[test]
fn wrong_results_name_the_key() {
    let table = [
        (json!({"ips": [{"address": "10.0.0.9"}]}), "result.ips[0].address"),
        (json!({"ips": [{}]}), "result.ips[0].address is missing"),
        (json!({"ips": [{"address": "10.0.0.9/24", "interface": 0}]}), "result.ips[0].interface"),
        (json!({"routes": [{"dst": "0.0.0.0/0", "gw": "fe80::1"}]}), "result.routes[0].gw"),
        (json!({"interfaces": {}}), "result.interfaces"),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), "result.routes[0].dst is missing"),
        (json!({"cniVersion": "9.0.0"}), "9.0.0"),
        (json!({"cniVersion": "0.2.0", "ip4": {"ip": "fd00::1/64"}}), "result.ip4.ip"),
    ];
    for (value, expected) in table {
        let error =
            CniResult::from_plugin(value.to_string().as_bytes(), "dhcp", Version::V1_0_0).unwrap_err();
        assert_eq!(error.code(), Code::Delegate);
        let details = crate::cni::CniError::from(error).details;
        assert!(details.contains(expected), "{value}: {details}");
    }
    assert!(CniResult::from_plugin(b"", "dhcp", Version::V1_0_0).is_err());
}

#[test]
fn a_configuration_hands_out_its_previous_result() {
    let mut config = crate::cni::read::tests::strict(&json!({"prevResult": {"ips": []}})).unwrap();
    assert_eq!(config.previous().unwrap(), Some(CniResult::default()));
    config.prev_result = None;
    let none: Option<CniResult> = NetworkConfig::previous(&config).unwrap();
    assert_eq!(none, None);
}

fn any_route() -> impl Strategy<Value = Route> {
    let number = || proptest::option::of(1u32..);
    (
        any::<u32>(),
        0u8..=32,
        proptest::option::of(any::<u32>()),
        number(),
        number(),
        proptest::option::of(0u8..),
    )
        .prop_map(|(dst, prefix, gw, mtu, priority, scope)| {
            let dst = IpNetwork::new(IpAddr::V4(dst.into()), prefix).unwrap();
            let dst = IpNetwork::new(dst.network(), prefix).unwrap();
            let gw = gw.map(|gw| IpAddr::V4(gw.into()));
            Route { dst, gw, mtu, advmss: mtu, priority, table: priority, scope }
        })
}

fn any_result() -> impl Strategy<Value = CniResult> {
    let interface = ("[a-z0-9]{1,15}", proptest::option::of(1u32..), "[a-z/]{0,9}", "[a-z]{0,4}").prop_map(
        |(name, mtu, sandbox, pci_id)| Interface {
            mtu,
            pci_id,
            ..Interface::new(name, mac("02:00:00:00:00:01"), sandbox)
        },
    );
    let ip = (any::<u128>(), 0u8..=128, any::<bool>()).prop_filter_map("mapped", |(bits, prefix, v4)| {
        let address =
            if v4 { IpAddr::V4(u32::try_from(bits >> 96).unwrap().into()) } else { IpAddr::V6(bits.into()) };
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let prefix = if v4 { prefix / 4 } else { prefix };
        (!mapped).then(|| Ip::new(IpNetwork::new(address, prefix).unwrap(), Some(address), Some(0)))
    });
    let dns = (proptest::collection::vec("[a-z.]{1,9}", 0..3), "[a-z]{0,5}").prop_map(|(list, domain)| Dns {
        nameservers: list.clone(),
        domain,
        search: list,
        options: Vec::new(),
    });
    (
        proptest::collection::vec(interface, 1..4),
        proptest::collection::vec(ip, 0..4),
        proptest::collection::vec(any_route(), 0..4),
        dns,
    )
        .prop_map(|(interfaces, ips, routes, dns)| CniResult {
            interfaces,
            ips,
            routes,
            dns,
            extra: Map::new(),
        })
}

proptest! {
    #[test]
    fn the_newest_version_reads_back_as_it_was(result in any_result()) {
        let text = result.to_json(Version::V1_1_0).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(CniResult::parse(&value, "result", Version::V0_1_0).unwrap(), result);
    }

    #[test]
    fn every_version_is_a_fixed_point_once_said(result in any_result(), index in 0usize..7) {
        let version = Version::SUPPORTED[index];
        let Ok(value) = result.to_value(version) else {
            prop_assert!(version <= Version::V0_2_0 && result.ips.is_empty());
            return Ok(());
        };
        let read = CniResult::parse(&value, "result", Version::LATEST).unwrap();
        prop_assert_eq!(read.to_value(version).unwrap(), value);
    }
}
