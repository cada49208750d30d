//! The ruleset as a value, and its rendering for nf_tables and for iptables. Nothing here runs anything.

pub mod iptables;
pub mod nft;
pub mod reference;
mod rules;
#[cfg(test)]
pub(crate) mod sandbox;

pub use rules::{AttachmentRules, NAMES_PORT, NetworkRules};
pub(crate) use rules::{Open, opened};
