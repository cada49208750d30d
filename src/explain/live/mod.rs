//! A real probe, and what the kernel did with it.
//!
//! A packet is sent from where the question begins, or, from outside, one that comes is waited for. A table of our own
//! (`linkspan-trace`), which the kernel takes away with its owner, marks exactly that packet and its answers, in the
//! host's namespace and in those of the containers concerned; the kernel then tells of every rule that it matches
//! (`NFNLGRP_NFTRACE`). What no rule sees shows in the answer, in the tracked connection, and in counters that moved.

mod agreement;
mod counters;
mod error;
mod judge;
mod order;
mod place;
mod run;
mod seen;
mod size;

pub use agreement::{Agreement, compare};
pub use counters::Moved;
pub use error::LiveError;
pub use judge::{Dropped, Outcome};
pub use place::leftovers;
pub use run::{Order, Party, observe};
pub use seen::{Answer, Direction, Live, Matched, Step, Tracked};
pub use size::SizeTest;
