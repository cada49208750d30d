//! What carries our mark and belongs to nobody: what GC would take away.

use std::collections::HashSet;

use serde::Serialize;

use crate::firewall::nft::{self, Set};
use crate::model::{AttachmentKey, names};

use super::{Lease, LeaseState, Reading};

/// Something without an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its network, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What it is, in words.
    pub what: String,
}

/// Everything that no record owns: leases, links, host ports, firewall elements.
pub fn orphans(reading: &Reading, leases: &[Lease]) -> Vec<Orphan> {
    let keys: HashSet<&AttachmentKey> =
        reading.records.attachments.iter().map(|found| &found.record.key).collect();
    let mut found: Vec<Orphan> = leases
        .iter()
        .filter(|lease| lease.state == LeaseState::Orphan)
        .map(|lease| Orphan {
            network: Some(lease.network.clone()),
            what: format!("the lease of {}, held for {}", lease.address, owner(lease)),
        })
        .collect();
    let nobodys = |what: String| Orphan { network: None, what };
    let ours: HashSet<String> =
        keys.iter().flat_map(|key| [names::host_interface(key), names::shaping_interface(key)]).collect();
    let links = reading.host.links.iter().filter(|link| {
        link.group == names::LINK_GROUP
            && matches!(link.kind.as_deref(), Some("veth" | "ifb"))
            && !ours.contains(&link.name)
    });
    found.extend(links.map(|link| nobodys(format!("the link {}", link.name))));
    for claim in &reading.records.claims {
        if !AttachmentKey::parse(&claim.owner).is_some_and(|key| keys.contains(&key)) {
            let (protocol, host) = (claim.protocol, claim.host);
            found.push(nobodys(format!("the host port {protocol} {host}, claimed for {}", claim.owner)));
        }
    }
    let comments: HashSet<String> = keys.iter().map(|key| nft::owner_comment(key)).collect();
    for element in reading.host.elements.iter().flatten() {
        let of_attachment = Set::OF_ATTACHMENTS.contains(&element.set) && !element.is_of_network();
        if of_attachment && !comments.contains(&element.owner) {
            found.push(nobodys(format!("the firewall element {element}, made for '{}'", element.owner)));
        }
    }
    found
}

fn owner(lease: &Lease) -> String {
    match (&lease.container, &lease.interface) {
        (id, _) if id.is_empty() => "nobody".to_owned(),
        (id, Some(interface)) => format!("{id}:{interface}"),
        (id, None) => id.clone(),
    }
}
