//! Containers that the reference plugins attached: where a face finds no record of its own, it looks for what the
//! plugin of its name would have left.

use std::collections::HashSet;

use crate::apply::{Attempt, Drift, Host};
use crate::cni::{HostLocal, Ipam, LinkKeys, LogLevel};
use crate::firewall::reference::Kind;
use crate::model::{AttachmentKey, LeaseSource, Part, Publication};
use crate::plan;

use super::{Call, Context, VerbError, addressing};

/// DEL of an interface: masquerade, then the link. Its addresses are the IPAM part's.
pub(super) fn del_interface(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<(), VerbError> {
    cx.kernel.remove_theirs(Kind::Masquerade, &call.config.name, key)?;
    cx.kernel.remove_their_guard(key)?;
    let path = call.environment.netns.as_deref().unwrap_or_default();
    // A namespace that is gone has taken the link along.
    if let Some(sandbox) = cx.kernel.open_if_there(path, call.environment.netns_override)? {
        let kind = if matches!(call.config.link, LinkKeys::Macvlan(_)) { "macvlan" } else { "veth" };
        cx.kernel.remove_link_in(&sandbox, &key.interface, kind)?;
    }
    Ok(())
}

/// DEL of a part.
pub(super) fn del_part(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<(), VerbError> {
    match key.part {
        Part::Portmap => Ok(cx.kernel.remove_theirs(Kind::Published, &call.config.name, key)?),
        Part::Firewall => {
            let last = addressing::previous_result(call).unwrap_or_else(|error| {
                // Nothing is known of its addresses then, and the runtime would ask for ever.
                cx.journal.note(LogLevel::Warning, || format!("{key}: {error}"));
                None
            });
            let addresses = last.unwrap_or_default().addresses();
            // As theirs: neither the rules nor firewalld's sources carry a mark but the address.
            let zone: Vec<plan::Step> = plan::zone(call.config, &addresses).into_iter().collect();
            let errors: Vec<String> = cx
                .kernel
                .absent(&[&zone], Attempt::First)
                .into_iter()
                .flatten()
                .map(|error| error.to_string())
                .collect();
            if !errors.is_empty() {
                return Err(VerbError::Several(errors));
            }
            if addresses.is_empty() { Ok(()) } else { Ok(cx.kernel.remove_their_admission(&addresses)?) }
        }
        _ => Ok(()),
    }
}

/// GC: their chains for containers of the network that are not valid.
pub(super) fn gc(
    cx: &mut Context,
    call: &Call,
    kind: Kind,
    valid: &HashSet<&AttachmentKey>,
) -> Result<(), VerbError> {
    Ok(cx.kernel.remove_their_orphans(kind, &call.config.name, valid)?)
}

/// GC: their rules that name no network, for containers of the network whose leases nobody holds any more.
pub(super) fn gc_by_lease(
    cx: &mut Context,
    call: &Call,
    valid: &HashSet<&AttachmentKey>,
    known: &HashSet<AttachmentKey>,
) -> Result<(), VerbError> {
    let stale = addressing::orphaned(cx, call, valid, known)?;
    Ok(cx.kernel.remove_theirs_by_lease(&stale)?)
}

/// CHECK of an interface, by the result of the chain.
pub(super) fn check_interface(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<(), VerbError> {
    let Some(last) = addressing::previous_result(call)? else { return Err(VerbError::Unknown(key.clone())) };
    let netns = call.environment.netns.as_deref().unwrap_or_default();
    let sandbox = cx.kernel.open_sandbox(netns, call.environment.netns_override)?;
    let Some(mut plan) = plan::of_result(&last, &sandbox, &key.interface) else {
        return Err(VerbError::Unknown(key.clone()));
    };
    if let (Ipam::HostLocal(HostLocal { .. }), source @ LeaseSource::Files { .. }) =
        (&call.config.ipam, addressing::source(cx, call)?)
    {
        plan::hold(&mut plan, key, source);
    }
    let mut drifts = Vec::new();
    for interface in last.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        if cx.kernel.host_interface(&interface.name)?.is_none() {
            drifts.push(Drift::missing(format!("host interface {}", interface.name)));
        }
    }
    drifts.extend(cx.kernel.probe(&plan.steps)?);
    if call.config.bridge.ip_masq {
        let addresses = last.addresses_on(&key.interface);
        drifts.extend(cx.kernel.probe_their_masquerade(&call.config.name, key, &addresses)?);
    }
    addressing::forward(call, Some(key), "CHECK")?;
    verdict(&drifts)
}

/// CHECK of a part; [`VerbError::Unknown`] where there is nothing of theirs either, unless nothing is wanted.
pub(super) fn check_part(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<(), VerbError> {
    let last = addressing::previous_result(call)?.unwrap_or_default();
    let found = match key.part {
        Part::Portmap => {
            let addresses = last.addresses_on(&key.interface);
            let mappings = &call.config.portmap.mappings;
            let wanted: Vec<Publication> =
                mappings.iter().flat_map(|mapping| Publication::of(mapping, &addresses)).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            cx.kernel.probe_their_ports(&call.config.name, key, &wanted)?
        }
        Part::Firewall => {
            let addresses = last.addresses();
            if addresses.is_empty() {
                return Ok(());
            }
            cx.kernel.probe_their_admission(&addresses)?
        }
        _ => None,
    };
    found.map_or_else(|| Err(VerbError::Unknown(key.clone())), |drifts| verdict(&drifts))
}

/// What CHECK says of what it found.
pub(super) fn verdict(drifts: &[Drift]) -> Result<(), VerbError> {
    if drifts.is_empty() {
        return Ok(());
    }
    let text: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    Err(VerbError::Drifted(text.join("; ")))
}
