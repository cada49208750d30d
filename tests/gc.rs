//! GC takes away what no valid attachment owns, and nothing else; STATUS says when an ADD would fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lab::outcome::{address, bridge, host_end};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::traced::counted;
use lab::{Container, Lab, Plugin, inspect};
use serde_json::{Value, json};

/// "lksp": the interface group that is our mark.
const GROUP: &str = "1818981232";

/// A host, a network that has been used once, and the state after.
fn network(lab: &Lab) -> (Plugin, Snapshot) {
    let plugin = lab.plugin(json!({"ipam": dual_stack(1), "egressRate": 80_000_000, "egressBurst": 800_000}));
    let warm = lab.container("warm");
    let once = plugin.on(&warm).publish(&["8080:80", "8081:80/udp"]);
    once.prev(&once.add().ok()).del().ok();
    (plugin, Snapshot::take(lab))
}

fn attach(lab: &Lab, plugin: &Plugin, name: &str, port: u16) -> (Container, Plugin, Value) {
    let container = lab.container(name);
    let attach = plugin.on(&container).publish(&[&format!("{port}:80"), &format!("{port}:80/udp")]);
    let result = attach.add().ok();
    (container, attach, result)
}

fn gc(plugin: &Plugin) -> Plugin {
    plugin
        .without("CNI_CONTAINERID")
        .without("CNI_NETNS")
        .without("CNI_IFNAME")
        .with(json!({"runtimeConfig": null}))
}

#[test]
fn gc_keeps_the_valid_and_takes_the_others() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no GC");
    }
    let Some(lab) = Lab::new() else { return };
    let (plugin, _) = network(&lab);
    let (valid, keep, result) = attach(&lab, &plugin, "valid", 7001);
    let with_one = Snapshot::take(&lab);
    let (stale, take, old) = attach(&lab, &plugin, "stale", 7002);
    let (gone, _, _) = attach(&lab, &plugin, "gone", 7003);
    gone.unbind();
    let said = gc(&plugin).gc(&[(&valid.id, "eth0"), (&valid.id, "eth9"), ("unknown", "eth0")]);
    said.ok();
    assert!(said.stdout.trim().is_empty(), "GC has no result: {}", said.stdout);
    Snapshot::take(&lab).assert_same(&with_one, "two of three were stale");
    assert!(inspect::link(&stale, "eth0").is_none());
    keep.prev(&result).check().ok();
    take.prev(&old).del().ok();
}

#[test]
fn an_empty_list_says_that_none_is_valid() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no GC");
    }
    let Some(lab) = Lab::new() else { return };
    let (plugin, clean) = network(&lab);
    let elsewhere = lab.plugin(json!({"name": "other", "ipam": v4(2)}));
    let keys = [json!([]), json!(null)];
    for (n, list) in keys.iter().enumerate() {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            attach(&lab, &plugin, &format!("a{n}"), 7001);
            attach(&lab, &plugin, &format!("b{n}"), 7002);
            // `with` takes null for a removal, so the input is written by hand.
            let mut conf = gc(&plugin).conf;
            conf[key] = list.clone();
            gc(&plugin).stdin(conf.to_string()).run("GC").ok();
            Snapshot::take(&lab).assert_same(&clean, &format!("{key}: {list}"));
        }
    }
    let (_, other, result) = attach(&lab, &elsewhere, "other", 7003);
    gc(&plugin).gc(&[]).ok();
    other.prev(&result).check().ok();
}

#[test]
fn the_older_key_is_read_and_an_absent_one_refused() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no GC");
    }
    let Some(lab) = Lab::new() else { return };
    let (plugin, _) = network(&lab);
    let (a, attached, result) = attach(&lab, &plugin, "a", 7001);
    let before = Snapshot::take(&lab);
    let said = gc(&plugin).run("GC");
    said.refused(7);
    Snapshot::take(&lab).assert_same(&before, "no list");
    let old = json!({"cni.dev/attachments": [{"containerID": a.id, "ifname": "eth0"}]});
    gc(&plugin).with(old).run("GC").ok();
    attached.prev(&result).check().ok();
    let wrong = json!({"cni.dev/valid-attachments": [{"containerID": a.id}]});
    gc(&plugin).with(wrong).run("GC").refused(7);
    attached.prev(&result).check().ok();
}

#[test]
fn orphans_with_our_mark_go() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no GC");
    }
    let Some(lab) = Lab::new() else { return };
    let (plugin, clean) = network(&lab);
    // An attachment whose record was lost.
    let (lost, _, result) = attach(&lab, &plugin, "lost", 7001);
    let record = format!("/run/linkspan/ready/{}:eth0", lost.id);
    fs::remove_file(&record).unwrap_or_else(|e| panic!("{record}: {e}"));
    // A link of ours that nobody remembers, and a stranger's on the same bridge.
    let bridge = bridge(&result);
    lab.ip("link add lksdeadbeef0000 type veth peer name peer0");
    lab.ip(&format!("link set lksdeadbeef0000 group {GROUP} master {bridge}"));
    lab.ip("link add stranger type veth peer name peer1");
    lab.ip(&format!("link set stranger master {bridge}"));
    gc(&plugin).gc(&[]).ok();
    assert!(inspect::link(&lab.host, "lksdeadbeef0000").is_none(), "the orphan went");
    assert!(inspect::link(&lab.host, "stranger").is_some(), "the stranger stays");
    assert!(inspect::link(&lost, "eth0").is_none());
    lab.ip("link del stranger");
    let after = Snapshot::take(&lab);
    after.assert_without(&[&lost.id, &host_end(&result), &address(&result, 4), &address(&result, 6)]);
    after.assert_same(&clean, "orphans collected");
}

#[test]
fn status_is_well_where_an_add_would_be() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(lab) = Lab::new() else { return };
    let before = Snapshot::take(&lab);
    let status = lab.plugin(json!({})).status();
    status.ok();
    assert!(status.stdout.trim().is_empty(), "{}", status.stdout);
    Snapshot::take(&lab).assert_same(&before, "STATUS changes nothing");
    let (plugin, clean) = network(&lab);
    gc(&plugin).status().ok();
    Snapshot::take(&lab).assert_same(&clean, "STATUS changes nothing");
}

#[test]
fn status_says_when_the_pool_is_exhausted() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(lab) = Lab::new() else { return };
    let plugin = lab.plugin(json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/29"}]]}}));
    let containers: Vec<_> = (0..6).map(|n| lab.container(&format!("c{n}"))).collect();
    for container in &containers[..5] {
        plugin.on(container).add().ok();
        if container.id == containers[3].id {
            gc(&plugin).status().ok();
        }
    }
    let said = gc(&plugin).status().refused(50);
    assert!(said.contains("10.1.0.0/29") || said.contains("10.1.0."), "{said}");
    plugin.on(&containers[5]).add().refused(100);
    plugin.on(&containers[0]).del().ok();
    gc(&plugin).status().ok();
}

#[test]
fn status_says_when_the_state_directory_is_not_writable() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(mut lab) = Lab::new() else { return };
    let plugin = lab.plugin(json!({}));
    lab.freeze("/run/linkspan");
    let said = plugin.status().refused(50);
    assert!(said.contains("/run/linkspan"), "{said}");
}

/// A bridge numbers its ports from 1 to 1023 (`BR_MAX_PORTS`).
#[test]
fn a_full_bridge_is_said_and_refused() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(lab) = Lab::new() else { return };
    let plugin =
        lab.plugin(json!({"bridge": "br0", "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}}));
    let once = plugin.on(&lab.container("warm"));
    once.prev(&once.add().ok()).del().ok();
    lab.fill_bridge("br0");
    let a = lab.container("a");
    let before = Snapshot::quick(&lab.host, &["/run/linkspan"]);
    let said = gc(&plugin).status().refused(50);
    assert!(said.contains("br0"), "{said}");
    assert!(plugin.on(&a).publish(&["8080:80"]).add().refused(104).contains("br0"));
    Snapshot::quick(&lab.host, &["/run/linkspan"]).assert_same(&before, "a full bridge");
    assert!(inspect::link(&a, "eth0").is_none());
    lab.ip("link set b0 nomaster");
    gc(&plugin).status().ok();
    plugin.on(&a).add().ok();
}

/// Whoever takes over from one that was killed asks of each link whose it is, and reads the names of records once for all.
#[test]
fn what_was_claimed_before_is_read_once() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let network = lab.plugin(json!({"ipam": v4(1)}));
    let result = network.on(&container).add().ok();
    let end = host_end(&result);
    let record = fs::read_to_string(format!("/run/linkspan/ready/{}:eth0", container.id)).unwrap();
    let reads = |mode: u32| {
        let mut batch = String::new();
        for n in 0..1000 {
            let (id, name) = (format!("dead{n}"), format!("lksdead{n:08}"));
            batch.push_str(&format!("link add {name} group {GROUP} type veth peer name peer{n}\n"));
            let path = format!("/run/linkspan/doomed/{id}:eth0");
            fs::write(&path, record.replace(&container.id, &id).replace(&end, &name)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        lab.host.feed(&["ip", "-batch", "-"], &batch);
        let valid = (container.id.as_str(), "eth0");
        let (outcome, reads) = counted(&network, "openat,getdents64", |network| network.gc(&[valid]));
        outcome.ok();
        assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);
        assert!(!lab.host.must(&["ip", "-o", "link"]).contains("lksdead"));
        reads
    };
    let (first, again) = (reads(0o600), reads(0o500));
    assert!(again < first + 500, "{again}, and {first} for what nobody had claimed");
}
