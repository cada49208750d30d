//! What somebody else has made in our table.

use crate::firewall::nft;

use super::{Cause, Kernel};

impl Kernel {
    /// The sets of our table, by their names, that are of another type than ours: no element of ours fits into one.
    ///
    /// # Errors
    /// Where the kernel cannot be asked, or its list of sets keeps changing.
    pub fn strange_sets(&mut self) -> Result<Vec<&'static str>, Cause> {
        let replies = self.nft()?.dump(&nft::dump_sets())?;
        Ok(replies.iter().filter_map(|reply| nft::strange_set(reply)).collect())
    }
}
