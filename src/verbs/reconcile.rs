//! Reconciliation: what the records say is there, whoever took it away.

use std::collections::HashSet;

use crate::apply::{Drift, Mending};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, Network};
use crate::plan::Plan;
use crate::store::{Doom, Listed, Stage};

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

/// Compares the host with all records, and with `repair` puts back what differs.
///
/// The first look takes no lock: where all is well, no ADD waits for it. Only what differs is looked at once more,
/// under the lock, and mended.
///
/// # Errors
/// Where the state directory cannot be read or locked.
pub fn reconcile(cx: &mut Context, repair: bool, collect: Collect<'_>) -> Result<Reconciled, VerbError> {
    let records = Records::read(cx)?;
    let look = cx.kernel.mend(&records.networks, &records.attached, false);
    let is_well = look.is_empty() && records.unfinished.is_empty() && records.idle.is_empty();
    if is_well || !repair {
        return Ok(records.report(look));
    }
    let mut done = Vec::new();
    let mut outcome = {
        let _lock = cx.state.lock(deadline())?;
        reap::dead_attachments(cx)?;
        let retired = left::retire_idle(cx, None);
        let records = Records::read(cx)?;
        let mending = cx.kernel.mend(&records.networks, &records.attached, true);
        waiting::mend(cx)?;
        let mut outcome = records.report(mending);
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
                done.push(dead.key.clone());
            }
            !doomed
        });
        outcome
    };
    for drift in &outcome.drifts {
        cx.journal.note(LogLevel::Warning, || format!("put back: {drift}"));
    }
    // Without the main lock: the kernel's waits are long, and nobody else needs to share them.
    let reaped = match collect {
        // The agent's looks have more to do than to wait for what failed before.
        Collect::These(_) => reap::reap(cx, &done),
        Collect::None | Collect::All => reap::reap_all(cx, &done),
    };
    match reaped {
        Err(VerbError::Several(texts)) => outcome.failures.extend(texts),
        other => other?,
    }
    outcome.collected.extend(done.into_iter().chain(records.unfinished));
    Ok(outcome)
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
    broken: Vec<String>,
}

impl Records {
    fn read(cx: &Context) -> Result<Self, VerbError> {
        let (networks, unreadable) = cx.state.networks()?;
        let Listed { found, broken } = cx.state.all::<Plan>()?;
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
                // On its way in or out: others are at work.
                Stage::Pending { alive: true } | Stage::Doomed => {}
            }
        }
        Ok(Self { networks, attached, of, unfinished, idle, broken })
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
