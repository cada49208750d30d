//! What bad input gets, from the environment, on standard input and from the host: one JSON error, its code, and
//! nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::plugin::v4;
use lab::rows::{each_changes_nothing, ready, row};
use lab::{Lab, inspect};
use serde_json::json;

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
        row("interface is a template", good.ifname("eth%d"), "ADD", 4, "%"),
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

#[test]
fn addresses_and_next_hops_that_cannot_be() {
    let Some((lab, a, good)) = ready() else { return };
    let of = |ipam: serde_json::Value| good.with(json!({"name": "other", "bridge": "other0", "ipam": ipam}));
    let pool = |subnet: &str| of(json!({"type": "host-local", "subnet": subnet}));
    let route = |route: serde_json::Value| {
        of(json!({"type": "host-local", "subnet": "10.89.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, route]}))
    };
    let fixed = |entry: serde_json::Value| of(json!({"type": "static", "addresses": [entry]}));
    let mut rows = Vec::new();
    for subnet in
        ["0.0.0.0/0", "0.0.0.0/8", "127.0.0.0/8", "127.3.0.0/16", "224.0.0.0/24", "::/0", "ff02::/64"]
    {
        rows.push(row(subnet, pool(subnet), "ADD", 7, &format!("ipam.subnet = \"{subnet}\": overlaps")));
        rows.push(row("STATUS as well", pool(subnet), "STATUS", 7, subnet));
    }
    for address in ["10.9.9.9/0", "127.0.0.8/8", "224.0.0.8/24", "::1/64"] {
        rows.push(row(address, fixed(json!({"address": address})), "ADD", 7, "ipam.addresses[0].address"));
        let requested = fixed(json!({"address": "10.89.0.5/24"})).cap(json!({"ips": [address]}));
        rows.push(row(address, requested, "ADD", 7, "runtimeConfig.ips"));
    }
    for (address, why) in [
        ("10.89.0.1/24", "the gateway's own address"),
        ("10.89.0.0/24", "the address of the subnet itself"),
        ("10.89.0.255/24", "broadcast"),
        ("fd00:89::1/64", "the gateway's own address"),
        ("fd00:89::/64", "the address of the subnet itself"),
    ] {
        rows.push(row(address, fixed(json!({"address": address})), "ADD", 7, why));
        let requested = fixed(json!({"address": "10.89.0.5/24"})).cap(json!({"ips": [address]}));
        rows.push(row(address, requested, "ADD", 7, why));
    }
    for address in ["10.89.0.5/32", "fd00:89::5/128"] {
        rows.push(row(
            address,
            fixed(json!({"address": address})),
            "ADD",
            7,
            "no room beside it for the gateway that isGateway asks for; name one with the key gateway and a route of \
             scope 253 to it",
        ));
    }
    for (one, other) in [("10.89.0.4/31", "10.89.0.5/31"), ("fd00:89::4/127", "fd00:89::5/127")] {
        let both = of(json!({"type": "static", "addresses": [{"address": one}, {"address": other}]}));
        rows.push(row(one, both, "ADD", 7, &format!("is the gateway of {other} beside it")));
    }
    let beside = json!([{"address": "10.89.0.7/24", "gateway": "10.89.0.8"}, {"address": "10.89.0.8/24"}]);
    let beside = of(json!({"type": "static", "addresses": beside}));
    rows.push(row("another one's gateway", beside, "ADD", 7, "is the gateway of 10.89.0.7/24 beside it"));
    let own = json!({"address": "10.89.0.9/24", "gateway": "10.89.0.9"});
    rows.push(row("its own gateway", fixed(own), "ADD", 7, "the gateway's own address"));
    let chosen = json!({"type": "host-local", "subnet": null, "ranges": null, "routes": [{"dst": "1.2.3.0/24", "gw": "203.0.113.3"}]});
    rows.push(row(
        "a subnet of linkspan's choice",
        of(chosen),
        "ADD",
        7,
        "ipam.routes[0].gw = \"203.0.113.3\"",
    ));
    for (named, entry) in [
        ("ipam.routes[1].gw = \"99.99.99.99\"", json!({"dst": "1.2.3.0/24", "gw": "99.99.99.99"})),
        ("ipam.routes[1].gw", json!({"dst": "fd01::/64", "gw": "fd00::1"})),
        ("ipam.routes[1].gw", json!({"dst": "1.2.3.0/24", "gw": "10.89.0.1", "scope": 253})),
        ("ipam.routes[1].scope", json!({"dst": "1.2.3.0/24", "scope": 255})),
        ("ipam.routes[1].mtu", json!({"dst": "1.2.3.0/24", "mtu": 70000})),
    ] {
        rows.push(row(named, route(entry), "ADD", 7, named));
    }
    let ports = |ip: &str| {
        let mapping = json!({"hostPort": 8099, "containerPort": 80, "hostIP": ip});
        of(json!({"type": "host-local", "subnet": "10.89.0.0/24"})).cap(json!({"portMappings": [mapping]}))
    };
    rows.push(row("link-local hostIP", ports("fe80::1"), "ADD", 7, "portMappings[0].hostIP = \"fe80::1\""));
    each_changes_nothing(&lab, &a, rows);
}

/// What looks like one of those and is none.
#[test]
fn unusual_addresses_and_next_hops_that_can_be() {
    let Some((_lab, a, good)) = ready() else { return };
    for (n, ipam) in [
        json!({"type": "static", "addresses": [{"address": "10.89.0.0/31"}]}),
        json!({"type": "static", "addresses": [{"address": "10.89.0.1/24", "gateway": "10.89.0.254"}]}),
        json!({"type": "static", "addresses": [{"address": "10.89.0.5/24"}, {"address": "10.89.0.99/32"}]}),
        json!({"type": "static", "addresses": [{"address": "10.89.0.5/32", "gateway": "10.89.0.1"}],
               "routes": [{"dst": "10.89.0.1/32", "scope": 253}]}),
        json!({"type": "static", "addresses": [{"address": "10.89.0.5/24"}], "routes": [
            {"dst": "99.99.99.99/32", "scope": 253}, {"dst": "1.2.3.0/24", "gw": "99.99.99.99"}]}),
        json!({"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/24"}], [{"subnet": "10.90.0.0/24"}]],
               "routes": [{"dst": "1.2.3.0/24", "gw": "10.90.0.7"}]}),
        json!({"type": "host-local", "ranges": [[{"subnet": "fd00:89::/64"}]],
               "routes": [{"dst": "fd01::/64", "gw": "fe80::7"}]}),
    ]
    .into_iter()
    .enumerate()
    {
        let names = json!({"name": format!("n{n}"), "bridge": format!("other{n}"), "ipam": ipam});
        let plugin = good.with(names).on(&a);
        let result = plugin.add().ok();
        plugin.prev(&result).check().ok();
        plugin.prev(&result).del().ok();
    }
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
    for absent in [json!(null), json!("")] {
        let outcome = good.with(json!({"cniVersion": absent})).check();
        assert!(outcome.refused(1).contains("not 0.1.0"));
        assert_eq!(outcome.json.unwrap()["cniVersion"], "0.1.0", "none means the first");
    }
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
    let mut rows = vec![
        at("path is missing", "/run/netns/nowhere", "ADD"),
        at("a file", file, "ADD"),
        at("a directory", "/run/netns", "ADD"),
        at("another kind of namespace", "/proc/self/ns/mnt", "ADD"),
        at("the host's own", own, "ADD"),
        at("the host's own", "/proc/self/ns/net", "ADD"),
        at("the host's own", own, "DEL"),
        at("a relative path", "run/netns/a", "ADD"),
    ];
    rows.last_mut().unwrap().codes.push(4);
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
    ];
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
    // A file that is still open keeps its room, and for a moment it is, in a child that another test has just begun.
    filler.set_len(0).unwrap();
    fs::remove_file("/run/linkspan/filler").unwrap();
    good.on(&a).publish(&["8080:80"]).add().ok();
}

/// STATUS says of the files that an ADD needs what the ADD would say, with its own code.
#[test]
fn files_that_an_add_could_not_use_are_told_by_status() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(mut lab) = Lab::new() else { return };
    let a = lab.container("a");
    let good = lab.plugin(json!({"ipam": v4(1)}));
    lab.freeze("/run/frozen");
    let other = lab.plugin(json!({"name": "kept", "ipam": v4(2)}));
    let kept = |at: &str| other.with(json!({"ipam": {"dataDir": at}}));
    fs::write("/run/file", "x").unwrap();
    good.on(&a).add().ok();
    fs::create_dir_all("/run/linkspan/networks").unwrap();
    fs::write("/run/linkspan/networks/torn.json", "{").unwrap();
    let cases = [
        (
            "a state directory that cannot be made",
            good.env("LINKSPAN_STATE_DIR", "/run/frozen/state"),
            "/run/frozen/state",
        ),
        ("a state directory that is a file", good.env("LINKSPAN_STATE_DIR", "/run/file"), "/run/file"),
        ("a torn record of the network", good.with(json!({"name": "torn"})), "torn.json"),
        ("leases that cannot be written", kept("/run/frozen"), "/run/frozen/kept"),
        ("leases whose directory cannot be made", kept("/run/frozen/a/b"), "/run/frozen/a/b/kept"),
        ("leases in a file", kept("/run/file"), "/run/file"),
    ];
    let b = lab.container("b");
    for (why, plugin, named) in cases {
        let status = plugin.status();
        assert!(status.refused(50).contains(named), "{why}: {}", status.stdout);
        assert!(plugin.on(&b).add().refused(5).contains(named), "{why}");
    }
    kept("/run/fresh/leases").status().ok();
    assert!(!std::path::Path::new("/run/fresh").exists(), "STATUS makes nothing");
    kept("/run/fresh/leases").on(&b).add().ok();
    kept("/run/fresh/leases").status().ok();
    assert!(std::path::Path::new("/run/fresh/leases/kept").is_dir());
}
