//! Network configurations: which are none, which shadow each other, and which a runtime takes.

use serde::Serialize;

use super::finding::{Findings, Severity, Word};
use super::runtimes;
use super::sight::{List, Sight};

/// Which network a runtime takes where nobody names one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pick {
    /// The runtime.
    pub runtime: String,
    /// The network's name.
    pub network: String,
    /// Its file.
    pub file: String,
}

/// What runtimes take: containerd, and what else uses go-cni, the first file by name; CRI-O the network that its
/// configuration names, else the first; podman and nerdctl are told a name.
pub fn picks(sight: &Sight<'_>) -> Vec<Pick> {
    let mut lists: Vec<&List> = sight.given.lists.iter().collect();
    lists.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    let pick = |runtime: &str, list: &List| Pick {
        runtime: runtime.to_owned(),
        network: list.name.clone(),
        file: list.path.display().to_string(),
    };
    let mut picks: Vec<Pick> = lists.first().map(|list| pick("containerd", list)).into_iter().collect();
    let named = runtimes::default_of_crio();
    let of_crio = match &named {
        Some(name) => lists.iter().find(|list| list.name == *name),
        None => lists.first(),
    };
    picks.extend(of_crio.map(|list| pick("CRI-O", list)));
    picks
}

/// Looks at the directory of configurations.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let given = sight.given;
    let directory = given.configurations.display();
    for reason in &given.broken {
        findings.add(
            Severity::Fault,
            Word::BadConfiguration,
            reason.as_str(),
            "no runtime can use it, and containerd takes no network at all where it meets this file first",
            "correct the file, or move it out of the directory",
        );
    }
    if given.lists.is_empty() && given.broken.is_empty() {
        findings.add(
            Severity::Remark,
            Word::NoConfiguration,
            format!("there is no network configuration in {directory}"),
            "containerd, CRI-O and a kubelet have no network without one; podman and Docker have directories of their own",
            format!("put one there, such as {directory}/10-linkspan.conflist (docs/configuration.md), or set NETCONFPATH"),
        );
    }
    contents(sight, findings);
    names(&given.lists, findings);
    versions(sight, findings);
    choice(sight, findings);
}

/// What linkspan makes of its own configurations.
fn contents(sight: &Sight<'_>, findings: &mut Findings) {
    for (list, plugin) in sight.own_plugins() {
        let (path, kind) = (list.path.display(), &plugin.kind);
        if let Some(refusal) = plugin.refusal.as_ref().filter(|_| !list.too_new) {
            findings.add(
                Severity::Fault,
                Word::BadConfiguration,
                format!("{path}, plugin {kind}: {refusal}"),
                "every ADD of the network fails",
                format!("correct it in {path}"),
            );
        }
        for (slip, meant) in &plugin.slips {
            findings.add(
                Severity::Warning,
                Word::UnknownKey,
                format!("{path}, plugin {kind}: linkspan does not know the key {slip}"),
                "unknown keys are ignored: the network is as if it were not there",
                format!("perhaps {meant} is meant: write that in {path}, or take {slip} out"),
            );
        }
    }
}

fn names(lists: &[List], findings: &mut Findings) {
    for (at, list) in lists.iter().enumerate() {
        let Some(first) = lists[..at].iter().find(|other| other.name == list.name) else { continue };
        findings.add(
            Severity::Warning,
            Word::SameName,
            format!("{} and {} both configure the network {}", first.path.display(), list.path.display(), list.name),
            "who asks for the network by its name gets the first, and a container may be deleted by another than made it",
            "rename one of the networks, or remove a file",
        );
    }
}

fn versions(sight: &Sight<'_>, findings: &mut Findings) {
    for list in &sight.given.lists {
        let path = list.path.display();
        if list.too_new {
            findings.add(
                Severity::Fault,
                Word::VersionTooNew,
                format!("{path} has cniVersion {}", list.version),
                "libcni knows versions up to 1.1.0, and linkspan too: every call of the network is refused",
                format!("set cniVersion to 1.1.0 in {path}"),
            );
        } else if !list.has_gc && list.plugins.iter().any(|plugin| sight.is_ours(&plugin.kind)) {
            findings.add(
                Severity::Remark,
                Word::VersionOld,
                format!("{path} has cniVersion {}", list.version),
                "runtimes call neither GC nor STATUS for it: what dead containers left stays until the agent or somebody deletes it",
                format!(
                    "add \"cniVersions\": [\"{}\", \"1.1.0\"] to a .conflist, which libcni before 1.2 ignores; or set \
                     cniVersion to 1.1.0 in {path}, where every runtime's libcni is 1.2 or newer",
                    list.version
                ),
            );
        }
    }
}

fn choice(sight: &Sight<'_>, findings: &mut Findings) {
    let names: std::collections::BTreeSet<&str> =
        sight.given.lists.iter().map(|list| list.name.as_str()).collect();
    if names.len() < 2 {
        return;
    }
    let taken: Vec<String> = picks(sight)
        .iter()
        .map(|pick| format!("{} takes {} ({})", pick.runtime, pick.network, pick.file))
        .collect();
    findings.add(
        Severity::Remark,
        Word::RuntimePicks,
        format!("{} networks are configured: {}", names.len(), taken.join(", ")),
        "a runtime that is told no name takes the first file by name; podman and nerdctl are told a name",
        "let the name of the wanted file sort first, such as 00-NAME.conflist",
    );
}
