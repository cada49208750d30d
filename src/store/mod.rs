//! What is kept on disk: locks, records, network records, port claims, lease files. Every write is atomic: a killed
//! writer leaves the old content or the new one, never a part. No netlink.
//!
//! ```text
//! /run/linkspan/                 State (0700)
//!   lock, reap.lock              flock(2): kernel work of one ADD at a time; one at a time claims what is doomed
//!   ruleset                      at which generation the firewall was last seen whole
//!   agent.lock                   flock(2): one agent at a time, which writes its process number into it
//!   agent.sock                   the agent's socket (see crate::agent)
//!   networks/NAME.json           crate::model::Network
//!   pending/ID:IF                Record of an ADD under way; its writer holds an flock on the file
//!   ready/ID:IF                  Record of an attachment that is complete
//!   doomed/ID:IF                 Record of an attachment that is to be deleted; who does it holds an flock on the file,
//!                                whose mode says what came of it before (see reaping.rs)
//!   ports/PROTO-PORT/FAMILY-ADDRESS   symbolic link whose target is the owner, ID:IF
//!   ipam/NETWORK/                LeaseDirectory, in the layout of the reference's host-local
//! ```
//!
//! A record changes its state by rename(2), always in the order pending, ready, doomed.

mod agent;
mod claims;
mod colliding;
mod error;
mod files;
mod lease;
mod lock;
mod network;
mod reaping;
mod record;
mod records;
mod ruleset;
mod saved;
mod state;
#[cfg(test)]
mod tests;
mod waiting;

pub use agent::{Agency, AgentLock};
pub use claims::Claim;
pub use error::StoreError;
pub use lease::{DatedLease, HeldLease, LeaseDirectory, Owner};
pub use lock::{Deadline, Guard};
pub use reaping::{Claimed, Harvest, Retry};
pub use record::{Broken, Doom, Found, Listed, RECORD_VERSION, Record, Stage};
pub use records::Pending;
pub use ruleset::{RulesetNote, SeenRuleset};
pub use saved::{forget_settings, save_settings, saved_settings};
pub use state::State;

/// What an operation of this room gives.
pub type Result<T> = std::result::Result<T, StoreError>;
