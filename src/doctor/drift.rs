//! What the records say and the host does not have.

use crate::apply::{Drift, Mending};

use super::finding::{Findings, Remedy, Severity, Word, some};
use super::sight::Sight;

/// Tells what `linkspan reconcile` would put back.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let Some(look) = &sight.look else { return };
    report(
        findings,
        &look.rules,
        Word::RulesMissing,
        "rules are not as the records say",
        "published ports, masquerade or walls do not work until they are put back",
    );
    report(
        findings,
        &look.forwarding,
        Word::ForwardingOff,
        "the host forwards nothing",
        "containers reach nothing beyond this host, and nobody reaches their published ports",
    );
    let (localnet, other): (Vec<&Drift>, Vec<&Drift>) =
        look.bridges.drifts.iter().partition(|drift| drift.object.contains("route_localnet"));
    tell(
        findings,
        Word::LocalnetOff,
        &localnet,
        "route_localnet is off",
        "ports that are published on 127.0.0.1 do not answer there",
    );
    tell(
        findings,
        Word::BridgeDrift,
        &other,
        "a bridge is not as its records say",
        "its containers do not reach their gateway, or each other",
    );
    failures(findings, "a bridge", &look.bridges);
    attachments(findings, &look.attachments);
}

/// What is only written down is not missed by the container, but may be given to another.
fn attachments(findings: &mut Findings, mending: &Mending) {
    let is_held = |drift: &&Drift| ["lease of ", "claim of "].iter().any(|of| drift.object.starts_with(of));
    let (held, other): (Vec<&Drift>, Vec<&Drift>) = mending.drifts.iter().partition(is_held);
    let what = "an attachment is not as its record says";
    tell(
        findings,
        Word::AttachmentDrift,
        &held,
        what,
        "the container goes on working, but its address or host port may be given to another",
    );
    tell(
        findings,
        Word::AttachmentDrift,
        &other,
        what,
        "its container is cut off, or not limited or held as it was asked for",
    );
    failures(findings, what, mending);
}

fn report(findings: &mut Findings, mending: &Mending, word: Word, what: &str, why: &str) {
    tell(findings, word, &mending.drifts.iter().collect::<Vec<_>>(), what, why);
    failures(findings, what, mending);
}

fn tell(findings: &mut Findings, word: Word, drifts: &[&Drift], what: &str, why: &str) {
    if drifts.is_empty() {
        return;
    }
    let words: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    let what = format!("{what}: {}", some(&words));
    findings.add_mendable(Severity::Fault, word, what, why, Remedy::Reconcile);
}

fn failures(findings: &mut Findings, what: &str, mending: &Mending) {
    for failure in &mending.failures {
        findings.not_looked(format_args!("whether {what}"), failure);
    }
}
