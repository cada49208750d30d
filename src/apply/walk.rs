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

/// ADD's walk: forwards, and backwards from the failed step where one fails, down to the addresses: these stay, for another
/// try, or for [`give_back`].
///
/// # Errors
/// The error of the step that failed, with whatever could not be undone added to it.
pub fn ensure_or_step_back(host: &mut impl Host, plan: &Plan) -> Result<(), ApplyError> {
    let Err((failed, mut error)) = host.ensure(&plan.steps) else { return Ok(()) };
    // The failed step may be half made, so it is undone too: `absent` tolerates what is not there.
    let made = &plan.steps[..=failed.min(plan.steps.len().saturating_sub(1))];
    error.not_undone = step_back(host, made).iter().map(ToString::to_string).collect();
    Err(error)
}

/// A second try of [`ensure_or_step_back`]. Where it fails before the step that the first one failed at, what the first one
/// could not undo is tried again.
///
/// # Errors
/// As the first.
pub fn ensure_again(host: &mut impl Host, plan: &Plan, first: &ApplyError) -> Result<(), ApplyError> {
    ensure_or_step_back(host, plan).map_err(|mut error| {
        if !first.not_undone.is_empty() {
            error.not_undone = step_back(host, &plan.steps).iter().map(ToString::to_string).collect();
        }
        error
    })
}

/// Undoes all but the addresses. Gives what could not be undone.
pub fn step_back(host: &mut impl Host, steps: &[Step]) -> Vec<ApplyError> {
    undo(host, steps, |step| !is_leases(step))
}

/// Gives the addresses back, once all else is undone. Another plugin may be asked, which takes its time or hangs: nobody is
/// to wait for the caller. Gives what could not be undone.
pub fn give_back(host: &mut impl Host, steps: &[Step]) -> Vec<ApplyError> {
    undo(host, steps, is_leases)
}

fn undo(host: &mut impl Host, steps: &[Step], which: impl Fn(&Step) -> bool) -> Vec<ApplyError> {
    let steps: Vec<Step> = steps.iter().filter(|step| which(step)).cloned().collect();
    if steps.is_empty() {
        return Vec::new();
    }
    host.absent(&[&steps], Attempt::Again).into_iter().flatten().collect()
}

fn is_leases(step: &Step) -> bool {
    matches!(step, Step::Leases(_))
}
