//! What runtimes are configured to use: their own files, where they are there.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::sys::process;

use super::files;
use super::finding::{Findings, Severity, Word};
use super::programs;
use super::sight::{OWN, Sight};

/// A runtime's directories, where its configuration says them.
struct Told {
    runtime: &'static str,
    file: PathBuf,
    configurations: Vec<PathBuf>,
    plugins: Vec<PathBuf>,
}

impl Told {
    /// Whether the runtime reads its networks from another directory than this command does.
    fn reads_elsewhere(&self, sight: &Sight<'_>) -> bool {
        !self.configurations.is_empty() && !self.configurations.contains(&sight.given.configurations)
    }
}

/// Tells where a runtime looks elsewhere than this command does, and does not find linkspan there.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    for file in unreadable() {
        findings.add(
            Severity::Remark,
            Word::NotLooked,
            file,
            "its runtime may look elsewhere for networks and plugins",
            "correct the file",
        );
    }
    for told in [containerd(), crio(), podman()].into_iter().flatten() {
        directories(sight, &told, findings);
        if told.runtime == PODMAN {
            incomplete(sight, &told, findings);
        }
    }
}

/// podman's networks name plugins that are not where podman was told to look: what it is told replaces its own list of
/// directories.
fn incomplete(sight: &Sight<'_>, told: &Told, findings: &mut Findings) {
    // Where it reads its networks elsewhere, those here are none of its.
    if told.reads_elsewhere(sight) {
        return;
    }
    let is_missing = |kind: &str| !told.plugins.iter().any(|directory| directory.join(kind).is_file());
    let of_lists = programs::wanted(sight).into_iter().filter(|(kind, file)| {
        kind != OWN && Path::new(file).extension().is_some_and(|end| end == "conflist")
    });
    let has_own = sight.given.lists.iter().any(|list| list.name == PODMAN);
    let is_there = !has_own && programs::find(PODMAN).is_some();
    let by_default = PODMAN_PLUGINS
        .iter()
        .filter(|_| is_there)
        .map(|kind| ((*kind).to_owned(), "its default network".to_owned()));
    let mut missing: Vec<(String, String)> =
        of_lists.chain(by_default).filter(|(kind, _)| is_missing(kind)).collect();
    missing.sort();
    missing.dedup_by(|a, b| a.0 == b.0);
    let Some((first, list)) = missing.first().filter(|_| !told.plugins.is_empty()) else { return };
    let kinds: Vec<&str> = missing.iter().map(|(kind, _)| kind.as_str()).collect();
    let all: Vec<String> = told.plugins.iter().map(|path| path.display().to_string()).collect();
    let found = sight.program(first).or_else(|| process::find(first, &PODMAN_DIRECTORIES.map(PathBuf::from)));
    let fix = match found.as_deref().and_then(Path::parent) {
        Some(directory) => format!("write {} there as well, or take the key out", directory.display()),
        None => format!("linkspan install --dir {} --all", all[0]),
    };
    findings.add(
        Severity::Warning,
        Word::RuntimeDirectory,
        format!(
            "podman looks for plugins in {}, and these are not there: {}",
            all.join(", "),
            kinds.join(", ")
        ),
        format!("{list} needs them: cni_plugin_dirs in {} replaces podman's own list", told.file.display()),
        fix,
    );
}

/// Where the runtimes of this host look for plugins: what their files say, and podman's own list where they do not.
#[must_use]
pub fn plugin_directories() -> Vec<PathBuf> {
    directories_of_others().into_iter().chain(directories_of_podman()).collect()
}

/// Where containerd and CRI-O look for plugins, where their files say.
pub(super) fn directories_of_others() -> Vec<PathBuf> {
    [containerd(), crio()].into_iter().flatten().flat_map(|told| told.plugins).collect()
}

/// Where podman looks for plugins, where it may use any.
pub(super) fn directories_of_podman() -> Vec<PathBuf> {
    match podman_says("cni_plugin_dirs") {
        _ if !podman_may_use_cni() => Vec::new(),
        Some((_, said)) => paths(Some(&said)),
        None if programs::find(PODMAN).is_some() => PODMAN_DIRECTORIES.map(PathBuf::from).to_vec(),
        None => Vec::new(),
    }
}

/// Whether a runtime is installed that does not look where podman does.
pub(super) fn has_others() -> bool {
    OTHERS.iter().any(|program| programs::find(program).is_some())
}

/// Whether nothing says that podman has another way to networks.
pub(super) fn podman_may_use_cni() -> bool {
    podman_chose().is_none_or(|chosen| chosen == "cni")
}

/// What podman uses for networks, where it was told, or has written what it chose.
fn podman_chose() -> Option<String> {
    let said = podman_says("network_backend").and_then(|(_, value)| value.as_str().map(str::to_owned));
    let said = said.filter(|said| !said.is_empty()).or_else(|| files::text(PODMAN_CHOICE));
    said.map(|said| said.trim().to_owned())
}

/// What podman is told, and the file that says it.
fn podman_says(key: &str) -> Option<(PathBuf, Value)> {
    PODMAN_FILES.iter().map(PathBuf::from).find_map(|file| {
        let value = parsed(&file)?.get("network")?.get(key)?.clone();
        Some((file, value))
    })
}

fn directories(sight: &Sight<'_>, told: &Told, findings: &mut Findings) {
    let (runtime, file) = (told.runtime, told.file.display());
    // netavark's networks have such a directory too, where podman is not told which of the two.
    let is_of_cni = told.runtime != PODMAN || podman_chose().is_some();
    let elsewhere = is_of_cni && told.reads_elsewhere(sight);
    if let Some(first) = told.configurations.first().filter(|_| elsewhere) {
        findings.add(
            Severity::Warning,
            Word::RuntimeDirectory,
            format!(
                "{runtime} reads networks from {}, and this command from {}",
                first.display(),
                sight.given.configurations.display()
            ),
            format!("what is configured here is not what {runtime} uses ({file})"),
            format!(
                "NETCONFPATH={} linkspan doctor; or set {runtime}'s directory to {}",
                first.display(),
                sight.given.configurations.display()
            ),
        );
    }
    let uses_linkspan = sight.own_plugins().next().is_some();
    let has_linkspan = told.plugins.iter().any(|directory| directory.join(OWN).is_file());
    if let Some(first) = told.plugins.first().filter(|_| uses_linkspan && !has_linkspan) {
        let all: Vec<String> = told.plugins.iter().map(|path| path.display().to_string()).collect();
        findings.add(
            Severity::Warning,
            Word::RuntimeDirectory,
            format!("{runtime} looks for plugins in {}, and linkspan is not there", all.join(", ")),
            format!("its containers get no network ({file})"),
            format!("linkspan install --dir {}", first.display()),
        );
    }
}

const CONTAINERD: &str = "/etc/containerd/config.toml";
const CRIO: &str = "/etc/crio/crio.conf";
const CRIO_DROP_INS: [&str; 1] = ["/etc/crio/crio.conf.d"];
/// The programs of the other runtimes.
const OTHERS: [&str; 2] = ["containerd", "crio"];
/// The program, and the runtime.
pub(super) const PODMAN: &str = "podman";
/// Where podman writes what it chose when it was first run.
const PODMAN_CHOICE: &str = "/var/lib/containers/storage/defaultNetworkBackend";
/// Where podman looks for plugins when nobody says (containers.conf(5)).
const PODMAN_DIRECTORIES: [&str; 5] =
    ["/usr/local/libexec/cni", "/usr/libexec/cni", "/usr/local/lib/cni", "/usr/lib/cni", "/opt/cni/bin"];
/// What its default network calls, of which there need not be a file.
const PODMAN_PLUGINS: [&str; 5] = ["bridge", "firewall", "host-local", "portmap", "tuning"];
const PODMAN_FILES: [&str; 2] = ["/etc/containers/containers.conf", "/usr/share/containers/containers.conf"];

fn parsed(path: &Path) -> Option<Table> {
    files::text(path)?.parse().ok()
}

/// Files that are there and are no TOML.
fn unreadable() -> Vec<String> {
    let all = [CONTAINERD, CRIO]
        .into_iter()
        .chain(PODMAN_FILES)
        .map(PathBuf::from)
        .chain(files::drop_ins(&CRIO_DROP_INS, "conf"));
    all.filter_map(|path| {
        let error = files::text(&path)?.parse::<Table>().err()?;
        Some(format!("{} cannot be read: {}", path.display(), error.message()))
    })
    .collect()
}

/// `plugins."io.containerd.grpc.v1.cri".cni` of version 2, `plugins."io.containerd.cri.v1.runtime".cni` of version 3.
fn containerd() -> Option<Told> {
    let table = parsed(Path::new(CONTAINERD))?;
    let plugins = table.get("plugins")?;
    let sections = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri"];
    let cni = sections.iter().find_map(|name| plugins.get(name)?.get("cni"))?;
    let mut dirs = paths(cni.get("bin_dirs"));
    dirs.extend(paths(cni.get("bin_dir")));
    Some(Told {
        runtime: "containerd",
        file: CONTAINERD.into(),
        configurations: paths(cni.get("conf_dir")),
        plugins: dirs,
    })
}

/// `crio.network` of its file and drop-ins, the last that says something.
fn crio_network() -> Option<(PathBuf, Value)> {
    let mut all = vec![PathBuf::from(CRIO)];
    all.extend(files::drop_ins(&CRIO_DROP_INS, "conf"));
    let mut whole = toml::map::Map::new();
    let mut from = None;
    for path in all {
        let network = parsed(&path).and_then(|table| table.get("crio")?.get("network")?.as_table().cloned());
        if let Some(network) = network {
            whole.extend(network);
            from = Some(path);
        }
    }
    Some((from?, Value::Table(whole)))
}

fn crio() -> Option<Told> {
    let (file, network) = crio_network()?;
    let mut plugins = paths(network.get("plugin_dirs"));
    plugins.extend(paths(network.get("plugin_dir")));
    Some(Told { runtime: "CRI-O", file, configurations: paths(network.get("network_dir")), plugins })
}

/// The network that CRI-O is told to take.
pub(super) fn default_of_crio() -> Option<String> {
    let (_, network) = crio_network()?;
    let name = network.get("cni_default_network")?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// podman, where it may use CNI.
fn podman() -> Option<Told> {
    if !podman_may_use_cni() {
        return None;
    }
    let plugins = podman_says("cni_plugin_dirs");
    let configurations = podman_says("network_config_dir");
    let (file, _) = plugins.as_ref().or(configurations.as_ref())?;
    let all = |said: &Option<(PathBuf, Value)>| paths(said.as_ref().map(|(_, value)| value));
    Some(Told {
        runtime: PODMAN,
        file: file.clone(),
        configurations: all(&configurations),
        plugins: all(&plugins),
    })
}

/// A path, or a list of paths; none where it is neither.
fn paths(value: Option<&Value>) -> Vec<PathBuf> {
    let one = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from);
    match value {
        Some(Value::Array(all)) => all.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}
