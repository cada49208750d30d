use proptest::prelude::*;

use super::super::sample::{attachment, internal, table};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(list: &[&str]) -> Known {
    let mut found: Vec<IpAddr> = list.iter().map(|text| ip(text)).collect();
    found.sort_unstable();
    Known::Addresses(found)
}

fn two_networks() -> Table {
    table(&[
        attachment("web", "aaaaaaaaaaaaaaaa", 1, 2, &["front", "shared"]),
        attachment("web", "bbbbbbbbbbbbbbbb", 1, 3, &["shared"]),
        attachment("db", "cccccccccccccccc", 2, 2, &["store"]),
        // One that is on both.
        attachment("web", "dddddddddddddddd", 1, 4, &["both"]),
        attachment("db", "dddddddddddddddd", 2, 4, &["both"]),
    ])
}

#[test]
fn a_container_knows_its_networks_and_no_other() {
    let table = two_networks();
    let front = table.scope(ip("10.1.0.2"), ip("10.1.0.1")).unwrap();
    assert_eq!(table.find(&front, "shared"), addresses(&["10.1.0.2", "fd00:1::2", "10.1.0.3", "fd00:1::3"]));
    assert_eq!(table.find(&front, "front.web"), addresses(&["10.1.0.2", "fd00:1::2"]));
    assert_eq!(table.find(&front, "bbbbbbbbbbbb"), addresses(&["10.1.0.3", "fd00:1::3"]), "the short ID");
    assert_eq!(
        table.find(&front, "both"),
        addresses(&["10.1.0.4", "fd00:1::4"]),
        "only what is on its network"
    );
    for hidden in ["store", "store.db", "cccccccccccc", "both.db", "none", "none.web", "none.db"] {
        assert_eq!(table.find(&front, hidden), Known::Nobody, "{hidden}");
    }
    assert_eq!(table.find(&front, "web"), Known::Zone);
    assert_eq!(table.find(&front, "example.org"), Known::Foreign);
    assert_eq!(table.find(&front, "xweb"), Known::Nobody);
    assert_eq!(table.find(&front, "front.xweb"), Known::Foreign);

    let both = table.scope(ip("fd00:2::4"), ip("fd00:2::1")).unwrap();
    assert_eq!(table.find(&both, "both"), addresses(&["10.1.0.4", "fd00:1::4", "10.2.0.4", "fd00:2::4"]));
    assert_eq!(table.find(&both, "store"), addresses(&["10.2.0.2", "fd00:2::2"]));
    assert_eq!(table.find(&both, "front.web"), addresses(&["10.1.0.2", "fd00:1::2"]));
}

#[test]
fn addresses_are_translated_back_within_the_scope() {
    let table = two_networks();
    let front = table.scope(ip("10.1.0.2"), ip("10.1.0.1")).unwrap();
    assert_eq!(table.reverse(&front, ip("10.1.0.3")).as_deref(), Some("shared.web"));
    assert_eq!(table.reverse(&front, ip("fd00:1::4")).as_deref(), Some("both.web"));
    assert_eq!(table.reverse(&front, ip("10.2.0.2")), None);
    assert!(
        table.is_ours(ip("10.2.0.2")) && table.is_ours(ip("10.2.0.77")) && !table.is_ours(ip("10.3.0.1"))
    );
}

#[test]
fn strangers_know_nothing_and_the_host_its_networks() {
    let table = two_networks();
    assert_eq!(table.scope(ip("192.0.2.1"), ip("10.1.0.1")), None);
    assert_eq!(table.scope(ip("10.2.0.1"), ip("10.1.0.1")), None, "another gateway");
    let host = table.scope(ip("10.1.0.1"), ip("10.1.0.1")).unwrap();
    assert_ne!(table.find(&host, "front"), Known::Nobody);
    assert_eq!(table.find(&host, "store"), Known::Nobody);
    // An address of the subnet that nobody gave.
    assert_eq!(table.scope(ip("10.1.0.200"), ip("10.1.0.1")).unwrap().networks, host.networks);
    assert_eq!(table.scope(ip("10.1.0.200"), ip("10.2.0.1")), None);
}

#[test]
fn an_internal_network_asks_nothing_outside_unless_the_container_has_another() {
    let table = table(&[
        internal(attachment("in", "a", 1, 2, &[])),
        internal(attachment("in", "b", 1, 3, &[])),
        attachment("out", "b", 2, 3, &[]),
    ]);
    assert!(table.scope(ip("10.1.0.2"), ip("10.1.0.1")).unwrap().internal);
    assert!(table.scope(ip("10.1.0.99"), ip("10.1.0.1")).unwrap().internal);
    assert!(!table.scope(ip("10.1.0.3"), ip("10.1.0.1")).unwrap().internal);
}

#[test]
fn domains_are_zones_and_a_change_takes_the_old_away() {
    let mut record = attachment("web", "a", 1, 2, &["one"]);
    record.naming.as_mut().unwrap().domains = vec!["dns.podman".to_owned()];
    let mut table = table(std::slice::from_ref(&record));
    let scope = table.scope(ip("10.1.0.2"), ip("10.1.0.1")).unwrap();
    assert_eq!(table.find(&scope, "one.dns.podman"), addresses(&["10.1.0.2", "fd00:1::2"]));
    assert_eq!(table.find(&scope, "two.dns.podman"), Known::Nobody);
    assert_eq!(table.find(&scope, "dns.podman"), Known::Zone);
    record.naming.as_mut().unwrap().names = vec!["two".to_owned()];
    table.insert(&record);
    assert_eq!(table.find(&scope, "one"), Known::Nobody);
    assert_ne!(table.find(&scope, "two"), Known::Nobody);
    record.naming = None;
    table.insert(&record);
    assert_eq!((table.len(), table.is_gateway(ip("10.1.0.1"))), (0, false));
}

#[test]
fn where_networks_overlap_the_gateway_tells_whose_address_it_is() {
    let mut other = attachment("b", "beta", 1, 2, &["beta"]);
    // The same subnet on another bridge, with another gateway.
    if let crate::plan::Step::Bridge(bridge) = &mut other.plan.steps[0] {
        bridge.gateways = vec!["10.1.0.254/24".parse().unwrap()];
    }
    let table = table(&[attachment("a", "alpha", 1, 2, &["alpha"]), other]);
    let of = |gateway: &str| table.scope(ip("10.1.0.2"), ip(gateway)).unwrap().networks;
    assert_eq!((&*of("10.1.0.1")[0], &*of("10.1.0.254")[0]), ("a", "b"));
}

proptest! {
    /// Whatever comes and goes in whatever order: what is left answers as if nothing else had ever been, and nothing
    /// is left of nothing.
    #[test]
    fn nothing_is_left_of_what_is_gone(moves in prop::collection::vec((0_u8..3, 0_u8..6, any::<bool>()), 0..60)) {
        let of = |network: u8, container: u8| {
            let id = format!("container{container}xyz");
            let names = [format!("n{}", container % 2)];
            attachment(&format!("net{network}"), &id, network, container + 2, &[names[0].as_str()])
        };
        let mut changed = Table::default();
        let mut there = std::collections::BTreeMap::new();
        for (network, container, comes) in moves {
            let record = of(network, container);
            if comes {
                changed.insert(&record);
                there.insert((network, container), record);
            } else {
                changed.remove(&record.key);
                there.remove(&(network, container));
            }
        }
        let fresh = table(&there.values().cloned().collect::<Vec<_>>());
        for network in 0..3_u8 {
            let gateway = ip(&format!("10.{network}.0.1"));
            prop_assert_eq!(changed.is_gateway(gateway), fresh.is_gateway(gateway));
            for container in 0..6_u8 {
                let source = ip(&format!("10.{network}.0.{}", container + 2));
                let (Some(one), Some(other)) = (changed.scope(source, gateway), fresh.scope(source, gateway)) else {
                    prop_assert_eq!(changed.scope(source, gateway), fresh.scope(source, gateway));
                    continue;
                };
                for name in ["n0", "n1", "container0xy", "n1.net0", "n0.net2", "net1", "x.net1"] {
                    prop_assert_eq!(changed.find(&one, name), fresh.find(&other, name));
                }
            }
        }
        for record in there.into_values() {
            changed.remove(&record.key);
        }
        let empty = changed.attachments.len() + changed.networks.len() + changed.addresses.len()
            + changed.containers.len() + changed.gateways.len() + changed.zones.len();
        prop_assert_eq!(empty, 0);
    }
}
