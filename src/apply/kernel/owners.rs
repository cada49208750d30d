//! Whose a link is, where its name alone does not say: strangers may have made one, and names are hashes.

use crate::model::{AttachmentKey, names};
use crate::plan::{Plan, Step};
use crate::store::{Found, StoreError};
use crate::sys::rtnl::{self, Link};

use super::{Cause, Kernel};

/// The groups of our links: of those that are there, that are about to go, and that belong to nobody.
const GROUPS: std::ops::RangeInclusive<u32> = names::LINK_GROUP..=names::LINK_GROUP + 2;

impl Kernel {
    /// The attachment with a record that has a link of this name, and is not the one of these steps. One look through the
    /// names of all records: for what is rare.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub(super) fn other_owner(&self, name: &str, steps: &[Step]) -> Result<Option<AttachmentKey>, Cause> {
        // What tells one attachment from another.
        let telling = || steps.iter().filter(|step| matches!(step, Step::Link(_) | Step::Upon(_)));
        for key in self.owners_of_link(name)? {
            let is_other = match self.state.find::<Plan>(&key) {
                Ok(Some(Found { record, .. })) => !telling().all(|step| record.plan.steps.contains(step)),
                Ok(None) => false,
                // Whatever it holds is not to be touched.
                Err(StoreError::Broken { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            if is_other {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The attachments with a record whose links are called so.
    pub(super) fn owners_of_link(&self, name: &str) -> Result<Vec<AttachmentKey>, Cause> {
        let is_called_so = |key: &AttachmentKey| {
            [names::host_interface(key), names::shaping_interface(key)].iter().any(|own| own == name)
        };
        Ok(self.state.keys()?.into_iter().filter(is_called_so).collect())
    }

    /// Whether a link may be taken away for an attachment that was never made whole, or was half-way gone: the link is
    /// there, is marked as ours, and no other attachment is known by the same name. Names of the reference's have no mark.
    pub(super) fn is_own_link(&mut self, name: &str, steps: &[Step]) -> Result<bool, Cause> {
        let Some(Link { group, .. }) = rtnl::link_by_name(self.host()?, name)? else { return Ok(false) };
        if !name.starts_with(names::LINK_PREFIX) {
            return Ok(true);
        }
        if !GROUPS.contains(&group) {
            return Ok(false);
        }
        match self.other_owner(name, steps)? {
            // Two that go at once both leave it to the other.
            Some(other) => Ok(self.state.is_doomed(&other)?),
            None => Ok(true),
        }
    }
}
