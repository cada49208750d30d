//! Taking attachments away: the one code path of DEL, GC, rollback and recovery.
//!
//! A doomed attachment is only marked (its record moves to `doomed/`). Whoever gets the reaping lock claims all that are
//! marked by then, lets the lock go, and takes them away in one batch; those that waited find their work done (group
//! commit). What a batch costs is two things: a millisecond and more of the kernel's one lock on links; and then about
//! 18 ms of waiting for RCU, without that lock, which batches share. During both the next batch gathers.

use std::time::{Duration, Instant};

use crate::apply::{ApplyError, Cause, ensure_again, ensure_or_step_back};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Part, names};
use crate::plan::Plan;
use crate::store::{Claimed, Doom, Found, Guard, Listed, Record, Stage, StoreError};
use crate::sys::bell::Bell;

use super::batch::{self, Aim, OfOthers, Outcome};
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
    told(&reap_new(cx, wanted)?, wanted)
}

/// The same, and gives what became of all.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn reap_new(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<Outcome, VerbError> {
    let outcome = reap_for(cx, Aim { wanted, of_others: OfOthers::New });
    waiting::hand_over(cx);
    outcome
}

/// The same, and tries anew what others have failed at.
///
/// # Errors
/// As [`reap`].
pub(super) fn reap_all(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    told(&reap_anew(cx, wanted)?, wanted)
}

/// The same, and gives what became of all.
///
/// # Errors
/// As [`reap_new`].
pub(super) fn reap_anew(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<Outcome, VerbError> {
    let outcome = reap_for(cx, Aim { wanted, of_others: OfOthers::All });
    waiting::hand_over(cx);
    outcome
}

/// The same as [`reap`] under the main lock, for which no plugin is run and waited for: where one has to be asked, what the
/// attachment had on the host is gone when this returns, and the record is left for a batch without that lock.
///
/// # Errors
/// As [`reap`].
pub(super) fn reap_locked(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    told(&reap_for(cx, Aim { wanted, of_others: OfOthers::Quick })?, wanted)
}

/// What went wrong with those that were wanted.
fn told(outcome: &Outcome, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    let failures = outcome.failed.iter().filter(|(key, _)| wanted.contains(key));
    let failures: Vec<String> = failures.map(|(_, text)| text.clone()).collect();
    if failures.is_empty() { Ok(()) } else { Err(VerbError::Several(failures)) }
}

fn reap_for(cx: &mut Context, aim: Aim<'_>) -> Result<Outcome, VerbError> {
    let mut wait = Wait { begun: Instant::now(), bell: None };
    let mut claimed = Claimed::default();
    let mut outcome = Outcome::default();
    // What this one has had is gone, or has failed, which once is enough for.
    let mut waiting = aim.wanted.to_vec();
    let for_plugin = aim.of_others != OfOthers::Quick;
    while let Some(turn) = turn(cx, &waiting, &mut wait)? {
        let more = batch::take_away(cx, turn, &mut claimed, aim, &mut outcome)?;
        waiting.retain(|key| !claimed.has_had(key));
        if more {
            wait.bell = None;
            continue;
        }
        let Some(first) = first_doomed(cx, &waiting, for_plugin)? else { break };
        // Somebody else has claimed it, and will be done or fail: then it is ours to try.
        wait.go_on(cx, first)?;
    }
    Ok(outcome)
}

/// The lock of who claims what is doomed; `None` where nothing of `wanted` is left to wait for.
fn turn(cx: &Context, wanted: &[AttachmentKey], wait: &mut Wait) -> Result<Option<Guard>, VerbError> {
    loop {
        // Who was waited for has done it, or not.
        if wait.bell.is_some() && first_doomed(cx, wanted, true)?.is_none() {
            return Ok(None);
        }
        if let Some(lock) = cx.state.try_reap_lock()? {
            return Ok(Some(lock));
        }
        let first = first_doomed(cx, wanted, true)?;
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

/// The first of these that is not gone; or, but for what waits `for_plugin`, that somebody is taking away.
fn first_doomed<'a>(
    cx: &Context,
    wanted: &'a [AttachmentKey],
    for_plugin: bool,
) -> Result<Option<&'a AttachmentKey>, StoreError> {
    for key in wanted {
        let is_there = if for_plugin { cx.state.is_doomed(key)? } else { cx.state.is_going(key)? };
        if is_there {
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
    // What fails is noted, and the ADD goes on.
    reap_for(cx, Aim { wanted: &[], of_others: OfOthers::Quick }).map(drop)
}

/// Takes one attachment away now, under the main lock, and with an interface all the parts that were added to it; but for
/// what a plugin has to be asked, for which the record stays. `false` where it has no record.
///
/// # Errors
/// [`VerbError::Busy`] where its ADD is still at work, and as [`reap`].
pub(super) fn evict(cx: &mut Context, key: &AttachmentKey) -> Result<bool, VerbError> {
    let mut doomed = Vec::new();
    for key in with_parts(key) {
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

/// An attachment and, with an interface, the parts that may have been added to it.
fn with_parts(key: &AttachmentKey) -> Vec<AttachmentKey> {
    let parts = Part::ALL.into_iter().map(|part| key.of_part(part));
    if key.part.is_interface() { parts.collect() } else { vec![key.clone()] }
}

/// Makes a plan so. Where the firewall has what a container left that died without a DEL, that goes first.
///
/// # Errors
/// The plan's: nothing of it is left then but what it says, and the addresses, which are the caller's to give back.
pub(super) fn ensure_anew(cx: &mut Context, plan: &Plan) -> Result<(), ApplyError> {
    match ensure_or_step_back(&mut cx.kernel, plan) {
        // The addresses are held meanwhile: they are those of the next try.
        Err(first) if matches!(first.cause, Cause::Firewall(_)) && evict_lost(cx) => {
            ensure_again(&mut cx.kernel, plan, &first)
        }
        done => done,
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
/// ADD meets what they have left. Under the main lock. `false` where there was none. What fails is noted: it is not the
/// business of that ADD, which then meets the same again, or does not.
fn evict_lost(cx: &mut Context) -> bool {
    let evicted = doom_lost(cx).and_then(|doomed| reap_locked(cx, &doomed).map(|()| !doomed.is_empty()));
    evicted.unwrap_or_else(|error| {
        // Of several, those that went well are gone.
        let are_several = matches!(error, VerbError::Several(_));
        if !are_several {
            cx.journal
                .note(LogLevel::Warning, || format!("cannot take away what the dead have left: {error}"));
        }
        are_several
    })
}

fn doom_lost(cx: &mut Context) -> Result<Vec<AttachmentKey>, VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    let mut doomed = Vec::new();
    for Found { record, .. } in found.into_iter().filter(|found| found.stage == Stage::Ready) {
        // What cannot be looked at counts as living.
        if doomed.contains(&record.key) || !is_lost(cx, &record).unwrap_or(false) {
            continue;
        }
        let key = record.key;
        cx.journal.note(LogLevel::Warning, || format!("{key} is gone without a DEL; taking what it held"));
        for key in with_parts(&key) {
            if cx.state.doom(&key)? == Doom::Doomed {
                doomed.push(key);
            }
        }
    }
    Ok(doomed)
}
