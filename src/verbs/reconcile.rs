//! Reconciliation: what the records say is there, whoever took it away.

use std::collections::HashSet;

use crate::apply::{Drift, Mending};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Network};
use crate::plan::Plan;
use crate::store::{Broken, Doom, Listed, Stage};

use super::left::{self, Idle};
use super::{Context, VerbError, deadline, reap, waiting};

/// Which attachments of containers that died without DEL are taken away.
#[derive(Debug, Clone, Copy)]
pub enum Collect<'a> {
    /// None: they are told of.
    None,
    /// All.
    All,
    /// Those of these that are dead indeed.
    These(&'a [AttachmentKey]),
}

/// An attachment whose container died without DEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Who it was.
    pub key: AttachmentKey,
    /// Its network.
    pub network: String,
}

/// What a reconciliation found and did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// What differed from the records; put back, unless it was only looked.
    pub drifts: Vec<Drift>,
    /// What differs and is left as it is: the container's, or another plugin's.
    pub left: Vec<Drift>,
    /// What could not be read, or put back, in words.
    pub failures: Vec<String>,
    /// Attachments of dead containers that are still there.
    pub dead: Vec<Dead>,
    /// Attachments of dead containers, and of ADDs that were killed, that were taken away.
    pub collected: Vec<AttachmentKey>,
}

impl Reconciled {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.drifts.is_empty()
            && self.left.is_empty()
            && self.failures.is_empty()
            && self.dead.is_empty()
            && self.collected.is_empty()
    }
}

/// Attachments that a look has found on their way out, and that are yet to be taken away.
#[derive(Debug, Default)]
pub struct Leaving {
    /// Those of dead containers, which it has doomed.
    dead: Vec<AttachmentKey>,
    /// Those of ADDs that were killed.
    unfinished: Vec<AttachmentKey>,
    /// Those that were doomed before.
    doomed: Vec<AttachmentKey>,
}

/// What became of [`Leaving`].
#[derive(Debug, Default)]
pub struct Collected {
    /// Those that are gone.
    pub gone: Vec<AttachmentKey>,
    /// What went wrong with others, in words.
    pub failures: Vec<String>,
}

impl Leaving {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.unfinished.is_empty() && self.doomed.is_empty()
    }
}

/// Compares the host with all records, and with `repair` puts back what differs, and ends what was doomed before.
///
/// The first look takes no lock: where all is well, no ADD waits for it. Only what differs is looked at once more,
/// under the lock, and mended.
///
/// # Errors
/// Where the state directory cannot be read or locked.
pub fn reconcile(cx: &mut Context, repair: bool, collect: Collect<'_>) -> Result<Reconciled, VerbError> {
    let (mut outcome, leaving) = mend(cx, repair, collect).map_err(VerbError::of_taking_away)?;
    if !leaving.is_empty() {
        // What failed before is tried anew too, whoever wanted it gone.
        let reaped = reap::reap_anew(cx, &leaving.dead)?;
        let failures = reaped.failed.iter().map(|(_, text)| text.clone());
        outcome.failures.extend(failures);
        outcome.collected.extend(gone(cx, &leaving, &reaped.ended));
    }
    Ok(outcome)
}

/// The first half of [`reconcile`], which waits for nothing but locks: what is yet to be taken away is given, for
/// [`collect`].
///
/// # Errors
/// As [`reconcile`].
pub fn mend(
    cx: &mut Context,
    repair: bool,
    collect: Collect<'_>,
) -> Result<(Reconciled, Leaving), VerbError> {
    let records = Records::read(cx)?;
    let look = cx.kernel.mend(&records.networks, &records.attached, false);
    let is_well = look.is_empty() && records.unfinished.is_empty() && records.idle.is_empty();
    let mut leaving = Leaving::default();
    if repair && !matches!(collect, Collect::These(_)) {
        leaving.doomed.clone_from(&records.doomed);
    }
    if is_well || !repair {
        return Ok((records.report(look), leaving));
    }
    let mut outcome = {
        let _lock = cx.state.lock(deadline())?;
        reap::dead_attachments(cx)?;
        let retired = left::retire_idle(cx, None);
        let records = Records::read(cx)?;
        let mending = cx.kernel.mend(&records.networks, &records.attached, true);
        let empty = waiting::mend(cx)?;
        let mut outcome = records.report(mending);
        outcome.drifts.retain(|drift| !empty.iter().any(|one| one.drifts.contains(drift)));
        outcome.failures.extend(empty.into_iter().map(|one| one.why));
        match retired {
            Ok(idle) => outcome.drifts.extend(idle.iter().map(Idle::drift)),
            Err(error) => outcome.failures.push(error.to_string()),
        }
        outcome.dead.retain(|dead| {
            let wanted = match collect {
                Collect::None => false,
                Collect::All => true,
                Collect::These(keys) => keys.contains(&dead.key),
            };
            let doomed = wanted && matches!(cx.state.doom(&dead.key), Ok(Doom::Doomed));
            if doomed {
                leaving.dead.push(dead.key.clone());
            }
            !doomed
        });
        outcome
    };
    for drift in &outcome.drifts {
        cx.journal.note(LogLevel::Warning, || format!("put back: {drift}"));
    }
    // Those that needed no plugin are gone already.
    let unfinished = records.unfinished.into_iter();
    (leaving.unfinished, outcome.collected) =
        unfinished.partition(|key| cx.state.is_doomed(key).unwrap_or(true));
    Ok((outcome, leaving))
}

/// The second half of [`reconcile`] for who has more to do than to wait for what failed before. Without the main lock: the
/// kernel's waits are long, and a plugin that is asked may hang.
///
/// # Errors
/// Where the state directory cannot be read or locked.
pub fn collect(cx: &mut Context, leaving: &Leaving) -> Result<Collected, VerbError> {
    let wanted: Vec<AttachmentKey> = leaving.dead.iter().chain(&leaving.unfinished).cloned().collect();
    let reaped = reap::reap_new(cx, &wanted)?;
    let of_ours = reaped.failed.iter().filter(|(key, _)| wanted.contains(key));
    let failures = of_ours.map(|(_, text)| text.clone()).collect();
    Ok(Collected { gone: gone(cx, leaving, &reaped.ended), failures })
}

/// Those that are gone: by this one, or by whoever had them.
fn gone(cx: &Context, leaving: &Leaving, ended: &[AttachmentKey]) -> Vec<AttachmentKey> {
    let ours = leaving.dead.iter().chain(&leaving.unfinished);
    let ours = ours.filter(|key| !cx.state.is_doomed(key).unwrap_or(true));
    let before = leaving.doomed.iter().filter(|key| ended.contains(key));
    ours.chain(before).cloned().collect()
}

/// What is on disk.
struct Records {
    networks: Vec<Network>,
    attached: Vec<(AttachmentKey, Plan)>,
    /// The network of each of `attached`.
    of: Vec<String>,
    /// Attachments whose ADD was killed half-way.
    unfinished: Vec<AttachmentKey>,
    /// Networks without attachments whose walls stand around others'.
    idle: Vec<Idle>,
    /// Attachments whose DEL has begun.
    doomed: Vec<AttachmentKey>,
    broken: Vec<String>,
}

impl Records {
    fn read(cx: &Context) -> Result<Self, VerbError> {
        let (networks, unreadable) = cx.state.networks()?;
        let Listed { found, broken } = cx.state.all::<Plan>()?;
        let is_doomed = |broken: &&Broken| broken.stage == Stage::Doomed;
        let mut doomed: Vec<AttachmentKey> =
            broken.iter().filter(is_doomed).filter_map(|broken| broken.key.clone()).collect();
        let mut broken: Vec<String> =
            broken.into_iter().map(|b| format!("{}: {}", b.path.display(), b.error)).collect();
        broken.extend(unreadable.iter().map(ToString::to_string));
        let used: HashSet<&str> = found.iter().map(|found| &*found.record.network).collect();
        // Whose a record is that cannot be read, nobody can tell.
        let idle = if broken.is_empty() { left::idle(&networks, &used) } else { Vec::new() };
        let (mut attached, mut of, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        for found in found {
            match found.stage {
                Stage::Ready => {
                    of.push(found.record.network);
                    attached.push((found.record.key, found.record.plan));
                }
                Stage::Pending { alive: false } => unfinished.push(found.record.key),
                Stage::Doomed => doomed.push(found.record.key),
                // On its way in: others are at work.
                Stage::Pending { alive: true } => {}
            }
        }
        Ok(Self { networks, attached, of, unfinished, idle, doomed, broken })
    }

    fn report(&self, mending: Mending) -> Reconciled {
        let Mending { mut drifts, left, failures, dead } = mending;
        drifts.extend(self.idle.iter().map(Idle::drift));
        let network = |key: &AttachmentKey| {
            let at = self.attached.iter().position(|(known, _)| known == key);
            at.and_then(|at| self.of.get(at)).cloned().unwrap_or_default()
        };
        let mut failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        failures.extend(self.broken.iter().cloned());
        let dead = dead.into_iter().map(|key| Dead { network: network(&key), key }).collect();
        Reconciled { drifts, left, failures, dead, collected: Vec::new() }
    }
}
