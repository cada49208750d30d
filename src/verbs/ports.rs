//! Host ports: refused before any effect where somebody has them, chosen where the call names none.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ipam::PortPool;
use crate::model::{AttachmentKey, Network, PortMapping, Protocol, Publication, names};

use super::{Call, Context, VerbError, addressing, family, reap};
use crate::cni::{Ipam, LogLevel, NetworkConfig};
use crate::firewall::NAMES_PORT;
use crate::plan::{self, Plan};
use crate::store::{Found, Stage};

/// The container's addresses, with stand-ins for those that are not chosen yet: what is refused here depends on the
/// host's side and on the families alone.
fn expected(call: &Call, network: &Network) -> Vec<IpAddr> {
    match &call.config.ipam {
        Ipam::HostLocal(host_local) => addressing::range_sets(host_local, network)
            .iter()
            .filter_map(|set| set.first().map(|range| range.start))
            .collect(),
        Ipam::Static { addresses, .. } => addresses.iter().map(|a| a.address.ip()).collect(),
        // What a plugin will give is not known: both families.
        Ipam::Delegated { .. } => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        Ipam::None => Vec::new(),
    }
}

/// Refuses host ports that another container publishes, or that a process of the host listens on, and host addresses
/// of a family that the container will not have. One that is to be chosen is nobody's yet. Gives those that another
/// interface of the same container has: runtimes give each network of a container the same list.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner; [`VerbError::Config`].
pub(super) fn refuse_taken(
    cx: &mut Context,
    call: &Call,
    network: &Network,
    key: &AttachmentKey,
) -> Result<Vec<Publication>, VerbError> {
    refuse(cx, call, network, key, gives_way)
}

/// As [`refuse_taken`], for those who only ask: what is on its way out is no obstacle, and stays.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner.
pub(super) fn refuse_held(
    cx: &mut Context,
    call: &Call,
    network: &Network,
    key: &AttachmentKey,
) -> Result<Vec<Publication>, VerbError> {
    refuse(cx, call, network, key, would_give_way)
}

/// Whether what an owner has is let go for another attachment, or held already.
type Yields = fn(&mut Context, &str, &AttachmentKey) -> Result<bool, VerbError>;

fn refuse(
    cx: &mut Context,
    call: &Call,
    network: &Network,
    key: &AttachmentKey,
    gives_way: Yields,
) -> Result<Vec<Publication>, VerbError> {
    let keys = &call.config.portmap;
    if keys.mappings.is_empty() || call.config.isolation.internal {
        return Ok(Vec::new());
    }
    let addresses = expected(call, network);
    family::refuse_missing(cx, keys, &addresses, key)?;
    let publications: Vec<Publication> = publications(&keys.mappings, &addresses).collect();
    refuse_each(cx, publications, key, gives_way)
}

/// As [`refuse_taken`], where the targets are known.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner.
pub(super) fn refuse_each_taken(
    cx: &mut Context,
    publications: &[Publication],
    key: &AttachmentKey,
) -> Result<Vec<Publication>, VerbError> {
    refuse_each(cx, publications.to_vec(), key, gives_way)
}

/// As [`refuse_held`], where the targets are known.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner.
pub(super) fn refuse_each_held(
    cx: &mut Context,
    publications: &[Publication],
    key: &AttachmentKey,
) -> Result<Vec<Publication>, VerbError> {
    refuse_each(cx, publications.to_vec(), key, would_give_way)
}

fn refuse_each(
    cx: &mut Context,
    mut publications: Vec<Publication>,
    key: &AttachmentKey,
    gives_way: Yields,
) -> Result<Vec<Publication>, VerbError> {
    let mut waiting = Vec::new();
    for (publication, owner) in cx.state.owners(&publications)? {
        if gives_way(cx, &owner, key)? {
            continue;
        }
        if !is_other_interface(&owner, key) {
            return Err(VerbError::PortTaken { publication, owner: format!("container {owner}") });
        }
        waiting.push((publication, owner));
    }
    for (publication, owner) in &waiting {
        cx.journal.note(LogLevel::Warning, || {
            format!("host port {publication} stays with {owner}, another interface of the container; {key} waits for it")
        });
    }
    let mut waiting: Vec<Publication> = waiting.into_iter().map(|(publication, _)| publication).collect();
    waiting.dedup();
    publications.retain(|publication| !waiting.contains(publication));
    refuse_those_of_others(cx, &publications, key)?;
    Ok(waiting)
}

/// Whether the owner of a claim is the same container by another interface.
pub(super) fn is_other_interface(owner: &str, key: &AttachmentKey) -> bool {
    AttachmentKey::parse(owner)
        .is_some_and(|owner| owner.container_id == key.container_id && owner.interface != key.interface)
}

/// Refuses what no attachment of ours has: it is a name service's, the reference's, or a process's.
fn refuse_those_of_others(
    cx: &mut Context,
    publications: &[Publication],
    key: &AttachmentKey,
) -> Result<(), VerbError> {
    refuse_name_service(cx, publications)?;
    if let Some((publication, taken)) = cx.kernel.taken_by_theirs(publications, key)? {
        let network = taken.network.map(|name| format!(" of network {name}")).unwrap_or_default();
        let owner = format!("container {}{network}, by the reference plugin portmap", taken.id);
        return Err(VerbError::PortTaken { publication, owner });
    }
    let survey = cx.kernel.survey_ports(publications, key).map_err(sys)?;
    if let Some(holder) = survey.holder {
        return Err(VerbError::PortTaken { publication: holder.publication, owner: holder.words });
    }
    for address in survey.missing {
        cx.journal.note(LogLevel::Warning, || {
            format!("hostIP {address} is no address of this host: its ports answer once it is")
        });
    }
    Ok(())
}

/// Refuses port 53 of a gateway where a network has its name service: nobody takes the questions of its containers.
fn refuse_name_service(cx: &Context, publications: &[Publication]) -> Result<(), VerbError> {
    let may_be = |p: &&Publication| {
        !p.host.ip().is_unspecified() && (p.host.port()..=p.last_host_port()).contains(&NAMES_PORT)
    };
    let mut suspects = publications.iter().filter(may_be).peekable();
    if suspects.peek().is_none() {
        return Ok(());
    }
    // A record that cannot be read has been complained about.
    let (networks, _) = cx.state.networks()?;
    for publication in suspects {
        let served = |network: &&Network| {
            plan::written(network)
                .is_some_and(|rules| rules.serves_names(publication.protocol, publication.host.ip()))
        };
        if let Some(network) = networks.iter().find(served) {
            let owner = format!("the name service of network {}", network.name);
            return Err(VerbError::PortTaken { publication: *publication, owner });
        }
    }
    Ok(())
}

/// What mappings with a port of their own come to.
fn publications<'a>(
    mappings: &'a [PortMapping],
    addresses: &'a [IpAddr],
) -> impl Iterator<Item = Publication> + 'a {
    let named = mappings.iter().filter(|mapping| !mapping.is_automatic());
    named.flat_map(|mapping| Publication::of(mapping, addresses))
}

/// A configuration whose port mappings have a host port each, and those of them whose port was chosen here.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    pub(super) config: Cow<'a, NetworkConfig>,
    pub(super) chosen: Vec<PortMapping>,
}

/// Chooses the host ports that the call left open; an internal network publishes none. Called under the main lock, with the container's addresses known.
///
/// # Errors
/// [`VerbError::NoPort`] where none is free; [`VerbError::Config`] for a host address of a family that the container
/// lacks.
pub(super) fn settle<'a>(
    cx: &mut Context,
    config: &'a NetworkConfig,
    key: &AttachmentKey,
    addresses: &[IpAddr],
) -> Result<Settled<'a>, VerbError> {
    let keys = &config.portmap;
    let mut settled = Settled { config: Cow::Borrowed(config), chosen: Vec::new() };
    if config.isolation.internal && !keys.mappings.is_empty() {
        cx.journal.note(LogLevel::Warning, || {
            format!("network {} is internal: {key} publishes no ports by it", config.name)
        });
        settled.config.to_mut().portmap.mappings.clear();
        return Ok(settled);
    }
    family::refuse_missing(cx, keys, addresses, key)?;
    family::warn(cx, keys, addresses);
    if keys.mappings.iter().any(PortMapping::is_automatic) {
        choose_all(cx, &mut settled, key)?;
    }
    Ok(settled)
}

fn choose_all(cx: &mut Context, settled: &mut Settled, key: &AttachmentKey) -> Result<(), VerbError> {
    let (range, reserved) = cx.kernel.local_ports().map_err(sys)?;
    let pool = PortPool::parse(&range, &reserved).ok_or_else(|| {
        VerbError::NoPort(format!(
            "net.ipv4.ip_local_port_range is '{range}', which says no ports to choose from"
        ))
    })?;
    let theirs = cx.kernel.published_by_theirs([true, true])?.into_iter();
    let theirs = theirs.map(|port| (port.publication.protocol, port.publication.host.port(), 1));
    let claimed = cx.state.claimed_ports()?.into_iter().chain(theirs);
    let mappings = &mut settled.config.to_mut().portmap.mappings;
    let named = mappings.iter().filter(|mapping| !mapping.is_automatic());
    let named = named.map(|mapping| (mapping.protocol, mapping.host_port, mapping.count));
    let mut taken: HashSet<(Protocol, u16)> = claimed
        .chain(named)
        .flat_map(|(protocol, first, count)| (0..count).map(move |n| (protocol, first.saturating_add(n))))
        .collect();
    for (at, mapping) in mappings.iter_mut().enumerate().filter(|(_, mapping)| mapping.is_automatic()) {
        let seed = names::hash(format!("{key} {at}").as_bytes());
        mapping.host_port = choose(cx, mapping, &pool, seed, &mut taken)?;
        settled.chosen.push(mapping.clone());
    }
    Ok(())
}

/// A run of host ports that nobody has claimed and nobody has bound, on all addresses that the mapping is for.
fn choose(
    cx: &mut Context,
    mapping: &PortMapping,
    pool: &PortPool,
    seed: u64,
    taken: &mut HashSet<(Protocol, u16)>,
) -> Result<u16, VerbError> {
    let unspecified = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let hosts = mapping.host_ip.map_or_else(|| unspecified.to_vec(), |ip| vec![ip]);
    let run = |first: u16| (0..mapping.count).map(move |n| first.saturating_add(n));
    'candidates: for first in pool.candidates(mapping.count, seed) {
        if run(first).any(|port| taken.contains(&(mapping.protocol, port))) {
            continue;
        }
        for port in run(first) {
            for host in &hosts {
                if !cx.kernel.port_is_free(mapping.protocol, SocketAddr::new(*host, port)).map_err(sys)? {
                    taken.insert((mapping.protocol, port));
                    continue 'candidates;
                }
            }
        }
        taken.extend(run(first).map(|port| (mapping.protocol, port)));
        return Ok(first);
    }
    let ports =
        if mapping.count == 1 { "port is".to_owned() } else { format!("run of {} ports is", mapping.count) };
    Err(VerbError::NoPort(format!(
        "no host {ports} free for container port {}/{}: those of ip_local_port_range ({pool}) are reserved, published or in use",
        mapping.container_port, mapping.protocol
    )))
}

/// How the owner of a claim stands to somebody else who asks for the port.
enum Standing {
    /// It is the one who asks.
    Own,
    /// Its DEL has begun.
    Doomed(AttachmentKey),
    /// Its container died without DEL.
    Lost(AttachmentKey),
    /// No attachment has its name, as none of those that there are.
    Nobody(HashSet<AttachmentKey>),
    /// It keeps the port.
    Alive,
}

/// How an owner stands, without any effect.
fn standing(cx: &mut Context, owner: &str, key: &AttachmentKey) -> Result<Standing, VerbError> {
    let Some(owner) = AttachmentKey::parse(owner) else { return Ok(Standing::Alive) };
    if owner == *key {
        return Ok(Standing::Own);
    }
    if cx.state.is_doomed(&owner)? {
        return Ok(Standing::Doomed(owner));
    }
    let known = cx.state.keys()?;
    if !known.contains(&owner) {
        return Ok(Standing::Nobody(known));
    }
    // A container that died without DEL took its end of the link with it.
    let is_lost = match cx.state.find::<Plan>(&owner)? {
        Some(Found { stage: Stage::Ready, record }) => reap::is_lost(cx, &record)?,
        _ => false,
    };
    Ok(if is_lost { Standing::Lost(owner) } else { Standing::Alive })
}

/// Whether [`gives_way`] would say so.
fn would_give_way(cx: &mut Context, owner: &str, key: &AttachmentKey) -> Result<bool, VerbError> {
    Ok(!matches!(standing(cx, owner, key)?, Standing::Alive))
}

/// Whether a claim is of an attachment that is on its way out, or of none: it is then taken away.
fn gives_way(cx: &mut Context, owner: &str, key: &AttachmentKey) -> Result<bool, VerbError> {
    match standing(cx, owner, key)? {
        Standing::Alive => return Ok(false),
        Standing::Own => {}
        // Whoever takes it away.
        Standing::Doomed(owner) => reap::reap_locked(cx, std::slice::from_ref(&owner))?,
        Standing::Lost(owner) => {
            cx.journal
                .note(LogLevel::Warning, || format!("{owner} is gone without a DEL; taking what it held"));
            reap::evict(cx, &owner.attachment())?;
        }
        Standing::Nobody(known) => {
            for claim in cx.state.claims_of_unknown(|key| known.contains(key))? {
                let waiters = cx.state.drop_claim(&claim)?;
                cx.kernel.note_waiters(waiters);
            }
        }
    }
    Ok(true)
}

fn sys(error: crate::sys::SysError) -> VerbError {
    crate::apply::ApplyError::new("the host's listeners", error).into()
}
