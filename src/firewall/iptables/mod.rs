//! The ruleset as texts for `iptables-restore --noflush`, for hosts whose administrators live in iptables.
//!
//! Chains of ours start with `LINKSPAN-` (shared by all networks) or `LKS-` (of one network or attachment); nothing
//! else is ever emptied or deleted. A line `:CHAIN - [0:0]` makes a chain or empties it, so that texts of chains of our
//! own can be sent twice; jumps cannot, hence the three ways:
//!
//! | verb | text | where it fails |
//! |---|---|---|
//! | ADD | [`attach`], one process a family | chains are missing: [`rebuild`] with this attachment among the others |
//! | DEL | [`detach`], one process a family | something is missing: [`detach_from`] what `iptables-save` prints |
//! | CHECK | [`network_checks`], [`attachment_checks`] | drift |
//! | GC, reconcile | [`rebuild`] from all records | |
//!
//! A failed restore of one table changes nothing of that table, and ADD and DEL change table nat alone, but for the open
//! ports of a routed network, in filter: what fails there is made whole by the next line of the table above. An ADD's
//! text asks (`-C`) for the jumps out of the built-in chains, so that it fails where somebody has removed one.
//!
//! What is masqueraded follows from `--ctstate DNAT`, so no mark is set, whatever `markMasqBit` says; with
//! `externalSetMarkChain` what would be masqueraded is sent through that chain instead, which must exist.

mod admission;
mod attachment;
mod legacy;
mod rule;
mod saved;
mod shared;
mod whole;

use crate::model::chains;

pub use admission::{admission, retraction};
pub use attachment::{Restore, attach, chain, detach};
pub use legacy::{LegacyFilter, LegacyTable};
pub use rule::Family;
pub(in crate::firewall) use rule::Text;
pub use saved::{Saved, SavedRule};
pub use shared::ENTRY_CHAINS;
#[cfg(test)]
use whole::checks;
pub use whole::{attachment_checks, detach_from, missing, network_checks, rebuild};

/// Whether a chain's name says that it is ours.
fn is_ours(chain: &str) -> bool {
    chains::is_own_of_iptables(chain)
}

#[cfg(test)]
mod tests;
