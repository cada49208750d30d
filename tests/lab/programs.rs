//! Programs of a test's own, and such as do not do what they are there for.
//!
//! Another process writes them: what the test itself has open for writing is open for a moment in every child that another
//! test has just begun, and what somebody has open for writing cannot be run (`ETXTBSY`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::space::run_bounded;
use super::{Lab, Plugin};

/// How long it may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Writes a program.
pub fn put(path: impl AsRef<Path>, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path.as_ref());
    let said = run_bounded(&mut command, Some(text.as_bytes()), LIMIT);
    assert!(said.ok, "{}: {}", path.as_ref().display(), said.stderr);
}

/// Copies a program.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let said = run_bounded(Command::new("cp").arg(from.as_ref()).arg(to.as_ref()), None, LIMIT);
    assert!(said.ok, "{}: {}", to.as_ref().display(), said.stderr);
}

/// The plugin, with programs of iptables that fail.
pub fn with_failing_iptables(lab: &Lab, plugin: &Plugin) -> Plugin {
    let suffixes = ["", "-save", "-restore", "-nft", "-nft-save", "-nft-restore"];
    let of = |family: &str| suffixes.map(|suffix| format!("{family}{suffix}"));
    with_programs(lab, plugin, &[of("iptables"), of("ip6tables")].concat(), 4)
}

/// The plugin, with programs of these names that end so and do nothing.
pub fn with_programs(lab: &Lab, plugin: &Plugin, names: &[String], code: i32) -> Plugin {
    let directory = lab.work.path().join(format!("programs-{code}-{}", names.len()));
    fs::create_dir_all(&directory).unwrap();
    for name in names {
        put(directory.join(name), &format!("#!/bin/sh\nexit {code}\n"));
    }
    plugin.env("PATH", &format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()))
}
