//! Published ports that go from one interface of a container to another: a runtime gives each network of a container the
//! same list, the first has the ports, and when it is detached the next one takes them up.

use crate::apply::Host;
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
        Ok(_lock) => give_all(cx, &waiters),
        Err(error) => cx.journal.note(LogLevel::Warning, || format!("ports are not handed over: {error}")),
    }
}

/// Has every attachment take up what it waits for and nobody has: after somebody was killed who let it go. Under the main
/// lock.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn mend(cx: &mut Context) -> Result<(), VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    let waits = |found: &Found<Plan>| found.record.plan.claims().is_some_and(|c| !c.waiting.is_empty());
    let waiters: Vec<AttachmentKey> = found.into_iter().filter(waits).map(|found| found.record.key).collect();
    give_all(cx, &waiters);
    Ok(())
}

fn give_all(cx: &mut Context, waiters: &[AttachmentKey]) {
    for key in waiters {
        match give(cx, key) {
            Ok(ports) => {
                for port in ports {
                    cx.journal.note(LogLevel::Info, || format!("host port {port} is {key}'s now"));
                }
            }
            Err(error) => {
                cx.journal.note(LogLevel::Warning, || format!("{key} does not get its ports: {error}"));
            }
        }
    }
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
