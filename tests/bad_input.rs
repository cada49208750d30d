//! What bad input gets: one JSON error, its code, and nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::fs;

use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Plugin, inspect};
use serde_json::{Value, json};

/// A row: what is wrong, the call, its command, the code, and what the error must name.
struct Row {
    why: String,
    call: Plugin,
    command: &'static str,
    codes: Vec<u64>,
    names: String,
}

fn row(why: &str, call: Plugin, command: &'static str, code: u64, names: &str) -> Row {
    Row { why: why.to_owned(), call, command, codes: vec![code], names: names.to_owned() }
}

/// Runs each row on a host where the network is in use.
fn each_changes_nothing(lab: &Lab, container: &Container, rows: Vec<Row>) {
    let all = Snapshot::take(lab);
    let quick = || Snapshot::quick(&lab.host, &["/run/linkspan", "/var/lib/cni"]);
    let before = quick();
    let mut wrong = Vec::new();
    for Row { why, call, command, codes, names } in rows {
        let outcome = call.run(command);
        if outcome.status.code() != Some(1) {
            wrong.push(format!("{why}: ended with {:?}: {}", outcome.status.code(), outcome.stdout));
            if outcome.succeeded() {
                call.del();
            }
            continue;
        }
        let code = outcome.code();
        if !codes.contains(&code) {
            wrong.push(format!("{why}: code {code}, not {codes:?}: {}", outcome.words()));
        }
        if !outcome.words().to_lowercase().contains(&names.to_lowercase()) {
            wrong.push(format!("{why}: {names} is not named: {}", outcome.words()));
        }
        quick().assert_same(&before, &why);
        assert!(inspect::link(container, "eth0").is_none(), "{why}: eth0 is there");
    }
    Snapshot::take(lab).assert_same(&all, "bad input");
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// A lab in which the network has been used, a container to attach, and a call that would succeed.
fn ready() -> Option<(Lab, Container, Plugin)> {
    if lab::is_reference() {
        lab::skipped("the reference's codes are others");
        return None;
    }
    let lab = Lab::new()?;
    let plugin = lab.plugin(json!({"ipam": v4(1)}));
    plugin.on(&lab.container("neighbour")).publish(&["7000:70"]).add().ok();
    let a = lab.container("a");
    let call = plugin.on(&a);
    Some((lab, a, call))
}

#[test]
fn the_environment() {
    let Some((lab, a, good)) = ready() else { return };
    let mut rows = vec![
        row("unknown command", good.clone(), "FROB", 4, "CNI_COMMAND"),
        row("command in small letters", good.clone(), "add", 4, "CNI_COMMAND"),
        row("ID with a slash", good.id("a/b"), "ADD", 4, "CNI_CONTAINERID"),
        row("ID with a dot first", good.id(".a"), "ADD", 4, "CNI_CONTAINERID"),
        row("ID with a space", good.id("a b"), "DEL", 4, "CNI_CONTAINERID"),
        row("ID with a line end", good.id("a\nb"), "ADD", 4, "CNI_CONTAINERID"),
        row("interface too long", good.ifname("eth0123456789abc"), "ADD", 4, "CNI_IFNAME"),
        row("interface with a slash", good.ifname("e/0"), "ADD", 4, "CNI_IFNAME"),
        row("interface with a colon", good.ifname("e:0"), "ADD", 4, "CNI_IFNAME"),
        row("interface with a space", good.ifname("e 0"), "ADD", 4, "CNI_IFNAME"),
        row("interface is a dot", good.ifname("."), "ADD", 4, "CNI_IFNAME"),
        row("interface is two dots", good.ifname(".."), "CHECK", 4, "CNI_IFNAME"),
        row("unknown argument", good.args("FOO=bar"), "ADD", 4, "FOO"),
        row("argument without a value", good.args("IgnoreUnknown"), "ADD", 4, "IgnoreUnknown"),
        row("argument with two", good.args("IP=1=2"), "ADD", 4, "CNI_ARGS"),
        row("IP is none", good.args("IP=10.88.1.300"), "ADD", 4, "IP"),
        row("MAC is none", good.args("MAC=02:zz:00:00:00:01"), "ADD", 4, "MAC"),
        row("MAC is multicast", good.args("MAC=01:00:5e:00:00:01"), "ADD", 4, "MAC"),
    ];
    for (command, variables) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
    ] {
        for variable in variables {
            rows.push(row(
                &format!("{command} without {variable}"),
                good.without(variable),
                command,
                4,
                variable,
            ));
            rows.push(row(
                &format!("{command}, {variable} empty"),
                good.env(variable, ""),
                command,
                4,
                variable,
            ));
        }
    }
    let bare = good.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS");
    for variable in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        rows.push(row("all that is missing is named at once", bare.clone(), "ADD", 4, variable));
    }
    each_changes_nothing(&lab, &a, rows);
}

#[test]
fn the_input() {
    let Some((lab, a, good)) = ready() else { return };
    let text = good.conf.to_string();
    let cut = text[..text.len() - 3].to_owned();
    let mut huge = text[..text.len() - 1].to_owned();
    huge.push_str(",\"pad\":\"");
    huge.push_str(&"x".repeat(10 << 20));
    huge.push_str("\"}");
    let mut deep = "[".repeat(200_000);
    deep.push_str(&"]".repeat(200_000));
    let mut twice = text.clone();
    twice.push_str(&text);
    let rows = vec![
        row("empty", good.stdin(""), "ADD", 6, ""),
        row("white space", good.stdin(" \n\t"), "ADD", 6, ""),
        row("cut", good.stdin(cut), "ADD", 6, ""),
        row("not JSON", good.stdin("hello"), "ADD", 6, ""),
        row("not UTF-8", good.stdin(vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}']), "ADD", 6, ""),
        row("two documents", good.stdin(twice), "ADD", 6, ""),
        row("an array", good.stdin("[1]"), "ADD", 6, ""),
        row("a string", good.stdin("\"x\""), "DEL", 6, ""),
        row("10 MB", good.stdin(huge), "ADD", 6, ""),
        row("nested deeply", good.stdin(deep), "ADD", 6, ""),
        row("empty, for DEL", good.stdin(""), "DEL", 6, ""),
        row("version of the future", good.with(json!({"cniVersion": "2.0.0"})), "ADD", 1, "2.0.0"),
        row("version that never was", good.with(json!({"cniVersion": "0.9.0"})), "ADD", 1, "0.9.0"),
        row("version is nonsense", good.with(json!({"cniVersion": "one"})), "ADD", 1, "one"),
        row("future version for DEL", good.with(json!({"cniVersion": "2.0.0"})), "DEL", 1, "2.0.0"),
        row("version is a number", good.with(json!({"cniVersion": 1})), "ADD", 7, "cniVersion"),
        row("no name", good.with(json!({"name": null})), "ADD", 7, "name"),
        row("name with a slash", good.with(json!({"name": "../x"})), "ADD", 7, "name"),
        row("name is a number", good.with(json!({"name": 5})), "ADD", 7, "name"),
    ];
    each_changes_nothing(&lab, &a, rows);
}

/// An error speaks the version of the configuration where that can be read.
#[test]
fn an_error_carries_the_version_it_was_asked_in() {
    let Some((_lab, _a, good)) = ready() else { return };
    for version in ["0.3.1", "1.0.0", "1.1.0"] {
        let outcome = good.with(json!({"cniVersion": version, "mtu": "big"})).add();
        outcome.refused(7);
        assert_eq!(outcome.json.unwrap()["cniVersion"], version);
    }
}

fn ipam(keys: Value) -> Value {
    let mut ipam = json!({"type": "host-local"});
    lab::plugin::merge(&mut ipam, keys);
    json!({"ipam": null, "name": "other", "ipam_": ipam})
}

#[test]
fn the_ranges() {
    let Some((lab, a, good)) = ready() else { return };
    let bad = |why: &str, keys: Value, names: &str| {
        let mut call = good.clone();
        call.conf["name"] = json!("other");
        call.conf["ipam"] = ipam(keys)["ipam_"].clone();
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
    let rows = vec![
        bad("host port 0", json!({"hostPort": 0, "containerPort": 80, "protocol": "tcp"}), "hostPort"),
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
        row("the same port for two", good.publish(&["8080:80", "8080:81"]), "ADD", 7, "8080"),
        row("a neighbour's port", good.publish(&["7000:80"]), "ADD", 102, "7000"),
    ];
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
        ("bridge", json!("")),
        ("bridge", json!(7)),
        ("backend", json!("pf")),
        ("backend", json!(1)),
        ("logLevel", json!("loud")),
        ("ingressPolicy", json!("closed")),
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
        rows.push(bad(key, value));
    }
    let two = |why: &str, keys: Value, names: &str| row(why, good.with(keys), "ADD", 7, names);
    rows.extend([
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
    ]);
    each_changes_nothing(&lab, &a, rows);
}

/// The Go decoder matches keys in any case and ignores those that it does not know.
#[test]
fn what_is_no_bad_input() {
    let Some((_lab, a, good)) = ready() else { return };
    let input = json!({"CNIVERSION": "1.1.0", "Name": "web", "TYPE": "linkspan", "isgateway": true, "Mtu": 1400,
        "IPAM": {"Type": "host-local", "RANGES": [[{"Subnet": "10.88.1.0/24"}]]}, "unknown": {"x": [1]}, "hairpinmode": true,
        "RuntimeConfig": {"PortMappings": [{"hostport": 8080, "ContainerPort": 80, "Protocol": "TCP"}]},
        "capabilities": {"portMappings": true}, "args": {"labels": [1], "cni": {"foo": "bar"}}, "$schema": null});
    let call = good.stdin(input.to_string()).args("IgnoreUnknown=true;K8S_POD_NAME=x;WHAT=ever");
    call.add().ok();
    assert_eq!(inspect::link(&a, "eth0").unwrap()["mtu"], 1400);
    call.del().ok();
    for empty in [json!([]), json!(null)] {
        let call = good.stdin({
            let mut conf = good.conf.clone();
            conf["runtimeConfig"] = json!({"portMappings": empty});
            conf["dns"] = json!(null);
            conf.to_string()
        });
        call.add().ok();
        call.del().ok();
    }
    good.args("K8S_POD_NAME=x;K8S_POD_NAMESPACE=y;K8S_POD_INFRA_CONTAINER_ID=z;K8S_POD_UID=u").add().ok();
}

#[test]
fn the_namespace() {
    let Some((lab, a, good)) = ready() else { return };
    let file = lab.work.path().join("file");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    // The host's own, under another path.
    let own = "/run/netns/own";
    fs::write(own, "").unwrap();
    let nothing = None::<&str>;
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some("/proc/thread-self/ns/net"), own, nothing, flags, nothing).unwrap();
    let at = |why: &str, path: &str, command: &'static str| {
        row(&format!("{why}, {command}"), good.env("CNI_NETNS", path), command, 8, path)
    };
    let rows = vec![
        at("path is missing", "/run/netns/nowhere", "ADD"),
        at("a file", file, "ADD"),
        at("a directory", "/run/netns", "ADD"),
        at("another kind of namespace", "/proc/self/ns/mnt", "ADD"),
        at("the host's own", own, "ADD"),
        at("the host's own", "/proc/self/ns/net", "ADD"),
        at("the host's own", own, "DEL"),
        at("a relative path", "run/netns/a", "ADD"),
    ];
    each_changes_nothing(&lab, &a, rows);
    nix::mount::umount2(own, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn the_host() {
    let Some((mut lab, a, good)) = ready() else { return };
    lab.ip("link add wire type veth peer name wire1");
    let rows = vec![
        row(
            "the bridge is no bridge",
            good.with(json!({"name": "x", "bridge": "wire", "ipam": v4(3)})),
            "ADD",
            7,
            "wire",
        ),
        row(
            "the bridge is the loopback",
            good.with(json!({"name": "x", "bridge": "lo", "ipam": v4(3)})),
            "ADD",
            7,
            "lo",
        ),
        row(
            "the log file has no directory",
            good.with(json!({"logFile": "/nowhere/at/all"})),
            "ADD",
            5,
            "/nowhere/at/all",
        ),
    ];
    let rows = rows.into_iter().take(2).collect();
    each_changes_nothing(&lab, &a, rows);
    if std::path::Path::new("/usr/bin/setpriv").exists() {
        let weak = good.wrapped(&["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        let mut refused = row("no CAP_NET_ADMIN", weak.publish(&["8080:80"]), "ADD", 110, "CAP_NET_ADMIN");
        refused.codes.push(111);
        each_changes_nothing(&lab, &a, vec![refused]);
    }
    lab.freeze("/run/linkspan");
    each_changes_nothing(
        &lab,
        &a,
        vec![row("state directory read-only", good.clone(), "ADD", 5, "/run/linkspan")],
    );
}

#[test]
fn a_full_state_directory() {
    if lab::is_reference() {
        lab::skip!("the reference's codes are others");
    }
    let Some(mut lab) = Lab::new() else { return };
    lab.cover_small("/run/linkspan", "size=64k");
    let good = lab.plugin(json!({"ipam": v4(1)}));
    let warm = good.on(&lab.container("warm"));
    warm.prev(&warm.add().ok()).del().ok();
    let mut filler = fs::File::create("/run/linkspan/filler").unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    let a = lab.container("a");
    let rows = vec![row("no space left", good.on(&a).publish(&["8080:80"]), "ADD", 5, "/run/linkspan")];
    each_changes_nothing(&lab, &a, rows);
    assert_eq!(good.status().code(), 50);
    fs::remove_file("/run/linkspan/filler").unwrap();
    good.on(&a).publish(&["8080:80"]).add().ok();
}
