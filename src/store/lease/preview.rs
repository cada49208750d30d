//! Which addresses would be taken, without taking them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use super::super::state::State;
use super::super::{Result, StoreError};
use super::LeaseDirectory;
use super::allocate::lease;
use crate::cni::RequestedAddress;
use crate::ipam;
use crate::model::{AttachmentKey, Lease, RangeSet, names};

impl State {
    /// The addresses that [`LeaseDirectory::allocate`] would take now. Nothing is written, so the next caller may
    /// be faster.
    ///
    /// # Errors
    /// As allocating: [`StoreError::Request`], [`StoreError::AddressTaken`], [`StoreError::Exhausted`].
    pub fn preview_leases(
        &self,
        path: &Path,
        range_sets: &[RangeSet],
        requested: &[RequestedAddress],
        key: &AttachmentKey,
    ) -> Result<Vec<Lease>> {
        let directory = self.existing_lease_directory(path)?;
        let held: HashSet<IpAddr> = directory.as_ref().map_or(Ok(HashSet::new()), LeaseDirectory::held)?;
        let seed = names::hash(format!("{}\r\n{}", key.container_id, key.interface).as_bytes());
        let mut leases = Vec::with_capacity(range_sets.len());
        for (index, (set, wanted)) in range_sets.iter().zip(ipam::assign(range_sets, requested)?).enumerate()
        {
            let address = match wanted {
                Some(address) if held.contains(&address) => {
                    let owner = directory.as_ref().and_then(|found| found.owner(address).ok().flatten());
                    let owner = owner.map(|owner| owner.to_string()).unwrap_or_default();
                    return Err(StoreError::AddressTaken { address, owner });
                }
                Some(address) => address,
                None => {
                    let last = directory.as_ref().and_then(|found| found.last_given(index));
                    let free = |address: IpAddr| Ok::<_, StoreError>(!held.contains(&address));
                    match ipam::choose(set, last, seed, free, || Ok(held.clone()))? {
                        Some(address) => address,
                        None => return Err(super::allocate::exhaustion(index, set, path)),
                    }
                }
            };
            leases.extend(lease(set, address));
        }
        Ok(leases)
    }
}
