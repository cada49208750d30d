//! What `linkspan doctor`, `check` and `del` advise is what helps: each piece of advice is taken, and the finding goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::cli::{document, linkspan, linkspan_with, shell};
use lab::fitness::{cover, finds, fixed, host, includes, lacks, list, ours, web};
use lab::inspect;
use lab::outcome::host_end;
use lab::plugin::binary;
use lab::programs;
use serde_json::json;

/// The text of a finding's `fix`.
#[track_caller]
fn fix_of(word: &str) -> String {
    let document = document("doctor --json", "doctor");
    let all = document["doctor"]["findings"].as_array().unwrap().clone();
    let found = all.iter().find(|finding| finding["word"] == word);
    found.unwrap_or_else(|| panic!("no {word} in {document:#}"))["fix"].as_str().unwrap().to_owned()
}

/// The records are gone: what is left alone without `--lost` is said, and `--lost` is what the finding names.
#[test]
fn lost_records() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    let result = plugin.on(&a).publish(&["8080:80"]).add().ok();
    assert!(!linkspan("ls").ok().contains("doctor") && !linkspan("ps").ok().contains("doctor"));
    fs::remove_dir_all("/run/linkspan").unwrap();
    for listing in ["ls", "ps"] {
        let said = linkspan(listing);
        assert!(said.ok().contains("'linkspan doctor' says what that means"), "{}", said.stdout);
    }
    let look = || {
        assert!(includes("orphan", "warning").contains("\"fixable\": false"));
        assert!(fix_of("orphan").contains("linkspan doctor --fix --lost"));
        let said = linkspan("doctor --fix --yes");
        assert!(said.stdout.contains("left alone without --lost"), "{}", said.stdout);
        assert!(
            !said.stdout.contains("failed: ") && !said.stderr.contains("--fix' mends"),
            "{}",
            said.stdout
        );
    };
    look();
    // A directory that exists and knows no network is no other.
    fs::create_dir_all("/run/linkspan").unwrap();
    look();
    fs::create_dir_all("/var/lib/cni/results").unwrap();
    let said = linkspan("gc web");
    let sentence = "attachments of linkspan on this host of which";
    assert_eq!(said.stderr.matches(sentence).count(), 1, "once: {}", said.stderr);
    let said = linkspan("doctor --fix --lost --yes");
    assert!(said.stdout.contains("done: "), "{}{}", said.stdout, said.stderr);
    lacks("orphan");
    assert!(inspect::link(&lab.host, &host_end(&result)).is_none());
}

/// The container ID that another program gave is not the one that a path means to `linkspan del`.
#[test]
fn a_result_without_a_record() {
    let Some(lab) = host() else { return };
    let shop = lab.container("shop");
    linkspan_with("add web shop", &[("CNI_CONTAINERID", "shop-1")]).ok();
    fs::remove_file("/run/linkspan/ready/shop-1:eth0").unwrap();
    let fix = fix_of("stale-result");
    let (_, command) = fix.split_once("or '").unwrap();
    let command = command.trim_end_matches('\'').replace("linkspan ", "\"$L\" ");
    assert!(command.starts_with("CNI_CONTAINERID=shop-1 CNI_IFNAME=eth0 "), "{command}");

    let said = linkspan("del web shop");
    said.ok();
    let told = [
        "neither a record nor libcni's cache knows",
        "CNI_CONTAINERID=shop-1 CNI_IFNAME=eth0 linkspan del web",
    ];
    assert!(told.iter().all(|part| said.stderr.contains(part)), "{}", said.stderr);
    includes("stale-result", "warning");
    let said = shell(&command);
    assert!(said.ok && said.stderr.is_empty(), "{}", said.stderr);
    lacks("stale-result");
    drop(shop);
}

/// What is only written down is not what cuts a container off.
#[test]
fn a_lease_that_is_gone() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).publish(&["8080:80"]).add().ok();
    fs::remove_file("/run/linkspan/ipam/web/10.88.1.2").unwrap();
    let text = finds(&[("attachment-drift", "fault")]);
    assert!(text.contains("may be given to another") && !text.contains("cut off"), "{text}");
    fixed();
    fs::remove_dir_all("/run/linkspan/ports/tcp-8080").unwrap();
    let text = finds(&[("attachment-drift", "fault")]);
    assert!(text.contains("claim of host port") && !text.contains("cut off"), "{text}");
    fixed();
}

/// `reconcile` is named for what it mends: what is on the host.
#[test]
fn check_names_what_mends() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    let result = plugin.on(&a).add().ok();
    let end = host_end(&result);
    a.ip("address del 10.88.1.2/24 dev eth0");
    linkspan("check --all").failed(1, "'linkspan reconcile' puts nothing back: restart the container");
    assert!(linkspan("reconcile").ok().contains("nothing differs"));
    a.ip("address add 10.88.1.2/24 dev eth0");
    a.ip("route replace default via 10.88.1.1");
    lab.ip(&format!("link set {end} nomaster"));
    linkspan("check --all").failed(1, "'linkspan reconcile' puts back what is on the host");
    linkspan("reconcile").ok();
    linkspan("check --all").ok();
}

/// libcni's cache is root's alone.
#[test]
fn whoever_may_not_is_told_so() {
    let Some(lab) = host() else { return };
    let _a = lab.container("a");
    linkspan("add web a").ok();
    let program = lab.work.path().join("linkspan");
    programs::copy(binary(), &program);
    lab.host.must(&["chmod", "-R", "a+rX", lab.work.path().to_str().unwrap()]);
    for words in ["doctor", "add web a"] {
        let said = shell(&format!(
            "CNI_PATH=/opt/cni/bin setpriv --reuid 65534 --regid 65534 --clear-groups {} {words}",
            program.display()
        ));
        assert!(!said.ok && said.stderr.contains("run this as root"), "{words}: {}", said.stderr);
    }
}

/// A wrong value is told before an ADD meets it, and a key that nobody reads before somebody relies on it.
#[test]
fn mistyped_configurations() {
    let Some(_lab) = host() else { return };
    let with = |key: &str, value: &str| {
        let mut plugin = ours();
        plugin[key] = value.into();
        list("10-web.conflist", "web", json!([plugin]));
    };
    with("isolation", "hard");
    let text = finds(&[("bad-configuration", "fault")]);
    assert!(
        text.contains("isolation") && text.contains("hard") && text.contains("10-web.conflist"),
        "{text}"
    );
    with("isolaton", "strict");
    let text = finds(&[("unknown-key", "warning")]);
    assert!(text.contains("the key isolaton") && text.contains("perhaps isolation"), "{text}");
    with("isolation", "strict");
    finds(&[]);
    with("com.example/owner", "me");
    finds(&[]);
}

/// Containers that ask linkspan's name service, on a host that has nobody to ask.
#[test]
fn a_host_without_name_servers() {
    let Some(lab) = host() else { return };
    let _stray = lab::agent::Stray;
    let agent = lab::agent::Agent::start();
    let a = lab.container("a");
    cover(&lab, "/etc/resolv.conf", "nameserver 192.0.2.53\n");
    web(&lab).with(json!({"dns": {"enabled": true}})).on(&a).add().ok();
    finds(&[]);
    cover(&lab, "/etc/resolv.conf", "nameserver foo\n");
    assert!(finds(&[("nameserver-missing", "fault")]).contains("names no name server by its address"));
    cover(&lab, "/etc/resolv.conf", "nameserver 127.0.0.53\n");
    assert!(finds(&[("nameserver-missing", "fault")]).contains("nobody answers"));
    cover(&lab, "/etc/resolv.conf", "nameserver 127.0.0.53\nnameserver 192.0.2.53\n");
    finds(&[("nameserver-missing", "warning")]);
    drop(agent);
}
