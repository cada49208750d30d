//! Taking a reading.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::plan::Plan;
use crate::store::Found;

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
    /// Whether the agent is there, where some attachment needs it: a question to it. For what tells of networks' health.
    pub agent: bool,
}

impl Wants {
    /// Records and links alone.
    pub const LEAST: Self =
        Self { leases: false, claims: false, firewall: false, flows: false, agent: false };
    /// Everything.
    pub const ALL: Self = Self { leases: true, claims: true, firewall: true, flows: true, agent: true };
}

/// The records and the kernel's side, read at the same time by two threads. What changes meanwhile shows as drift, which a
/// second reading clears up.
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
        let (records, host) = std::thread::scope(|scope| {
            let host = scope.spawn(|| Host::read(wants));
            let records = Records::read(root, wants);
            (records, host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (records, mut host) = (records?, host?);
        if wants.flows {
            let leases = |found: &Found<Plan>| found.record.plan.leases().map(|step| step.leases.clone());
            let leases = records.attachments.iter().filter_map(leases).flatten();
            let held: HashSet<IpAddr> = leases.map(|lease| lease.address.ip()).collect();
            host.read_flows(&|address| held.contains(&address));
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self { at, records, host })
    }
}
