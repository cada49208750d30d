//! Tables of bad input: each row gets one JSON error, its code, and nothing changed.

use serde_json::json;

use super::plugin::v4;
use super::{Container, Lab, Plugin, Snapshot, inspect};

/// A row: what is wrong, the call, its command, the code, and what the error must name.
pub struct Row {
    /// What is wrong.
    pub why: String,
    /// The call.
    pub call: Plugin,
    /// Its command.
    pub command: &'static str,
    /// The codes that are right.
    pub codes: Vec<u64>,
    /// What the error must name.
    pub names: String,
}

/// A row with one right code.
pub fn row(why: &str, call: Plugin, command: &'static str, code: u64, names: &str) -> Row {
    Row { why: why.to_owned(), call, command, codes: vec![code], names: names.to_owned() }
}

/// Runs each row on a host where the network is in use.
pub fn each_changes_nothing(lab: &Lab, container: &Container, rows: Vec<Row>) {
    let all = Snapshot::take(lab);
    let quick = || Snapshot::quick(&lab.host, &["/run/linkspan", "/var/lib/cni"]);
    let mut before = quick();
    let mut wrong = Vec::new();
    for Row { why, call, command, codes, names } in rows {
        let outcome = call.run(command);
        if outcome.succeeded() {
            wrong.push(format!("{why}: succeeded: {}", outcome.stdout));
            call.del();
            before = quick();
            continue;
        }
        let code = outcome.code();
        if !codes.contains(&code) {
            wrong.push(format!("{why}: code {code}, not {codes:?}: {}", outcome.words()));
        }
        if !outcome.words().to_lowercase().contains(&names.to_lowercase()) {
            wrong.push(format!("{why}: {names} is not named: {}", outcome.words()));
        }
        let after = quick();
        if let Some(changes) = after.differs(&before) {
            wrong.push(format!("{why}: the host has changed:\n{changes}"));
            before = after;
        }
        if inspect::link(container, "eth0").is_some() {
            wrong.push(format!("{why}: eth0 is there"));
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    Snapshot::take(lab).assert_same(&all, "bad input");
}

/// A lab in which the network has been used, a container to attach, and a call that would succeed.
pub fn ready() -> Option<(Lab, Container, Plugin)> {
    if super::is_reference() {
        super::skipped("the reference's codes are others");
        return None;
    }
    let lab = Lab::new()?;
    let plugin = lab.plugin(json!({"ipam": v4(1)}));
    plugin.on(&lab.container("neighbour")).publish(&["7000:70"]).add().ok();
    let a = lab.container("a");
    let call = plugin.on(&a);
    Some((lab, a, call))
}
