//! CHECK: everything that ADD made is still as it made it.

use crate::apply::{Drift, Host};
use crate::cni::CniResult;
use crate::model::{AttachmentKey, Part};
use crate::plan::{self, Plan};
use crate::store::{Found, Stage};

use super::{Call, Context, VerbError, addressing, parts, reference};

/// Compares the host with the record, tolerating what later plugins of the chain may change.
///
/// # Errors
/// [`VerbError::Drifted`] with every drift found, [`VerbError::Unknown`] where the container is not attached.
pub fn check(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    compare(cx, call).map_err(VerbError::of_looking)
}

fn compare(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let key = call.key();
    let found: Option<Found<Plan>> = cx.state.find(&key)?;
    let record = match found {
        Some(Found { stage: Stage::Ready, record }) => record,
        Some(Found { stage: Stage::Pending { alive: true }, .. }) => return Err(VerbError::Busy(key)),
        _ if !call.config.defaults.is_own() => return reference::check_interface(cx, call, &key),
        _ => return Err(VerbError::Unknown(key)),
    };
    let mut drifts = Vec::new();
    if let Some(inner) = record.plan.interface()
        && Some(&inner.sandbox.path) != call.environment.netns.as_ref()
    {
        let found = call.environment.netns.clone().unwrap_or_default();
        drifts.push(Drift::new("network namespace (CNI_NETNS)", inner.sandbox.path.clone(), found));
    }
    let last = addressing::previous_result(call)?;
    let plan = tolerating(cx, &key, record.plan, last.as_ref())?;
    drifts.extend(cx.kernel.probe(&plan.steps)?);
    addressing::forward(call, Some(&key), "CHECK")?;
    reference::verdict(&drifts)
}

/// The plan of an attachment, less what later plugins of its chain have changed: by the chain's last result, and by what
/// the plugin `tuning` keeps, ours or theirs.
///
/// # Errors
/// Where that cannot be read.
pub(super) fn tolerating(
    cx: &Context,
    key: &AttachmentKey,
    plan: Plan,
    last: Option<&CniResult>,
) -> Result<Plan, VerbError> {
    let mut plan = match last {
        Some(last) => plan::tolerating(plan, last),
        None => plan,
    };
    match cx.state.find::<Plan>(&key.of_part(Part::Tuning))? {
        Some(tuning) => plan::tuned(&mut plan, &tuning.record.plan),
        None => plan::tuned_by_reference(&mut plan, &parts::replaced_by_reference(key)?),
    }
    Ok(plan)
}
