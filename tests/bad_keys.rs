//! What wrong values of known keys get: an error that names the key, and nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::rows::{each_changes_nothing, ready, row};
use serde_json::{Value, json};

#[test]
fn the_ranges() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |why: &str, keys: Value, names: &str| {
        let mut call = good.clone();
        call.conf["name"] = json!("other");
        call.conf["ipam"] = json!({"type": "host-local"});
        lab::plugin::merge(&mut call.conf["ipam"], keys);
        row(why, call, "ADD", 7, names)
    };
    let rows = vec![
        bad("no CIDR", json!({"subnet": "10.1.0.0"}), "subnet"),
        bad("no address", json!({"subnet": "10.1.0.300/24"}), "10.1.0.300/24"),
        bad("leading zeros", json!({"subnet": "010.1.0.0/24"}), "010.1.0.0/24"),
        bad("a mask for a length", json!({"subnet": "10.1.0.0/255.255.255.0"}), "subnet"),
        bad("length too long", json!({"subnet": "10.1.0.0/33"}), "10.1.0.0/33"),
        bad("host bits set", json!({"subnet": "10.1.0.7/24"}), "10.1.0.7/24"),
        bad("host bits set, IPv6", json!({"ranges": [[{"subnet": "fd00::1/64"}]]}), "fd00::1/64"),
        bad("too small: /31", json!({"subnet": "10.1.0.0/31"}), "10.1.0.0/31"),
        bad("too small: /32", json!({"ranges": [[{"subnet": "10.1.0.0/32"}]]}), "10.1.0.0/32"),
        bad(
            "overlap in a set",
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]]}),
            "10.1.0.0/16",
        ),
        bad(
            "overlap of sets",
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}),
            "10.1.0.0/24",
        ),
        bad(
            "families mixed",
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}),
            "ranges",
        ),
        bad("empty set", json!({"ranges": [[]]}), "ranges"),
        bad("start outside", json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}), "rangeStart"),
        bad("end outside", json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}), "rangeEnd"),
        bad(
            "end before start",
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.3"}),
            "rangeStart",
        ),
        bad("gateway outside", json!({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}), "10.2.0.1"),
        bad("gateway is none", json!({"subnet": "10.1.0.0/24", "gateway": "x"}), "gateway"),
        bad("subnet is a number", json!({"subnet": 10}), "subnet"),
        bad("ranges is an object", json!({"ranges": {}}), "ranges"),
        bad(
            "route without a destination",
            json!({"subnet": "10.1.0.0/24", "routes": [{"gw": "10.1.0.1"}]}),
            "routes",
        ),
        bad(
            "route with host bits",
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.1"}]}),
            "10.9.0.1",
        ),
        bad(
            "route's gateway of the other family",
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.0/16", "gw": "fd00::1"}]}),
            "fd00::1",
        ),
        bad("dataDir is a number", json!({"subnet": "10.1.0.0/24", "dataDir": 1}), "dataDir"),
        bad(
            "static without a length",
            json!({"type": "static", "addresses": [{"address": "10.1.0.9"}]}),
            "10.1.0.9",
        ),
    ];
    each_changes_nothing(&lab, &a, rows);
}

#[test]
fn the_ports() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |why: &str, mapping: Value, names: &str| {
        row(why, good.cap(json!({"portMappings": [mapping]})), "ADD", 7, names)
    };
    let mut rows = vec![
        bad(
            "host port too high",
            json!({"hostPort": 65536, "containerPort": 80, "protocol": "tcp"}),
            "65536",
        ),
        bad(
            "host port below zero",
            json!({"hostPort": -1, "containerPort": 80, "protocol": "tcp"}),
            "hostPort",
        ),
        bad(
            "container port 0",
            json!({"hostPort": 8080, "containerPort": 0, "protocol": "tcp"}),
            "containerPort",
        ),
        bad(
            "container port too high",
            json!({"hostPort": 8080, "containerPort": 70000, "protocol": "tcp"}),
            "70000",
        ),
        bad(
            "a port in words",
            json!({"hostPort": "http", "containerPort": 80, "protocol": "tcp"}),
            "hostPort",
        ),
        bad("half a port", json!({"hostPort": 80.5, "containerPort": 80, "protocol": "tcp"}), "hostPort"),
        bad("no container port", json!({"hostPort": 8080, "protocol": "tcp"}), "containerPort"),
        bad("unknown protocol", json!({"hostPort": 8080, "containerPort": 80, "protocol": "quic"}), "quic"),
        bad(
            "host address is none",
            json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "home"}),
            "home",
        ),
        row("mappings are no list", good.cap(json!({"portMappings": {}})), "ADD", 7, "portMappings"),
        row("a neighbour's port", good.publish(&["7000:80"]), "ADD", 102, "7000"),
        row("the same port for two", good.publish(&["8080:80", "8080:81"]), "ADD", 7, "8080"),
    ];
    rows.last_mut().unwrap().codes.push(102);
    each_changes_nothing(&lab, &a, rows);
}

#[test]
fn the_keys() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |key: &str, value: Value| {
        row(&format!("{key} = {value}"), good.with(json!({key: value})), "ADD", 7, key)
    };
    let mut rows = Vec::new();
    for key in [
        "isGateway",
        "isDefaultGateway",
        "forceAddress",
        "ipMasq",
        "hairpinMode",
        "promiscMode",
        "macspoofchk",
        "enabledad",
        "disableContainerInterface",
        "portIsolation",
        "preserveDefaultVlan",
        "internal",
        "icc",
        "ipspoofchk",
        "snat",
        "masqAll",
        "promisc",
        "allmulti",
    ] {
        rows.push(bad(key, json!("yes")));
        rows.push(bad(key, json!(1)));
    }
    for (key, value) in [
        ("mtu", json!(-1)),
        ("mtu", json!("1500")),
        ("mtu", json!(70_000)),
        ("mtu", json!(10)),
        ("vlan", json!(4095)),
        ("vlan", json!(-1)),
        ("vlanTrunk", json!([{"id": 5000}])),
        ("vlanTrunk", json!([{"minID": 9, "maxID": 3}])),
        ("bridge", json!("a-name-of-too-many-bytes")),
        ("bridge", json!("a/b")),
        ("bridge", json!(7)),
        ("backend", json!("pf")),
        ("backend", json!(1)),
        ("logLevel", json!("loud")),
        ("ingressPolicy", json!("closed")),
        ("isolation", json!("closed")),
        ("isolation", json!(true)),
        ("mode", json!("bridge")),
        ("mode", json!(1)),
        ("trustedInterfaces", json!("eth0")),
        ("trustedInterfaces", json!(["w*g"])),
        ("trustedInterfaces", json!(["eth0/1"])),
        ("trustedInterfaces", json!([""])),
        ("trustedInterfaces", json!([7])),
        ("outboundAddress4", json!("fd00::1")),
        ("outboundAddress4", json!("192.0.2.0/24")),
        ("outboundAddress4", json!("127.0.0.1")),
        ("outboundAddress6", json!("192.0.2.1")),
        ("outboundAddress6", json!("fe80::1")),
        ("outboundAddress6", json!(6)),
        ("markMasqBit", json!(32)),
        ("markMasqBit", json!(-1)),
        ("mac", json!("02:00")),
        ("mac", json!("01:00:5e:00:00:01")),
        ("txQLen", json!(-5)),
        ("sysctl", json!(["a"])),
        ("sysctl", json!({"kernel.hostname": "x"})),
        ("ingressRate", json!(-1)),
        ("ingressRate", json!(1000)),
        ("egressBurst", json!(1000)),
        ("ipam", json!("none")),
        ("ipam", json!({"type": 5})),
        ("dns", json!("8.8.8.8")),
        ("runtimeConfig", json!("x")),
    ] {
        let mut row = bad(key, value);
        row.codes.push(2);
        rows.push(row);
    }
    each_changes_nothing(&lab, &a, rows);
}

#[test]
fn keys_together() {
    let Some((lab, a, good)) = ready() else { return };
    let two = |why: &str, keys: Value, names: &str| row(why, good.with(keys), "ADD", 7, names);
    let rows = vec![
        two("hairpin and promiscuous", json!({"hairpinMode": true, "promiscMode": true}), "promiscMode"),
        two("vlan and trunk", json!({"vlan": 5, "vlanTrunk": [{"id": 6}]}), "vlanTrunk"),
        two(
            "two ways to mark",
            json!({"markMasqBit": 5, "externalSetMarkChain": "X"}),
            "externalSetMarkChain",
        ),
        two(
            "no interface, but addresses",
            json!({"disableContainerInterface": true}),
            "disableContainerInterface",
        ),
        two(
            "burst too large",
            json!({"ingressRate": 1000, "ingressBurst": 40_000_000_000_u64}),
            "ingressBurst",
        ),
        two("MAC by capability", json!({"runtimeConfig": {"mac": "nope"}}), "mac"),
        two("address by capability", json!({"runtimeConfig": {"ips": ["10.88.1.999"]}}), "10.88.1.999"),
        two("ranges by capability", json!({"runtimeConfig": {"ipRanges": [[{"subnet": "x"}]]}}), "ipRanges"),
        two("address by args.cni", json!({"args": {"cni": {"ips": ["nope"]}}}), "nope"),
    ];
    each_changes_nothing(&lab, &a, rows);
}

#[test]
fn keys_about_isolation_together() {
    let Some((lab, a, good)) = ready() else { return };
    let two = |why: &str, keys: Value, names: &str| row(why, good.with(keys), "ADD", 7, names);
    let rows = vec![
        two(
            "two words on who comes in",
            json!({"isolation": "none", "ingressPolicy": "open"}),
            "ingressPolicy",
        ),
        two(
            "nobody to trust",
            json!({"isolation": "none", "trustedInterfaces": ["eth1"]}),
            "trustedInterfaces",
        ),
        two(
            "trust and a policy",
            json!({"ingressPolicy": "open", "trustedInterfaces": ["x"]}),
            "trustedInterfaces",
        ),
        two("apart and not", json!({"icc": false, "portIsolation": false}), "portIsolation"),
        two("internal and open", json!({"internal": true, "isolation": "none"}), "isolation"),
        two(
            "internal and trusting",
            json!({"internal": true, "trustedInterfaces": ["x"]}),
            "trustedInterfaces",
        ),
        two("internal and routed", json!({"internal": true, "mode": "routed"}), "mode"),
        two("internal and masqueraded", json!({"internal": true, "ipMasq": true}), "ipMasq"),
        two(
            "internal with a way out",
            json!({"internal": true, "isDefaultGateway": true}),
            "isDefaultGateway",
        ),
        two(
            "internal with an address",
            json!({"internal": true, "outboundAddress6": "fd00::1"}),
            "outboundAddress6",
        ),
        two("routed and masqueraded", json!({"mode": "routed", "ipMasq": true}), "ipMasq"),
        two(
            "routed with an address",
            json!({"mode": "routed", "outboundAddress4": "192.0.2.1"}),
            "outboundAddress4",
        ),
        two(
            "an address and no masquerade",
            json!({"ipMasq": false, "outboundAddress4": "192.0.2.1"}),
            "ipMasq",
        ),
        two("guards on a trunk", json!({"ipspoofchk": true, "vlanTrunk": [{"id": 6}]}), "vlanTrunk"),
        row(
            "guards without addresses",
            good.with(json!({"ipam": null})).with(json!({"ipam": {}, "ipspoofchk": true})),
            "ADD",
            7,
            "ipspoofchk",
        ),
        row(
            "internal at layer 2",
            good.with(json!({"ipam": null})).with(json!({"ipam": {}, "internal": true})),
            "ADD",
            7,
            "internal",
        ),
    ];
    each_changes_nothing(&lab, &a, rows);
}

/// What only the agent acts on is read by the plugin all the same, and refused before anything is done.
#[test]
fn the_keys_of_the_agent() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |why: &str, keys: Value, name: &str| row(why, good.with(keys), "ADD", 7, name);
    let rows = vec![
        bad("a grace in words", json!({"gcAfter": "300"}), "gcAfter"),
        bad("a grace below nothing", json!({"gcAfter": -1}), "gcAfter"),
        bad("half a second", json!({"gcAfter": 1.5}), "gcAfter"),
        bad("longer than a count of seconds", json!({"gcAfter": 4_294_967_296_u64}), "gcAfter"),
        bad("a grace that is a truth value", json!({"gcAfter": true}), "gcAfter"),
        bad("a proxy in words", json!({"userlandProxy": "yes"}), "userlandProxy"),
        bad("a proxy by number", json!({"userlandProxy": 1}), "userlandProxy"),
        bad("counts in words", json!({"countPorts": "yes"}), "countPorts"),
        bad("holds in words", json!({"holdPorts": "true"}), "holdPorts"),
        bad("names by word", json!({"dns": {"enabled": "true"}}), "enabled"),
        bad("a zone with a space", json!({"firewalldZone": "my zone"}), "firewalldZone"),
        bad("a zone that is a list", json!({"firewalldZone": ["work"]}), "firewalldZone"),
    ];
    each_changes_nothing(&lab, &a, rows);
}

/// A chain that linkspan fills, or that iptables has, is no administrator's; and the kernel makes another name of a template.
#[test]
fn names_that_are_taken() {
    let Some((lab, a, good)) = ready() else { return };
    let chains = [
        "forward",
        "admin",
        "localnet",
        "layout-2",
        "net-web",
        "end-web",
        "wall-lks-web",
        "FORWARD",
        "OUTPUT",
        "DROP",
        "REJECT",
        "DNAT",
        "LOG",
        "TRACE",
        "LINKSPAN-FORWARD",
        "LKS-net-web",
    ];
    let chain = |chain: &str| {
        let keys = json!({"name": "other", "iptablesAdminChainName": chain});
        row(chain, good.with(keys), "ADD", 7, "iptablesAdminChainName")
    };
    let mut rows: Vec<_> = chains.into_iter().map(chain).collect();
    let call = good.with(json!({"name": "other", "bridge": "br%d"}));
    rows.push(row("a bridge that is a template", call, "ADD", 7, "br%d"));
    each_changes_nothing(&lab, &a, rows);
}

/// What `resolvConf` names is read under the host's lock: nothing there is waited for, and nothing without end is read.
#[test]
fn resolver_files_that_are_none() {
    let Some((lab, a, good)) = ready() else { return };
    let path = |name: &str| lab.work.path().join(name).display().to_string();
    nix::unistd::mkfifo(path("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(path("long"), vec![b'#'; (1 << 20) + 1]).unwrap();
    let rows = [
        ("fifo", path("fifo")),
        ("long", path("long")),
        ("directory", path("")),
        ("zeros", "/dev/zero".into()),
    ]
    .into_iter()
    .flat_map(|(why, file)| {
        let call = good.with(json!({"ipam": {"resolvConf": file}}));
        [row(why, call.clone(), "ADD", 7, "resolvConf"), row(why, call, "ADD", 7, &file)]
    });
    each_changes_nothing(&lab, &a, rows.collect());
}
