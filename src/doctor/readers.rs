//! Which versions of the specification the runtimes of this host read: their own version says which libcni they carry.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::sys::process::{self, Run};

use super::finding::{Findings, Severity, Word, some};
use super::sight::{List, Sight};
use super::{lists, programs, runtimes};

/// How long a runtime may take to say its version.
const LIMIT: Duration = Duration::from_secs(5);
/// What every libcni reads that is still in use: where nothing is newer, no runtime is asked.
const READ_BY_ALL: &str = "0.4.0";
/// What libcni 1.0 and 1.1 read at most.
const READ_BY_1_1: &str = "1.0.0";

/// A runtime whose version says which libcni it carries.
struct Reader {
    program: &'static str,
    /// The first versions of it that read more, each with what those before it read at most.
    until: [([u32; 2], &'static str); 2],
    /// The endings of files that it takes for networks.
    endings: &'static [&'static str],
}

/// containerd 1.6 came with libcni 1.0, and 2.0 with libcni 1.2; podman 4 with libcni 1.0, and podman 5 has no CNI.
const READERS: [Reader; 2] = [
    Reader {
        program: "containerd",
        until: [([1, 6], READ_BY_ALL), ([2, 0], READ_BY_1_1)],
        endings: &["conflist", "conf", "json"],
    },
    Reader {
        program: "podman",
        until: [([4, 0], READ_BY_ALL), ([5, 0], READ_BY_1_1)],
        endings: &["conflist"],
    },
];

/// Tells of configurations that an installed runtime cannot read.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    if !sight.given.lists.iter().any(|list| is_newer(&list.plain, READ_BY_ALL)) {
        return;
    }
    for reader in &READERS {
        if reader.program == runtimes::PODMAN && !runtimes::podman_may_use_cni() {
            continue;
        }
        if let Some(version) = version(reader.program)
            && let Some(newest) = newest(reader, &version)
        {
            unread(sight, reader, &version, newest, findings);
        }
    }
}

fn unread(sight: &Sight<'_>, reader: &Reader, version: &str, newest: &str, findings: &mut Findings) {
    let is_taken = |list: &&List| {
        let ending = list.path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        reader.endings.contains(&ending) && !list.too_new && is_newer(&list.plain, newest)
    };
    let unread: Vec<&List> = sight.given.lists.iter().filter(is_taken).collect();
    // Of containerd's it is the one that it takes by itself; podman is told a name.
    let pick = lists::picks(sight).into_iter().find(|pick| pick.runtime == reader.program);
    let is_picked = |list: &&&List| pick.as_ref().is_none_or(|pick| list.path == Path::new(&pick.file));
    let (picked, others): (Vec<&List>, Vec<&List>) = unread.iter().partition(is_picked);
    let program = reader.program;
    let fix = format!(
        "set cniVersion to {newest} there; in a .conflist \"cniVersions\": [\"{newest}\", \"1.1.0\"] beside it \
         offers more to runtimes that know more"
    );
    let refuses =
        format!("its libcni knows {newest} and older, and refuses what plugins answer in a later one");
    if !picked.is_empty() {
        let what =
            format!("{program} {version} does not know the version of a configuration: {}", named(&picked));
        let why = format!("{refuses}: its containers do not start");
        findings.add(Severity::Warning, Word::VersionUnreadable, what, why, fix.as_str());
    }
    if let Some(pick) = pick.filter(|_| !others.is_empty()) {
        let what = format!(
            "{program} {version}, which takes network {}, does not know the version of another: {}",
            pick.network,
            named(&others)
        );
        let why = format!("{refuses}: containers do not start that are to have that network by its name");
        findings.add(Severity::Remark, Word::VersionUnreadable, what, why, fix);
    }
}

/// Networks with their files and versions.
fn named(lists: &[&List]) -> String {
    let one = |list: &&List| {
        format!("network {}, {} has cniVersion {}", list.name, list.path.display(), list.plain)
    };
    some(&lists.iter().map(one).collect::<Vec<_>>())
}

/// What a runtime of this version reads at most; `None` where that is all that there is.
fn newest(reader: &Reader, version: &str) -> Option<&'static str> {
    let numbers = numbers(version);
    if numbers.is_empty() {
        return None;
    }
    reader.until.iter().find(|(first, _)| numbers.as_slice() < first.as_slice()).map(|(_, newest)| *newest)
}

/// What a program says of itself, in its third word: `podman version 4.3.1`.
fn version(program: &str) -> Option<String> {
    let program = programs::find(program)?;
    let arguments = [OsString::from("--version")];
    let run = Run { program: &program, arguments: &arguments, environment: None, input: &[], limit: LIMIT };
    let output = process::run_quietly(&run).ok()?.output;
    let text = String::from_utf8_lossy(&output);
    Some(text.split_whitespace().nth(2)?.trim_start_matches('v').to_owned())
}

fn is_newer(version: &str, than: &str) -> bool {
    numbers(version) > numbers(than)
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_reads_what_its_libcni_reads() {
        let [containerd, podman] = &READERS;
        for (reader, version, wanted) in [
            (containerd, "1.4.13~ds1", Some("0.4.0")),
            (containerd, "1.6.20~ds1", Some("1.0.0")),
            (containerd, "1.7.24", Some("1.0.0")),
            (containerd, "2.0.0", None),
            (podman, "3.0.1", Some("0.4.0")),
            (podman, "4.3.1", Some("1.0.0")),
            (podman, "5.0.0-rc1", None),
            (podman, "unknown", None),
        ] {
            assert_eq!(newest(reader, version), wanted, "{} {version}", reader.program);
        }
        assert!(is_newer("1.1.0", "1.0.0") && !is_newer("1.0.0", "1.0.0") && is_newer("0.10.0", "0.4.0"));
    }
}
