//! The walks that are more than one call.

use super::{ApplyError, Drift};
use crate::plan::{Plan, Step};

/// Whether what is to go is known to be the attachment's own still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nobody has tried to take it away: all of it is.
    First,
    /// It was never made whole, or somebody has been half-way: what another has got since stays that one's.
    Again,
}

/// A host that steps can be walked over.
pub trait Host {
    /// Makes steps so, in order; idempotent. Neighbouring steps may leave in one batch.
    ///
    /// # Errors
    /// The first step that could not be made so, with its index; steps before it are made, later ones untouched.
    fn ensure(&mut self, steps: &[Step]) -> Result<(), (usize, ApplyError)>;

    /// Makes the steps of several attachments gone, each plan backwards, shared steps left alone; idempotent.
    /// Never stops at the first error. The outer vector has an entry for each plan.
    fn absent(&mut self, plans: &[&[Step]], attempt: Attempt) -> Vec<Vec<ApplyError>>;

    /// Says how the host differs from what the steps want.
    ///
    /// # Errors
    /// Where the host could not be asked.
    fn probe(&mut self, steps: &[Step]) -> Result<Vec<Drift>, ApplyError>;
}

/// ADD's walk: forwards, and backwards from the failed step where one fails.
///
/// # Errors
/// The error of the step that failed, with whatever could not be undone added to it.
pub fn ensure_or_undo(host: &mut impl Host, plan: &Plan) -> Result<(), ApplyError> {
    let Err((failed, mut error)) = host.ensure(&plan.steps) else { return Ok(()) };
    // The failed step may be half made, so it is undone too: `absent` tolerates what is not there.
    let made = &plan.steps[..=failed.min(plan.steps.len().saturating_sub(1))];
    error.not_undone =
        host.absent(&[made], Attempt::Again).into_iter().flatten().map(|e| e.to_string()).collect();
    Err(error)
}
