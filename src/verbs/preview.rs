//! What an ADD would do, without doing it.

use std::net::IpAddr;
use std::path::Path;

use crate::apply::ApplyError;
use crate::cni::{Ipam, LinkKeys, NetworkConfig};
use crate::firewall::NetworkRules;
use crate::model::{LeaseSource, Network};
use crate::plan::{self, Plan};
use crate::store::{Found, Stage};

use super::addressing::{self, Chosen};
use super::network;
use super::{Call, Context, VerbError, lower, ports};

/// An ADD that has not happened.
#[derive(Debug)]
pub struct Preview {
    /// The network as it would be written down.
    pub network: Network,
    /// Whether the network's own rules would be written: it is new, or its configuration has changed.
    pub writes_network: bool,
    /// The steps, in order.
    pub plan: Plan,
}

/// Plans an ADD and refuses what an ADD would refuse. Nothing is changed, and no lock is held: another call may come
/// first. An IPAM plugin is not asked, so its addresses, and what follows from them, are missing from the plan.
///
/// # Errors
/// As ADD's, before its first effect.
pub fn preview(cx: &mut Context, call: &Call) -> Result<Preview, VerbError> {
    let key = call.key();
    let netns = call.environment.netns.as_deref().unwrap_or_default();
    let sandbox = cx.kernel.open_sandbox(netns, call.environment.netns_override)?;
    let interface_there = cx
        .kernel
        .has_interface(&sandbox, &key.interface)
        .map_err(|error| ApplyError::new(format!("interface {}", key.interface), error))?;
    if let Some(Found { stage: Stage::Ready, record }) = cx.state.find::<Plan>(&key)?
        && interface_there
        && record.plan.link().is_some_and(|link| link.sandbox.is_same_as(&sandbox))
    {
        return Err(VerbError::Duplicate(key));
    }
    if interface_there {
        return Err(VerbError::InterfaceExists(key.interface));
    }
    let provided = network::provide(cx, call.config)?;
    let waiting = ports::refuse_held(cx, call, &provided.network, &key)?;
    let source = addressing::source(cx, call)?;
    addressing::require_delegate(call)?;
    let chosen = choose(cx, call, &provided.network, source)?;
    let addresses: Vec<IpAddr> = chosen.addressing.leases.iter().map(|lease| lease.address.ip()).collect();
    let ports = ports::settle(cx, call.config, &key, &addresses)?;
    let lower = lower::of(cx, call, &sandbox)?;
    let mut plan = match (&call.config.link, &lower) {
        (LinkKeys::Macvlan(keys), Some(lower)) => {
            plan::macvlan(call.config, keys, &key, &sandbox, &chosen.addressing, lower)
        }
        _ => plan::build(&ports.config, &provided.network, &key, &sandbox, &chosen.addressing),
    };
    plan.set_aside(&waiting);
    Ok(Preview {
        writes_network: !is_written(cx, call.config, &provided.network)?,
        network: provided.network,
        plan,
    })
}

fn choose(cx: &Context, call: &Call, network: &Network, source: LeaseSource) -> Result<Chosen, VerbError> {
    let key = call.key();
    Ok(match (&call.config.ipam, &source) {
        (Ipam::HostLocal(host_local), LeaseSource::Files { directory }) => {
            let sets = addressing::fitting_range_sets(host_local, network)?;
            let requested = &call.config.requested;
            let leases = cx.state.preview_leases(Path::new(directory), sets, requested, &key)?;
            addressing::chosen(call, source, leases, &host_local.routes, call.config.dns.clone())
        }
        (Ipam::Static { addresses, routes, dns }, _) => {
            addressing::of_configuration(call, source, addresses, routes, dns)
        }
        _ => addressing::chosen(call, source, Vec::new(), &[], call.config.dns.clone()),
    })
}

/// Whether the network's record has the rules that the configuration asks for.
fn is_written(cx: &Context, config: &NetworkConfig, network: &Network) -> Result<bool, VerbError> {
    let Some(recorded) = cx.state.network(&config.name)? else { return Ok(false) };
    let old: Option<NetworkRules> = serde_json::from_value(recorded.rules).ok();
    Ok(recorded.backend == network.backend && old.as_ref() == Some(&plan::rules(config, network)))
}
