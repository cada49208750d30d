//! A state directory that does not know a network takes nothing of it away, unless its records are said to be lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::backends::{choose, on_each_backend};
use lab::cli::linkspan_with;
use lab::inspect;
use lab::outcome::host_end;
use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Plugin};
use serde_json::{Value, json};

const VARIABLE: &str = "LINKSPAN_STATE_DIR";
const OTHER: &str = "/run/other";

fn attached(lab: &Lab, backend: &str, name: &str, n: u8) -> (Container, Plugin, Value) {
    let container = lab.container(name);
    let conf = json!({"name": name, "ipam": v4(n), "backend": backend});
    let plugin = lab.plugin(conf).on(&container).publish(&[&format!("700{n}:80")]);
    let plugin = if name == "other" { plugin.env(VARIABLE, OTHER) } else { plugin };
    let result = plugin.add().ok();
    (container, plugin, result)
}

fn gc(plugin: &Plugin) -> Plugin {
    let plugin = plugin.without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME");
    plugin.with(json!({"runtimeConfig": null}))
}

fn another_directory_takes_nothing(backend: &'static str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(backend) = choose(&mut lab, backend) else { return };
    let (a, web, result) = attached(&lab, backend, "web", 1);
    let before = Snapshot::take(&lab);
    // A directory that knows nothing, by GC and by the doctor.
    let empty = gc(&web).env(VARIABLE, OTHER);
    let said = empty.gc(&[]).refused(4);
    assert!(said.contains("/run/other") && said.contains("no network at all"), "{said}");
    let fix = |words: &str| linkspan_with(words, &[(VARIABLE, OTHER)]);
    let said = fix("doctor --fix --yes");
    assert!(said.stdout.contains("doctor --fix --lost"), "{}{}", said.stdout, said.stderr);
    Snapshot::take(&lab).assert_same(&before, "a directory without records");
    web.prev(&result).check().ok();
    if backend == "iptables" {
        // The first ADD of another directory makes the chains of iptables as its own records say, without this one's.
        return;
    }

    // One that knows another network; and this one knows nothing of that.
    let (b, other, second) = attached(&lab, backend, "other", 2);
    let before = Snapshot::take(&lab);
    let said = gc(&other).gc(&[(&b.id, "eth0")]).refused(4);
    assert!(said.contains("no network web"), "{said}");
    let said = gc(&web).gc(&[(&a.id, "eth0")]).refused(4);
    assert!(said.contains("no network other") && said.contains("/run/linkspan"), "{said}");
    let said = fix("doctor --fix --yes");
    assert!(said.stdout.contains("where another state directory has them"), "{}{}", said.stdout, said.stderr);
    Snapshot::take(&lab).assert_same(&before, "two directories");
    web.prev(&result).check().ok();
    other.prev(&second).check().ok();

    // Its own it takes all the same.
    gc(&other).gc(&[]).refused(4);
    assert!(inspect::link(&b, "eth0").is_none());
    web.prev(&result).check().ok();
}

/// The records of one network are lost: what it left goes when that is said, and GC is at peace again.
fn what_is_lost_goes_when_it_is_said(backend: &'static str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(backend) = choose(&mut lab, backend) else { return };
    let (a, web, result) = attached(&lab, backend, "web", 1);
    let (b, kept, second) = attached(&lab, backend, "kept", 2);
    for file in [format!("ready/{}:eth0", a.id), "networks/web.json".to_owned()] {
        fs::remove_file(format!("/run/linkspan/{file}")).unwrap();
    }
    gc(&kept).gc(&[(&b.id, "eth0")]).refused(4);
    assert!(inspect::link(&a, "eth0").is_some());
    let said = linkspan_with("doctor --fix --lost --yes", &[]);
    assert!(said.stdout.contains("done: "), "{}{}", said.stdout, said.stderr);
    assert!(inspect::link(&a, "eth0").is_none(), "{}{}", said.stdout, said.stderr);
    Snapshot::take(&lab).assert_without(&[&a.id, &host_end(&result)]);
    gc(&kept).gc(&[(&b.id, "eth0")]).ok();
    kept.prev(&second).check().ok();
    web.add().ok();
}

/// The whole directory is gone.
#[test]
fn a_deleted_directory_is_recovered() {
    let Some(lab) = Lab::new() else { return };
    let (a, web, result) = attached(&lab, "nftables", "web", 1);
    for entry in fs::read_dir("/run/linkspan").unwrap() {
        let path = entry.unwrap().path();
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    gc(&web).gc(&[]).refused(4);
    assert!(inspect::link(&a, "eth0").is_some());
    // The next ADD writes the network down again, and GC knows what is its.
    let c = lab.container("c");
    let again = lab.plugin(json!({"name": "web", "ipam": v4(1), "backend": "nftables"})).on(&c);
    again.add().ok();
    gc(&web).gc(&[(&c.id, "eth0")]).ok();
    assert!(inspect::link(&a, "eth0").is_none());
    Snapshot::take(&lab).assert_without(&[&a.id, &host_end(&result)]);
    // Or the whole of it is given up.
    fs::remove_dir_all("/run/linkspan/ready").unwrap();
    fs::remove_dir_all("/run/linkspan/networks").unwrap();
    linkspan_with("doctor --fix --lost --yes", &[]);
    assert!(inspect::link(&c, "eth0").is_none());
}

on_each_backend!(another_directory_takes_nothing, what_is_lost_goes_when_it_is_said);
