//! The versions of what linkspan talks to, and clocks.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::store::Stage;
use crate::sys::dbus::{Bus, Callee};
use crate::sys::process::{self, Run};
use crate::sys::{boot, sysctl};

use super::finding::{Findings, Severity, Word, some};
use super::programs;
use super::sight::Sight;

/// The oldest kernel that linkspan is made for.
const OLDEST: [u32; 2] = [5, 10];
/// The oldest iptables whose `iptables-restore` waits for others as long as it is told (`-w SECONDS`).
const OLDEST_IPTABLES: [u32; 3] = [1, 6, 2];
const LINUX: &str = "Linux";
const IPTABLES: &str = "iptables";
/// How long it may take to say its version.
const LIMIT: Duration = Duration::from_secs(5);
/// Where systemd says that it runs (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Something that linkspan talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its name.
    pub program: &'static str,
    /// Its version, in its own words.
    pub version: String,
}

/// What linkspan talks to on this host, as each says of itself: the kernel; systemd and firewalld where they run; and
/// iptables where a network uses it.
pub fn versions(sight: &Sight<'_>) -> Vec<Version> {
    let told = [
        (LINUX, sysctl::read("kernel/osrelease").ok()),
        ("systemd", if Path::new(BOOTED).is_dir() { property(&SYSTEMD, "Version") } else { None }),
        ("firewalld", property(&FIREWALLD, "version")),
        (IPTABLES, sight.needs_iptables().and_then(|_| iptables())),
    ];
    let told = told.into_iter().filter_map(|(program, version)| Some((program, version?)));
    told.map(|(program, version)| Version { program, version }).collect()
}

/// Whose property, by the interface that properties are read by, and the interface that has it.
const SYSTEMD: (Callee, &str) = (
    Callee {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: PROPERTIES,
    },
    "org.freedesktop.systemd1.Manager",
);
const FIREWALLD: (Callee, &str) = (
    Callee {
        destination: "org.fedoraproject.FirewallD1",
        path: "/org/fedoraproject/FirewallD1",
        interface: PROPERTIES,
    },
    "org.fedoraproject.FirewallD1",
);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

fn property((callee, interface): &(Callee, &str), name: &str) -> Option<String> {
    let mut bus = Bus::system().ok()??;
    bus.call(callee, "Get", &[interface, name]).ok()?.text().ok()
}

/// `1.8.9 (nf_tables)`.
fn iptables() -> Option<String> {
    let program = programs::find(IPTABLES)?;
    let arguments = [OsString::from("--version")];
    let run = Run { program: &program, arguments: &arguments, environment: None, input: &[], limit: LIMIT };
    let output = process::run_quietly(&run).ok()?.output;
    let text = String::from_utf8_lossy(&output);
    Some(text.trim().strip_prefix("iptables v")?.to_owned())
}

/// How far a clock may be off before it is told of, in seconds.
const SLACK: u64 = 60;

/// Whether this kernel is old enough, and records are of this boot.
pub(super) fn look(sight: &Sight<'_>, versions: &[Version], findings: &mut Findings) {
    let older = |program: &str, oldest: &[u32]| {
        let found = versions.iter().find(|found| found.program == program)?;
        is_older(&found.version, oldest).then_some(&found.version)
    };
    if let Some(release) = older(LINUX, &OLDEST) {
        findings.add(
            Severity::Warning,
            Word::KernelVersion,
            format!("the kernel is {release}"),
            "linkspan is made for and tested on Linux 5.10 and newer: what is older may refuse rules and links",
            "boot a newer kernel",
        );
    }
    if let Some(who) = sight.needs_iptables()
        && let Some(release) = older(IPTABLES, &OLDEST_IPTABLES)
    {
        findings.add(
            Severity::Fault,
            Word::IptablesVersion,
            format!("iptables is {release}"),
            format!("iptables-restore before 1.6.2 does not wait for other programs, and refuses to be told to: {who}"),
            "install a newer iptables, or set the key backend to nftables",
        );
    }
    ages(sight, findings);
}

fn ages(sight: &Sight<'_>, findings: &mut Findings) {
    let Ok(uptime) = boot::age() else { return };
    let now = sight.reading.at;
    let booted = now.saturating_sub(uptime.as_secs());
    let ready = sight.reading.records.attachments.iter().filter(|found| found.stage == Stage::Ready);
    let (mut old, mut early) = (Vec::new(), Vec::new());
    for found in ready {
        if is_before(found.record.created, booted) {
            old.push(found.record.key.to_string());
        } else if is_before(now, found.record.created) {
            early.push(found.record.key.to_string());
        }
    }
    if !old.is_empty() {
        findings.add(
            Severity::Warning,
            Word::BeforeBoot,
            format!("records of before this boot: {}", some(&old)),
            "the state directory outlives a boot, and what it describes does not: addresses and ports are held for nobody",
            "unset LINKSPAN_STATE_DIR, or let it name a directory on a tmpfs such as /run/linkspan; then 'linkspan reconcile --collect'",
        );
    }
    if !early.is_empty() {
        findings.add(
            Severity::Remark,
            Word::ClockBehind,
            format!("records of the future: {}", some(&early)),
            "the clock was set back: ages are wrong, and leases of an earlier boot may stay until GC",
            "check the clock: timedatectl",
        );
    }
}

/// Whether one time is before another, by more than a clock that is being set.
fn is_before(time: u64, other: u64) -> bool {
    time.saturating_add(SLACK) < other
}

/// Whether a release is before the oldest one that will do; one without a number is not.
fn is_older(release: &str, oldest: &[u32]) -> bool {
    let words = release.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
    !numbers.is_empty() && numbers.as_slice() < oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert!(!is_older("6.1.0-18-amd64", &[6, 1]) && is_older("6.1.0-18-amd64", &[6, 2]));
        assert!(is_older("5.4.0", &OLDEST) && !is_older("5.10-rc1", &OLDEST));
        assert!(!is_older("x", &OLDEST));
        assert!(is_older("1.6.1", &OLDEST_IPTABLES) && !is_older("1.8.9 (nf_tables)", &OLDEST_IPTABLES));
    }

    #[test]
    fn a_minute_is_no_difference() {
        assert!(!is_before(1000, 1060) && is_before(1000, 1061) && !is_before(1000, 900));
    }
}
