//! The faces `host-local` and `static`, as other plugins call them, beside Debian's on the same files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use lab::chain::Bin;
use lab::outcome::addresses;
use lab::{Lab, Plugin, inspect};
use serde_json::{Value, json};

/// What is asked for, and how a call asks for it.
type Ask = (&'static str, fn(Plugin) -> Plugin);

const DIRECTORY: &str = "/var/lib/cni/networks/web";

fn host_local(bin: &Bin, ipam: Value) -> Plugin {
    let mut section = json!({"type": "host-local"});
    lab::plugin::merge(&mut section, ipam);
    // The type is the caller's: the name that it is run by decides.
    let conf = json!({"name": "web", "type": "bridge", "ipam": section});
    bin.plugin("host-local", conf).env("CNI_NETNS", "/run/netns/any").ifname("eth0")
}

fn lease(address: &str) -> Option<String> {
    fs::read_to_string(Path::new(DIRECTORY).join(address)).ok()
}

/// The specification has no `dns` that is empty since 1.0.0; 1.1.1 prints it all the same.
fn plain(mut result: Value) -> Value {
    if result["dns"] == json!({}) {
        result.as_object_mut().unwrap().remove("dns");
    }
    result
}

#[test]
fn both_give_the_same_from_the_same_files() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    fs::write(
        "/run/resolv",
        "nameserver 1.1.1.1\nsearch a.test b.test\nsearch c.test\noptions ndots:2\ndomain\n",
    )
    .unwrap();
    let dual = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]);
    let configurations = [
        json!({"subnet": "10.1.0.0/24"}),
        json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.30", "gateway": "10.1.0.254"}),
        json!({"ranges": dual, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:1::5"}]}),
        json!({"subnet": "10.1.0.0/24", "resolvConf": "/run/resolv"}),
        json!({"ranges": [[{"subnet": "10.1.0.0/29"}, {"subnet": "10.2.0.0/29"}]]}),
    ];
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        for conf in &configurations {
            let run = |bin: &Bin| {
                let _ = fs::remove_dir_all(DIRECTORY);
                let plugin = host_local(bin, conf.clone()).with(json!({"cniVersion": version}));
                let mut results = Vec::new();
                for n in 0..3 {
                    results.push(plain(plugin.id(&format!("c{n}")).add().ok()));
                }
                plugin.id("c1").del().ok();
                results.push(plain(plugin.id("c3").add().ok()));
                if version >= "0.4.0" {
                    plugin.id("c3").check().ok();
                    let said = plugin.id("c1").check();
                    assert!(
                        said.stdout.contains("Failed to find address added by container c1"),
                        "{}",
                        said.stdout
                    );
                }
                let mut files: Vec<(String, String)> = fs::read_dir(DIRECTORY)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
                    .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
                    .collect();
                files.sort();
                (results, files)
            };
            assert_eq!(run(&ours), run(&theirs), "{version} {conf}");
        }
    }
}

#[test]
fn either_goes_on_where_the_other_stopped() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let conf = json!({"subnet": "10.1.0.0/28"});
    let mut given = HashSet::new();
    for n in 0..13 {
        let bin = if n % 2 == 0 { &ours } else { &theirs };
        let result = host_local(bin, conf.clone()).id(&format!("c{n}")).add().ok();
        assert!(given.insert(addresses(&result)), "{result}");
    }
    for bin in [&ours, &theirs] {
        let outcome = host_local(bin, conf.clone()).id("more").add();
        assert_eq!(outcome.json.as_ref().unwrap()["code"], 999);
        let words =
            "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.14";
        assert!(outcome.stdout.contains(words), "{}", outcome.stdout);
    }
    // Each gives back what the other has taken.
    host_local(&theirs, conf.clone()).id("c0").del().ok();
    host_local(&ours, conf.clone()).id("c1").del().ok();
    assert_eq!((lease("10.1.0.2"), lease("10.1.0.3")), (None, None));
    assert_eq!(lease("10.1.0.4").unwrap(), "c2\r\neth0");
}

#[test]
fn an_attachment_is_given_addresses_once() {
    let Some(lab) = Lab::new() else { return };
    let ours = Bin::ours(&lab);
    let plugin = host_local(&ours, json!({"subnet": "10.1.0.0/24"})).id("c1");
    plugin.add().ok();
    let said = plugin.add().refused(999);
    assert!(
        said.contains(
            "failed to allocate for range 0: 10.1.0.2 has been allocated to c1, duplicate allocation is not allowed"
        ),
        "{said}"
    );
    plugin.ifname("eth1").add().ok();
    plugin.del().ok();
    assert_eq!((lease("10.1.0.2"), lease("10.1.0.3").unwrap()), (None, "c1\r\neth1".to_owned()));
    // Old files name no interface: they are of any.
    fs::write(Path::new(DIRECTORY).join("10.1.0.9"), "c9").unwrap();
    plugin.id("c9").check().ok();
    plugin.id("c9").add().refused(999);
    plugin.id("c9").del().ok();
    plugin.id("c9").del().ok();
    assert_eq!(lease("10.1.0.9"), None);
}

#[test]
fn addresses_can_be_asked_for() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let conf = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]});
    let asks: Vec<Ask> = vec![
        ("arguments", |p| p.args("IP=10.1.0.50")),
        ("args", |p| p.with(json!({"args": {"cni": {"ips": ["10.1.0.50", "fd00:1::50"]}}}))),
        ("capability", |p| p.cap(json!({"ips": ["fd00:1::50/64"]}))),
        ("both", |p| p.args("IP=10.1.0.50").cap(json!({"ips": ["fd00:1::50"]}))),
        ("mapped", |p| p.args("IP=::ffff:10.1.0.50")),
        ("mapped bounds", |p| {
            let range = json!({"subnet": "10.1.0.0/24", "gateway": "::ffff:10.1.0.9", "rangeStart": "::ffff:10.1.0.50"});
            p.with(json!({"ipam": {"ranges": [[range]]}}))
        }),
        ("ranges", |p| p.cap(json!({"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}))),
        ("not ours", |p| p.args("IP=10.7.0.1")),
        ("the gateway", |p| p.args("IP=10.1.0.1")),
        ("broadcast", |p| p.args("IP=10.1.0.255")),
        ("unknown", |p| p.args("FOO=bar")),
        ("unknown, ignored", |p| p.args("FOO=bar;IgnoreUnknown=1")),
        ("malformed", |p| p.args("IP")),
    ];
    for (what, ask) in asks {
        let run = |bin: &Bin| {
            let _ = fs::remove_dir_all(DIRECTORY);
            let outcome = ask(host_local(bin, conf.clone()).id("c1")).add();
            // What is asked for is what was given last as well.
            let last = [0, 1].map(|set| lease(&format!("last_reserved_ip.{set}")));
            outcome.succeeded().then(|| (addresses(outcome.json.as_ref().unwrap()), last))
        };
        assert_eq!(run(&ours), run(&theirs), "{what}");
    }
    let _ = fs::remove_dir_all(DIRECTORY);
    let asking = |id: &str| host_local(&ours, conf.clone()).id(id).args("IP=10.1.0.50");
    asking("c1").add().ok();
    let said = asking("c2").add().refused(999);
    assert!(said.contains("requested IP address 10.1.0.50 is not available in range set"), "{said}");
    assert_eq!(
        fs::read_dir(DIRECTORY)
            .unwrap()
            .filter(|e| {
                e.as_ref().unwrap().file_name().to_str().unwrap().parse::<std::net::IpAddr>().is_ok()
            })
            .count(),
        2,
        "what was refused holds nothing"
    );
}

#[test]
fn bad_ranges_are_refused_by_both() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    for (conf, version) in [
        (json!({}), "1.0.0"),
        (json!({"subnet": "10.1.0.0/31"}), "1.0.0"),
        (json!({"subnet": "10.1.0.0/32"}), "1.0.0"),
        (json!({"subnet": "10.1.0.5/24"}), "1.0.0"),
        (json!({"subnet": "x"}), "1.0.0"),
        (json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}), "1.0.0"),
        (json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}), "1.0.0"),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}), "1.0.0"),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}]]}), "1.0.0"),
        (json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}), "0.2.0"),
        (json!({"ranges": 5}), "1.0.0"),
    ] {
        let run =
            |bin: &Bin| host_local(bin, conf.clone()).with(json!({"cniVersion": version})).id("c1").add();
        run(&ours).refused(999);
        assert_eq!(run(&theirs).status.code(), Some(1), "{conf}");
        assert!(!Path::new(DIRECTORY).exists() || fs::read_dir(DIRECTORY).unwrap().count() <= 2);
        // DEL gives back whatever the configuration says by now; theirs refuses that as well.
        host_local(&ours, conf.clone()).id("c1").del().ok();
    }
    let plugin = host_local(&ours, json!({"subnet": "10.1.0.0/24"})).id("c1");
    plugin.with(json!({"ipam": null})).add().refused(999);
    plugin.without("CNI_CONTAINERID").add().refused(4);
    plugin.with(json!({"cniVersion": "9.0.0"})).add().refused(1);
}

#[test]
fn gc_and_status() {
    let Some(lab) = Lab::new() else { return };
    let ours = Bin::ours(&lab);
    let plugin = host_local(&ours, json!({"subnet": "10.1.0.0/29"})).with(json!({"cniVersion": "1.1.0"}));
    for n in 0..3 {
        plugin.id(&format!("c{n}")).add().ok();
    }
    plugin.status().ok();
    fs::write(Path::new(DIRECTORY).join("10.1.0.6"), "old").unwrap();
    plugin.gc(&[("c1", "eth0"), ("old", "eth7")]).ok();
    assert_eq!((lease("10.1.0.2"), lease("10.1.0.4")), (None, None));
    assert!(lease("10.1.0.3").is_some() && lease("10.1.0.6").is_some());
    assert!(
        Path::new(DIRECTORY).join("lock").exists()
            && Path::new(DIRECTORY).join("last_reserved_ip.0").exists()
    );
    plugin.run("GC").refused(7);
    for n in 3..6 {
        plugin.id(&format!("c{n}")).add().ok();
    }
    let said = plugin.status().refused(50);
    assert!(said.contains("no IP addresses available in range set"), "{said}");
}

#[test]
fn many_at_once_get_an_address_each() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let running: Vec<_> = (0..40)
        .map(|n| {
            let bin = if n % 4 == 3 { &theirs } else { &ours };
            host_local(bin, json!({"subnet": "10.1.0.0/24"})).id(&format!("c{n}")).start("ADD")
        })
        .collect();
    let given: HashSet<_> = running.into_iter().map(|run| addresses(&run.finish().ok())).collect();
    assert_eq!(given.len(), 40);
}

/// A directory of an address's name is an address that is taken, and nobody's lease.
#[test]
fn a_directory_among_the_leases_is_passed_over() {
    let Some(lab) = Lab::new() else { return };
    let conf = json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.5"});
    for bin in [Bin::ours(&lab), Bin::theirs(&lab)] {
        let _ = fs::remove_dir_all(DIRECTORY);
        fs::create_dir_all(Path::new(DIRECTORY).join("10.1.0.3/x")).unwrap();
        fs::create_dir_all(Path::new(DIRECTORY).join("10.1.0.4")).unwrap();
        // Older than this boot, too.
        lab.host.must(&["touch", "-d", "1999-01-01", &format!("{DIRECTORY}/10.1.0.4")]);
        let plugin = |id: &str| host_local(&bin, conf.clone()).id(id);
        let (a, b) = (plugin("a").add().ok(), plugin("b").add().ok());
        assert_eq!(
            (addresses(&a), addresses(&b)),
            (vec!["10.1.0.2/24".to_owned()], vec!["10.1.0.5/24".to_owned()])
        );
        let refused = |plugin: Plugin, words: &str| {
            let said = plugin.add();
            assert!(!said.succeeded() && said.stdout.contains(words), "{}", said.stdout);
        };
        refused(plugin("c"), "no IP addresses available");
        refused(plugin("c").args("IP=10.1.0.3"), "10.1.0.3 is not available");
        plugin("a").check().ok();
        plugin("a").del().ok();
        plugin("none").del().ok();
        assert_eq!((lease("10.1.0.2"), lease("10.1.0.5").unwrap()), (None, "b\r\neth0".to_owned()));
        assert!(Path::new(DIRECTORY).join("10.1.0.4").is_dir());
    }
}

#[test]
fn debians_bridge_is_served_by_ours() {
    let Some(lab) = Lab::new() else { return };
    let mixed = Bin::theirs(&lab);
    mixed.install_ours(&["host-local", "static"]);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]});
    let plugin = mixed.plugin("bridge", json!({"name": "web", "isGateway": true, "ipam": ipam})).on(&a);
    let result = plugin.add().ok();
    assert_eq!(addresses(&result), ["10.1.0.2/24"]);
    assert_eq!(lease("10.1.0.2").unwrap(), format!("{}\r\neth0", a.id));
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
    assert_eq!(lease("10.1.0.2"), None);
    let fixed = json!({"type": "static", "addresses": [{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}]});
    let plugin = mixed.plugin("bridge", json!({"name": "web", "isGateway": true, "ipam": fixed})).on(&b);
    let result = plugin.add().ok();
    assert!(inspect::addresses(&b, "eth0").contains(&"10.1.0.9/24".to_owned()));
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
}

#[test]
fn static_echoes_what_it_is_told() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let base = json!({
        "type": "static",
        "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00:1::5/64"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.0/16", "gw": "10.1.0.9"}],
        "dns": {"nameservers": ["10.1.0.1"], "domain": "x"},
    });
    let asks: Vec<Ask> = vec![
        ("plain", |p| p),
        ("arguments", |p| p.args("IP=10.3.0.5/24;GATEWAY=10.3.0.1")),
        // The gateway is for what is asked for beside it.
        ("a gateway alone", |p| p.args("GATEWAY=10.1.0.2")),
        ("a gateway of both", |p| p.args("IP=10.1.0.6/24;GATEWAY=10.1.0.2")),
        ("mapped arguments", |p| p.args("IP=::ffff:10.3.0.5/120;GATEWAY=::ffff:10.3.0.1")),
        ("mapped keys", |p| {
            let address = json!({"address": "::ffff:10.3.0.5/120", "gateway": "::ffff:10.3.0.1"});
            let routes = json!([{"dst": "::ffff:10.4.0.0/112", "gw": "::ffff:10.3.0.9"}]);
            p.with(json!({"ipam": {"addresses": [address], "routes": routes}}))
        }),
        ("args", |p| p.with(json!({"args": {"cni": {"ips": ["10.4.0.5/24"]}}}))),
        ("capability", |p| p.cap(json!({"ips": ["10.5.0.5/24"]}))),
        ("all", |p| {
            p.args("IP=10.3.0.5/24")
                .with(json!({"args": {"cni": {"ips": ["10.4.0.5/24"]}}}))
                .cap(json!({"ips": ["10.5.0.5/24"]}))
        }),
        ("no prefix", |p| p.with(json!({"ipam": {"addresses": [{"address": "10.1.0.5"}]}}))),
        ("no address", |p| p.with(json!({"ipam": {"addresses": [{"gateway": "10.1.0.1"}]}}))),
        ("no section", |p| p.with(json!({"ipam": null}))),
        ("malformed", |p| p.args("IP=x")),
    ];
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        for (what, ask) in &asks {
            let run = |bin: &Bin| {
                let conf = json!({"name": "web", "type": "bridge", "cniVersion": version, "ipam": base});
                let plugin =
                    bin.plugin("static", conf).id("c1").env("CNI_NETNS", "/run/netns/any").ifname("eth0");
                let plugin = ask(plugin);
                let outcome = plugin.add();
                plugin.del();
                outcome.succeeded().then(|| plain(outcome.json.unwrap()))
            };
            assert_eq!(run(&ours), run(&theirs), "{version} {what}");
        }
    }
    let conf = json!({"name": "web", "cniVersion": "1.0.0", "ipam": base});
    let plugin = ours.plugin("static", conf).id("c1").env("CNI_NETNS", "/run/netns/any").ifname("eth0");
    let mut result = plugin.add().ok();
    plugin.prev(&result).check().ok();
    result["ips"][0]["gateway"] = json!("10.1.0.2");
    plugin.prev(&result).check().refused(999);
    plugin.del().ok();
}
