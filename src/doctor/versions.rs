//! The kernel's version, and clocks.

use crate::store::Stage;
use crate::sys::{boot, sysctl};

use super::finding::{Findings, Severity, Word, some};
use super::sight::Sight;

/// The oldest kernel that linkspan is made for.
const OLDEST: (u32, u32) = (5, 10);
/// How far a clock may be off before it is told of, in seconds.
const SLACK: u64 = 60;

/// Whether this kernel is old enough, and records are of this boot.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    if let Ok(release) = sysctl::read("kernel/osrelease")
        && version(&release).is_some_and(|found| found < OLDEST)
    {
        findings.add(
            Severity::Warning,
            Word::KernelVersion,
            format!("the kernel is {release}"),
            "linkspan is made for and tested on Linux 5.10 and newer: what is older may refuse rules and links",
            "boot a newer kernel",
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

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert!(version("5.4.0").unwrap() < OLDEST && version("5.10-rc1").unwrap() >= OLDEST);
        assert_eq!(version("x"), None);
    }

    #[test]
    fn a_minute_is_no_difference() {
        assert!(!is_before(1000, 1060) && is_before(1000, 1061) && !is_before(1000, 900));
    }
}
