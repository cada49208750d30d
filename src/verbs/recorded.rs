//! Verbs on what has a record, for an operator who has no configuration at hand: from the record alone.

use crate::apply::{Drift, Host};
use crate::cni::CniResult;
use crate::model::{AttachmentKey, Publication};
use crate::plan::{Claims, Plan, Step};
use crate::store::{Doom, Found, Listed, Stage};

use super::{Context, VerbError, check, deadline, left, reap};

/// Compares the host with the record of an attachment: CHECK without a configuration. `last` is the result of its
/// whole chain of plugins, where that is known: what a later plugin may have changed is then tolerated.
///
/// # Errors
/// [`VerbError::Unknown`] where it has no record, [`VerbError::Busy`] where its ADD is at work; [`VerbError::Store`],
/// [`VerbError::Apply`] where the host cannot be asked.
pub fn drifts(
    cx: &mut Context,
    key: &AttachmentKey,
    last: Option<&CniResult>,
) -> Result<Vec<Drift>, VerbError> {
    let found: Option<Found<Plan>> = cx.state.find(key)?;
    let record = match found {
        Some(Found { stage: Stage::Ready, record }) => record,
        Some(Found { stage: Stage::Pending { alive: true }, .. }) => {
            return Err(VerbError::Busy(key.clone()));
        }
        _ => return Err(VerbError::Unknown(key.clone())),
    };
    let plan = check::tolerating(cx, key, record.plan, last)?;
    Ok(cx.kernel.probe(&plan.steps)?)
}

/// Detaches a container as DEL does, from its record. False where it has none.
///
/// # Errors
/// As DEL: what could not be taken away keeps its record, and DEL or GC tries again.
pub fn detach(cx: &mut Context, key: &AttachmentKey) -> Result<bool, VerbError> {
    let doom = {
        let _lock = cx.state.lock(deadline())?;
        cx.state.doom(key)?
    };
    match doom {
        Doom::Doomed => reap::reap(cx, std::slice::from_ref(key)).map(|()| true),
        Doom::Alive => Err(VerbError::Busy(key.clone())),
        Doom::Unknown => Ok(false),
    }
}

/// The steps that a DEL of an attachment would walk, in its order; `None` where it has no record.
///
/// # Errors
/// Where the record cannot be read.
pub fn steps_of_del(cx: &Context, key: &AttachmentKey) -> Result<Option<Vec<Step>>, VerbError> {
    let found: Option<Found<Plan>> = cx.state.find(key)?;
    Ok(found.map(|found| {
        let own = found.record.plan.steps.into_iter().filter(|step| !step.is_shared());
        own.rev().collect()
    }))
}

/// Who takes up which ports when DEL lets go of those of an attachment: other interfaces of its container that wait for them,
/// but for attachments that are `leaving` with it.
///
/// # Errors
/// Where the state directory cannot be read.
pub fn heirs(
    cx: &Context,
    key: &AttachmentKey,
    leaving: &[AttachmentKey],
) -> Result<Vec<(Publication, AttachmentKey)>, VerbError> {
    let own: Option<Found<Plan>> = cx.state.find(key)?;
    let Some(own) = own.as_ref().and_then(|found| found.record.plan.claims()) else { return Ok(Vec::new()) };
    let Listed { mut found, .. }: Listed<Plan> = cx.state.all()?;
    found.retain(|one| one.stage == Stage::Ready && !leaving.contains(&one.record.key.attachment()));
    found.sort_by(|a, b| a.record.key.cmp(&b.record.key));
    let heir = |port: &Publication| {
        let waits = |claims: &Claims| claims.waiting.iter().any(|other| other.is_at(port));
        let first = found.iter().find(|one| one.record.plan.claims().is_some_and(waits))?;
        Some((*port, first.record.key.clone()))
    };
    Ok(own.publications.iter().filter_map(heir).collect())
}

/// What GC can do for a network whose configuration is gone: all that the firewall has of it is taken away, unless somebody
/// is attached to it. Who is, is given: nobody says which of them are valid. `None` where the network has no record.
///
/// # Errors
/// Where a record cannot be read, or the firewall refuses.
pub fn retire(cx: &mut Context, name: &str, is_dry: bool) -> Result<Option<Vec<AttachmentKey>>, VerbError> {
    let _lock = cx.state.lock(deadline())?;
    let Some(network) = cx.state.network(name)? else { return Ok(None) };
    let Listed { found, broken }: Listed<Plan> = cx.state.all()?;
    if let Some(broken) = broken.into_iter().next() {
        // It may be this network's.
        return Err(broken.error.into());
    }
    let of_network = found.into_iter().filter(|found| found.record.network == name);
    let attached: Vec<AttachmentKey> = of_network.map(|found| found.record.key).collect();
    if attached.is_empty() && !is_dry {
        left::retire_for_good(cx, &network)?;
    }
    Ok(Some(attached))
}
