//! Where an attachment's addresses come from: lease files, the configuration, or another plugin.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use crate::apply::{ApplyError, Cause, Delegation};
use crate::cni::{CniResult, Dns, HostLocal, Ipam, StaticAddress, require_next_hops};
use crate::model::{AttachmentKey, Lease, LeaseSource, Network, RangeSet, Route, first_address};
use crate::plan::{self, Addressing};
use crate::store::HeldLease;
use crate::sys::boot;

use super::{Call, Context, VerbError, resolver};

/// Addresses, and what of the result comes with them.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) addressing: Addressing,
    pub(super) dns: Dns,
}

/// Who will hold the addresses: known before any is taken, and written into the record first.
pub(super) fn source(cx: &Context, call: &Call) -> Result<LeaseSource, VerbError> {
    Ok(match &call.config.ipam {
        Ipam::None => LeaseSource::None,
        Ipam::Static { .. } => LeaseSource::Static,
        Ipam::HostLocal(host_local) => {
            let base = host_local.data_dir.as_deref().map(Path::new);
            let directory = cx.state.lease_path(&call.config.name, base)?;
            LeaseSource::Files { directory: directory.display().to_string() }
        }
        Ipam::Delegated { plugin } => LeaseSource::Delegated {
            plugin: plugin.clone(),
            config: call.config.raw.to_string(),
            path: call.environment.path.clone(),
            args: call.environment.args.clone(),
            netns: call.environment.netns.clone().unwrap_or_default(),
        },
    })
}

/// The range sets of a network: its configured ones, or the one that was chosen for it.
pub(super) fn range_sets<'a>(host_local: &'a HostLocal, network: &'a Network) -> &'a [RangeSet] {
    if host_local.range_sets.is_empty() { &network.automatic } else { &host_local.range_sets }
}

/// The same for who is to get an address of them, and routes: of a subnet that was chosen for the network it is known
/// only now whether the next hops are in it.
///
/// # Errors
/// Names the next hop that is in none.
pub(super) fn fitting_range_sets<'a>(
    host_local: &'a HostLocal,
    network: &'a Network,
) -> Result<&'a [RangeSet], VerbError> {
    let sets = range_sets(host_local, network);
    if host_local.range_sets.is_empty() {
        require_next_hops(&host_local.routes, sets)?;
    }
    Ok(sets)
}

/// Takes the addresses of an attachment. `announce` gets them, with what follows from them: those in lease files before
/// they are taken, to be written down first; and once more where others had to be chosen.
///
/// # Errors
/// Where none is free, a requested one cannot be had, or the delegated plugin fails; and those of `announce`.
pub(super) fn take(
    cx: &mut Context,
    call: &Call,
    network: &Network,
    key: &AttachmentKey,
    source: &LeaseSource,
    mut announce: impl FnMut(&mut Context, Chosen) -> Result<(), VerbError>,
) -> Result<(), VerbError> {
    let source = source.clone();
    match (&call.config.ipam, &source) {
        (Ipam::Static { addresses, routes, dns }, _) => {
            announce(cx, of_configuration(call, source, addresses, routes, dns))
        }
        (Ipam::HostLocal(host_local), LeaseSource::Files { directory }) => {
            let sets = fitting_range_sets(host_local, network)?;
            // Before an address is taken that nobody would give back.
            let dns = host_local.resolv_conf.as_deref().map(resolver::read).transpose()?.unwrap_or_default();
            let directory = cx.state.lease_directory(Path::new(directory))?;
            if directory.is_shared() {
                sweep_after_reboot(cx, &directory)?;
            }
            let written = |leases: &[Lease]| {
                announce(cx, chosen(call, source.clone(), leases.to_vec(), &host_local.routes, dns.clone()))
            };
            directory.allocate(sets, &call.config.requested, key, written).map(drop)
        }
        (Ipam::Delegated { plugin }, _) => {
            let output = delegation(call, Some(key), &call.config.raw.to_string())
                .run("ADD")
                .map_err(|cause| ApplyError::new(format!("the IPAM plugin {plugin}"), cause))?;
            let result = CniResult::from_plugin(&output, plugin, call.config.cni_version)?;
            let leases: Vec<Lease> =
                result.ips.iter().map(|ip| Lease { address: ip.address, gateway: ip.gateway }).collect();
            if leases.is_empty() {
                let reason = "it gave no address".to_owned();
                let cause = Cause::Delegated { plugin: plugin.clone(), error: None, reason };
                return Err(ApplyError::new(format!("the IPAM plugin {plugin}"), cause).into());
            }
            announce(cx, chosen(call, source, leases, &result.routes, result.dns))
        }
        (Ipam::None | Ipam::HostLocal(_), _) => {
            announce(cx, chosen(call, source, Vec::new(), &[], Dns::default()))
        }
    }
}

/// Addresses that the configuration names.
pub(super) fn of_configuration(
    call: &Call,
    source: LeaseSource,
    addresses: &[StaticAddress],
    routes: &[Route],
    dns: &Dns,
) -> Chosen {
    let lease = |a: &StaticAddress| Lease { address: a.address, gateway: a.gateway };
    chosen(call, source, addresses.iter().map(lease).collect(), routes, dns.clone())
}

/// What follows from the addresses: gateways, routes, DNS.
pub(super) fn chosen(
    call: &Call,
    source: LeaseSource,
    mut leases: Vec<Lease>,
    routes: &[Route],
    dns: Dns,
) -> Chosen {
    let keys = &call.config.bridge;
    if keys.is_gateway {
        for lease in &mut leases {
            // As in the reference: a gateway that nobody named is the first address of the subnet.
            lease.gateway = lease.gateway.or_else(|| first_address(lease.address));
        }
    }
    let mut routes = plan::effective_routes(routes, &leases, keys.is_default_gateway);
    // Whoever asks for them: an internal network has no way out to lead to.
    routes.retain(|route| !call.config.isolation.internal || route.dst.prefix() > 0);
    let dns = if call.config.dns_is_given { call.config.dns.clone() } else { dns };
    Chosen { addressing: Addressing { source, leases, routes }, dns }
}

/// Leases in a directory that outlives the boot are of containers that do not.
fn sweep_after_reboot(cx: &mut Context, directory: &crate::store::LeaseDirectory) -> Result<(), VerbError> {
    let Some((id, began)) = this_boot() else { return Ok(()) };
    for address in directory.sweep_boot(&id, began)? {
        let line = || format!("reclaimed {address}: its lease was of an earlier boot");
        cx.journal.note(crate::cni::LogLevel::Warning, line);
    }
    Ok(())
}

/// The ID of this boot, and when it began.
pub(super) fn this_boot() -> Option<(String, SystemTime)> {
    let (Ok(id), Ok(up)) = (boot::boot_id(), boot::age()) else { return None };
    Some((id, SystemTime::now() - up))
}

/// The call of the delegated plugin that this call makes.
fn delegation<'a>(call: &'a Call, key: Option<&'a AttachmentKey>, config: &'a str) -> Delegation<'a> {
    let plugin = match &call.config.ipam {
        Ipam::Delegated { plugin } => plugin.as_str(),
        _ => "",
    };
    Delegation {
        plugin,
        path: &call.environment.path,
        config,
        key,
        netns: call.environment.netns.as_deref().unwrap_or_default(),
        args: &call.environment.args,
    }
}

/// Refuses a delegated plugin that is not there, before anything is done.
///
/// # Errors
/// Names the plugin and where it was searched.
pub(super) fn require_delegate(call: &Call) -> Result<(), VerbError> {
    let Ipam::Delegated { plugin } = &call.config.ipam else { return Ok(()) };
    let found = delegation(call, None, "").program().map(drop);
    found.map_err(|cause| ApplyError::new(format!("the IPAM plugin {plugin}"), cause).into())
}

/// Passes a verb on to the delegated plugin, where the configuration names one.
///
/// # Errors
/// The plugin's.
pub(super) fn forward(call: &Call, key: Option<&AttachmentKey>, verb: &str) -> Result<(), VerbError> {
    let Ipam::Delegated { plugin } = &call.config.ipam else { return Ok(()) };
    let config = call.config.raw.to_string();
    let outcome = delegation(call, key, &config).run(verb);
    outcome.map(drop).map_err(|cause| {
        let error = ApplyError::new(format!("the IPAM plugin {plugin}"), cause);
        if matches!(verb, "CHECK" | "STATUS") { VerbError::Forwarded(error) } else { error.into() }
    })
}

/// The result of the plugins before us, or for CHECK of the whole chain.
///
/// # Errors
/// Where it is not a result.
pub(super) fn previous_result(call: &Call) -> Result<Option<CniResult>, VerbError> {
    Ok(call.config.previous()?)
}

/// DEL of an attachment that has no record: its addresses in a directory that is shared with host-local, which may
/// have given them, and those that a delegated plugin may hold.
///
/// # Errors
/// Where the directory cannot be read, or the plugin fails.
pub(super) fn release_without_record(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
) -> Result<(), VerbError> {
    if let Ipam::HostLocal(HostLocal { data_dir: Some(base), .. }) = &call.config.ipam {
        let path = cx.state.lease_path(&call.config.name, Some(Path::new(base)))?;
        if let Some(directory) = cx.state.existing_lease_directory(&path)? {
            directory.release_by_walk(key)?;
        }
    }
    forward(call, Some(key), "DEL")
}

/// The leases of a network in the directory that the reference `host-local` shares which are neither a valid
/// attachment's nor have a record: each container's ID and addresses. What another network holds as well is left out.
pub(super) fn orphaned(
    cx: &Context,
    call: &Call,
    valid: &HashSet<&AttachmentKey>,
    known: &HashSet<AttachmentKey>,
) -> Result<BTreeMap<String, Vec<IpAddr>>, VerbError> {
    let mut orphaned: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let base = match &call.config.ipam {
        Ipam::HostLocal(host_local) => host_local.data_dir.as_deref(),
        _ => call.config.defaults.data_dir,
    };
    let Some(base) = base else { return Ok(orphaned) };
    let path = cx.state.lease_path(&call.config.name, Some(Path::new(base)))?;
    let Some(directory) = cx.state.existing_lease_directory(&path)? else { return Ok(orphaned) };
    for HeldLease { address, owner } in directory.leases()? {
        let is_held = valid.iter().any(|key| owner.is(key)) || known.iter().any(|key| owner.is(key));
        if !is_held && !owner.is_empty() && !directory.held_by_sibling(address)? {
            orphaned.entry(owner.container_id().to_owned()).or_default().push(address);
        }
    }
    Ok(orphaned)
}

/// GC of addresses: those of the network that are neither a valid attachment's nor have a record.
pub(super) fn release_orphans(
    cx: &mut Context,
    call: &Call,
    valid: &HashSet<&AttachmentKey>,
    known: &HashSet<AttachmentKey>,
) -> Result<(), VerbError> {
    let base = match &call.config.ipam {
        Ipam::HostLocal(host_local) => host_local.data_dir.as_deref(),
        _ => None,
    };
    let path = cx.state.lease_path(&call.config.name, base.map(Path::new))?;
    let Some(directory) = cx.state.existing_lease_directory(&path)? else { return Ok(()) };
    let is_held = |lease: &HeldLease| {
        valid.iter().any(|key| lease.owner.is(key)) || known.iter().any(|key| lease.owner.is(key))
    };
    directory.release_where(|lease| !is_held(lease))?;
    Ok(())
}
