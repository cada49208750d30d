//! Bridges and backends that a network has left while attachments stand there: these keep the rules that they were made
//! with, until the last of them goes.

use crate::firewall::NetworkRules;
use crate::model::{FirewallBackend, LeftRules, Network};
use crate::plan::{self, Plan};
use crate::store::{Listed, Stage};

use super::{Context, VerbError};

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
    for of in [FirewallBackend::Nftables, FirewallBackend::Iptables] {
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
    for of in [FirewallBackend::Nftables, FirewallBackend::Iptables] {
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
