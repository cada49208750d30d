//! Published ports that go from one interface of a container to another: a runtime gives each network of a container the
//! same list, the first has the ports, and when it is detached the next one takes them up.

use crate::apply::{Drift, Host};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Publication};
use crate::plan::{Plan, Step};
use crate::store::{Found, Listed, Stage};

use super::{Context, VerbError, deadline};

/// Hands the ports over that were let go by this call, to those who wait for them. Called without any lock. What goes
/// wrong is told, and no failure of who let them go: CHECK finds it, and reconciliation mends it.
pub(super) fn hand_over(cx: &mut Context) {
    let waiters = cx.kernel.take_waiters();
    if waiters.is_empty() {
        return;
    }
    let state = cx.state.clone();
    match state.lock(deadline()) {
        // It has said what went wrong.
        Ok(_lock) => drop(give_all(cx, &waiters)),
        Err(error) => cx.journal.note(LogLevel::Warning, || format!("ports are not handed over: {error}")),
    }
}

/// An attachment that could not be given its ports.
#[derive(Debug)]
pub(super) struct Empty {
    /// What it waits for and nobody has, as a look tells of it.
    pub drifts: Vec<Drift>,
    /// Why it does not get it.
    pub why: String,
}

/// Has every attachment take up what it waits for and nobody has: after somebody was killed who let it go. Under the main
/// lock. Gives those that could not.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn mend(cx: &mut Context) -> Result<Vec<Empty>, VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    let waits = |found: Found<Plan>| {
        let waiting = found.record.plan.claims()?.waiting.clone();
        (!waiting.is_empty()).then_some((found.record.key, waiting))
    };
    let waiting: Vec<(AttachmentKey, Vec<Publication>)> = found.into_iter().filter_map(waits).collect();
    let waiters: Vec<AttachmentKey> = waiting.iter().map(|(key, _)| key.clone()).collect();
    let failures = give_all(cx, &waiters).into_iter();
    let empty = failures.map(|(key, why)| {
        let of_it = waiting.iter().filter(|(waiter, _)| *waiter == key).flat_map(|(_, ports)| ports);
        Empty { drifts: of_it.map(Drift::unpublished).collect(), why }
    });
    Ok(empty.collect())
}

/// Gives those that do not get what is free, and why.
fn give_all(cx: &mut Context, waiters: &[AttachmentKey]) -> Vec<(AttachmentKey, String)> {
    let mut failures = Vec::new();
    for key in waiters {
        match give(cx, key) {
            Ok(ports) => {
                for port in ports {
                    cx.journal.note(LogLevel::Info, || format!("host port {port} is {key}'s now"));
                }
            }
            Err(error) => {
                let why = format!("{key} does not get its ports: {error}");
                cx.journal.note(LogLevel::Warning, || why.clone());
                failures.push((key.clone(), why));
            }
        }
    }
    failures
}

/// Has an attachment take up what it waits for, as far as nobody has it: held first, then written down, then published,
/// so that a record never names what may become another's.
fn give(cx: &mut Context, key: &AttachmentKey) -> Result<Vec<Publication>, VerbError> {
    let Some(Found { stage: Stage::Ready, mut record }) = cx.state.find::<Plan>(key)? else {
        return Ok(Vec::new());
    };
    let Some(claims) = record.plan.claims() else { return Ok(Vec::new()) };
    let (waiting, own) = (claims.waiting.clone(), key.to_string());
    // Before the look: who lets one go after that finds out who waits for it.
    cx.state.wait_for(&waiting, key)?;
    let owned = cx.state.owners(&waiting)?;
    let is_free = |port: &Publication| !owned.iter().any(|(taken, owner)| taken == port && *owner != own);
    let (free, rest): (Vec<Publication>, Vec<Publication>) = waiting.iter().partition(|port| is_free(port));
    if free.is_empty() {
        return Ok(free);
    }
    cx.state.claim(&free, key)?;
    record.plan.take_up(&free);
    cx.state.rewrite_ready(&record)?;
    cx.state.stop_waiting(&free, &rest, key)?;
    let rules: Vec<Step> =
        record.plan.steps.into_iter().filter(|step| matches!(step, Step::Firewall(_))).collect();
    cx.kernel.ensure(&rules).map_err(|(_, error)| error)?;
    Ok(free)
}
