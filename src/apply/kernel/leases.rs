//! The addresses of an attachment.

use std::path::Path;

use crate::model::LeaseSource;
use crate::plan::Leases;

use super::{Cause, Drift, Kernel};

impl Kernel {
    /// Gives the addresses back to whoever holds them.
    pub(super) fn release_leases(&mut self, step: &Leases) -> Result<(), Cause> {
        match &step.source {
            LeaseSource::Static | LeaseSource::None => Ok(()),
            LeaseSource::Files { directory } => {
                let Some(directory) = self.state.existing_lease_directory(Path::new(directory))? else {
                    return Ok(());
                };
                if step.leases.is_empty() {
                    // The ADD was killed before it wrote down which addresses it took.
                    directory.release_by_walk(&step.owner)?;
                    return Ok(());
                }
                Ok(directory.release(&step.leases, &step.owner)?)
            }
            LeaseSource::Delegated { .. } => super::delegate::release(step),
        }
    }

    /// Takes addresses that the attachment has and whose lease files are gone.
    pub(super) fn hold_leases(&mut self, step: &Leases) -> Result<(), Cause> {
        let LeaseSource::Files { directory } = &step.source else { return Ok(()) };
        let directory = self.state.lease_directory(Path::new(directory))?;
        Ok(directory.hold(&step.leases, &step.owner)?)
    }

    pub(super) fn probe_leases(&mut self, step: &Leases, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let LeaseSource::Files { directory } = &step.source else { return Ok(()) };
        let directory = self.state.existing_lease_directory(Path::new(directory))?;
        for lease in &step.leases {
            let address = lease.address.ip();
            let owner = match &directory {
                Some(directory) => directory.owner(address)?,
                None => None,
            };
            match owner {
                Some(owner) if owner.is(&step.owner) => {}
                Some(owner) => {
                    let object = format!("lease of {address}");
                    drifts.push(Drift::new(object, step.owner.to_string(), owner.to_string()));
                }
                None => drifts.push(Drift::missing(format!("lease of {address}"))),
            }
        }
        Ok(())
    }
}
