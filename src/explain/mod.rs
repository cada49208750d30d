//! Why a packet does not arrive: its way through this host, hop by hop, and the first place where it ends.
//!
//! What stops it is a [`Finding`]: a [`Fault`] that has a name for machines, a sentence for people, and the command that
//! would mend it. Nothing is changed here.

pub mod ends;
mod finding;
pub mod live;

pub use finding::{Certainty, Fault, Finding};
