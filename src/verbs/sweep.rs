//! What belongs to nobody, whatever its network: GC without a configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::apply::Reach;

use super::{Context, VerbError, deadline, reap, waiting};

/// Ends every DEL that has begun, and then takes away what carries our mark and has no record: links, shaping devices,
/// host ports, firewall elements, and leases in the state directory. Leases in a directory that a configuration names
/// (`dataDir`) may be another plugin's, and stay.
///
/// # Errors
/// Where the state directory cannot be read or locked, or does not know the networks of what it would take, and `reach`
/// does not say that records are lost; [`VerbError::Several`] with all that could not be taken away.
pub fn sweep(cx: &mut Context, reach: Reach) -> Result<(), VerbError> {
    reap::reap_all(cx, &[])?;
    let swept = sweep_orphans(cx, reach);
    // Another interface may wait for a port of theirs.
    waiting::hand_over(cx);
    swept
}

fn sweep_orphans(cx: &mut Context, reach: Reach) -> Result<(), VerbError> {
    // Under the main lock nothing is half-made, so what has no record now is an orphan.
    let _lock = cx.state.lock(deadline())?;
    let known = cx.state.keys()?;
    let mut failures = cx.kernel.remove_orphans(&known, reach, true)?;
    let directories: BTreeSet<PathBuf> = cx.state.own_lease_directories()?.into_iter().collect();
    for path in directories {
        let Some(directory) = cx.state.existing_lease_directory(&path)? else { continue };
        let is_held = |lease: &crate::store::HeldLease| known.iter().any(|key| lease.owner.is(key));
        if let Err(error) = directory.release_where(|lease| !is_held(lease)) {
            failures.push(error.to_string());
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(VerbError::Several(failures)) }
}
