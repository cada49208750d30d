//! Host ports: refused before any effect where somebody has them.

use std::net::IpAddr;

use crate::model::{AttachmentKey, Network, Publication};

use super::{Call, Context, VerbError, addressing, reap};
use crate::cni::{Ipam, LogLevel};
use crate::plan::Plan;
use crate::store::{Found, Stage};

/// The publications that an ADD will ask for, with stand-ins for addresses that are not chosen yet: what is refused
/// here depends on the host's side alone.
fn expected(call: &Call, network: &Network) -> Vec<Publication> {
    let addresses: Vec<IpAddr> = match &call.config.ipam {
        Ipam::HostLocal(host_local) => addressing::range_sets(host_local, network)
            .iter()
            .filter_map(|set| set.first().map(|range| range.start))
            .collect(),
        Ipam::Static { addresses, .. } => addresses.iter().map(|a| a.address.ip()).collect(),
        // What a plugin will give is not known: both families.
        Ipam::Delegated { .. } => {
            vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
        }
        Ipam::None => Vec::new(),
    };
    call.config.portmap.mappings.iter().flat_map(|mapping| Publication::of(mapping, &addresses)).collect()
}

/// Refuses host ports that another attachment publishes, or that a process of the host listens on.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner.
pub(super) fn refuse_taken(
    cx: &mut Context,
    call: &Call,
    network: &Network,
    key: &AttachmentKey,
) -> Result<(), VerbError> {
    refuse_each_taken(cx, &expected(call, network), key)
}

/// The same, where the targets are known.
///
/// # Errors
/// [`VerbError::PortTaken`], naming the owner.
pub(super) fn refuse_each_taken(
    cx: &mut Context,
    publications: &[Publication],
    key: &AttachmentKey,
) -> Result<(), VerbError> {
    for publication in publications.iter().copied() {
        if let Some(owner) = cx.state.owner(&publication)?
            && !gives_way(cx, &owner, key)?
        {
            return Err(VerbError::PortTaken { publication, owner: format!("container {owner}") });
        }
        if let Some(holder) = cx.kernel.port_holder(&publication, key).map_err(sys)? {
            return Err(VerbError::PortTaken { publication, owner: holder.words });
        }
    }
    Ok(())
}

/// Whether a claim is of an attachment that is on its way out, or of none: it is then taken away.
fn gives_way(cx: &mut Context, owner: &str, key: &AttachmentKey) -> Result<bool, VerbError> {
    let Some(owner) = AttachmentKey::parse(owner) else { return Ok(false) };
    if owner == *key {
        return Ok(true);
    }
    if cx.state.is_doomed(&owner)? {
        reap::reap(cx, &[])?;
        return Ok(true);
    }
    let known = cx.state.keys()?;
    if known.contains(&owner) {
        // A container that died without DEL took its end of the link with it.
        let gone = match cx.state.find::<Plan>(&owner)? {
            Some(Found { stage: Stage::Ready, record }) => {
                cx.kernel.has_lost_its_link(&record.plan)?
                    || cx.kernel.has_lost_its_container(&record.plan)?
            }
            _ => false,
        };
        if gone {
            cx.journal
                .note(LogLevel::Warning, || format!("{owner} is gone without a DEL; taking what it held"));
            reap::evict(cx, &owner.attachment())?;
        }
        return Ok(gone);
    }
    for claim in cx.state.claims_of_unknown(|key| known.contains(key))? {
        cx.state.drop_claim(&claim)?;
    }
    Ok(true)
}

fn sys(error: crate::sys::SysError) -> VerbError {
    crate::apply::ApplyError::new("the host's listeners", error).into()
}
