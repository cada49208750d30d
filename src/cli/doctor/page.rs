//! The findings on paper: for people, and for programs.

use serde::Serialize;

use crate::doctor::{Finding, Pick, Severity, Version};

use super::super::error::Error;
use super::super::see::document;
use super::super::table::Tone;
use super::mending::Done;
use super::{Examined, Session};

/// Every finding in four lines, a remark in fewer; then how many there are, which network runtimes take, and versions.
pub(super) fn print(session: &mut Session<'_>, examined: &Examined) -> Result<(), Error> {
    let text = text(examined, session.has_colour());
    Ok(session.stdout.write_all(text.as_bytes())?)
}

fn text(Examined { findings, picks, versions }: &Examined, colour: bool) -> String {
    let mut text = String::new();
    for finding in findings.all() {
        let (word, severity) = (finding.word, coloured(finding, colour));
        text.push_str(&format!("{severity} {word}\n"));
        for (label, words) in [("", &finding.what), ("why: ", &finding.why), ("fix: ", &finding.fix)] {
            text.push_str(&format!("    {label}{words}\n"));
        }
    }
    let of = |severity, noun| count(findings.count(severity), noun);
    let (faults, warnings) = (of(Severity::Fault, "fault"), of(Severity::Warning, "warning"));
    text.push_str(&format!("{faults}, {warnings}, {}\n", of(Severity::Remark, "remark")));
    for Pick { runtime, network, file } in picks {
        text.push_str(&format!("{runtime} would take the network {network} ({file})\n"));
    }
    let versions: Vec<String> =
        versions.iter().map(|one| format!("{} {}", one.program, one.version)).collect();
    if !versions.is_empty() {
        text.push_str(&format!("talks to {}\n", versions.join(", ")));
    }
    text
}

fn coloured(finding: &Finding, colour: bool) -> String {
    let tone = match finding.severity {
        Severity::Fault => Tone::Bad,
        Severity::Warning => Tone::Doubtful,
        Severity::Remark => Tone::Plain,
    };
    tone.paint(&finding.severity.to_string(), colour)
}

/// `no faults`, `1 fault`, `2 faults`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// What was mended.
pub(super) fn done(session: &mut Session<'_>, done: &[Done]) -> Result<(), Error> {
    for Done { remedy, failure } in done {
        match failure {
            None => writeln!(session.stdout, "done: {remedy}")?,
            Some(failure) => writeln!(session.stdout, "failed: {remedy}: {failure}")?,
        }
    }
    Ok(writeln!(session.stdout, "now:")?)
}

#[derive(Serialize)]
struct Document<'a> {
    faults: usize,
    warnings: usize,
    remarks: usize,
    findings: &'a [Finding],
    picks: &'a [Pick],
    versions: &'a [Version],
    fixed: Vec<Fixed>,
}

#[derive(Serialize)]
struct Fixed {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// The document of `--json`: what is there at the end, and what `--fix` has done.
pub(super) fn json(
    session: &mut Session<'_>,
    Examined { findings, picks, versions }: &Examined,
    done: &[Done],
) -> Result<(), Error> {
    let fixed =
        done.iter().map(|one| Fixed { what: one.remedy.to_string(), failure: one.failure.clone() }).collect();
    let found = Document {
        faults: findings.count(Severity::Fault),
        warnings: findings.count(Severity::Warning),
        remarks: findings.count(Severity::Remark),
        findings: findings.all(),
        picks,
        versions,
        fixed,
    };
    Ok(session.stdout.write_all(document("doctor", &found)?.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Findings, Word};

    #[test]
    fn a_finding_is_what_why_and_fix() {
        let mut findings = Findings::default();
        findings.add(Severity::Fault, Word::SameName, "two are one", "one is lost", "rename one");
        let picks = vec![Pick { runtime: "CRI-O".into(), network: "web".into(), file: "/x".into() }];
        let versions = vec![Version { program: "Linux", version: "6.1".into() }];
        let examined = Examined { findings, picks, versions };
        let wanted = "\
fault same-name
    two are one
    why: one is lost
    fix: rename one
1 fault, no warnings, no remarks
CRI-O would take the network web (/x)
talks to Linux 6.1
";
        assert_eq!(text(&examined, false), wanted);
        assert!(text(&examined, true).starts_with("\x1b[31mfault\x1b[0m same-name\n"));
    }
}
