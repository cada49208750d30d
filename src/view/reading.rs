//! Taking a reading.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Host, Records, ViewError};

/// What a reading costs extra to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// The leases: a file each.
    pub leases: bool,
    /// The claims of host ports: a directory each. What attachments have published is in their records.
    pub claims: bool,
    /// The elements of the firewall: a dozen dumps.
    pub firewall: bool,
    /// The tracked connections of containers: a dump as long as the host is busy.
    pub flows: bool,
}

impl Wants {
    /// Records and links alone.
    pub const LEAST: Self = Self { leases: false, claims: false, firewall: false, flows: false };
    /// Everything.
    pub const ALL: Self = Self { leases: true, claims: true, firewall: true, flows: true };
}

/// The records and the kernel's side, read one after the other. What changes in between shows as drift, which a second
/// reading clears up.
#[derive(Debug)]
pub struct Reading {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What linkspan has written down.
    pub records: Records,
    /// What the kernel has.
    pub host: Host,
}

impl Reading {
    /// Reads the state directory at `root` and the namespace that the thread is in.
    ///
    /// # Errors
    /// [`ViewError`]; that the firewall is kept from us is none, it is written in its place.
    pub fn take(root: &Path, wants: Wants) -> Result<Self, ViewError> {
        let records = Records::read(root, wants)?;
        let held: HashSet<IpAddr> = records
            .attachments
            .iter()
            .flat_map(|found| found.record.plan.leases().into_iter().flat_map(|step| &step.leases))
            .map(|lease| lease.address.ip())
            .collect();
        let host = Host::read(wants, &|address| held.contains(&address))?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self { at, records, host })
    }
}
