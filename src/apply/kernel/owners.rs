//! Whose a link is, where its name alone does not say: strangers may have made one, and names are hashes.

use std::collections::HashMap;

use crate::model::{AttachmentKey, names};
use crate::plan::{Plan, Step};
use crate::store::{Found, StoreError};
use crate::sys::rtnl::{self, Link};

use super::{Cause, Kernel};

/// The groups of our links: of those that are there, that are about to go, and that belong to nobody.
const GROUPS: std::ops::RangeInclusive<u32> = names::LINK_GROUP..=names::LINK_GROUP + 2;

/// The attachments with a record, by the names of their links.
pub(super) type Owners = HashMap<String, Vec<AttachmentKey>>;

impl Kernel {
    /// The attachment with a record that has a link of this name, and is not the one of these steps. One look through the
    /// names of all records: for what is rare.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub(super) fn other_owner(&self, name: &str, steps: &[Step]) -> Result<Option<AttachmentKey>, Cause> {
        self.other_of(&self.owners_of_link(name)?, steps)
    }

    /// The first of these that is not the one of these steps.
    fn other_of(&self, keys: &[AttachmentKey], steps: &[Step]) -> Result<Option<AttachmentKey>, Cause> {
        // What tells one attachment from another.
        let telling = || steps.iter().filter(|step| matches!(step, Step::Link(_) | Step::Upon(_)));
        for key in keys {
            let is_other = match self.state.find::<Plan>(key) {
                Ok(Some(Found { record, .. })) => !telling().all(|step| record.plan.steps.contains(step)),
                Ok(None) => false,
                // Whatever it holds is not to be touched.
                Err(StoreError::Broken { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            if is_other {
                return Ok(Some(key.clone()));
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

    /// The same of all links.
    fn owners_of_links(&self) -> Result<Owners, Cause> {
        let mut owners = Owners::new();
        for key in self.state.keys()? {
            for name in [names::host_interface(&key), names::shaping_interface(&key)] {
                owners.entry(name).or_default().push(key.clone());
            }
        }
        Ok(owners)
    }

    /// Whether a link may be taken away for an attachment that was never made whole, or was half-way gone: the link is
    /// there, is marked as ours, and no other attachment is known by the same name. Names of the reference's have no mark.
    /// `owners` is read where it is needed first: it serves for many links.
    pub(super) fn is_own_link(
        &mut self,
        name: &str,
        steps: &[Step],
        owners: &mut Option<Owners>,
    ) -> Result<bool, Cause> {
        let Some(Link { group, .. }) = rtnl::link_by_name(self.host()?, name)? else { return Ok(false) };
        if !name.starts_with(names::LINK_PREFIX) {
            return Ok(true);
        }
        if !GROUPS.contains(&group) {
            return Ok(false);
        }
        let owners = match owners {
            Some(owners) => owners,
            None => owners.insert(self.owners_of_links()?),
        };
        match self.other_of(owners.get(name).map_or(&[], Vec::as_slice), steps)? {
            // Two that go at once both leave it to the other.
            Some(other) => Ok(self.state.is_doomed(&other)?),
            None => Ok(true),
        }
    }
}
