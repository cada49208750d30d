//! Address management by a plugin of somebody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lab::outcome::{addresses, bridge};
use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Plugin, eventually, icmp, inspect, programs};
use serde_json::{Value, json};

/// The longest that is waited for what must happen.
const LIMIT: Duration = Duration::from_secs(30);

/// A directory with an IPAM plugin `script` that logs each call and does what `on_add` says.
fn delegate(lab: &Lab, on_add: &str) -> (PathBuf, Plugin) {
    let directory = lab.work.path().join(format!("delegate-{}", lab.next()));
    fs::create_dir_all(&directory).unwrap();
    let log = directory.join("log");
    let text = format!(
        "#!/bin/sh\ninput=$(cat)\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS\" >>{log}\n\
         echo \"$input\" >{directory}/$CNI_COMMAND.json\necho 'a word to the log' >&2\n\
         case $CNI_COMMAND in ADD) {on_add} ;; STATUS) test ! -e {directory}/sick || {{ {SICK}; exit 1; }}; \
         test ! -e {directory}/limited || {{ {LIMITED}; exit 1; }} ;; CHECK) test ! -e {directory}/wrong || {{ {WRONG}; \
         exit 1; }} ;; esac\n",
        log = log.display(),
        directory = directory.display(),
    );
    programs::put(directory.join("script"), &text);
    fs::write(&log, "").unwrap();
    let path = format!("/nowhere:{}:/usr/lib/cni", directory.display());
    (
        directory,
        lab.plugin(json!({"ipam": {"type": "script", "own": {"key": [1, 2]}}})).env("CNI_PATH", &path),
    )
}

const LIMITED: &str = r#"echo '{"cniVersion":"1.1.0","code":51,"msg":"half of the pool is gone"}'"#;

const WRONG: &str = r#"echo '{"cniVersion":"1.1.0","code":56,"msg":"the lease is gone"}'"#;

const SICK: &str = r#"echo '{"cniVersion":"1.1.0","code":50,"msg":"the pool is sick"}'"#;

const GIVES: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.66.0.5/24","gateway":"10.66.0.1"}],"routes":[{"dst":"10.67.0.0/16"}],"dns":{"nameservers":["10.66.0.1"]}}'"#;

fn calls(directory: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("log")).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn the_delegate_is_called_by_the_rules() {
    if lab::is_reference() {
        lab::skip!("the stand-in resolves CNI_PATH itself");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (directory, plugin) = delegate(&lab, GIVES);
    let plugin = plugin.args("IgnoreUnknown=1;FOO=bar").on(&a);
    let added = plugin.add();
    let result = added.ok();
    assert_eq!(addresses(&result), ["10.66.0.5/24"]);
    assert_eq!(result["dns"]["nameservers"], json!(["10.66.0.1"]));
    assert!(added.stderr.contains("a word to the log"), "stderr is passed on: {}", added.stderr);
    assert_eq!(inspect::addresses(&a, "eth0"), ["10.66.0.5/24"]);
    assert_eq!(inspect::routes_to(&a, 4, "10.67.0.0/16").len(), 1);
    assert!(icmp::ping(&a, "10.66.0.1"));
    let log = fs::read_to_string(directory.join("log")).unwrap();
    assert_eq!(log.lines().next().unwrap(), format!("ADD {} eth0 {} IgnoreUnknown=1;FOO=bar", a.id, a.path));
    let told: Value = serde_json::from_str(&fs::read_to_string(directory.join("ADD.json")).unwrap()).unwrap();
    assert_eq!(told["ipam"]["own"]["key"], json!([1, 2]), "the whole configuration is passed");
    assert_eq!(told["type"], "linkspan");

    plugin.prev(&result).check().ok();
    assert_eq!(calls(&directory), ["ADD", "CHECK"]);
    plugin.prev(&result).del().ok();
    assert_eq!(calls(&directory).iter().filter(|call| *call == "DEL").count(), 1, "{:?}", calls(&directory));
}

#[test]
fn what_a_delegate_says_is_told_as_it_is() {
    if lab::is_reference() {
        lab::skip!("the reference passes the error on alone");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (directory, plugin) = delegate(&lab, GIVES);
    let plugin = plugin.on(&a);
    let result = plugin.add().ok();
    fs::write(directory.join("wrong"), "").unwrap();
    let checked = plugin.prev(&result).check();
    let said = checked.refused(112);
    assert!(said.contains("the lease is gone") && said.contains("nothing was changed"), "{said}");
    assert!(!said.contains("taken back"), "CHECK makes nothing: {said}");
    assert!(plugin.status().succeeded());
    fs::write(directory.join("limited"), "").unwrap();
    assert!(plugin.status().refused(51).contains("half of the pool is gone"));
    fs::write(directory.join("sick"), "").unwrap();
    assert!(plugin.status().refused(50).contains("the pool is sick"));
    plugin.prev(&result).del().ok();
}

#[test]
fn a_failed_delegate_gets_its_del_and_the_host_is_clean() {
    if lab::is_reference() {
        lab::skip!("the reference leaves the veth pair");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    for (why, on_add) in [
        ("an error", r#"echo '{"cniVersion":"1.1.0","code":11,"msg":"try again, says the script"}'; exit 1"#),
        ("a silent end", "exit 3"),
        ("no JSON", "echo nonsense"),
        ("no address", r#"echo '{"cniVersion":"1.1.0","ips":[]}'"#),
    ] {
        let (directory, plugin) = delegate(&lab, on_add);
        let before = Snapshot::take(&lab);
        let added = plugin.on(&a).add();
        let code = added.code();
        assert!(code == 112 || (why == "an error" && code == 11), "{why}: {code}");
        assert!(added.words().contains("script"), "{why}: {}", added.stdout);
        assert_eq!(calls(&directory), ["ADD", "DEL"], "{why}");
        let after = Snapshot::take(&lab);
        assert!(
            after.since(&before).iter().all(|c| !c.key.starts_with("link lks") || c.key.contains("lks-")),
            "{why}"
        );
        after.assert_without(&[&a.id]);
        assert!(inspect::link(&a, "eth0").is_none(), "{why}");
    }
}

#[test]
fn a_delegate_that_is_not_there_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let before = Snapshot::take(&lab);
    let added = lab.plugin(json!({"ipam": {"type": "absent-plugin"}})).on(&a).add();
    assert!(!added.succeeded());
    if !lab::is_reference() {
        assert!(added.refused(112).contains("absent-plugin"));
        Snapshot::take(&lab).assert_same(&before, "the delegate is missing");
    }
}

#[test]
fn a_path_is_no_type() {
    if lab::is_reference() {
        lab::skip!("the reference follows it");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let added = lab.plugin(json!({"ipam": {"type": "../../bin/true"}})).on(&a).add();
    assert!([7, 112].contains(&added.code()), "{}", added.stdout);
}

/// Two first ADDs of one network, each at its delegate at once: the one that comes back last knows the network as the first
/// one has made it, and not as it was before both.
#[test]
fn first_adds_at_once_agree_on_the_network() {
    if lab::is_reference() {
        lab::skip!("the reference has no record of a network");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let waits = "here=$(dirname \"$0\"); n=0; \
                 while [ ! -e $here/$CNI_CONTAINERID ] && [ $n -lt 3000 ]; do sleep 0.02; n=$((n+1)); done; \
                 echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"'$(cat $here/$CNI_CONTAINERID)'\"}]}'";
    let (directory, plugin) = delegate(&lab, waits);
    let give = |container: &Container, address: &str| {
        let made = directory.join("new");
        fs::write(&made, address).unwrap();
        fs::rename(made, directory.join(&container.id)).unwrap();
    };
    let (first, second) = (plugin.on(&a).start("ADD"), plugin.on(&b).start("ADD"));
    assert!(eventually(LIMIT, || calls(&directory) == ["ADD", "ADD"]), "both are at the delegate");
    give(&a, "10.66.0.5/24");
    let added = first.finish().ok();
    let record = || fs::read_to_string("/run/linkspan/networks/web.json").unwrap();
    let written = record();
    give(&b, "10.66.0.6/24");
    second.finish().ok();
    assert_eq!(record(), written, "the network is as the first one has made it");
    let recorded: Value = serde_json::from_str(&written).unwrap();
    let made = inspect::link(&lab.host, &bridge(&added)).unwrap();
    assert_eq!(recorded["mac"], made["address"]);
    assert!(icmp::ping(&a, "10.66.0.6"), "and they are on the same one");
}

/// A runtime kills an ADD that takes too long, and calls DEL. The delegate is still at work: what it is yet to give is
/// given back by the DEL that comes after its end, and not forgotten by one that comes before.
#[test]
fn what_a_delegate_gives_after_its_add_was_killed_is_given_back() {
    if lab::is_reference() {
        lab::skip!("the reference forgets the address");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    // Its standard error is the ADD's, whose end we wait for.
    let waits = "exec 2>/dev/null; here=$(dirname \"$0\"); n=0; \
                 while [ ! -e $here/go ] && [ $n -lt 3000 ]; do sleep 0.02; n=$((n+1)); done; echo given >>$here/log";
    let (directory, plugin) = delegate(&lab, waits);
    let plugin = plugin.on(&a);
    let add = plugin.start("ADD");
    assert!(eventually(LIMIT, || calls(&directory) == ["ADD"]), "the delegate is called");
    assert!(add.kill_after(Duration::ZERO), "the ADD waits for the delegate");

    let said = plugin.del();
    assert!(said.refused(11).contains("IPAM plugin"), "{}", said.stdout);
    plugin.add().refused(11);
    lab.plugin(json!({"name": "other", "ipam": v4(3)})).on(&b).add().ok();
    assert_eq!(calls(&directory), ["ADD"], "nobody has undone it before its end");

    fs::write(directory.join("go"), "").unwrap();
    assert!(eventually(LIMIT, || plugin.del().succeeded()), "DEL succeeds once the delegate has ended");
    assert_eq!(calls(&directory), ["ADD", "given", "DEL"]);
    Snapshot::take(&lab).assert_without(&[&a.id]);
}

/// DEL of an attachment that a delegate gave its address to tells the delegate, even with the namespace gone and
/// another configuration at hand.
#[test]
fn the_delegate_hears_of_del_whatever_is_left() {
    if lab::is_reference() {
        lab::skip!("the reference has no record");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (directory, plugin) = delegate(&lab, GIVES);
    plugin.on(&a).add().ok();
    a.unbind();
    let changed =
        lab.plugin(json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}}));
    changed.on(&a).without("CNI_NETNS").del().ok();
    let log = fs::read_to_string(directory.join("log")).unwrap();
    assert!(log.lines().any(|line| line.starts_with(&format!("DEL {} eth0", a.id))), "{log}");
    Snapshot::take(&lab).assert_without(&[&a.id]);
}

#[test]
fn status_asks_the_delegate() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(lab) = Lab::new() else { return };
    let (directory, plugin) = delegate(&lab, GIVES);
    plugin.status().ok();
    fs::write(directory.join("sick"), "").unwrap();
    let said = plugin.status().refused(50);
    assert!(said.contains("the pool is sick") || said.contains("script"), "{said}");
}

/// An IPAM plugin that is the binary itself, by whatever name, would be called by itself without end.
#[test]
fn a_delegate_is_not_the_binary_itself() {
    if lab::is_reference() {
        lab::skip!("the reference calls itself without end");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let directory = lab.work.path().join("itself");
    fs::create_dir_all(&directory).unwrap();
    for name in ["linkspan", "bridge", "portmap", "again"] {
        std::os::unix::fs::symlink(lab::plugin::binary(), directory.join(name)).unwrap();
    }
    let before = Snapshot::take(&lab);
    for name in ["linkspan", "bridge", "portmap", "again"] {
        let plugin = lab.plugin(json!({"ipam": {"type": name}}));
        let plugin = plugin.env("CNI_PATH", &directory.display().to_string()).on(&a);
        for verb in ["ADD", "STATUS"] {
            let said = plugin.run(verb).refused(7);
            assert!(said.contains("ipam.type") && said.contains(name), "{verb} {name}: {said}");
        }
        Snapshot::take(&lab).assert_same(&before, "the delegate is the binary itself");
        plugin.del().ok();
    }
}
