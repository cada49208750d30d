//! Repair where something cannot be taken away, or takes its time: what can be mended is, and what is stuck is tried again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::time::Duration;

use lab::agent::{Agent, status};
use lab::cli::linkspan;
use lab::outcome::host_end;
use lab::plugin::v4;
use lab::pool::pooled;
use lab::{Lab, eventually};
use serde_json::json;

/// The longest that is waited for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_agent_mends_while_a_plugin_hangs() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let (directory, network) = pooled(&lab, "while [ ! -e $here/go ]; do sleep 0.1; done");
    let (a, b) = (lab.container("a"), lab.container("b"));
    let result = network.on(&a).add().ok();
    lab.plugin(json!({"ipam": v4(1)})).on(&b).add().ok();
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 2));
    let gone = format!("/run/linkspan/doomed/{}:eth0", a.id);
    a.unbind();
    drop(a);
    let begun = eventually(LIMIT, || fs::exists(format!("{directory}/begun")).unwrap());
    assert!(begun, "the dead one is collected: {result}");
    let there = || lab.host.exec(&["nft", "list", "ruleset"]).stdout.contains(&format!("{}:eth0", b.id));
    assert!(there());
    lab.host.must(&["nft", "flush", "ruleset"]);
    assert!(eventually(LIMIT, there), "mended meanwhile");
    assert!(fs::exists(&gone).unwrap(), "its plugin hangs still");
    fs::write(format!("{directory}/go"), "").unwrap();
    assert!(eventually(LIMIT, || !fs::exists(&gone).unwrap()));
    assert!(eventually(LIMIT, || status()["services"]["repair"]["collected"] == 1), "{}", status());
}

#[test]
fn reconcile_tries_again_what_failed_where_nothing_differs() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let away =
        "[ -e $here/back ] || { echo '{\"cniVersion\":\"1.1.0\",\"code\":11,\"msg\":\"away\"}'; exit 1; }";
    let (directory, network) = pooled(&lab, away);
    let a = lab.container("a");
    let plugin = network.on(&a);
    let result = plugin.add().ok();
    plugin.del().refused(110);
    assert!(!host_end(&result).is_empty());
    linkspan("reconcile").failed(1, "away");
    fs::write(format!("{directory}/back"), "").unwrap();
    assert!(linkspan("reconcile").ok().contains(&format!("deleted: {}:eth0", a.id)));
    assert!(linkspan("reconcile").ok().contains("nothing differs"));
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);
}

/// Of plugins that hang and that nobody waits for, a DEL of something else meets one, however many times it has to look.
#[test]
fn more_than_can_be_claimed_at_a_time_take_no_more_of_a_del() {
    if lab::is_reference() {
        lab::skip!("the reference shares no work");
    }
    let Some(lab) = Lab::new() else { return };
    let (directory, network) = pooled(&lab, "sleep 3");
    let (a, b) = (lab.container("a"), lab.container("b"));
    let other = lab.plugin(json!({"ipam": v4(1)})).on(&b).env("CNI_PATH", &directory);
    other.add().ok();
    // Sixteen are claimed at a time.
    for n in 0..18 {
        let name = format!("eth{n}");
        network.on(&a).ifname(&name).add().ok();
        let record = format!("{}:{name}", a.id);
        fs::rename(format!("/run/linkspan/ready/{record}"), format!("/run/linkspan/doomed/{record}"))
            .unwrap();
    }
    other.wrapped(&["prlimit", "--nofile=64:64"]).del().ok();
    let asked = fs::read_to_string(format!("{directory}/begun")).unwrap();
    assert_eq!(asked.lines().count(), 1);
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 17);
}
