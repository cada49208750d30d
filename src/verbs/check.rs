//! CHECK: everything that ADD made is still as it made it.

use crate::apply::{Drift, Host};
use crate::model::Part;
use crate::plan::{self, Plan};
use crate::store::{Found, Stage};

use super::{Call, Context, VerbError, addressing, reference};

/// Compares the host with the record, tolerating what later plugins of the chain may change.
///
/// # Errors
/// [`VerbError::Drifted`] with every drift found, [`VerbError::Unknown`] where the container is not attached.
pub fn check(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
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
    let mut plan = match addressing::previous_result(call)? {
        Some(last) => plan::tolerating(record.plan, &last),
        None => record.plan,
    };
    if let Some(tuning) = cx.state.find::<Plan>(&key.of_part(Part::Tuning))? {
        plan::tuned(&mut plan, &tuning.record.plan);
    }
    drifts.extend(cx.kernel.probe(&plan.steps)?);
    addressing::forward(call, Some(&key), "CHECK")?;
    reference::verdict(&drifts)
}
