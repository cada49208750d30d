//! Keys under `ipam`, and addresses that come with the call.

use super::*;
use crate::model::RangeSet;

fn host_local(extra: &Value) -> crate::cni::HostLocal {
    match strict(extra).unwrap().ipam {
        Ipam::HostLocal(keys) => keys,
        other => panic!("{other:?}"),
    }
}

fn sets(ipam: &Value) -> Vec<RangeSet> {
    host_local(&json!({ "ipam": ipam })).range_sets
}

fn refuse_ipam(table: &[(Value, &str)]) {
    for (ipam, expected) in table {
        refuse(&[(json!({ "ipam": ipam }), 7, expected)]);
    }
}

#[test]
fn the_type_decides() {
    for empty in [json!({}), json!(null)] {
        assert_eq!(strict(&json!({ "ipam": empty })).unwrap().ipam, Ipam::None);
    }
    let delegated = strict(&json!({"ipam": {"type": "dhcp"}})).unwrap().ipam;
    assert_eq!(delegated, Ipam::Delegated { plugin: "dhcp".into() });
    refuse_ipam(&[
        (json!({"type": "../x"}), "without a path"),
        (json!({"type": ".."}), "without a path"),
        (json!({"type": 1}), "ipam.type"),
        (json!([]), "ipam = []"),
    ]);
    for version in ["0.1.0", "0.2.0"] {
        refuse(&[(json!({"cniVersion": version, "ipam": {}}), 7, "cannot do without an address")]);
        assert!(parse(&json!({"cniVersion": version, "ipam": {}}), Command::Del, "").is_ok());
    }
}

#[test]
fn bounds_and_gateways_have_defaults() {
    let table = [
        ("10.1.0.0/24", "10.1.0.1", "10.1.0.254"),
        ("10.1.0.4/30", "10.1.0.5", "10.1.0.6"),
        ("10.0.0.0/8", "10.0.0.1", "10.255.255.254"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"),
        ("fd00::/126", "fd00::1", "fd00::3"),
    ];
    for (subnet, first, last) in table {
        let range = sets(&json!({ "subnet": subnet })).remove(0).remove(0);
        assert_eq!((range.start.to_string(), range.end.to_string()), (first.into(), last.into()));
        assert_eq!(range.gateway, Some(range.start), "{subnet}");
    }
    let range = sets(&json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.255",
                             "gateway": "10.1.0.254"}))
    .remove(0)
    .remove(0);
    assert_eq!((range.start.to_string(), range.end.to_string()), ("10.1.0.1".into(), "10.1.0.254".into()));
    assert_eq!(range.gateway.unwrap().to_string(), "10.1.0.254");
}

#[test]
fn wrong_ranges_are_named() {
    let range = |subnet: &str, start: &str, end: &str, gateway: &str| {
        json!({"ranges": [[{"subnet": "192.0.2.0/24"},
                           {"subnet": subnet, "rangeStart": start, "rangeEnd": end, "gateway": gateway}]]})
    };
    let at = |key: &str, rest: &str| format!("ipam.ranges[0][1].{key}{rest}");
    let table = [
        (
            range("10.1.0.1/24", "", "", ""),
            at("subnet", " = \"10.1.0.1/24\": has host bits set; write 10.1.0.0/24"),
        ),
        (range("10.1.0.0", "", "", ""), at("subnet", " = \"10.1.0.0\": lacks its prefix length")),
        (range("10.1.0.0/33", "", "", ""), at("subnet", " = \"10.1.0.0/33\"")),
        (range("010.1.0.0/24", "", "", ""), at("subnet", "")),
        (range("::ffff:10.1.0.0/112", "", "", ""), at("subnet", "")),
        (range("10.1.0.0/31", "", "", ""), at("subnet", " = \"10.1.0.0/31\": is too small")),
        (range("10.1.0.0/32", "", "", ""), at("subnet", "")),
        (range("fd00::/127", "", "", ""), at("subnet", "")),
        (range("fd00::1/128", "", "", ""), at("subnet", "")),
        (range("", "", "", ""), at("subnet", " is missing")),
        (range("10.1.0.0/24", "10.2.0.1", "", ""), at("rangeStart", " = \"10.2.0.1\": must be inside")),
        (range("10.1.0.0/24", "", "10.2.0.1", ""), at("rangeEnd", "")),
        (range("10.1.0.0/24", "fd00::1", "", ""), at("rangeStart", "")),
        (
            range("10.1.0.0/24", "10.1.0.9", "10.1.0.8", ""),
            at("rangeStart", " = \"10.1.0.9\": must not be above"),
        ),
        (
            range("10.1.0.0/24", "", "", "10.2.0.1"),
            at("gateway", " = \"10.2.0.1\": must be inside the subnet"),
        ),
        (range("10.1.0.0/24", "", "", "10.1.0.1/24"), at("gateway", "")),
        (
            range("10.1.0.0/24", "10.1.0.1", "10.1.0.1", ""),
            at("rangeStart", " = \"10.1.0.1\": leaves no address"),
        ),
        (
            range("10.1.0.0/24", "10.1.0.255", "", ""),
            at("rangeStart", " = \"10.1.0.255\": leaves no address"),
        ),
        (range("10.1.0.0/24", "", "10.1.0.0", ""), at("rangeEnd", " = \"10.1.0.0\": leaves no address")),
    ];
    for (ipam, expected) in table {
        refuse_ipam(&[(ipam, &expected)]);
    }
    refuse_ipam(&[
        (json!({"rangeStart": "10.1.0.5"}), "ipam.subnet is missing"),
        (json!({"subnet": 5}), "ipam.subnet = 5"),
        (json!({"ranges": [[]]}), "ipam.ranges[0] = []: must hold a range"),
        (json!({"ranges": [{"subnet": "10.1.0.0/24"}]}), "must be a list"),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}), "is of one family"),
    ]);
}

#[test]
fn ranges_do_not_overlap_wherever_they_stand() {
    let runtime = json!({"ipRanges": [[{"subnet": "10.1.0.0/25"}]]});
    refuse(&[
        (
            json!({"ipam": {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.1.0.128/25"}]]}}),
            7,
            "ipam.subnet (10.1.0.1 to 10.1.0.254 of 10.1.0.0/24) and ipam.ranges[0][0] (10.1.0.129 to 10.1.0.254 of ",
        ),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}]]}, "runtimeConfig": runtime}),
            7,
            "runtimeConfig.ipRanges[0][0]",
        ),
        (json!({"ipam": {"ranges": [[{"subnet": "fd00::/64"}, {"subnet": "fd00::/64"}]]}}), 7, "overlap"),
    ]);
    let halves = json!([[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99"},
                         {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"}], [{"subnet": "fd00::/64"}]]);
    assert_eq!(sets(&json!({ "ranges": halves })).len(), 2);
    let keys =
        host_local(&json!({"ipam": {"subnet": "10.2.0.0/24", "ranges": [[{"subnet": "10.3.0.0/24"}]]},
                                  "runtimeConfig": runtime}));
    let order: Vec<String> = keys.range_sets.iter().map(|set| set[0].subnet.to_string()).collect();
    assert_eq!(order, ["10.1.0.0/25", "10.2.0.0/24", "10.3.0.0/24"]);
}

#[test]
fn old_versions_have_room_for_one_address_a_family() {
    let two = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]});
    let both = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    refuse(&[(json!({"cniVersion": "0.2.0", "ipam": two}), 7, "use 0.3.0 or newer")]);
    assert!(strict(&json!({"cniVersion": "0.3.0", "ipam": two})).is_ok());
    assert!(strict(&json!({"cniVersion": "0.2.0", "ipam": both})).is_ok());
}

#[test]
fn routes_and_files() {
    let keys = host_local(&json!({"ipam": {
        "type": "host-local", "dataDir": "/x", "resolvConf": "/etc/resolv.conf",
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd01::/64", "gw": "fd00::1", "mtu": 1300, "table": 100, "scope": 253}],
    }}));
    assert_eq!(
        (keys.data_dir.as_deref(), keys.resolv_conf.as_deref()),
        (Some("/x"), Some("/etc/resolv.conf"))
    );
    assert_eq!(
        (keys.routes[1].mtu, keys.routes[1].table, keys.routes[1].scope),
        (Some(1300), Some(100), Some(253))
    );
    refuse_ipam(&[
        (
            json!({"routes": [{"dst": "10.1.2.3/8"}]}),
            "ipam.routes[0].dst = \"10.1.2.3/8\": has host bits set; write 10.0.0.0/8",
        ),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), "ipam.routes[0].dst is missing"),
        (json!({"routes": [{"dst": "0.0.0.0/0", "gw": "fd00::1"}]}), "family of dst"),
        (json!({"routes": [{"dst": "0.0.0.0/0", "scope": 256}]}), "ipam.routes[0].scope"),
        (json!({"dataDir": 1}), "ipam.dataDir"),
        (json!({"routes": [{"dst": "0.0.0.0/0", "mtu": 65521}]}), "ipam.routes[0].mtu = 65521: must be"),
        (json!({"routes": [{"dst": "0.0.0.0/0", "advmss": 65496}]}), "ipam.routes[0].advmss"),
        (
            json!({"routes": [{"dst": "10.0.0.0/8"}, {"dst": "fd01::/64", "mtu": 1400},
                              {"dst": "fd01::/64", "mtu": 1300, "priority": 1024}]}),
            "ipam.routes[1] and ipam.routes[2] (both to fd01::/64)",
        ),
    ]);
    let apart = json!([{"dst": "10.0.0.0/8", "mtu": 1400}, {"dst": "10.0.0.0/8", "mtu": 1300},
                       {"dst": "fd01::/64", "mtu": 65520}, {"dst": "fd01::/64", "mtu": 1300, "priority": 9},
                       {"dst": "fd01::/64", "mtu": 1300, "table": 9}, {"dst": "fd01::/64", "gw": "fd00::7"}]);
    assert_eq!(host_local(&json!({"ipam": {"type": "host-local", "routes": apart}})).routes.len(), 6);
}

#[test]
fn requests_add_up() {
    let extra =
        json!({"args": {"cni": {"ips": ["10.1.0.6/24", "10.1.0.5"]}}, "runtimeConfig": {"ips": ["fd00::7"]}});
    let requested = parse(&extra, Command::Add, "IP=10.1.0.5").unwrap().requested;
    let shown: Vec<_> = requested.iter().map(|r| (r.address.to_string(), r.prefix)).collect();
    assert_eq!(shown, [("10.1.0.5".into(), None), ("10.1.0.6".into(), Some(24)), ("fd00::7".into(), None)]);
    refuse(&[(json!({"runtimeConfig": {"ips": ["10.1.0.5", "x"]}}), 7, "runtimeConfig.ips[1] = \"x\"")]);
}

fn fixed(extra: &Value, args: &str) -> Result<Vec<(String, Option<String>)>, Error> {
    let config = parse(extra, Command::Add, args)?;
    assert!(config.requested.is_empty());
    let Ipam::Static { addresses, .. } = config.ipam else { panic!("{:?}", config.ipam) };
    Ok(addresses.iter().map(|a| (a.address.to_string(), a.gateway.map(|g| g.to_string()))).collect())
}

#[test]
fn static_addresses_are_appended_or_replaced() {
    let mut extra =
        json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}});
    let own = ("10.1.0.5/24".to_owned(), Some("10.1.0.1".to_owned()));
    assert_eq!(fixed(&extra, "").unwrap().as_slice(), std::slice::from_ref(&own));
    let added = ("10.2.0.5/24".to_owned(), Some("10.2.0.1".to_owned()));
    assert_eq!(fixed(&extra, "IP=10.2.0.5/24;GATEWAY=10.2.0.1").unwrap(), [own, added]);
    extra["args"] = json!({"cni": {"ips": ["10.3.0.5/24"]}});
    assert_eq!(fixed(&extra, "IP=10.2.0.5/24").unwrap(), [("10.3.0.5/24".to_owned(), None)]);
    extra["runtimeConfig"] = json!({"ips": ["10.4.0.5/24"]});
    assert_eq!(fixed(&extra, "").unwrap(), [("10.4.0.5/24".to_owned(), None)]);
    extra["runtimeConfig"] = json!({"ips": ["10.4.0.5"]});
    assert!(fixed(&extra, "").unwrap_err().to_string().contains("lacks its prefix length"));

    let bad = |addresses: Value| json!({"type": "static", "addresses": addresses});
    refuse_ipam(&[
        (bad(json!([])), "ipam.addresses is missing"),
        (bad(json!([{"address": "10.1.0.5"}])), "ipam.addresses[0].address = \"10.1.0.5\": lacks"),
        (bad(json!([{"gateway": "10.1.0.5"}])), "ipam.addresses[0].address is missing"),
        (bad(json!([{"address": "10.1.0.5/24", "gateway": "fd00::1"}])), "ipam.addresses[0].gateway"),
        (bad(json!([{"address": "10.1.0.5/24"}, {"address": "10.1.0.5/24"}])), "is there twice"),
    ]);
    let empty = json!({ "ipam": bad(json!([])) });
    assert!(parse(&empty, Command::Status, "").is_ok(), "the call may bring the address");
}

#[test]
fn a_gateway_is_taken_out_of_the_ranges_of_other_sets() {
    let ranges = |first: Value, gateway: &str| {
        json!({"ipam": {"ranges": [[first], [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.30", "rangeEnd": "10.1.0.40",
                                             "gateway": gateway}]]}})
    };
    let first =
        |start: &str, end: &str| json!({"subnet": "10.1.0.0/24", "rangeStart": start, "rangeEnd": end});
    let bounds = |gateway: &str| {
        let Ipam::HostLocal(read) = strict(&ranges(first("10.1.0.10", "10.1.0.20"), gateway)).unwrap().ipam
        else {
            panic!("host-local");
        };
        assert_eq!(read.range_sets.len(), 2);
        let bounds = |range: &crate::model::Range| format!("{}-{}", range.start, range.end);
        read.range_sets[0].iter().map(bounds).collect::<Vec<_>>()
    };
    assert_eq!(bounds("10.1.0.10"), ["10.1.0.11-10.1.0.20"]);
    assert_eq!(bounds("10.1.0.15"), ["10.1.0.10-10.1.0.14", "10.1.0.16-10.1.0.20"]);
    assert_eq!(bounds("10.1.0.20"), ["10.1.0.10-10.1.0.19"]);
    assert_eq!(bounds("10.1.0.1"), ["10.1.0.10-10.1.0.20"]);
    refuse(&[(ranges(first("10.1.0.10", "10.1.0.10"), "10.1.0.10"), 7, "the gateway 10.1.0.10 of another")]);
}
