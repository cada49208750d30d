//! Why a packet does not arrive: its way through this host, hop by hop, and the first place where it ends.
//!
//! What stops it is a [`Finding`]: a [`Fault`] that has a name for machines, a sentence for people, and the command that
//! would mend it. [`explain`] walks the way as the kernel would: routes are the kernel's own answers, and the rules that
//! are followed are those that it has, our own as anybody's. Nothing is changed here.

mod blame;
pub mod ends;
mod error;
mod finding;
mod hooks;
pub mod live;
mod opening;
mod query;
mod site;
mod walk;
mod way;

pub use error::ExplainError;
pub use finding::{Certainty, Fault, Finding};
pub use query::{Named, Target, Transport};
pub use walk::{Party, Question, explain};
pub use way::{Decision, Deed, Explanation, Fate, Hop, Leg};
