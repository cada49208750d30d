//! The verbs of plugins that add their part to an interface that another plugin made: published ports, walls,
//! settings, rates, routing by source, names.
//!
//! A part has a record of its own, and is made, read back and taken away by the same walks as a whole attachment.

mod announce;
mod bandwidth;
mod dnsname;
mod firewall;
mod portmap;
mod sbr;
mod tuning;
mod way;

pub use announce::announce;
pub(super) use tuning::replaced_by_reference;

use crate::apply::{Attempt, Host};
use crate::cni::{CniResult, Code, Command, LogLevel};
use crate::firewall::reference::Kind;
use crate::model::{AttachmentKey, Lease, Part};
use crate::plan::{Plan, Sandbox};
use crate::store::{Doom, Found, Record, Stage};
use crate::sys::boot;

use super::add::{abandon, amend, close};
use super::{
    Attached, Call, Context, VerbError, addressing, deadline, gc as whole, network, ports, reap, reference,
    status as ready, waiting,
};

/// Adds a part to an attachment, and gives the result on, with what the part changed of it.
///
/// # Errors
/// Every [`VerbError`]; the host is then as it was before.
pub fn add(cx: &mut Context, call: &Call, part: Part) -> Result<Attached, VerbError> {
    let attached = add_anew(cx, call, part);
    // What was there before may have had ports that another interface waits for.
    waiting::hand_over(cx);
    attached
}

fn add_anew(cx: &mut Context, call: &Call, part: Part) -> Result<Attached, VerbError> {
    let key = call.key().of_part(part);
    let previous = addressing::previous_result(call)?.ok_or_else(|| no_previous(part, Command::Add))?;
    let netns = call.environment.netns.as_deref().unwrap_or_default();
    let sandbox = cx.kernel.open_sandbox(netns, call.environment.netns_override)?;
    let state = cx.state.clone();
    let lock = state.lock(deadline())?;
    reap::dead_attachments(cx)?;
    // A runtime that restarts a container, or reloads its network, asks again without DEL. A part has no addresses of its
    // own, so that nothing of it is left to another plugin.
    reap::evict(cx, &key)?;
    let (plan, result) = build(cx, call, &key, &sandbox, previous)?;
    if plan.steps.is_empty() {
        return Ok(Attached { result, name_servers: Vec::new() });
    }
    let naming = dnsname::naming(call, &key, &result);
    let mut record = Record { naming, ..record(&key, call, plan) };
    let mut pending = state.write_pending(&record)?;
    if let Err(error) = reap::ensure_anew(cx, &record.plan) {
        return Err(close(cx, Some(lock), pending, &record.plan, error));
    }
    if amend(cx, &mut record.plan)
        && let Err(error) = pending.rewrite(&record)
    {
        return Err(abandon(cx, Some(lock), pending, &record.plan, error.into()));
    }
    if let Err((pending, error)) = pending.ready() {
        return Err(abandon(cx, Some(lock), pending, &record.plan, error.into()));
    }
    cx.journal.note(LogLevel::Info, || format!("added {key}"));
    let name_servers = record.naming.map(|naming| naming.gateways).unwrap_or_default();
    Ok(Attached { result, name_servers })
}

/// The steps of a part, and the result as they leave it. Refuses what cannot work, before any effect.
fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    match key.part {
        Part::Portmap => portmap::build(cx, call, key, sandbox, previous),
        Part::Firewall => firewall::build(cx, call, key, sandbox, previous),
        Part::Tuning => tuning::build(cx, call, key, sandbox, previous),
        Part::Bandwidth => bandwidth::build(cx, call, key, sandbox, previous),
        Part::Sbr => sbr::build(cx, call, key, sandbox, previous),
        Part::Dnsname => dnsname::build(call, key, sandbox, previous),
        // The interface is no part of itself.
        Part::Interface => Ok((Plan::default(), previous)),
    }
}

/// Takes a part away: from its record, or from what the reference plugin of that name left, where it has none.
///
/// # Errors
/// Where something could not be taken away; the record is then kept, and DEL or GC tries again.
pub fn del(cx: &mut Context, call: &Call, part: Part) -> Result<(), VerbError> {
    take_away(cx, call, part).map_err(VerbError::of_taking_away)
}

fn take_away(cx: &mut Context, call: &Call, part: Part) -> Result<(), VerbError> {
    let key = call.key().of_part(part);
    let doom = {
        let _lock = cx.state.lock(deadline())?;
        cx.state.doom(&key)?
    };
    match doom {
        Doom::Doomed => reap::reap(cx, &[key]),
        Doom::Alive => Err(VerbError::Busy(key)),
        Doom::Unknown => del_of_reference(cx, call, &key),
    }
}

fn del_of_reference(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<(), VerbError> {
    match key.part {
        Part::Portmap | Part::Firewall => {
            cx.kernel.remove_stray_rules(key)?;
            reference::del_part(cx, call, key)
        }
        Part::Tuning | Part::Bandwidth | Part::Sbr | Part::Dnsname => {
            let plan = left_by_reference(cx, call, key)?;
            let errors: Vec<String> = cx
                .kernel
                .absent(&[&plan.steps], Attempt::Again)
                .into_iter()
                .flatten()
                .map(|e| e.to_string())
                .collect();
            if errors.is_empty() { Ok(()) } else { Err(VerbError::Several(errors)) }
        }
        Part::Interface => reference::del_part(cx, call, key),
    }
}

/// What the reference plugin of a part's name left of an attachment, as steps that can be taken away.
fn left_by_reference(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<Plan, VerbError> {
    let path = call.environment.netns.as_deref().unwrap_or_default();
    cx.kernel.refuse_own_sandbox(path, call.environment.netns_override)?;
    let open = cx.kernel.open_if_there(path, call.environment.netns_override)?;
    // One that is gone is like no other, so that no step finds it.
    let gone = || Sandbox { path: path.to_owned(), device: 0, inode: 0, cookie: None };
    match (key.part, open) {
        (Part::Tuning, open) => tuning::left_by_reference(call, key, &open.unwrap_or_else(gone)),
        (Part::Bandwidth, open) => bandwidth::left_by_reference(cx, call, key, open.as_ref()),
        (Part::Sbr, Some(sandbox)) => sbr::left_by_reference(cx, call, key, &sandbox),
        _ => Ok(Plan::default()),
    }
}

/// What CHECK may expect where the reference plugin of that name added the part; `None` where its own traces say more.
fn expected(cx: &mut Context, call: &Call, key: &AttachmentKey) -> Result<Option<Plan>, VerbError> {
    let previous = addressing::previous_result(call)?.ok_or_else(|| no_previous(key.part, Command::Check))?;
    if matches!(key.part, Part::Portmap | Part::Firewall | Part::Dnsname | Part::Interface) {
        return Ok(None);
    }
    let path = call.environment.netns.as_deref().unwrap_or_default();
    let sandbox = cx.kernel.open_sandbox(path, call.environment.netns_override)?;
    Ok(match key.part {
        Part::Tuning => Some(tuning::expected(call, key, &sandbox)),
        Part::Bandwidth => Some(bandwidth::expected(cx, call, key, &sandbox, &previous)?),
        Part::Sbr => Some(sbr::expected(cx, call, key, &sandbox, &previous)?),
        _ => None,
    })
}

/// Refuses a part without an interface, in the words that callers know from the plugin of that name.
fn no_previous(part: Part, command: Command) -> VerbError {
    let words = match (part, command) {
        (Part::Firewall, _) => "missing prevResult from earlier plugin",
        (Part::Tuning, _) | (Part::Portmap, Command::Check) => "Required prevResult missing",
        (Part::Bandwidth, Command::Check) => "must be called as a chained plugin",
        (Part::Sbr, _) => "This plugin must be called as chained plugin",
        _ => "must be called as chained plugin",
    };
    let why = format!("{} adds to what an earlier plugin of the list made (prevResult)", part.word());
    VerbError::known(Code::InvalidConfig, words, why)
}

/// The container lacks the interface that a part is about.
fn no_interface(name: &str) -> VerbError {
    VerbError::Config(format!(
        "the container has no interface {name}: the plugin that makes it must come earlier in the list"
    ))
}

/// Compares the host with a part's record.
///
/// # Errors
/// [`VerbError::Drifted`] with every drift found, [`VerbError::Unknown`] where the part was never added.
pub fn check(cx: &mut Context, call: &Call, part: Part) -> Result<(), VerbError> {
    let key = call.key().of_part(part);
    let found: Option<Found<Plan>> = cx.state.find(&key)?;
    let plan = match found {
        Some(Found { stage: Stage::Ready, record }) => record.plan,
        Some(Found { stage: Stage::Pending { alive: true }, .. }) => return Err(VerbError::Busy(key)),
        _ => match expected(cx, call, &key)? {
            Some(plan) => plan,
            None => return reference::check_part(cx, call, &key),
        },
    };
    reference::verdict(&cx.kernel.probe(&plan.steps)?)
}

/// Takes the parts of attachments away that are not valid any more.
///
/// # Errors
/// As GC of a whole attachment.
pub fn gc(cx: &mut Context, call: &Call, part: Part) -> Result<(), VerbError> {
    whole::gc(cx, call)?;
    match part {
        Part::Portmap => {
            let valid = whole::valid_attachments(call)?.iter().collect();
            reference::gc(cx, call, Kind::Published, &valid).map_err(VerbError::of_taking_away)
        }
        Part::Bandwidth => bandwidth::gc(cx),
        _ => Ok(()),
    }
}

/// Says whether a part could be added.
///
/// # Errors
/// [`VerbError::NotReady`].
pub fn status(cx: &mut Context, call: &Call, part: Part) -> Result<(), VerbError> {
    match part {
        Part::Portmap | Part::Firewall => ready::status_of_part(cx, call),
        _ => Ok(()),
    }
}

/// The addresses of a result that are an interface's, or that it does not say whose they are.
fn leases_on(result: &CniResult, name: &str) -> Vec<Lease> {
    let is_ours = |index: usize| result.interfaces.get(index).is_none_or(|interface| interface.name == name);
    let ours = result.ips.iter().filter(|ip| ip.interface.is_none_or(is_ours));
    ours.map(|ip| Lease { address: ip.address, gateway: ip.gateway }).collect()
}

/// The interface's record has the names and labels.
fn record(key: &AttachmentKey, call: &Call, plan: Plan) -> Record<Plan> {
    Record::new(key, &call.config.name, boot::now(), plan)
}
