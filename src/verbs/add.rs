//! ADD: the container gets its network, or nothing has happened.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::apply::{ApplyError, give_back, step_back};
use crate::cni::{CniResult, Ipam, LinkKeys, LogLevel};
use crate::firewall::NetworkRules;
use crate::model::{AttachmentKey, LeaseSource, Naming};
use crate::plan::{self, Leases, Plan, Sandbox, Step};
use crate::store::{Found, Guard, Pending, Record, Stage, State};
use crate::sys::boot;

use super::addressing::{self, Chosen};
use super::allowlist;
use super::network::{self, Provided};
use super::ports::{self, Settled};
use super::{Call, Context, VerbError, deadline, lower, reap, waiting};

/// What came of an ADD.
#[derive(Debug)]
pub struct Attached {
    /// The result.
    pub result: CniResult,
    /// The addresses that the container is to ask for names, where its network has a name service: the caller puts
    /// them into the result once somebody answers there.
    pub name_servers: Vec<IpAddr>,
}

/// Attaches a container.
///
/// What can be refused is refused before the first effect. The record is written before the first effect, and
/// becomes ready after the last.
///
/// # Errors
/// Every [`VerbError`]; the host is then as it was before.
pub fn add(cx: &mut Context, call: &Call) -> Result<Attached, VerbError> {
    let attached = attach_anew(cx, call);
    // What was taken away on the way may have had ports that another interface waits for.
    waiting::hand_over(cx);
    attached
}

fn attach_anew(cx: &mut Context, call: &Call) -> Result<Attached, VerbError> {
    let begun = boot::now();
    let key = call.key();
    let previous = addressing::previous_result(call)?;
    allowlist::require_allowed(&call.config.tuning)?;
    let netns = call.environment.netns.as_deref().unwrap_or_default();
    let sandbox = cx.kernel.open_sandbox(netns, call.environment.netns_override)?;
    // The state outlives the borrow of the context that the pending record would else be.
    let state = cx.state.clone();
    let lock = lock_cleared(cx, &state, &key, &sandbox)?;
    let provided = network::provide(cx, call.config)?;
    let lower = lower::of(cx, call, &sandbox)?;
    let mut waiting = ports::refuse_taken(cx, call, &provided.network, &key)?;

    let source = addressing::source(cx, call)?;
    addressing::require_delegate(call)?;
    let mut draft = Draft { lock: Some(lock), anew: None, pending: None, written: None };
    if matches!(call.config.ipam, Ipam::Delegated { .. }) {
        // Another plugin may take seconds (DHCP): the lock ends here. The pending record keeps others from this
        // attachment meanwhile, and says who is to give back what that plugin will give. The plugin holds it too: where
        // this call is killed, nobody tells the plugin to give back what it is yet to give.
        let pending = state.write_pending(&record(&key, call, begun, opening(&key, &source)))?;
        draft.pending = Some(pending.passed_on()?);
        draft.lock = None;
    }
    let taken = addressing::take(cx, call, &provided.network, &key, &source, |cx, mut chosen| {
        if draft.lock.is_none() {
            draft.lock = Some(state.lock(deadline())?);
            let anew = network::provide_anew(cx, call.config)?;
            // Another interface of the container may have come meanwhile.
            waiting = ports::refuse_taken(cx, call, &anew.network, &key)?;
            draft.anew = Some(anew);
        }
        let provided = draft.anew.as_ref().unwrap_or(&provided);
        let addresses: Vec<IpAddr> =
            chosen.addressing.leases.iter().map(|lease| lease.address.ip()).collect();
        let ports = ports::settle(cx, call.config, &key, &addresses)?;
        let mut plan = match (&call.config.link, &lower) {
            (LinkKeys::Macvlan(keys), Some(lower)) => {
                plan::macvlan(call.config, keys, &key, &sandbox, &chosen.addressing, lower)
            }
            _ => plan::build(&ports.config, &provided.network, &key, &sandbox, &chosen.addressing),
        };
        plan.set_aside(&waiting);
        network::refuse_clash(cx, provided, &plan)?;
        let naming = naming(call, &mut chosen);
        let record = Record { naming, ..record(&key, call, begun, plan) };
        match &mut draft.pending {
            Some(pending) => pending.rewrite(&record)?,
            pending => *pending = Some(state.write_pending(&record)?),
        }
        draft.written = Some(Written { record, chosen, ports });
        Ok(())
    });
    let Draft { lock, anew, pending, written } = draft;
    let provided = anew.unwrap_or(provided);
    let (pending, written) = match (taken, pending, written) {
        (Ok(()), Some(pending), Some(written)) => (pending, written),
        // Of what is written nothing has been made: only another plugin may have given something.
        (Err(error), Some(pending), _) => {
            return Err(abandon(cx, lock, pending, &opening(&key, &source), error));
        }
        (Err(error), None, _) => {
            // Nothing has happened yet. The agent counts ADDs that fail by their records, which come and go.
            if let Ok(pending) = state.write_pending(&record(&key, call, begun, opening(&key, &source))) {
                // Nothing is left to undo: where the record stays, the next call takes it away.
                let _ = pending.forget();
            }
            return Err(error);
        }
        (Ok(()), _, _) => return Err(VerbError::Config("no address was chosen".to_owned())),
    };
    let Written { record, chosen, ports } = written;
    let record = attach(cx, call, &provided, lock, pending, record)?;
    cx.journal.note(LogLevel::Info, || format!("attached {key} to {}", record.network));
    let name_servers = if record.naming.is_some() { gateways(&record.plan) } else { Vec::new() };
    let mut result = outcome(cx, call, &record.plan, chosen, previous);
    result.tell_ports(&ports.chosen);
    Ok(Attached { result, name_servers })
}

/// An ADD that has begun.
struct Draft<'a> {
    lock: Option<Guard>,
    /// The network as it is now, where the lock was let go after it was provided.
    anew: Option<Provided>,
    /// The record, from when it is on disk.
    pending: Option<Pending<'a>>,
    /// What was written last.
    written: Option<Written<'a>>,
}

/// What the record of an ADD says, and what it was made of.
struct Written<'a> {
    record: Record<Plan>,
    chosen: Chosen,
    ports: Settled<'a>,
}

/// What the container is called. Name servers that an IPAM plugin gave are for the agent to ask, not the container.
fn naming(call: &Call, chosen: &mut Chosen) -> Option<Naming> {
    let mut naming = call.config.naming.clone()?;
    let given = std::mem::take(&mut chosen.dns.nameservers);
    if naming.upstreams.is_empty() {
        naming.upstreams = given.iter().filter_map(|server| server.parse().ok()).collect();
    }
    Some(naming)
}

/// The network's own addresses on the host.
fn gateways(plan: &Plan) -> Vec<IpAddr> {
    plan.bridge()
        .map(|bridge| bridge.gateways.iter().map(ipnetwork::IpNetwork::ip).collect())
        .unwrap_or_default()
}

/// Makes the plan so that is written down, under the main lock.
fn attach(
    cx: &mut Context,
    call: &Call,
    provided: &Provided,
    lock: Option<Guard>,
    mut pending: Pending<'_>,
    mut record: Record<Plan>,
) -> Result<Record<Plan>, VerbError> {
    let needed = |rules: &NetworkRules| network::needs_rules(call.config, rules);
    if let Err(error) = network::prepare(cx, call.config, provided, needed) {
        return Err(abandon(cx, lock, pending, &record.plan, error));
    }
    if let Err(error) = reap::ensure_anew(cx, &record.plan) {
        return Err(close(cx, lock, pending, &record.plan, error));
    }
    if amend(cx, &mut record.plan)
        && let Err(error) = pending.rewrite(&record)
    {
        return Err(abandon(cx, lock, pending, &record.plan, error.into()));
    }
    match pending.ready() {
        Ok(()) => Ok(record),
        Err((pending, error)) => Err(abandon(cx, lock, pending, &record.plan, error.into())),
    }
}

/// Writes into a plan what was made other than it says; `false` where nothing was. What did not stay is told.
pub(super) fn amend(cx: &mut Context, plan: &mut Plan) -> bool {
    for words in cx.kernel.take_undone() {
        cx.journal.note(LogLevel::Warning, || words);
    }
    cx.kernel.amend(plan)
}

/// What is known before another plugin gives an address: that it will. Enough to give it back.
fn opening(key: &AttachmentKey, source: &LeaseSource) -> Plan {
    let leases = Leases { owner: key.clone(), source: source.clone(), leases: Vec::new() };
    Plan { steps: vec![Step::Leases(leases)] }
}

fn record(key: &AttachmentKey, call: &Call, begun: SystemTime, plan: Plan) -> Record<Plan> {
    Record { labels: labels(call), ..Record::new(key, &call.config.name, begun, plan) }
}

/// What the runtime said of the container, for people to know it by: what `CNI_ARGS` holds besides requests, and the
/// labels of `args.cni.labels` (CONVENTIONS.md of the specification).
fn labels(call: &Call) -> BTreeMap<String, String> {
    const REQUESTS: [&str; 4] = ["IgnoreUnknown", "IP", "GATEWAY", "MAC"];
    let pairs = call.config.arguments.pairs.iter();
    let mut labels: BTreeMap<String, String> = pairs
        .filter(|(key, value)| !REQUESTS.contains(&key.as_str()) && !value.is_empty())
        .cloned()
        .collect();
    let listed = call.config.raw.pointer("/args/cni/labels").and_then(serde_json::Value::as_array);
    for entry in listed.into_iter().flatten() {
        if let (Some(key), Some(value)) = (entry["key"].as_str(), entry["value"].as_str()) {
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels
}

/// Takes back what an ADD that is refused after all has made, and gives the error back with what could not be undone. The
/// main lock is let go before a plugin is asked.
pub(super) fn abandon(
    cx: &mut Context,
    lock: Option<Guard>,
    pending: Pending<'_>,
    plan: &Plan,
    error: VerbError,
) -> VerbError {
    let mut errors = step_back(&mut cx.kernel, &plan.steps);
    drop(lock);
    // What could not be closed to the network must not be handed to the next container.
    if errors.is_empty() {
        errors = give_back(&mut cx.kernel, &plan.steps);
    }
    let kept = if errors.is_empty() { pending.forget() } else { pending.doom() };
    let mut left: Vec<String> = errors.iter().map(ApplyError::to_string).collect();
    left.extend(kept.err().map(|error| error.to_string()));
    not_undone(cx, error, left)
}

/// The error of an ADD, with what is left of it.
fn not_undone(cx: &mut Context, error: VerbError, left: Vec<String>) -> VerbError {
    for words in &left {
        cx.journal.note(LogLevel::Warning, || format!("not undone: {words}"));
    }
    if left.is_empty() { error } else { VerbError::NotUndone { error: Box::new(error), left } }
}

/// Gives the addresses of an ADD back of which a step failed, and ends its record: gone where all was undone, doomed where
/// not. As [`abandon`] without the main lock where a plugin is asked.
pub(super) fn close(
    cx: &mut Context,
    lock: Option<Guard>,
    pending: Pending<'_>,
    plan: &Plan,
    mut error: ApplyError,
) -> VerbError {
    drop(lock);
    if error.not_undone.is_empty() {
        error.not_undone = give_back(&mut cx.kernel, &plan.steps).iter().map(ToString::to_string).collect();
    }
    let closed = if error.not_undone.is_empty() { pending.forget() } else { pending.doom() };
    let mut left = std::mem::take(&mut error.not_undone);
    left.extend(closed.err().map(|failure| failure.to_string()));
    not_undone(cx, error.into(), left)
}

/// Takes the main lock, with nothing there of an earlier attachment of this name. Whoever gave that one its addresses is
/// asked before it is asked for new ones, since it knows them by the same name; and without the lock.
fn lock_cleared(
    cx: &mut Context,
    state: &State,
    key: &AttachmentKey,
    sandbox: &Sandbox,
) -> Result<Guard, VerbError> {
    loop {
        let lock = state.lock(deadline())?;
        reap::dead_attachments(cx)?;
        let had_one = refuse_existing(cx, key, sandbox)?;
        if !had_one || !state.is_doomed(key)? {
            return Ok(lock);
        }
        drop(lock);
        reap::reap(cx, std::slice::from_ref(key))?;
    }
}

/// Refuses an attachment that is there already, in this namespace or in another that lives, and an interface that
/// somebody else made. A record whose container has died without DEL gives way: its namespace is gone, or has lost the
/// interface. Gives whether there was one.
fn refuse_existing(cx: &mut Context, key: &AttachmentKey, sandbox: &Sandbox) -> Result<bool, VerbError> {
    let is_there = |cx: &mut Context| {
        let there = cx.kernel.has_interface(sandbox, &key.interface);
        there.map_err(|error| ApplyError::new(format!("interface {}", key.interface), error))
    };
    let had_one = match cx.state.find::<Plan>(key)? {
        None => false,
        Some(Found { stage: Stage::Pending { alive: true }, .. }) => {
            return Err(VerbError::Busy(key.clone()));
        }
        Some(Found { stage: Stage::Ready, record }) => {
            let same = record.plan.interface().is_some_and(|inner| inner.sandbox.is_same_as(sandbox));
            if is_there(cx)? {
                return Err(match same {
                    true => VerbError::Duplicate(key.clone()),
                    // Not the one of the record, which is in another namespace.
                    false => VerbError::InterfaceExists(key.interface.clone()),
                });
            }
            if !same && !reap::is_lost(cx, &record)? {
                return Err(VerbError::Duplicate(key.clone()));
            }
            cx.journal.note(LogLevel::Warning, || {
                format!("{key} has a record of a container that is gone; taking that attachment away first")
            });
            reap::evict(cx, key)?
        }
        Some(_) => reap::evict(cx, key)?,
    };
    if is_there(cx)? {
        return Err(VerbError::InterfaceExists(key.interface.clone()));
    }
    Ok(had_one)
}

fn outcome(
    cx: &mut Context,
    call: &Call,
    plan: &Plan,
    chosen: Chosen,
    previous: Option<CniResult>,
) -> CniResult {
    let bridge = plan.link().and_then(|link| {
        let told = link.mtu.filter(|_| call.config.defaults.is_own());
        cx.kernel.seen_bridge(link.bridge.as_deref()?, told)
    });
    plan::outcome(
        call.config,
        plan,
        bridge.unwrap_or_default(),
        &chosen.addressing.routes,
        chosen.dns,
        previous,
    )
}
