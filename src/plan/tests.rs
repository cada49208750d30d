//! Plans of whole configurations.

use serde_json::json;

use super::{Addressing, Plan, Sandbox, Step, build, effective_routes, rules};
use crate::cni::{Defaults, Environment, NetworkConfig, Strictness};
use crate::model::{AttachmentKey, FirewallBackend, Lease, LeaseSource, Network};

fn config(extra: &serde_json::Value) -> NetworkConfig {
    let mut document = json!({"cniVersion": "1.1.0", "name": "web", "type": "linkspan"});
    if let (Some(document), Some(extra)) = (document.as_object_mut(), extra.as_object()) {
        document.extend(extra.clone());
    }
    let environment = Environment::from_lookup(|name| {
        Some(match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => "c1",
            "CNI_IFNAME" => "eth0",
            "CNI_NETNS" => "/run/netns/c1",
            "CNI_PATH" => "/opt/cni/bin",
            _ => return None,
        })
    })
    .unwrap();
    let bytes = serde_json::to_vec(&document).unwrap();
    NetworkConfig::parse(&bytes, &environment, &Defaults::LINKSPAN, Strictness::Strict).unwrap()
}

fn network() -> Network {
    Network {
        mac: None,
        gc_after: None,
        name: "web".into(),
        bridge: "lks-web".into(),
        automatic: Vec::new(),
        ranges: Vec::new(),
        leases: None,
        mtu: Some(1450),
        backend: FirewallBackend::Nftables,
        admitted: Vec::new(),
        rules: serde_json::Value::Null,
        left: Vec::new(),
    }
}

fn lease(address: &str, gateway: &str) -> Lease {
    Lease { address: address.parse().unwrap(), gateway: Some(gateway.parse().unwrap()) }
}

fn plan(config: &NetworkConfig, leases: Vec<Lease>) -> Plan {
    let key = AttachmentKey::new("c1", "eth0");
    let sandbox = Sandbox { path: "/run/netns/c1".into(), device: 4, inode: 77, cookie: None };
    let routes = effective_routes(&[], &leases, config.bridge.is_default_gateway);
    build(config, &network(), &key, &sandbox, &Addressing { source: LeaseSource::Static, leases, routes })
}

fn words(plan: &Plan) -> Vec<&'static str> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::Upon(_) => "upon",
            Step::Localnet(_) => "localnet",
            Step::Leases(_) => "leases",
            Step::Claims(_) => "claims",
            Step::Forwarding(_) => "forwarding",
            Step::Bridge(_) => "bridge",
            Step::Link(_) => "link",
            Step::Routed(_) => "routed",
            Step::Macvlan(_) => "macvlan",
            Step::Interface(_) => "interface",
            Step::Port(_) => "port",
            Step::Shape(_) => "shape",
            Step::Zone(_) => "zone",
            Step::Firewall(_) => "firewall",
            Step::Settings(_) => "settings",
            Step::Sources(_) => "sources",
        })
        .collect()
}

#[test]
fn the_firewall_is_last_and_what_is_held_comes_first() {
    let config = config(&json!({
        "ingressRate": 8000, "ingressBurst": 8000,
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
    }));
    let plan = plan(&config, vec![lease("10.1.0.2/24", "10.1.0.1")]);
    let expected =
        ["leases", "claims", "forwarding", "bridge", "link", "interface", "port", "shape", "firewall"];
    assert_eq!(words(&plan), expected);
}

#[test]
fn a_dual_stack_plan_has_both_gateways_and_both_default_routes() {
    let plan =
        plan(&config(&json!({})), vec![lease("10.1.0.2/24", "10.1.0.1"), lease("fd00::2/64", "fd00::1")]);
    let interface = plan.interface().unwrap();
    let routes: Vec<String> =
        interface.routes.iter().map(|route| format!("{} via {}", route.dst, route.gw.unwrap())).collect();
    assert_eq!(routes, ["0.0.0.0/0 via 10.1.0.1", "::/0 via fd00::1"]);
    let Some(Step::Bridge(bridge)) = plan.steps.iter().find(|step| matches!(step, Step::Bridge(_))) else {
        panic!("no bridge step");
    };
    assert_eq!(
        bridge.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.1.0.1/24", "fd00::1/64"]
    );
    assert_eq!(plan.link().unwrap().mac.to_string(), "0a:58:0a:01:00:02");
    assert_eq!(plan.link().unwrap().mtu, Some(1450));
}

#[test]
fn a_layer_2_attachment_needs_neither_addresses_nor_rules() {
    let config = config(&json!({"ipam": {}}));
    let key = AttachmentKey::new("c1", "eth0");
    let sandbox = Sandbox { path: "/run/netns/c1".into(), device: 4, inode: 77, cookie: None };
    let addressing = Addressing { source: LeaseSource::None, leases: Vec::new(), routes: Vec::new() };
    let plan = build(&config, &network(), &key, &sandbox, &addressing);
    assert_eq!(words(&plan), ["bridge", "link", "interface", "port"]);
    assert!(!rules(&config, &network()).masquerade);
}

#[test]
fn a_plan_survives_its_record() {
    let config = config(
        &json!({"runtimeConfig": {"portMappings": [{"hostPort": 53, "containerPort": 53, "protocol": "udp"}]}}),
    );
    let plan = plan(&config, vec![lease("10.1.0.2/24", "10.1.0.1")]);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn an_internal_network_forwards_nothing() {
    let config = config(&json!({"internal": true}));
    let plan = plan(&config, vec![lease("10.1.0.2/24", "10.1.0.1"), lease("fd00::2/64", "fd00::1")]);
    assert_eq!(words(&plan), ["leases", "bridge", "link", "interface", "port", "firewall"]);
    assert!(plan.interface().unwrap().routes.is_empty());
    let Some(Step::Bridge(bridge)) = plan.steps.get(1) else { panic!("no bridge step") };
    assert!(!bridge.route_localnet, "no port is published");
    assert_eq!(bridge.gateways.len(), 2, "the host is there");
    let rules = rules(&config, &network());
    assert!(rules.internal && !rules.masquerade);
}

#[test]
fn sources_are_guarded_by_what_a_container_is_given() {
    let of = |keys| {
        let plan =
            plan(&config(&keys), vec![lease("10.1.0.2/24", "10.1.0.1"), lease("fd00::2/64", "fd00::1")]);
        plan.firewall().unwrap().attachment.only_ips.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(json!({"ipspoofchk": true})), ["10.1.0.2", "fd00::2", "fe80::858:aff:fe01:2"]);
    assert!(of(json!({"macspoofchk": true})).is_empty());
    let config = config(&json!({"ipspoofchk": true}));
    let v4 = plan(&config, vec![lease("10.1.0.2/24", "10.1.0.1")]);
    assert_eq!(v4.firewall().unwrap().attachment.only_ips.len(), 1, "no link-local address without IPv6");
}

#[test]
fn rules_are_about_the_link_that_routes() {
    assert_eq!(rules(&config(&json!({})), &network()).bridge, "lks-web");
    assert_eq!(rules(&config(&json!({"vlan": 100})), &network()).bridge, "lks-web.100");
    let layer2 = json!({"vlan": 100, "isGateway": false});
    assert_eq!(rules(&config(&layer2), &network()).bridge, "lks-web");
}

/// A record of an earlier release lacks the newer keys, and is another than what this one writes.
#[test]
fn rules_of_an_earlier_release_are_read_as_they_were_meant() {
    let config = config(&json!({"isolation": "none"}));
    let now = rules(&config, &network());
    let mut old = serde_json::to_value(&now).unwrap();
    for key in ["isolation", "trusted", "internal", "apart", "routed", "outbound4", "outbound6"] {
        old.as_object_mut().unwrap().remove(key).expect(key);
    }
    assert_ne!(old, serde_json::to_value(&now).unwrap());
    assert_eq!(serde_json::from_value::<crate::firewall::NetworkRules>(old).unwrap(), now);
}

/// Steps of a `bridge`, of which every kernel can make none or all: what the keys mean does not depend on it.
fn bridged(keys: &serde_json::Value) -> (super::step::Bridge, super::step::Port, super::step::Interface) {
    let mut plan = plan(&config(keys), vec![lease("10.1.0.5/24", "10.1.0.1")]);
    let interface = plan.interface().unwrap().clone();
    let mut found = (None, None);
    for step in plan.steps.drain(..) {
        match step {
            Step::Bridge(bridge) => found.0 = Some(bridge),
            Step::Port(port) => found.1 = Some(port),
            _ => {}
        }
    }
    (found.0.unwrap(), found.1.unwrap(), interface)
}

#[test]
fn keys_about_vlans_are_of_the_port_and_of_the_gateway() {
    let (bridge, port, _) = bridged(&json!({}));
    assert!(!bridge.vlan_filtering && bridge.gateway_vlan.is_none() && port.vlans.is_empty());
    let (bridge, port, _) = bridged(&json!({"vlan": 100}));
    assert_eq!((bridge.vlan_filtering, bridge.gateway_vlan), (true, Some(100)));
    assert_eq!((port.vlans.access, port.vlans.keep_default), (Some(100), false));
    let (bridge, port, _) = bridged(&json!({
        "vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}], "preserveDefaultVlan": true,
    }));
    // A trunk has no VLAN of its own that a gateway could be in.
    assert_eq!((bridge.vlan_filtering, bridge.gateway_vlan), (true, None));
    assert_eq!((port.vlans.access, port.vlans.trunk), (None, vec![(10, 12), (20, 20)]));
    assert!(port.vlans.keep_default);
    let off = json!({"vlan": 100, "isGateway": false, "isDefaultGateway": false});
    assert_eq!(bridged(&off).0.gateway_vlan, None);
    // Without a VLAN the key says nothing: the bridge does not filter.
    assert!(!bridged(&json!({"preserveDefaultVlan": true})).1.vlans.keep_default);
}

#[test]
fn keys_about_the_port_and_the_interface() {
    let (_, port, interface) = bridged(&json!({}));
    assert!(!port.isolated && port.up && port.hairpin && interface.up && !interface.dad);
    let (_, port, interface) =
        bridged(&json!({"portIsolation": true, "enabledad": true, "hairpinMode": false}));
    assert!(port.isolated && interface.dad && !port.hairpin);
    let down = plan(&config(&json!({"disableContainerInterface": true, "ipam": {}})), Vec::new());
    assert!(!down.interface().unwrap().up);
    assert!(down.steps.iter().any(|step| matches!(step, Step::Port(port) if !port.up && !port.announce)));
}

#[test]
fn the_result_names_the_gateway_of_a_vlan_last() {
    let names = |keys: &serde_json::Value| {
        let config = config(keys);
        let plan = plan(&config, vec![lease("10.1.0.5/24", "10.1.0.1")]);
        let result =
            super::outcome(&config, &plan, Default::default(), &[], crate::cni::Dns::default(), None);
        assert_eq!(result.ips[0].interface, Some(2), "the container's");
        result.interfaces.into_iter().map(|interface| interface.name).collect::<Vec<_>>()
    };
    let plain = names(&json!({}));
    assert_eq!((plain.len(), plain[0].as_str(), plain[2].as_str()), (3, "lks-web", "eth0"));
    let of_vlan = names(&json!({"vlan": 100}));
    assert_eq!(of_vlan[..3], plain[..]);
    assert_eq!(of_vlan[3..], ["lks-web.100"]);
    assert_eq!(names(&json!({"vlan": 100, "isGateway": false, "isDefaultGateway": false})).len(), 3);
}
