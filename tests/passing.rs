//! A question that fails once, for want of memory or of a descriptor, is not answered with "nothing is there".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::backends::choose;
use lab::chain::Bin;
use lab::plugin::v4;
use lab::programs::with_programs;
use lab::talk::{tcp, tcp_server};
use lab::{Lab, Outside, Plugin};
use serde_json::{Value, json};

/// Where `strace` says what it has done.
const TRACE: &str = "/run/trace";

/// `plugin` with one system call failing: `rule` as `-e inject` of strace(1) has it, on `path` alone where one is given.
fn failing(plugin: &Plugin, rule: &str, path: Option<&str>) -> Plugin {
    let inject = format!("inject={rule}");
    let mut argv = vec!["strace", "-qq", "-o", TRACE];
    argv.extend(path.iter().flat_map(|path| ["-P", path]));
    argv.extend(["-e", &inject]);
    plugin.wrapped(&argv)
}

/// Whether the last call had something fail.
fn has_failed() -> bool {
    fs::read_to_string(TRACE).unwrap().contains("(INJECTED)")
}

fn network(lab: &Lab, name: &str, n: u8, keys: Value) -> Plugin {
    let conf = json!({"name": name, "bridge": format!("br{n}"), "ipam": v4(n)});
    lab.plugin(conf).with(keys)
}

fn backend_of(network: &str) -> String {
    let record = fs::read(format!("/run/linkspan/networks/{network}.json")).unwrap();
    serde_json::from_slice::<Value>(&record).unwrap()["backend"].as_str().unwrap().to_owned()
}

/// A container with a published port, and somebody who asks for it.
fn published(lab: &Lab, backend: &str) -> (Outside, Plugin, lab::Container) {
    let outside = lab.outside();
    let a = lab.container("a");
    let plugin = network(lab, "one", 1, json!({"backend": backend})).on(&a).publish(&["8080:80"]);
    let result = plugin.add().ok();
    (outside, plugin.prev(&result), a)
}

#[test]
fn a_record_that_cannot_be_read_now_keeps_its_rules() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    for backend in ["iptables", "nftables"] {
        let Some(lab) = Lab::new() else { return };
        let (outside, one, a) = published(&lab, backend);
        let _server = tcp_server(&a, "0.0.0.0:80", "a");
        if backend == "nftables" {
            lab.host.must(&["nft", "flush", "ruleset"]);
        }
        let record = format!("ready/{}:eth0", a.id);
        let b = lab.container("b");
        // It writes the rules of all.
        let two = network(&lab, "two", 2, json!({"backend": backend})).on(&b);
        let said = failing(&two, "openat:error=EMFILE", Some(&record)).add().refused(5);
        assert!(said.contains("too many open files") && has_failed(), "{said}");
        two.add().ok();
        one.check().ok();
        assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a", "{backend}");
        one.del().ok();
        two.del().ok();
    }
}

#[test]
fn a_doomed_record_that_cannot_be_read_now_is_kept() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let (_outside, one, a) = published(&lab, "nftables");
    let doomed = format!("/run/linkspan/doomed/{}:eth0", a.id);
    failing(&one, "read:error=EIO", Some(&doomed)).del().refused(5);
    assert!(has_failed() && fs::exists(&doomed).unwrap());
    one.del().ok();
    assert!(!fs::exists(&doomed).unwrap() && !fs::exists("/run/linkspan/ports/tcp-8080").unwrap());
    let leases = fs::read_dir("/run/linkspan/ipam/one").unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(leases.filter(|name| name.to_string_lossy().starts_with("10.")).count(), 0);
}

/// The choice of a backend lasts.
#[test]
fn a_kernel_that_does_not_answer_has_nftables_still() {
    if lab::is_reference() {
        lab::skip!("the reference chooses anew each time");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let mut refused = 0;
    for call in ["sendto", "recvfrom", "recvmmsg"] {
        for n in 1..=9 {
            let plugin = network(&lab, "auto", 1, json!({})).on(&a);
            let outcome = failing(&plugin, &format!("{call}:error=ENOBUFS:when={n}"), None).add();
            if outcome.succeeded() {
                assert_eq!(backend_of("auto"), "nftables", "{call} {n}");
            } else {
                refused += 1;
            }
            plugin.del().ok();
            plugin.gc(&[]).ok();
            let _ = fs::remove_file("/run/linkspan/networks/auto.json");
            lab.host.exec(&["ip", "link", "del", "br1"]);
            lab.host.must(&["nft", "flush", "ruleset"]);
        }
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn what_could_not_be_taken_back_is_said() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    // Whoever comes first writes the network's record too.
    network(&lab, "one", 1, json!({})).on(&lab.container("b")).add().ok();
    let plugin = network(&lab, "one", 1, json!({})).on(&a);
    let wrapped = plugin.wrapped(&[
        "strace",
        "-qq",
        "-o",
        TRACE,
        "-e",
        "inject=renameat:error=EIO:when=1",
        "-e",
        "inject=unlinkat:error=EIO:when=1",
    ]);
    let said = wrapped.add().refused(5);
    assert!(said.contains("not undone") && !said.contains("nothing was changed"), "{said}");
    plugin.del().ok();
    plugin.add().ok();
}

#[test]
fn the_reason_is_said_where_the_record_cannot_be_ended() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin =
        network(&lab, "one", 1, json!({"sysctl": {"net.ipv4.ip_local_reserved_ports": "xyz"}})).on(&a);
    let record = format!("pending/{}:eth0", a.id);
    let outcome = failing(&plugin, "unlinkat:error=EIO", Some(&record)).add();
    let said = outcome.refused(110);
    assert!(has_failed() && said.contains("'xyz'"), "{said}");
    assert!(said.contains("not undone") && said.contains(&record), "{said}");
    assert!(outcome.stderr.contains("'xyz'") && outcome.stderr.contains(&record), "{}", outcome.stderr);
    plugin.del().ok();
}

/// What the reference plugins attached, detached by ours.
#[test]
fn rules_of_the_reference_that_cannot_be_seen_now_are_not_forgotten() {
    if lab::is_reference() {
        lab::skip!("the reference detaches its own");
    }
    let Some(lab) = Lab::new() else { return };
    if !std::path::Path::new("/usr/lib/cni/portmap").exists() {
        lab::skip!("containernetworking-plugins is not here");
    }
    let list = json!({"name": "web", "plugins": [
        {"type": "bridge", "bridge": "br7", "isGateway": true, "ipMasq": true, "ipam": v4(7)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let a = lab.container("a");
    let mut refused = 0;
    for call in ["sendto", "recvfrom"] {
        for n in 1..=6 {
            let chain = theirs.chain(list.clone()).publish(&["8080:80"]);
            let result = chain.add(&a).ok();
            let plugins = chain.from(&ours).plugins(&a);
            for plugin in plugins.iter().rev() {
                let plugin = plugin.prev(&result);
                let rule = format!("{call}:error=ENOBUFS:when={n}");
                if !failing(&plugin, &rule, None).del().succeeded() {
                    refused += 1;
                    plugin.del().ok();
                }
            }
            let rules = lab.host.must(&["nft", "list", "ruleset"]);
            let left: Vec<&str> =
                rules.lines().filter(|line| line.contains("CNI-DN-") || line.contains("10.88.7.")).collect();
            assert!(left.is_empty(), "{call} {n}: {left:?}");
        }
    }
    assert!(refused > 3, "{refused}");
}

/// `iptables-restore` that says that it has done all, and has done nothing.
fn lying(lab: &Lab, plugin: &Plugin) -> Plugin {
    with_programs(lab, plugin, &["iptables-restore", "iptables-nft-restore"].map(str::to_owned), 0)
}

/// Whether there are rules is asked of the kernel: where that fails for now, there may be some.
#[test]
fn rules_that_cannot_be_asked_for_now_are_not_gone() {
    if lab::is_reference() {
        lab::skip!("the reference asks by its programs");
    }
    let Some(mut lab) = Lab::new() else { return };
    let Some(backend) = choose(&mut lab, "iptables-nft") else { return };
    let a = lab.container("a");
    let plugin = network(&lab, "one", 1, json!({"backend": backend})).on(&a).publish(&["8080:80"]);
    let rules = || lab.host.must(&["iptables-save"]).matches("a:eth0").count();
    let mut refused = 0;
    for n in 1..=6 {
        let rule = format!("sendto:error=ENOBUFS:when={n}");
        // Its records were lost.
        plugin.add().ok();
        fs::remove_file(format!("/run/linkspan/ready/{}:eth0", a.id)).unwrap();
        let done = failing(&plugin, &rule, None).del().succeeded();
        refused += usize::from(!done);
        assert!(!done || rules() == 0, "{n}: without a record");
        plugin.del().ok();
        assert_eq!(rules(), 0);
        plugin.gc(&[]).ok();
        // The program is not to be believed.
        plugin.add().ok();
        assert!(!failing(&lying(&lab, &plugin), &rule, None).del().succeeded(), "{n}: it was believed");
        plugin.del().ok();
        assert_eq!(rules(), 0);
    }
    assert!(refused > 1, "{refused}");
}

#[test]
fn a_sysctl_that_cannot_be_read_now_is_compared_later() {
    if lab::is_reference() {
        lab::skip!("the reference reads none back");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = network(&lab, "one", 1, json!({"sysctl": {"net.core.somaxconn": "500"}})).on(&a);
    let file = Some("/proc/sys/net/core/somaxconn");
    // It is written first.
    let said = failing(&plugin, "openat:error=EMFILE:when=2", file).add().refused(110);
    assert!(said.contains("somaxconn") && has_failed(), "{said}");
    let result = plugin.add().ok();
    a.set_sysctl("net.core.somaxconn", "77");
    assert!(plugin.prev(&result).check().refused(120).contains("somaxconn"));
}

#[test]
fn a_parameter_that_cannot_be_opened_now_can_be_set() {
    if lab::is_reference() {
        lab::skip!("the reference has no such STATUS");
    }
    let Some(lab) = Lab::new() else { return };
    let plugin = network(&lab, "one", 1, json!({}));
    lab.host.set_sysctl("net/ipv4/ip_forward", "0");
    for (key, when) in [("net/ipv6/conf/default/accept_ra", 1), ("net/ipv4/ip_forward", 2)] {
        let file = format!("/proc/sys/{key}");
        failing(&plugin, &format!("openat:error=EMFILE:when={when}"), Some(&file)).status().ok();
        assert!(has_failed(), "{key}");
    }
}
