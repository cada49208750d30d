//! What was left over: by containers that died, by calls that were killed, by records that were lost.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::apply::Reach;
use crate::model::AttachmentKey;
use crate::store::Stage;
use crate::view::{self, Lease};

use super::finding::{Findings, Remedy, Severity, Word, some};
use super::sight::Sight;

/// Looks at records, at what has none, and at what libcni remembers.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    records(sight, findings);
    orphans(sight, findings);
    remembered(sight, findings);
    for file in &sight.reading.records.unreadable {
        findings.add(
            Severity::Fault,
            Word::UnreadableRecord,
            file.as_str(),
            "what it holds is not given back: its addresses and ports stay taken, and repair passes it over",
            "restart its container, or move the file away and run 'linkspan doctor --fix', which deletes what it left",
        );
    }
}

fn records(sight: &Sight<'_>, findings: &mut Findings) {
    let at = |stage: Stage| -> Vec<String> {
        let all = sight.reading.records.attachments.iter();
        all.filter(|found| found.stage == stage).map(|found| found.record.key.to_string()).collect()
    };
    let dead: Vec<String> =
        sight.look.iter().flat_map(|look| &look.attachments.dead).map(ToString::to_string).collect();
    let cases = [
        (
            dead,
            Word::DeadAttachment,
            "containers died without DEL",
            "their addresses and host ports stay taken",
            Remedy::Reconcile,
        ),
        (
            at(Stage::Pending { alive: false }),
            Word::HalfMade,
            "ADDs were killed half-way",
            "what they had made stays until the next ADD or GC",
            Remedy::Reconcile,
        ),
        (
            at(Stage::Doomed),
            Word::DelUnfinished,
            "DELs have begun and not ended",
            "their addresses and host ports stay taken",
            Remedy::Sweep(Reach::Recorded),
        ),
    ];
    for (keys, word, what, why, remedy) in cases {
        if !keys.is_empty() {
            findings.add_mendable(Severity::Warning, word, format!("{what}: {}", some(&keys)), why, remedy);
        }
    }
}

/// What a sweep would take: leases in directories that a configuration names may be another plugin's.
fn orphans(sight: &Sight<'_>, findings: &mut Findings) {
    let own = sight.reading.records.root.join("ipam");
    let mut places: HashMap<&str, bool> = HashMap::new();
    for file in &sight.reading.records.leases {
        *places.entry(&file.network).or_insert(true) &= file.directory.starts_with(&own);
    }
    let leases: Vec<Lease> = sight
        .leases
        .iter()
        .filter(|lease| places.get(lease.network.as_str()) == Some(&true))
        .cloned()
        .collect();
    // A network's own elements stay when its attachments go.
    let of_network = |what: &str| what.contains("made for 'network ");
    let words: Vec<String> = view::orphans(&sight.reading, &leases)
        .into_iter()
        .map(|o| o.what)
        .filter(|what| !of_network(what))
        .collect();
    if words.is_empty() {
        return;
    }
    findings.add_mendable(
        Severity::Warning,
        Word::Orphan,
        format!("without a record: {}", some(&words)),
        "addresses and ports are taken for nobody, and rules lead to addresses that others will have",
        Remedy::Sweep(if sight.elsewhere { Reach::Lost } else { Reach::Recorded }),
    );
}

/// libcni's cache: what it holds without a container is called DEL for by nobody.
fn remembered(sight: &Sight<'_>, findings: &mut Findings) {
    let recorded: HashSet<AttachmentKey> =
        sight.reading.records.attachments.iter().map(|found| found.record.key.attachment()).collect();
    for one in &sight.given.remembered {
        // libcni of old wrote no namespace, and other plugins have no record.
        if one.netns.is_empty() || !one.kinds.iter().any(|kind| sight.is_ours(kind)) {
            continue;
        }
        let (key, network) = (&one.key, &one.network);
        if !Path::new(&one.netns).try_exists().unwrap_or(true) {
            findings.add_mendable(
                Severity::Warning,
                Word::StaleResult,
                format!("libcni remembers {key} of network {network}, whose namespace {} is gone", one.netns),
                "'linkspan add' of the same container and interface takes it for attached already; a runtime has lost it",
                Remedy::Forget(key.clone()),
            );
        } else if !recorded.contains(key) {
            findings.add(
                Severity::Warning,
                Word::StaleResult,
                format!("libcni remembers {key} of network {network}, and linkspan has no record of it"),
                "its container runs, and nothing of linkspan's keeps or repairs its network",
                format!(
                    "restart the container; or 'CNI_CONTAINERID={} CNI_IFNAME={} linkspan del {network} {}'",
                    key.container_id, key.interface, one.netns
                ),
            );
        }
    }
    for reason in &sight.given.unreadable {
        findings.add(
            Severity::Warning,
            Word::UnreadableResult,
            reason.as_str(),
            "GC deletes nothing while a file of libcni's cache cannot be read, since it may be an attachment",
            "remove the file, once its container is gone",
        );
    }
}
