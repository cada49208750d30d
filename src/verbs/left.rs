//! Bridges and backends that a network has left while attachments stand there: these keep the rules that they were made
//! with, until the last of them goes. And networks that nobody is attached to: what they want of a bridge that others
//! are on is not wanted any more.

use std::collections::HashSet;

use serde_json::Value;

use crate::apply::Drift;
use crate::cni::LogLevel;
use crate::firewall::NetworkRules;
use crate::model::{FirewallBackend, LeftRules, Network};
use crate::plan::{self, Plan};
use crate::store::{Listed, Stage};

use super::{Context, VerbError};

const BACKENDS: [FirewallBackend; 2] = [FirewallBackend::Nftables, FirewallBackend::Iptables];

/// What the network has left once it is on this backend, with the bridge that these rules name; `old` are the rules that
/// its record says it has written. Reads records only where it leaves something now, or has left something before.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn after(
    cx: &Context,
    recorded: &Network,
    old: Option<&NetworkRules>,
    backend: FirewallBackend,
    rules: &NetworkRules,
) -> Result<Vec<LeftRules>, VerbError> {
    let moves = old.filter(|old| (recorded.backend, &old.bridge) != (backend, &rules.bridge));
    if moves.is_none() && recorded.left.is_empty() {
        return Ok(Vec::new());
    }
    let mut candidates: Vec<(FirewallBackend, NetworkRules)> =
        moves.map(|old| (recorded.backend, old.clone())).into_iter().collect();
    for of in BACKENDS {
        candidates.extend(plan::left_on(recorded, of).map(|left| (of, left)));
    }
    // It may have come back.
    candidates.retain(|(of, left)| (*of, &left.bridge) != (backend, &rules.bridge));
    standing(cx, candidates)
}

/// Takes away what the network has left and nobody stands behind any more. Called under the main lock.
///
/// # Errors
/// Where the state directory or the firewall refuses.
pub(super) fn settle(cx: &mut Context, name: &str) -> Result<(), VerbError> {
    let Some(recorded) = cx.state.network(name)?.filter(|network| !network.left.is_empty()) else {
        return Ok(());
    };
    let mut candidates = Vec::new();
    for of in BACKENDS {
        candidates.extend(plan::left_on(&recorded, of).map(|left| (of, left)));
    }
    let left = standing(cx, candidates)?;
    if left == recorded.left {
        return Ok(());
    }
    let wanted = Network { left, ..recorded.clone() };
    cx.kernel.write_network_rules(Some(&recorded), &wanted)?;
    Ok(cx.state.put_network(&wanted)?)
}

/// Those that attachments stand behind.
fn standing(
    cx: &Context,
    candidates: Vec<(FirewallBackend, NetworkRules)>,
) -> Result<Vec<LeftRules>, VerbError> {
    let Listed { found, .. }: Listed<Plan> = cx.state.all()?;
    let ready = found.iter().filter(|found| found.stage == Stage::Ready);
    let firewalls: Vec<&plan::Firewall> = ready.filter_map(|found| found.record.plan.firewall()).collect();
    let stands = |backend, rules: &NetworkRules| {
        firewalls.iter().any(|firewall| plan::is_behind(firewall, backend, rules))
    };
    let standing = candidates.into_iter().filter(|(backend, rules)| stands(*backend, rules));
    let left =
        |(backend, rules)| LeftRules { backend, rules: serde_json::to_value(&rules).unwrap_or_default() };
    Ok(standing.map(left).collect())
}

/// A network that nobody is attached to, and that has rules of a bridge where another's containers are.
#[derive(Debug, Clone)]
pub(super) struct Idle {
    network: Network,
    /// The bridge, and the other network.
    bridge: String,
    beside: String,
}

impl Idle {
    /// In the words of a reconciliation.
    pub(super) fn drift(&self) -> Drift {
        Drift::new(
            format!("rules of network {} on bridge {}", self.network.name, self.bridge),
            format!("none, since nobody is attached to it and network {} is on that bridge", self.beside),
            "what its last ADD wrote",
        )
    }
}

/// Those of these networks that are idle beside another; `used` are the names of those that have attachments, whole or
/// not.
pub(super) fn idle(networks: &[Network], used: &HashSet<&str>) -> Vec<Idle> {
    let (used, unused): (Vec<&Network>, Vec<&Network>) =
        networks.iter().partition(|network| used.contains(&*network.name));
    let beside = |bridge: &str| used.iter().find(|other| is_on(other, bridge));
    unused
        .into_iter()
        .filter_map(|network| {
            bridges_of(network).into_iter().find_map(|bridge| {
                let beside = beside(&bridge)?.name.clone();
                Some(Idle { network: network.clone(), bridge, beside })
            })
        })
        .collect()
}

/// The bridges that a network has rules of.
fn bridges_of(network: &Network) -> Vec<String> {
    let rules = BACKENDS.into_iter().flat_map(|backend| plan::written_on(network, backend));
    rules.map(|rules| rules.bridge).filter(|bridge| !bridge.is_empty()).collect()
}

fn is_on(network: &Network, bridge: &str) -> bool {
    network.bridge == bridge || bridges_of(network).iter().any(|own| own == bridge)
}

/// Takes away the rules of networks that are idle beside another: their next ADD writes them again. `beside` is the
/// network of an ADD as its record is going to be. Called under the main lock. Reads the records of attachments only
/// where networks share a bridge.
///
/// # Errors
/// Where the state directory or the firewall refuses.
pub(super) fn retire_idle(cx: &mut Context, beside: Option<&Network>) -> Result<Vec<Idle>, VerbError> {
    let (mut networks, _) = cx.state.networks()?;
    if let Some(of) = beside {
        networks
            .retain(|network| network.name != of.name && bridges_of(network).iter().any(|b| is_on(of, b)));
        networks.push(of.clone());
    }
    let shares = |network: &Network| {
        bridges_of(network).iter().any(|b| networks.iter().any(|o| o.name != network.name && is_on(o, b)))
    };
    if !networks.iter().any(shares) {
        return Ok(Vec::new());
    }
    let Listed { found, broken }: Listed<Plan> = cx.state.all()?;
    if !broken.is_empty() {
        // Whose they are cannot be told: of any network.
        return Ok(Vec::new());
    }
    let mut used: HashSet<&str> = found.iter().map(|found| &*found.record.network).collect();
    used.extend(beside.map(|of| &*of.name));
    let idle = idle(&networks, &used);
    for one in &idle {
        retire(cx, &one.network)?;
        cx.journal.note(LogLevel::Info, || {
            let Idle { network, bridge, beside } = one;
            format!("took the rules of network {} from bridge {bridge}: nobody is attached to it, and network {beside} is there", network.name)
        });
    }
    Ok(idle)
}

/// Takes away all that the firewall has of a network that nobody is attached to and nobody configures any more: beside its
/// rules, its chains, and the exceptions for its bridges among the rules of others, unless another network is there. Called
/// under the main lock.
///
/// # Errors
/// Where the state directory or the firewall refuses.
pub(super) fn retire_for_good(cx: &mut Context, network: &Network) -> Result<(), VerbError> {
    let (others, broken) = cx.state.networks()?;
    let is_beside =
        |other: &Network, bridge: &String| other.name != network.name && bridges_of(other).contains(bridge);
    let mut bridges = bridges_of(network);
    bridges.push(network.bridge.clone());
    bridges.sort_unstable();
    bridges.dedup();
    // Where a network's record cannot be read, it may be on any of them.
    bridges.retain(|bridge| {
        !bridge.is_empty() && broken.is_empty() && !others.iter().any(|other| is_beside(other, bridge))
    });
    let wanted = Network { rules: Value::Null, left: Vec::new(), admitted: Vec::new(), ..network.clone() };
    cx.kernel.write_network_rules(Some(network), &wanted)?;
    cx.kernel.remove_network(&network.name, &bridges)?;
    if wanted == *network { Ok(()) } else { Ok(cx.state.put_network(&wanted)?) }
}

/// Takes away the rules of a network that nobody is attached to. Called under the main lock.
///
/// # Errors
/// Where the state directory or the firewall refuses.
fn retire(cx: &mut Context, network: &Network) -> Result<(), VerbError> {
    let wanted = Network { rules: Value::Null, left: Vec::new(), ..network.clone() };
    if wanted == *network {
        return Ok(());
    }
    cx.kernel.write_network_rules(Some(network), &wanted)?;
    Ok(cx.state.put_network(&wanted)?)
}
