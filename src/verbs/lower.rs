//! The device that a macvlan device is made over.

use crate::apply::ApplyError;
use crate::cni::{Code, LinkKeys};
use crate::plan::{Lower, Sandbox};

use super::{Call, Context, VerbError};

/// The lower device of a call for `macvlan`; `None` for every other kind of interface.
///
/// # Errors
/// Where it is not there, or its MTU is less than the one that is asked for.
pub(super) fn of(cx: &mut Context, call: &Call, sandbox: &Sandbox) -> Result<Option<Lower>, VerbError> {
    let LinkKeys::Macvlan(keys) = &call.config.link else { return Ok(None) };
    let inside = keys.link_in_container.then_some(sandbox);
    find(cx, call, keys.master.as_deref(), inside).map(Some)
}

/// The same for STATUS, which has no container: a device in one is not looked for.
///
/// # Errors
/// As [`of`].
pub(super) fn on_host(cx: &mut Context, call: &Call) -> Result<Option<Lower>, VerbError> {
    let LinkKeys::Macvlan(keys) = &call.config.link else { return Ok(None) };
    if keys.link_in_container {
        return Ok(None);
    }
    find(cx, call, keys.master.as_deref(), None).map(Some)
}

fn find(
    cx: &mut Context,
    call: &Call,
    master: Option<&str>,
    inside: Option<&Sandbox>,
) -> Result<Lower, VerbError> {
    let place = if inside.is_some() { "in the container" } else { "on the host" };
    let failed = |cause| ApplyError::new("the lower device (master)", cause);
    let found = cx.kernel.lower_device(master, inside).map_err(failed)?;
    let lower = found.ok_or_else(|| {
        let (words, why) = match master {
            Some(name) => (
                format!("failed to lookup master \"{name}\": Link not found"),
                format!("there is no such device {place}; set the key 'master'"),
            ),
            None => (
                "no default route interface found".to_owned(),
                format!("there is none {place}: name the lower device with the key 'master'"),
            ),
        };
        VerbError::known(Code::InvalidConfig, words, why)
    })?;
    match call.config.bridge.mtu {
        Some(mtu) if mtu > lower.mtu => {
            let words = format!("invalid MTU {mtu}, must be [0, master MTU({})]", lower.mtu);
            let why = format!("{} carries no larger packets", lower.name);
            Err(VerbError::known(Code::InvalidConfig, words, why))
        }
        _ => Ok(lower),
    }
}
