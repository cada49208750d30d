//! What is left of linkspan on a host where its programs are taken away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::conflist::{self, Directory};
use crate::cli::error::Error;
use crate::model::{FirewallBackend, Network};
use crate::plan::Plan;
use crate::store::State;
use crate::sys::process;

/// A line for each network that still has attachments, and how they are ended; none where there is no state or it cannot
/// be read.
pub(super) fn attachments() -> Vec<String> {
    let Ok(Some(state)) = State::open_existing(&State::default_root()) else { return Vec::new() };
    let Ok(listed) = state.all::<Plan>() else { return Vec::new() };
    let mut counts = BTreeMap::<String, usize>::new();
    for found in listed.found.into_iter().filter(|found| found.record.key.part.is_interface()) {
        *counts.entry(found.record.network).or_default() += 1;
    }
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(network, count)| {
            let (noun, verb) = if *count == 1 { ("attachment", "is") } else { ("attachments", "are") };
            format!("network {network} still has {count} {noun}, which {verb} linkspan's to detach")
        })
        .collect();
    if !lines.is_empty() {
        let (networks, _) = state.networks().unwrap_or_default();
        let is_iptables = |network: &Network| {
            network.backend == FirewallBackend::Iptables && counts.contains_key(&network.name)
        };
        let tail = if networks.iter().any(is_iptables) {
            " (with the backend iptables: its chains, docs/troubleshooting.md)"
        } else {
            ""
        };
        lines.push(format!(
            "  while there is a linkspan: 'linkspan del CONTAINER' for each that 'linkspan ps' lists. After that: 'nft delete \
             table inet linkspan'{tail}, and only then start their containers anew: rules outlive the binary, and send what \
             comes to a published port where the container was"
        ));
    }
    lines
}

/// A line for each configuration that calls one of the names that are `gone`, and where that is still to be had, of the
/// directories `elsewhere`.
///
/// # Errors
/// Where the directory of configurations cannot be read.
pub(super) fn configurations(
    networks: &Path,
    gone: &[&'static str],
    elsewhere: &[PathBuf],
) -> Result<Vec<String>, Error> {
    let (lists, _) = Directory::read(networks)?.parts();
    let mut lines = Vec::new();
    for list in &lists {
        let mut called: BTreeMap<Option<PathBuf>, Vec<&str>> = BTreeMap::new();
        for name in gone.iter().copied().filter(|name| calls(list, name)) {
            let other = process::find(name, elsewhere).and_then(|path| path.parent().map(Path::to_owned));
            called.entry(other).or_default().push(name);
        }
        lines.extend(called.into_iter().map(|(other, names)| {
            let (path, names) = (list.path.display(), names.join(", "));
            match other {
                None => format!("{path} calls {names}: move it away, or its containers fail"),
                Some(other) => {
                    let other = other.display();
                    format!("{path} calls {names}, still in {other}: only a runtime that does not look there fails")
                }
            }
        }));
    }
    Ok(lines)
}

/// Whether a network's plugins, or those that they ask for addresses, are of this name.
fn calls(list: &conflist::Network, name: &str) -> bool {
    list.plugins.iter().any(|plugin| {
        let ipam = plugin.raw.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        // linkspan gives addresses by itself.
        plugin.kind == name || (plugin.kind != super::OWN && ipam == Some(name))
    })
}
