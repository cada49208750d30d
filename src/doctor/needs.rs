//! Who needs what: the configurations on disk, and what is recorded.

use serde_json::Value;

use crate::model::FirewallBackend;
use crate::plan::Step;

use super::sight::{List, ListPlugin, Sight};

/// Plugins of linkspan that make a container's interface.
const OF_BRIDGES: [&str; 2] = ["linkspan", "bridge"];
const OF_PAIRS: [&str; 3] = ["linkspan", "bridge", "ptp"];

impl Sight<'_> {
    /// Who has one of these keys or capabilities, in words.
    pub(super) fn needs_key(&self, keys: &[&str]) -> Option<String> {
        self.own_plugins().find_map(|(list, plugin)| {
            let key = keys.iter().find(|key| asks_for(plugin, key))?;
            Some(format!("the key {key} in {}", list.path.display()))
        })
    }

    /// Who has a plugin of one of these types.
    fn needs_kind(&self, kinds: &[&str]) -> Option<String> {
        let found = self.own_plugins().find(|(_, plugin)| kinds.contains(&plugin.kind.as_str()));
        found.map(|(list, plugin)| format!("the plugin {} in {}", plugin.kind, list.path.display()))
    }

    /// A recorded attachment with such a step.
    pub(super) fn needs_step(&self, is_meant: impl Fn(&Step) -> bool) -> Option<String> {
        let mut all = self.reading.records.attachments.iter();
        let found = all.find(|found| found.record.plan.steps.iter().any(&is_meant));
        found.map(|found| format!("the attachment {}", found.record.key))
    }

    /// Who writes rules of iptables.
    pub(super) fn needs_iptables(&self) -> Option<String> {
        let on = |network: &&crate::model::Network| network.backend == FirewallBackend::Iptables;
        if let Some(network) = self.reading.records.networks.iter().find(on) {
            return Some(format!("the network {}", network.name));
        }
        let found = self.own_plugins().find(|(_, plugin)| text(plugin, "backend") == Some("iptables"));
        found.map(|(list, _)| format!("the key backend in {}", list.path.display()))
    }

    /// Whether nothing is configured or recorded, so that nobody knows yet what will be needed.
    pub(super) fn is_blank(&self) -> bool {
        self.own_plugins().next().is_none() && self.reading.records.networks.is_empty()
    }

    /// Who has IPv6 addresses to give.
    pub(super) fn needs_ipv6(&self) -> Option<String> {
        let is_v6 = |list: &&List| list.plugins.iter().any(|plugin| subnets(plugin).any(|net| net.is_ipv6()));
        self.given.lists.iter().find(is_v6).map(|list| list.path.display().to_string())
    }
}

/// Who has such a link.
pub(super) fn bridge(sight: &Sight<'_>) -> Option<String> {
    sight.needs_kind(&OF_BRIDGES).or_else(|| sight.needs_step(|step| matches!(step, Step::Bridge(_))))
}

/// Who has such a link.
pub(super) fn veth(sight: &Sight<'_>) -> Option<String> {
    sight.needs_kind(&OF_PAIRS).or_else(|| sight.needs_step(|step| matches!(step, Step::Link(_))))
}

/// Who has such a link.
pub(super) fn macvlan(sight: &Sight<'_>) -> Option<String> {
    sight.needs_kind(&["macvlan"]).or_else(|| sight.needs_step(|step| matches!(step, Step::Macvlan(_))))
}

/// Who writes rules of nf_tables: every network but those that chose iptables.
pub(super) fn nftables(sight: &Sight<'_>) -> Option<String> {
    let on = |network: &&crate::model::Network| network.backend == FirewallBackend::Nftables;
    if let Some(network) = sight.reading.records.networks.iter().find(on) {
        return Some(format!("the network {}", network.name));
    }
    let makes_rules = |plugin: &ListPlugin| {
        let kinds = ["linkspan", "bridge", "ptp", "portmap", "firewall"];
        kinds.contains(&plugin.kind.as_str()) && text(plugin, "backend") != Some("iptables")
    };
    let found = sight.own_plugins().find(|(_, plugin)| makes_rules(plugin));
    found.map(|(list, _)| list.path.display().to_string())
}

/// The subnets that a plugin's `ipam` names.
pub(super) fn subnets(plugin: &ListPlugin) -> impl Iterator<Item = ipnetwork::IpNetwork> {
    let ipam = plugin.raw.get("ipam").cloned().unwrap_or_default();
    let sets = ipam.get("ranges").and_then(Value::as_array).cloned().unwrap_or_default();
    let nested = sets.into_iter().flat_map(|set| set.as_array().cloned().unwrap_or_default());
    let texts = std::iter::once(ipam.clone()).chain(nested);
    texts.filter_map(|range| range.get("subnet")?.as_str()?.parse::<ipnetwork::IpNetwork>().ok())
}

/// A key's text.
pub(super) fn text<'a>(plugin: &'a ListPlugin, key: &str) -> Option<&'a str> {
    plugin.raw.get(key).and_then(Value::as_str)
}

/// Whether a plugin has a key that says something else than no.
fn asks_for(plugin: &ListPlugin, key: &str) -> bool {
    let says = |value: Option<&Value>| {
        value.is_some_and(|value| {
            !matches!(value, Value::Null | Value::Bool(false)) && value.as_u64() != Some(0)
        })
    };
    let in_capabilities = plugin.raw.get("capabilities").and_then(|all| all.get(key));
    says(plugin.raw.get(key)) || says(in_capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plugin(keys: Value) -> ListPlugin {
        let Value::Object(raw) = keys else { panic!("an object") };
        ListPlugin { kind: "linkspan".to_owned(), raw, refusal: None, slips: Vec::new() }
    }

    #[test]
    fn a_key_that_says_no_asks_for_nothing() {
        let found = plugin(json!({"macspoofchk": false, "vlan": 0, "capabilities": {"bandwidth": true}}));
        assert!(!asks_for(&found, "macspoofchk") && !asks_for(&found, "vlan") && !asks_for(&found, "mtu"));
        assert!(asks_for(&found, "bandwidth"));
    }

    #[test]
    fn subnets_are_those_of_all_ranges() {
        let old = plugin(json!({"ipam": {"subnet": "10.1.0.0/24"}}));
        assert_eq!(subnets(&old).count(), 1);
        let new =
            json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}, {"x": 1}]]}});
        assert_eq!(subnets(&plugin(new)).filter(ipnetwork::IpNetwork::is_ipv6).count(), 1);
        assert_eq!(subnets(&plugin(json!({}))).count(), 0);
    }
}
