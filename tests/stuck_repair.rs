//! Repair where something cannot be taken away, or takes its time: what can be mended is, and what is stuck is tried again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::time::Duration;

use lab::agent::{Agent, status};
use lab::cli::linkspan;
use lab::outcome::host_end;
use lab::plugin::v4;
use lab::{Lab, Plugin, eventually, programs};
use serde_json::json;

/// The longest that is waited for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A network whose IPAM plugin does this at DEL; where it lies.
fn pooled(lab: &Lab, at_del: &str) -> (String, Plugin) {
    let directory = lab.work.path().join("pool").display().to_string();
    fs::create_dir_all(&directory).unwrap();
    let program = format!("{directory}/pool");
    let script = format!(
        "#!/bin/sh\nexec 2>/dev/null; here={directory}; cat >/dev/null\ncase $CNI_COMMAND in\n\
         ADD) echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.66.0.5/24\"}}]}}' ;;\n\
         DEL) echo >$here/begun; {at_del} ;;\nesac\n"
    );
    programs::put(&program, &script);
    let network =
        lab.plugin(json!({"name": "pooled", "bridge": "br8", "gcAfter": 1, "ipam": {"type": "pool"}}));
    (directory.clone(), network.env("CNI_PATH", &directory))
}

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
