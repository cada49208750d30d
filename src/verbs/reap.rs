//! Taking attachments away: the one code path of DEL, GC, rollback and recovery.
//!
//! A doomed attachment is only marked (its record moves to `doomed/`). Whoever gets the reaping lock claims all that are
//! marked by then, lets the lock go, and takes them away in one batch; those that waited find their work done (group
//! commit). What a batch costs is two things: a millisecond and more of the kernel's one lock on links; and then about
//! 18 ms of waiting for RCU, without that lock, which batches share. During both the next batch gathers.

use std::time::{Duration, Instant};

use crate::apply::{ApplyError, Attempt, Cause, Host, ensure_or_undo};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Part, names};
use crate::plan::{Plan, Step};
use crate::store::{Claimed, Doom, Found, Guard, Listed, Record, Stage, StoreError};
use crate::sys::bell::{self, Bell};

use super::{Context, VerbError, deadline};

/// How long somebody who takes an attachment away is believed to be alive without a look.
const LOOK: Duration = Duration::from_millis(100);

/// How long nobody else has come where a batch begins that has another before it.
const LULL: Duration = Duration::from_millis(2);

/// The longest that a batch gathers.
const GATHERING: Duration = Duration::from_millis(50);

/// Takes away every doomed attachment that nobody else is taking away, and says what went wrong with those of `wanted`,
/// which are gone when this returns without an error: whoever takes them away.
///
/// Called without the main lock where it can be: ADDs then go on meanwhile.
///
/// # Errors
/// [`VerbError::Several`] with every failure of an attachment in `wanted`; its record stays doomed.
pub(super) fn reap(cx: &mut Context, wanted: &[AttachmentKey]) -> Result<(), VerbError> {
    let mut wait = Wait { begun: Instant::now(), bell: None };
    loop {
        let Some(turn) = turn(cx, wanted, &mut wait)? else { return Ok(()) };
        let failures = reap_batch(cx, turn, wanted)?;
        if !failures.is_empty() {
            return Err(VerbError::Several(failures));
        }
        let Some(first) = first_doomed(cx, wanted)? else { return Ok(()) };
        // Somebody else has claimed it, and will be done or fail: then it is ours to try.
        wait.go_on(cx, first)?;
    }
}

/// Claims what is doomed, and takes it away. Gives what went wrong with those of `wanted` that were claimed.
fn reap_batch(cx: &mut Context, turn: Guard, wanted: &[AttachmentKey]) -> Result<Vec<String>, VerbError> {
    let claimed = gather(cx)?;
    drop(turn);
    let doomed = &claimed.listed;
    let mut outcomes = Vec::new();
    for (found, attempt) in [(&doomed.found, Attempt::First), (&claimed.again, Attempt::Again)] {
        let steps: Vec<&[Step]> = found.iter().map(|f| f.record.plan.steps.as_slice()).collect();
        if !steps.is_empty() {
            outcomes.extend(cx.kernel.absent(&steps, attempt));
        }
    }
    let mut failures = Vec::new();
    for (found, errors) in doomed.found.iter().chain(&claimed.again).zip(outcomes) {
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
    for broken in &doomed.broken {
        // What its name tells can still be taken away; what only its content told, GC finds by its owner's mark.
        let Some(key) = &broken.key else { continue };
        cx.journal.note(LogLevel::Warning, || format!("{}: {}", broken.path.display(), broken.error));
        cx.kernel.remove_stray(key)?;
        cx.state.forget(key)?;
    }
    let bells: Vec<String> = doomed
        .found
        .iter()
        .chain(&claimed.again)
        .map(|found| &found.record.key)
        .chain(doomed.broken.iter().filter_map(|broken| broken.key.as_ref()))
        .map(|key| bell_of(cx, key))
        .collect();
    // Who could not be taken away is to find its record let go.
    drop(claimed);
    bell::ring(bells.iter().map(String::as_str));
    Ok(failures)
}

/// Claims what is doomed. Whoever finds nobody else at work goes at once. Who comes while a batch is under way has its own
/// wait for RCU after that one's anyway: it gathers until nobody comes any more. Together links go faster than in small
/// batches, and faster still when no other processes start beside them.
fn gather(cx: &mut Context) -> Result<Claimed<Plan>, VerbError> {
    let begun = Instant::now();
    let mut claimed = Claimed::default();
    loop {
        let harvest = cx.state.claim_doomed(&mut claimed)?;
        if claimed.is_empty() || !harvest.others_at_work || begun.elapsed() >= GATHERING {
            return Ok(claimed);
        }
        if harvest.claimed == 0 {
            break;
        }
        std::thread::sleep(LULL);
    }
    // Nothing can be done while the batch before has the kernel's lock on links.
    if cx.kernel.await_links() >= LULL {
        cx.state.claim_doomed(&mut claimed)?;
    }
    Ok(claimed)
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
fn bell_of(cx: &Context, key: &AttachmentKey) -> String {
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
