//! The verbs of an address plugin of its own, as other plugins call it: the lease file is all its state.

use std::collections::HashSet;
use std::path::Path;

use crate::cni::{CniResult, Code, Ip, Ipam};
use crate::model::{AttachmentKey, FirewallBackend, LeaseSource, Network};

use super::{Call, Context, VerbError, addressing, gc as whole, status as ready};

/// Takes the addresses of an attachment. The result has no interfaces: those are the caller's.
///
/// # Errors
/// Where none is free, a requested one cannot be had, or the attachment has some already.
pub fn add(cx: &mut Context, call: &Call) -> Result<CniResult, VerbError> {
    let key = call.key();
    let source = addressing::source(cx, call)?;
    refuse_duplicate(cx, &source, &key)?;
    let mut result = CniResult::default();
    addressing::take(cx, call, &network(call), &key, &source, |_, chosen| {
        let leases = &chosen.addressing.leases;
        result = CniResult {
            ips: leases.iter().map(|lease| Ip::new(lease.address, lease.gateway, None)).collect(),
            routes: chosen.addressing.routes,
            dns: chosen.dns,
            ..CniResult::default()
        };
        Ok(())
    })?;
    Ok(result)
}

/// A network of which nothing but its addresses matters.
fn network(call: &Call) -> Network {
    Network {
        name: call.config.name.clone(),
        bridge: String::new(),
        mac: None,
        automatic: Vec::new(),
        ranges: Vec::new(),
        leases: None,
        mtu: None,
        backend: FirewallBackend::Nftables,
        gc_after: None,
        admitted: Vec::new(),
        rules: serde_json::Value::Null,
        left: Vec::new(),
    }
}

/// The caller keeps records of its own, and we none: only the lease files say what an attachment has.
fn refuse_duplicate(cx: &Context, source: &LeaseSource, key: &AttachmentKey) -> Result<(), VerbError> {
    let LeaseSource::Files { directory } = source else { return Ok(()) };
    let Some(directory) = cx.state.existing_lease_directory(Path::new(directory))? else { return Ok(()) };
    match directory.leases()?.into_iter().find(|lease| lease.owner.is(key)) {
        Some(lease) => Err(VerbError::LeaseExists { address: lease.address, key: key.clone() }),
        None => Ok(()),
    }
}

/// Gives back whatever the attachment holds; nothing is as good.
///
/// # Errors
/// Where the lease directory cannot be read or written.
pub fn del(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    addressing::release_without_record(cx, call, &call.key())
}

/// Makes sure that the attachment holds an address; for `static`, that no gateway has changed.
///
/// # Errors
/// [`VerbError::Drifted`].
pub fn check(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let key = call.key();
    if let LeaseSource::Files { directory } = addressing::source(cx, call)? {
        let held = match cx.state.existing_lease_directory(Path::new(&directory))? {
            Some(directory) => directory.leases()?.iter().any(|lease| lease.owner.is(&key)),
            None => false,
        };
        let id = &key.container_id;
        return if held {
            Ok(())
        } else {
            let words = format!("host-local: Failed to find address added by container {id}");
            Err(VerbError::known(Code::Drift, words, format!("no lease file of it in {directory}")))
        };
    }
    let (Ipam::Static { addresses, .. }, Some(last)) =
        (&call.config.ipam, addressing::previous_result(call)?)
    else {
        return Ok(());
    };
    for wanted in addresses.iter().filter(|wanted| wanted.gateway.is_some()) {
        let found = last.ips.iter().find(|ip| ip.address.ip() == wanted.address.ip());
        if let Some(found) = found.filter(|found| found.gateway != wanted.gateway) {
            let words =
                format!("static: Failed to match addr {} on interface {}", wanted.address, key.interface);
            let why = format!(
                "the result names the gateway {:?}, the configuration {:?}",
                found.gateway, wanted.gateway
            );
            return Err(VerbError::known(Code::Drift, words, why));
        }
    }
    Ok(())
}

/// Gives back the addresses of attachments that are not valid any more.
///
/// # Errors
/// As GC of a whole attachment.
pub fn gc(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let valid: HashSet<&AttachmentKey> = whole::valid_attachments(call)?.iter().collect();
    let known = cx.state.keys()?;
    addressing::release_orphans(cx, call, &valid, &known)
}

/// Says whether an address could be given.
///
/// # Errors
/// [`VerbError::NotReady`].
pub fn status(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    ready::pool_has_room(cx, call, None)
}
