//! The host as a picture has it: ways out, bridges, containers, ports, walls.

use serde::Serialize;

use crate::firewall::NetworkRules;
use crate::model::{IngressPolicy, Isolation, Publication};

use super::{Attachment, Condition, Health, Network, Reading};

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The host's ways out.
    pub uplinks: Vec<Uplink>,
    /// Each network with its bridge.
    pub bridges: Vec<Bridge>,
}

/// A link that a default route leaves by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Whether packets pass.
    pub up: bool,
}

/// A network's bridge and what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    /// The network.
    pub network: String,
    /// The bridge's name.
    pub name: String,
    /// The bridge's own addresses: the containers' gateways.
    pub addresses: Vec<String>,
    /// Whether the network works.
    pub health: Health,
    /// Whether what leaves it takes the host's address.
    pub masquerade: bool,
    /// What keeps packets out or in, in words.
    pub walls: Vec<String>,
    /// What hangs on it.
    pub containers: Vec<Node>,
}

/// A container's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The container's ID.
    pub container: String,
    /// Its name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The interface's name in it.
    pub interface: String,
    /// The host end of its veth pair.
    pub veth: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its published ports.
    pub ports: Vec<Publication>,
    /// How it is.
    pub state: Condition,
    /// Whether its bridge port speaks to no other isolated one.
    pub isolated: bool,
}

/// The picture of a reading; `attachments` and `networks` are those to be drawn.
pub fn graph(reading: &Reading, networks: &[Network], attachments: &[Attachment]) -> Graph {
    let host = &reading.host;
    let uplinks = host.uplinks().into_iter().map(|link| Uplink {
        name: link.name.clone(),
        addresses: host.addresses_of(link).filter(|a| a.scope == 0).map(|a| a.address.to_string()).collect(),
        up: link.is_up() && link.is_operational(),
    });
    let bridges = networks.iter().map(|network| {
        let rules = reading
            .records
            .network(&network.name)
            .and_then(|record| serde_json::from_value::<NetworkRules>(record.rules.clone()).ok());
        let link = host.link(&network.bridge);
        let addresses = link.into_iter().flat_map(|link| host.addresses_of(link));
        Bridge {
            network: network.name.clone(),
            name: network.bridge.clone(),
            addresses: addresses.filter(|a| a.scope == 0).map(|a| a.address.to_string()).collect(),
            health: network.health,
            masquerade: rules.as_ref().is_some_and(|rules| rules.masquerade),
            walls: rules.as_ref().map(walls).unwrap_or_default(),
            containers: attachments
                .iter()
                .filter(|attachment| attachment.network == network.name)
                .map(|attachment| node(attachment, reading))
                .collect(),
        }
    });
    Graph { uplinks: uplinks.collect(), bridges: bridges.collect() }
}

fn walls(rules: &NetworkRules) -> Vec<String> {
    let mut walls = Vec::new();
    if rules.internal {
        walls.push("internal: nothing enters or leaves".to_owned());
    }
    match rules.isolation {
        Isolation::None => {}
        Isolation::Default => walls.push("only published ports are reached from outside".to_owned()),
        Isolation::Strict => {
            walls.push("only published ports are reached, and not from other networks".to_owned());
        }
    }
    if rules.ingress != IngressPolicy::Open {
        walls.push("closed to other walled networks".to_owned());
    }
    if rules.keeps_apart() {
        walls.push("containers closed to each other".to_owned());
    }
    if !walls.is_empty() && !rules.trusted.is_empty() {
        let trusted: Vec<String> = rules.trusted.iter().map(ToString::to_string).collect();
        walls.push(format!("open to {}", trusted.join(", ")));
    }
    walls
}

fn node(attachment: &Attachment, reading: &Reading) -> Node {
    let veth = attachment.veth.clone().unwrap_or_default();
    let port = reading.host.link(&veth).and_then(|link| link.port);
    Node {
        container: attachment.container.clone(),
        name: attachment.name.clone(),
        interface: attachment.interface.clone(),
        veth,
        addresses: attachment.addresses.iter().map(|address| address.ip().to_string()).collect(),
        ports: attachment.ports.clone(),
        state: attachment.state,
        isolated: port.is_some_and(|port| port.isolated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(changes: &serde_json::Value) -> NetworkRules {
        let mut all = serde_json::json!({
            "network": "web", "bridge": "lks-web", "masquerade": true, "hairpin": true, "masquerade_all": false,
            "ingress": "open", "admin_chain": "CNI-ADMIN", "mark_bit": 13,
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn walls_are_named_and_an_open_network_has_none() {
        let of = |changes: serde_json::Value| walls(&rules(&changes));
        assert!(of(serde_json::json!({"trusted": ["wg*"]})).is_empty(), "nothing to be trusted through");
        assert_eq!(
            of(serde_json::json!({"isolation": "default", "trusted": ["wg*", "eth1"]})),
            ["only published ports are reached from outside", "open to wg*, eth1"]
        );
        assert_eq!(of(serde_json::json!({"internal": true, "isolation": "strict"})).len(), 2);
        let apart = of(serde_json::json!({"ingress": "isolated", "apart": true}));
        assert_eq!(apart, ["closed to other walled networks", "containers closed to each other"]);
    }
}
