//! GC: whatever no valid attachment owns is gone.

use std::collections::HashSet;

use crate::apply::Reach;
use crate::cni::LogLevel;
use crate::firewall::reference::Kind;
use crate::model::AttachmentKey;
use crate::plan::Plan;
use crate::store::{Doom, Listed};

use super::{Call, Context, VerbError, addressing, deadline, host, left, reap, reference, waiting};

/// Takes away every attachment of the network that is not valid, and then what carries our mark and has no record:
/// links, shaping devices, addresses, host ports, firewall elements.
///
/// # Errors
/// [`VerbError::Config`] where the configuration does not say which attachments are valid: nothing is touched then.
/// [`VerbError::Apply`] where what has no record is a network's that has none here either: it is left alone.
/// [`VerbError::Several`] with all that could not be taken away.
pub fn gc(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    collect(cx, call).map_err(VerbError::of_taking_away)
}

fn collect(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let valid: HashSet<&AttachmentKey> = valid_attachments(call)?.iter().collect();
    let mut failures = Vec::new();
    let wanted = doom_stale(cx, call, &valid)?;
    match reap::reap_all(cx, &wanted) {
        Err(VerbError::Several(texts)) => failures.extend(texts),
        other => other?,
    }
    let mut refusal = None;
    {
        // Under the main lock nothing is half-made, so what has no record now is an orphan.
        let _lock = cx.state.lock(deadline())?;
        let known = cx.state.keys()?;
        // Where its record cannot be read, its configuration says.
        let recorded = cx.state.network(&call.config.name).unwrap_or_default();
        let with_v6 = host::may_have_ipv6(call.config, recorded.as_ref());
        match cx.kernel.remove_orphans(&known, Reach::Recorded, with_v6) {
            Ok(texts) => failures.extend(texts),
            Err(error) => refusal = Some(error),
        }
        if let Err(error) = left::settle(cx, &call.config.name) {
            failures.push(error.to_string());
        }
        if let Err(error) = left::retire_idle(cx, None) {
            failures.push(error.to_string());
        }
        // Before the leases that tell whose they are, and so before anybody else is given the address.
        if let Err(error) = reference::gc_by_lease(cx, call, &valid, &known) {
            failures.push(error.to_string());
        }
        if let Err(error) = addressing::release_orphans(cx, call, &valid, &known) {
            failures.push(error.to_string());
        }
    }
    // Another interface may wait for a port of what had no record.
    waiting::hand_over(cx);
    if call.config.defaults.reads.bridge
        && !call.config.defaults.is_own()
        && let Err(error) = reference::gc(cx, call, Kind::Masquerade, &valid)
    {
        failures.push(error.to_string());
    }
    if let Err(error) = addressing::forward(call, None, "GC") {
        failures.push(error.to_string());
    }
    match refusal {
        Some(error) if failures.is_empty() => return Err(error.into()),
        Some(error) => failures.push(error.to_string()),
        None => {}
    }
    if failures.is_empty() { Ok(()) } else { Err(VerbError::Several(failures)) }
}

/// The attachments that are valid.
///
/// # Errors
/// [`VerbError::Config`] where the configuration does not say.
pub(super) fn valid_attachments<'a>(call: &'a Call) -> Result<&'a [AttachmentKey], VerbError> {
    call.config.valid_attachments.as_deref().ok_or_else(|| {
        VerbError::Config(
            "GC without the key 'cni.dev/valid-attachments' is refused: it would take every container's network \
             away; an empty list says that none is valid"
                .to_owned(),
        )
    })
}

/// Marks the network's attachments that are not valid, and all ADDs that were killed.
fn doom_stale(
    cx: &mut Context,
    call: &Call,
    valid: &HashSet<&AttachmentKey>,
) -> Result<Vec<AttachmentKey>, VerbError> {
    let _lock = cx.state.lock(deadline())?;
    let Listed { found, broken }: Listed<Plan> = cx.state.all()?;
    let stale = found
        .into_iter()
        .filter(|f| f.record.network == call.config.name && !valid.contains(&f.record.key.attachment()))
        .map(|f| f.record.key);
    for record in broken {
        // Whose network it is cannot be told: another's container must not lose its network over it.
        cx.journal.note(LogLevel::Warning, || {
            format!("left alone, since it cannot be read: {}", record.path.display())
        });
    }
    let mut doomed = Vec::new();
    for key in stale.collect::<Vec<_>>() {
        match cx.state.doom(&key)? {
            Doom::Alive => {
                cx.journal.note(LogLevel::Warning, || format!("{key} is being attached; left alone"));
            }
            Doom::Doomed | Doom::Unknown => doomed.push(key),
        }
    }
    Ok(doomed)
}
