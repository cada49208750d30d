//! DEL: the container's network is gone, whatever is left of the container.

use crate::cni::LogLevel;
use crate::store::Doom;

use super::{Call, Context, VerbError, addressing, deadline, reap, reference};

/// Detaches a container: from the record, not from the configuration, which may have changed, and not from the
/// namespace, which may be gone. What was never attached is detached already.
///
/// # Errors
/// Where something could not be taken away; the record is then kept, and DEL or GC tries again.
pub fn del(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    detach(cx, call).map_err(VerbError::of_taking_away)
}

fn detach(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let key = call.key();
    let doom = {
        let _lock = cx.state.lock(deadline())?;
        cx.state.doom(&key)?
    };
    match doom {
        Doom::Doomed => reap::reap(cx, &[key]),
        // It holds no lock only while an IPAM plugin works: it will fail or be ready soon, or is dead when the plugin that
        // it has left behind ends.
        Doom::Alive => Err(VerbError::Busy(key)),
        Doom::Unknown => {
            // What has a record is taken away by it, whatever its path has come to mean; without one, a path that
            // means the host's own namespace is a mistake of the caller's.
            if let Some(path) = &call.environment.netns {
                cx.kernel.refuse_own_sandbox(path, call.environment.netns_override)?;
            }
            cx.journal.note(LogLevel::Info, || format!("{key} has no record"));
            cx.kernel.remove_stray(&key)?;
            if !call.config.defaults.is_own() {
                reference::del_interface(cx, call, &key)?;
            }
            addressing::release_without_record(cx, call, &key)
        }
    }
}
