//! What cannot be taken away now, or not at once, keeps nobody else from being taken away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lab::Lab;
use lab::backends::choose;
use lab::plugin::{dual_stack, v4};
use lab::programs::{put, with_failing_iptables, with_programs};
use serde_json::json;

fn is_recorded(id: &str) -> bool {
    ["ready", "doomed"].iter().any(|stage| fs::exists(format!("/run/linkspan/{stage}/{id}:eth0")).unwrap())
}

/// A record that cannot be read, of an attachment whose rules cannot be taken away; and what is no record at all.
#[test]
fn what_cannot_be_taken_away_keeps_nobody_else() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let ruled = lab.plugin(json!({"name": "ruled", "backend": "iptables", "ipam": v4(1)}));
    let ruled = ruled.on(&a).publish(&["8080:80"]);
    let network = lab.plugin(json!({"backend": "nftables", "ipam": v4(2)}));
    let other = with_failing_iptables(&lab, &network);
    ruled.add().ok();
    network.on(&b).add().ok();
    fs::write(format!("/run/linkspan/ready/{}:eth0", a.id), "{").unwrap();
    let said = with_failing_iptables(&lab, &ruled).del().refused(110);
    assert!(said.contains("their records are kept") && !said.contains("taken back"), "{said}");
    other.on(&b).del().ok();
    // An ADD that was killed is undone by the next one.
    other.on(&c).add().ok();
    let name = format!("{}:eth0", c.id);
    fs::rename(format!("/run/linkspan/ready/{name}"), format!("/run/linkspan/pending/{name}")).unwrap();
    other.on(&b).add().ok();
    assert!(is_recorded(&a.id) && !is_recorded(&c.id));
    ruled.del().ok();
    assert!(!is_recorded(&a.id));

    fs::create_dir("/run/linkspan/doomed/odd:eth0").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", "/run/linkspan/doomed/link:eth0").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind("/run/linkspan/doomed/socket:eth0").unwrap();
    network.on(&b).del().ok();
    assert!(!is_recorded(&b.id));
    network.on(&b).add().ok();
    network.gc(&[]).ok();
    assert!(!is_recorded(&b.id));
    network.on(&c).id("odd").del().refused(110);
    network.on(&c).id("link").del().ok();
    assert!(fs::exists("/etc/passwd").unwrap());
}

/// More attachments on their way out than a process may open files.
#[test]
fn many_are_taken_away_with_few_files() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": v4(1)}));
    network.on(&a).add().ok();
    let ready = |id: &str| format!("/run/linkspan/ready/{id}:eth0");
    let record = fs::read_to_string(ready(&a.id)).unwrap();
    let many = || {
        for n in 0..300 {
            let id = format!("dead{n}");
            fs::write(ready(&id), record.replace(&a.id, &id)).unwrap();
            fs::set_permissions(ready(&id), fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    let narrow = network.wrapped(&["prlimit", "--nofile=128"]);
    many();
    narrow.gc(&[(&a.id, "eth0")]).ok();
    assert!(!is_recorded("dead7"));
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);

    network.on(&b).add().ok();
    many();
    for n in 0..300 {
        fs::rename(ready(&format!("dead{n}")), format!("/run/linkspan/doomed/dead{n}:eth0")).unwrap();
    }
    narrow.on(&b).del().ok();
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);
}

/// Somebody has taken the rules of one away, and what is left cannot be listed.
#[test]
fn a_program_that_fails_over_one_attachment_is_run_for_the_next() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, "iptables-nft") else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"backend": kind, "ipam": v4(1)}));
    network.on(&a).publish(&["8080:80"]).add().ok();
    network.on(&b).publish(&["8081:80"]).add().ok();
    lab.host.must(&["sh", "-c", "iptables-save | sed /a:eth0/d | iptables-restore"]);
    let listless = with_programs(&lab, &network, &["iptables-save".to_owned()], 4);
    listless.gc(&[]).refused(110);
    assert_eq!([&a, &b].map(|of| is_recorded(&of.id)), [true, false]);
    assert!(!lab.host.must(&["iptables-save"]).contains("b:eth0"));
    network.gc(&[]).ok();
    assert!(!is_recorded(&a.id));
}

/// What has no record, each for itself: one family's program does not work, or fails over the first.
#[test]
fn rules_without_a_record_go_where_they_can() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, "iptables-nft") else { return };
    let a = lab.container("a");
    let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
    let plugin = network.on(&a).publish(&["8080:80"]);
    let rules = |tool: &str| lab.host.must(&[tool]).matches("a:eth0").count();
    let lose_the_record = || {
        plugin.add().ok();
        fs::remove_file(format!("/run/linkspan/ready/{}:eth0", a.id)).unwrap();
        assert!(rules("iptables-save") > 0 && rules("ip6tables-save") > 0);
    };
    lose_the_record();
    let broken = ["iptables-save", "iptables-nft-save"].map(str::to_owned);
    with_programs(&lab, &plugin, &broken, 4).del().refused(110);
    assert!(rules("iptables-save") > 0);
    assert_eq!(rules("ip6tables-save"), 0, "the other family's are gone");
    plugin.del().ok();
    assert_eq!(rules("iptables-save"), 0);
    network.gc(&[]).ok();
    // It lists the rules once, and no more.
    lose_the_record();
    let directory = lab.work.path().join("once");
    fs::create_dir(&directory).unwrap();
    let once = "#!/bin/sh\nmkdir /run/listed 2>&1 || exit 4\nexec /usr/sbin/iptables-save\n";
    put(directory.join("iptables-save"), once);
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    network.env("PATH", &path).gc(&[]).refused(110);
    assert!(rules("iptables-save") > 0);
    assert_eq!(rules("ip6tables-save"), 0, "the other family's are gone");
}
