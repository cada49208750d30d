//! Taking attachments away: the one code path of DEL, GC, rollback and recovery.
//!
//! A doomed attachment is only marked (its record moves to `doomed/`). Whoever gets the reaping lock claims all that are
//! marked by then, lets the lock go, and takes them away in one batch; those that waited find their work done (group
//! commit). What a batch costs is two things: a millisecond and more of the kernel's one lock on links; and then about
//! 18 ms of waiting for RCU, without that lock, which batches share. During both the next batch gathers.

use std::time::{Duration, Instant};

use crate::apply::{ApplyError, Cause, ensure_or_undo};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Part, names};
use crate::plan::Plan;
use crate::store::{Doom, Found, Guard, Listed, Record, Stage, StoreError};
use crate::sys::bell::Bell;

use super::batch::{self, Aim, OfOthers};
use super::{Context, VerbError, deadline, waiting};

/// How long somebody who takes an attachment away is believed to be alive without a look.
const LOOK: Duration = Duration::from_millis(100);

/// Takes away every doomed attachment that nobody else is taking away or has failed at, and says what went wrong with
/// those of `wanted`, which are gone when this returns without an error: whoever takes them away.
///
/// Called without the main lock: ADDs then go on meanwhile.
///
/// # Errors
/// [`VerbError::Several`] with every failure of an attachment in `wanted`; its record stays doomed.
pub(super) fn reap(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    let outcome = reap_for(cx, Aim { wanted, of_others: OfOthers::New });
    waiting::hand_over(cx);
    outcome
}

/// The same, and tries anew what others have failed at.
///
/// # Errors
/// As [`reap`].
pub(super) fn reap_all(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    let outcome = reap_for(cx, Aim { wanted, of_others: OfOthers::All });
    waiting::hand_over(cx);
    outcome
}

/// The same as [`reap`] under the main lock, for which no plugin of an attachment is run that is not wanted.
///
/// # Errors
/// As [`reap`].
pub(super) fn reap_locked(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    reap_for(cx, Aim { wanted, of_others: OfOthers::Quick })
}

fn reap_for(cx: &mut Context, mut aim: Aim<'_>) -> Result<(), VerbError> {
    let mut wait = Wait { begun: Instant::now(), bell: None };
    loop {
        let Some(turn) = turn(cx, aim.wanted, &mut wait)? else { return Ok(()) };
        let failures = batch::take_away(cx, turn, aim)?;
        if !failures.is_empty() {
            return Err(VerbError::Several(failures));
        }
        let Some(first) = first_doomed(cx, aim.wanted)? else { return Ok(()) };
        // Once is enough for what still fails.
        if aim.of_others == OfOthers::All {
            aim.of_others = OfOthers::New;
        }
        // Somebody else has claimed it, and will be done or fail: then it is ours to try.
        wait.go_on(cx, first)?;
    }
}

/// The lock of who claims what is doomed; `None` where nothing of `wanted` is left to wait for.
fn turn(cx: &Context, wanted: &[AttachmentKey], wait: &mut Wait) -> Result<Option<Guard>, VerbError> {
    loop {
        // Who was waited for has done it, or not.
        if wait.bell.is_some() && first_doomed(cx, wanted)?.is_none() {
            return Ok(None);
        }
        if let Some(lock) = cx.state.try_reap_lock()? {
            return Ok(Some(lock));
        }
        let first = first_doomed(cx, wanted)?;
        if first.is_none() && !wanted.is_empty() {
            return Ok(None);
        }
        // One waits for the lock, and for all the others.
        let next = cx.state.try_next_reaper()?;
        let Some(key) = first.filter(|_| next.is_none()) else {
            return Ok(Some(cx.state.reap_lock(deadline())?));
        };
        wait.go_on(cx, key)?;
    }
}

fn first_doomed<'a>(
    cx: &Context,
    wanted: &'a [AttachmentKey],
) -> Result<Option<&'a AttachmentKey>, StoreError> {
    for key in wanted {
        if cx.state.is_doomed(key)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Waiting for somebody else to take an attachment away.
struct Wait {
    begun: Instant,
    /// Where they say so, and of which attachment.
    bell: Option<(String, Bell)>,
}

impl Wait {
    /// Waits until they have taken it away, or could not; not for long without a look at whether they live.
    fn go_on(&mut self, cx: &Context, key: &AttachmentKey) -> Result<(), VerbError> {
        let waited = self.begun.elapsed();
        if waited >= deadline().0 {
            let path = cx.state.root().join("reap.lock");
            return Err(StoreError::LockTimeout { path, waited }.into());
        }
        let name = bell_of(cx, key);
        if self.bell.as_ref().is_none_or(|(hung, _)| *hung != name) {
            // Another DEL of the same may wait there already.
            self.bell = Bell::hang(&name).ok().map(|bell| (name, bell));
            // It may have been done before the bell hung there.
            if !cx.state.is_doomed(key)? {
                return Ok(());
            }
        }
        match &self.bell {
            Some((_, bell)) => {
                bell.wait(LOOK);
            }
            None => std::thread::sleep(LOOK / 40),
        }
        Ok(())
    }
}

/// The name of the bell of who waits for an attachment's end.
pub(super) fn bell_of(cx: &Context, key: &AttachmentKey) -> String {
    let text = format!("{} {key}", cx.state.root().display());
    format!("linkspan-gone-{:016x}", names::hash(text.as_bytes()))
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
    let mut wait = Wait { begun: Instant::now(), bell: None };
    if let Some(turn) = turn(cx, &[], &mut wait)? {
        // What fails is noted, and the ADD goes on.
        batch::take_away(cx, turn, Aim { wanted: &keys, of_others: OfOthers::Quick })?;
    }
    Ok(())
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
    reap_locked(cx, &doomed).map(|()| true)
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

/// Whether an attachment's container is gone without a DEL, or has lost its interface.
///
/// # Errors
/// Where the kernel or the state directory cannot be asked.
pub(super) fn is_lost(cx: &mut Context, record: &Record<Plan>) -> Result<bool, VerbError> {
    if cx.kernel.has_lost_its_link(&record.plan)? {
        return Ok(true);
    }
    // A pair of ours is there for as long as its host end is, wherever the container's namespace can be seen from.
    if !record.key.part.is_interface()
        && let Some(Found { stage: Stage::Ready, record: own }) =
            cx.state.find::<Plan>(&record.key.attachment())?
        && own.plan.link().is_some()
    {
        return Ok(cx.kernel.has_lost_its_link(&own.plan)?);
    }
    Ok(cx.kernel.has_lost_its_container(&record.plan)?)
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
        if is_lost(cx, &record)? {
            lost.push(record.key);
        }
    }
    for key in &lost {
        cx.journal.note(LogLevel::Warning, || format!("{key} is gone without a DEL; taking what it held"));
        evict(cx, key)?;
    }
    Ok(!lost.is_empty())
}
