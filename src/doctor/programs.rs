//! Programs that linkspan talks to, and that runtimes run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sys::process;

use super::finding::{Findings, Severity, Word};
use super::marker::{self, Build};
use super::runtimes;
use super::sight::{OWN, Sight};

/// Where administrators' programs are when `PATH` does not say.
const SEARCHED: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
/// What the iptables backend runs.
const IPTABLES: [&str; 2] = ["iptables-restore", "iptables-save"];
/// What linkspan and the plugins of others that it stands for do by themselves, without another's program.
const OWN_IPAM: [&str; 2] = ["host-local", "static"];

/// Whether the host's iptables is the legacy one, by the program that its name leads to; `None` where there is none.
pub(super) fn iptables_is_legacy() -> Option<bool> {
    let target = fs::canonicalize(find(IPTABLES[0])?).ok()?;
    Some(target.file_name()?.to_string_lossy().contains("legacy"))
}

/// A program of an administrator's.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).chain(SEARCHED.map(PathBuf::from)).collect();
    process::find(name, &directories)
}

/// Looks for every plugin that a configuration names, and for iptables where it is used.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    if let Some(who) = sight.needs_iptables() {
        for program in IPTABLES.into_iter().filter(|program| find(program).is_none()) {
            findings.add(
                Severity::Fault,
                Word::IptablesMissing,
                format!("{program} is not installed"),
                format!("the backend iptables runs it: {who}"),
                "install iptables, or set the key backend to nftables",
            );
        }
    }
    for (kind, file) in wanted(sight) {
        plugin(sight, &kind, &file, findings);
    }
    versions(sight, findings);
}

/// Every type of plugin with a file that names it.
pub(super) fn wanted(sight: &Sight<'_>) -> BTreeSet<(String, String)> {
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    let mut note = |kind: &str, file: &Path| {
        if !wanted.iter().any(|(known, _)| known == kind) {
            wanted.insert((kind.to_owned(), file.display().to_string()));
        }
    };
    for list in &sight.given.lists {
        for plugin in &list.plugins {
            note(&plugin.kind, &list.path);
            let ipam = plugin.raw.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
            let by_itself = |kind: &str| OWN_IPAM.contains(&kind) && sight.is_ours(&plugin.kind);
            if let Some(kind) = ipam.filter(|kind| !kind.is_empty() && !by_itself(kind)) {
                note(kind, &list.path);
            }
        }
    }
    wanted
}

fn plugin(sight: &Sight<'_>, kind: &str, file: &str, findings: &mut Findings) {
    // What podman finds in its own directories no other runtime does; and linkspan belongs into the given ones.
    let has_others = runtimes::has_others();
    let is_enough = kind != OWN && !has_others;
    let by_podman = process::find(kind, &sight.of_podman);
    let found = process::find(kind, &sight.directories).or_else(|| by_podman.clone().filter(|_| is_enough));
    let Some(path) = found else { return missing(sight, (kind, file), by_podman, has_others, findings) };
    let executable = fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    if !executable {
        findings.add(
            Severity::Fault,
            Word::PluginNotExecutable,
            format!("{} cannot be executed, and {file} names it", path.display()),
            "every ADD and DEL of that network fails",
            format!("chmod 755 {}", path.display()),
        );
    }
}

/// No runtime finds a plugin, or podman alone does, `by_podman`, and there are others.
fn missing(
    sight: &Sight<'_>,
    (kind, file): (&str, &str),
    by_podman: Option<PathBuf>,
    has_others: bool,
    findings: &mut Findings,
) {
    // Those that a runtime looks through by itself are there or not, as it comes.
    let is_given = |path: &&PathBuf| sight.given.directories.contains(path);
    let of_podman = sight.of_podman.iter().filter(|_| by_podman.is_none());
    let searched = sight.directories.iter().chain(of_podman);
    let searched = searched.filter(|path| is_given(path) || (kind != OWN && path.is_dir()));
    let directories: Vec<String> = searched.map(|path| path.display().to_string()).collect();
    let first = directories.first().cloned().unwrap_or_default();
    let fix = if kind == OWN {
        format!("linkspan install --dir {first}")
    } else if sight.given.names.contains(&kind) {
        format!("linkspan install --dir {first} --names {kind}, or install the reference plugins there")
    } else {
        format!("put the plugin {kind} into {first}; or correct the type in {file}")
    };
    let what = format!("the plugin {kind}, which {file} names, is in none of {}", directories.join(", "));
    let (severity, what, why) = match by_podman {
        None => (Severity::Fault, what, "every ADD and DEL of that network fails"),
        Some(path) => (
            if has_others { Severity::Fault } else { Severity::Warning },
            format!("{what}: only podman finds it, as {}", path.display()),
            "every ADD and DEL of that network by another runtime fails",
        ),
    };
    findings.add(severity, Word::PluginMissing, what, why, fix);
}

/// What runtimes run, beside what this is.
fn versions(sight: &Sight<'_>, findings: &mut Findings) {
    let mut seen = Vec::new();
    for directory in sight.directories.iter().chain(&sight.of_podman) {
        let path = directory.join(OWN);
        // One that several directories lead to is one.
        let Ok(target) = fs::canonicalize(&path) else { continue };
        if !target.is_file() || seen.contains(&target) {
            continue;
        }
        seen.push(target);
        let other = match marker::build(&path) {
            Some(Build::Other(Some(version))) if version == env!("CARGO_PKG_VERSION") => {
                format!("another build of {version}")
            }
            Some(Build::Other(Some(version))) => format!("version {version}"),
            Some(Build::Other(None)) => "another build, which does not say its version".to_owned(),
            Some(Build::This) | None => continue,
        };
        let directory = directory.display();
        findings.add(
            Severity::Warning,
            Word::OtherLinkspan,
            format!("{} is {other}, and this is {}", path.display(), env!("CARGO_PKG_VERSION")),
            "what runtimes do is done by that one: what this one says of rules and records may not be its way",
            format!("linkspan install --dir {directory}"),
        );
    }
}
