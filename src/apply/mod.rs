//! Walking steps over a host.
//!
//! | verb | walk |
//! |---|---|
//! | ADD | [`ensure_or_step_back`]: forwards; on failure backwards, and [`give_back`] |
//! | DEL, GC | [`Host::absent`]: backwards, never stopping at the first error |
//! | CHECK | [`Host::probe`]: each, every drift |
//! | reconcile | [`Kernel::mend`]: `probe` over all recorded attachments, and `ensure` of what differs |
//!
//! A [`Host`] is the kernel with the disk ([`Kernel`]) or, in tests, a fake that fails where it is told to.

mod drift;
mod error;
#[cfg(test)]
mod fake;
mod kernel;
mod loopback;
mod walk;

pub use crate::sys::rtnl::Traffic;
pub use drift::Drift;
pub use error::{ApplyError, Cause};
pub use kernel::{
    Asked, Delegation, ForeignDrop, FoundRule, Holder, HostEnd, HostSide, Kernel, Known, Look, Mending,
    PortSurvey, Reach, SandboxError, Trip, foreign_drops, is_own_program,
};
pub use loopback::{Loopback, LoopbackError};
pub use walk::{Attempt, Host, ensure_again, ensure_or_step_back, give_back, step_back};
