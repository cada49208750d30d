//! Taking attachments away: the one code path of DEL, GC, rollback and recovery.
//!
//! The kernel waits for RCU whenever a link goes, about 18 ms however many links go at once. So a doomed attachment
//! is only marked (its record moves to `doomed/`); whoever gets the reaping lock takes away all that are marked by
//! then, in one batch, and those that waited find their work done (group commit).

use crate::apply::{ApplyError, Cause, Host, ensure_or_undo};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Part};
use crate::plan::{Plan, Step};
use crate::store::{Doom, Found, Listed, Stage};

use super::{Context, VerbError, deadline};

/// Takes away every doomed attachment, and says what went wrong with those of `wanted`.
///
/// Called without the main lock where it can be: ADDs then go on meanwhile.
///
/// # Errors
/// [`VerbError::Several`] with every failure of an attachment in `wanted`; its record stays doomed.
pub(super) fn reap(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    let Some(lock) = cx.state.reap_lock_unless_gone(deadline(), wanted)? else { return Ok(()) };
    let doomed: Listed<Plan> = cx.state.doomed()?;
    let steps: Vec<&[Step]> = doomed.found.iter().map(|f| f.record.plan.steps.as_slice()).collect();
    let outcomes = if steps.is_empty() { Vec::new() } else { cx.kernel.absent(&steps) };
    let mut failures = Vec::new();
    for (found, errors) in doomed.found.iter().zip(outcomes) {
        let key = &found.record.key;
        if errors.is_empty() {
            cx.state.forget(key)?;
            cx.journal.note(LogLevel::Info, || format!("detached {key} from {}", found.record.network));
            continue;
        }
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = format!("{key}: {}", text.join("; "));
        cx.journal.note(LogLevel::Warning, || text.clone());
        if wanted.contains(key) {
            failures.push(text);
        }
    }
    for broken in doomed.broken {
        // What its name tells can still be taken away; what only its content told, GC finds by its owner's mark.
        let Some(key) = broken.key else { continue };
        cx.journal.note(LogLevel::Warning, || format!("{}: {}", broken.path.display(), broken.error));
        cx.kernel.remove_stray(&key)?;
        cx.state.forget(&key)?;
    }
    // The lock goes before the process does: what the kernel still has to wait for is nobody else's wait.
    drop(lock);
    if failures.is_empty() { Ok(()) } else { Err(VerbError::Several(failures)) }
}

/// Undoes every ADD that was killed half-way. Called under the main lock.
///
/// # Errors
/// Where the state directory cannot be read. An attachment that cannot be taken away stays doomed.
pub(super) fn dead_attachments(cx: &mut Context) -> Result<(), VerbError> {
    let dead: Listed<Plan> = cx.state.dead_pending()?;
    let broken = dead.broken.into_iter().filter_map(|broken| broken.key);
    let keys: Vec<AttachmentKey> = dead.found.into_iter().map(|f| f.record.key).chain(broken).collect();
    if keys.is_empty() {
        return Ok(());
    }
    for key in &keys {
        cx.journal.note(LogLevel::Warning, || format!("the ADD of {key} was killed half-way; undoing it"));
        cx.state.doom(key)?;
    }
    reap(cx, &[])
}

/// Takes one attachment away now, under the main lock, and with an interface all the parts that were added to it.
/// `false` where it has no record.
///
/// # Errors
/// [`VerbError::Busy`] where its ADD is still at work, and as [`reap`].
pub(super) fn evict(cx: &mut Context, key: &AttachmentKey) -> Result<bool, VerbError> {
    let parts = Part::ALL.into_iter().map(|part| key.of_part(part));
    let keys: Vec<AttachmentKey> = if key.part.is_interface() { parts.collect() } else { vec![key.clone()] };
    let mut doomed = Vec::new();
    for key in keys {
        match cx.state.doom(&key)? {
            Doom::Alive => return Err(VerbError::Busy(key)),
            Doom::Unknown => {}
            Doom::Doomed => doomed.push(key),
        }
    }
    if doomed.is_empty() {
        return Ok(false);
    }
    reap(cx, &doomed).map(|()| true)
}

/// Makes a plan so. Where the firewall has what a container left that died without a DEL, that goes first.
///
/// # Errors
/// The inner one is the plan's: nothing of it is left then but what it says. The outer one is the eviction's.
pub(super) fn ensure_anew(cx: &mut Context, plan: &Plan) -> Result<Result<(), ApplyError>, VerbError> {
    let first = ensure_or_undo(&mut cx.kernel, plan);
    match &first {
        Err(ApplyError { cause: Cause::Firewall(_), .. }) if evict_lost(cx)? => {
            Ok(ensure_or_undo(&mut cx.kernel, plan))
        }
        _ => Ok(first),
    }
}

/// Takes away the attachments whose containers are gone without a DEL, or were detached by another program: where an
/// ADD meets what they have left. Under the main lock. `false` where there was none.
///
/// # Errors
/// As [`reap`].
fn evict_lost(cx: &mut Context) -> Result<bool, VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    let mut lost = Vec::new();
    for Found { record, .. } in found.into_iter().filter(|found| found.stage == Stage::Ready) {
        if cx.kernel.has_lost_its_link(&record.plan)? || cx.kernel.has_lost_its_container(&record.plan)? {
            lost.push(record.key);
        }
    }
    for key in &lost {
        cx.journal.note(LogLevel::Warning, || format!("{key} is gone without a DEL; taking what it held"));
        evict(cx, key)?;
    }
    Ok(!lost.is_empty())
}
