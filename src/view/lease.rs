//! Leases: who holds which address, since when.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::AttachmentKey;

use super::{Attachment, Condition, Reading};

/// Whether somebody stands behind a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// An attachment of a living container.
    Held,
    /// An attachment whose container is gone: DEL or GC frees it.
    Dead,
    /// Nobody that has a record: GC frees it.
    Orphan,
}

/// A lease as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Its network.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The container that holds it; empty where its file names nobody.
    pub container: String,
    /// The interface; absent in files that a reference plugin of old wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The container's name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
    /// Who stands behind it.
    pub state: LeaseState,
}

/// All leases, by network and address, with `attachments` to tell the living by.
pub fn leases(reading: &Reading, attachments: &[Attachment]) -> Vec<Lease> {
    let known: HashSet<AttachmentKey> = attachments.iter().map(key).collect();
    let mut leases: Vec<Lease> = Vec::with_capacity(reading.records.leases.len());
    let by_key: std::collections::HashMap<AttachmentKey, &Attachment> =
        attachments.iter().map(|a| (key(a), a)).collect();
    for file in &reading.records.leases {
        let owner = &file.dated.lease.owner;
        let holder = match owner.interface() {
            Some(interface) => by_key.get(&AttachmentKey::new(owner.container_id(), interface)).copied(),
            // Of an old host-local: it holds for every interface of the container.
            None => known
                .iter()
                .find(|key| key.container_id == owner.container_id())
                .and_then(|key| by_key.get(key).copied()),
        };
        leases.push(Lease {
            network: file.network.clone(),
            address: file.dated.lease.address,
            container: owner.container_id().to_owned(),
            interface: owner.interface().map(str::to_owned),
            name: holder.and_then(|attachment| attachment.name.clone()),
            since: file.dated.since,
            state: match holder.map(|attachment| attachment.state) {
                None => LeaseState::Orphan,
                Some(Condition::Dead | Condition::HalfMade) => LeaseState::Dead,
                Some(_) => LeaseState::Held,
            },
        });
    }
    leases.sort_by(|a, b| (&a.network, a.address).cmp(&(&b.network, b.address)));
    leases
}

fn key(attachment: &Attachment) -> AttachmentKey {
    AttachmentKey::new(&attachment.container, &attachment.interface)
}
