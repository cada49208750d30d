use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use proptest::prelude::*;

use super::*;
use crate::cni::RequestedAddress;
use crate::model::Range;

pub(crate) fn range(subnet: &str, gateway: Option<&str>) -> Range {
    let subnet: IpNetwork = subnet.parse().unwrap();
    let (start, end) = match subnet {
        IpNetwork::V4(v4) => (IpAddr::V4(v4.network()), IpAddr::V4(v4.broadcast())),
        IpNetwork::V6(v6) => (IpAddr::V6(v6.network()), IpAddr::V6(v6.broadcast())),
    };
    Range { subnet, start, end, gateway: gateway.map(|ip| ip.parse().unwrap()) }
}

/// Takes from a set, counting how often it is asked.
fn take_from(
    set: &[Range],
    taken: &mut HashSet<IpAddr>,
    last: Option<IpAddr>,
    seed: u64,
) -> (Option<IpAddr>, u32, bool) {
    let (mut probes, mut swept) = (0, false);
    let before = taken.clone();
    let chosen = choose::<Infallible>(
        set,
        last,
        seed,
        |address| {
            probes += 1;
            Ok(taken.insert(address))
        },
        || {
            swept = true;
            Ok(before)
        },
    )
    .unwrap();
    (chosen, probes, swept)
}

fn requested(texts: &[&str]) -> Vec<RequestedAddress> {
    texts.iter().map(|text| RequestedAddress { address: text.parse().unwrap(), prefix: None }).collect()
}

fn any_range() -> impl Strategy<Value = Range> {
    let v4 = (24u8..=30, any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(prefix, base, a, b, g)| {
            let subnet = Ipv4Network::new(Ipv4Addr::from_bits(base), prefix).unwrap();
            let subnet = Ipv4Network::new(subnet.network(), prefix).unwrap();
            let size = subnet.size();
            let at = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(subnet.network().to_bits() + n % size));
            (IpNetwork::V4(subnet), at(a).min(at(b)), at(a).max(at(b)), at(g))
        },
    );
    let v6 = (0u8..=8, any::<u128>(), any::<u128>(), any::<u128>(), any::<u128>()).prop_map(
        |(bits, base, a, b, g)| {
            let subnet = Ipv6Network::new(Ipv6Addr::from_bits(base), 128 - bits).unwrap();
            let subnet = Ipv6Network::new(subnet.network(), 128 - bits).unwrap();
            let at = |n: u128| IpAddr::V6(Ipv6Addr::from_bits(subnet.network().to_bits() + n % (1 << bits)));
            (IpNetwork::V6(subnet), at(a).min(at(b)), at(a).max(at(b)), at(g))
        },
    );
    prop_oneof![v4, v6].prop_flat_map(|(subnet, start, end, gateway)| {
        prop_oneof![Just(None), Just(Some(gateway))].prop_map(move |gateway| Range {
            subnet,
            start,
            end,
            gateway,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_free_address_is_given_once_and_then_none(set in prop::collection::vec(any_range(), 1..3), seed: u64,
                                                      forget: bool) {
        prop_assume!(set.len() < 2 || !set[0].subnet.contains(set[1].subnet.ip()) && !set[1].subnet.contains(set[0].subnet.ip()));
        let mut taken = HashSet::new();
        let mut last = None;
        let total = capacity(&set);
        for _ in 0..total {
            let (chosen, probes, _) = take_from(&set, &mut taken, last, seed);
            let chosen = chosen.expect("not exhausted yet");
            prop_assert!(set.iter().any(|range| range.contains(chosen)), "{chosen} is outside");
            prop_assert!(set.iter().all(|range| range.gateway != Some(chosen)));
            prop_assert!(probes <= PROBES_MAX + 1);
            for range in &set {
                if let IpNetwork::V4(v4) = range.subnet {
                    prop_assert!(chosen != IpAddr::V4(v4.network()) && chosen != IpAddr::V4(v4.broadcast()));
                }
            }
            last = (!forget).then_some(chosen);
        }
        prop_assert_eq!(taken.len() as u128, total);
        prop_assert_eq!(take_from(&set, &mut taken, last, seed).0, None);
    }

    #[test]
    fn numbers_and_addresses_are_one_to_one(set in prop::collection::vec(any_range(), 1..3), number in 0u128..600) {
        let pool = Pool::new(&set);
        if let Some(address) = pool.address(number) {
            prop_assert!(pool.contains(address));
            if set.len() == 1 {
                prop_assert_eq!(pool.number(address), Some(number));
            }
        }
    }

    #[test]
    fn an_automatic_subnet_overlaps_nothing_in_use(network in "[a-z]{1,12}", used in prop::collection::vec((any::<u32>(), 8u8..=32), 0..40)) {
        let used: Vec<IpNetwork> = used.into_iter()
            .map(|(base, prefix)| IpNetwork::V4(Ipv4Network::new(Ipv4Addr::from_bits(base), prefix).unwrap()))
            .collect();
        let range = automatic_subnet(&network, &used).unwrap();
        prop_assert!(range.subnet.prefix() == 22 || range.subnet.prefix() == 24);
        let IpNetwork::V4(mine) = range.subnet else { unreachable!() };
        for other in used {
            let IpNetwork::V4(other) = other else { unreachable!() };
            prop_assert!(!mine.overlaps(other));
        }
        prop_assert_eq!(automatic_subnet(&network, &[]), automatic_subnet(&network, &[]));
    }
}

#[test]
fn addresses_come_round_robin_after_the_last() {
    let set = [range("10.1.0.0/29", Some("10.1.0.1"))];
    let mut taken = HashSet::new();
    let mut last = None;
    let mut order = Vec::new();
    for _ in 0..3 {
        last = take_from(&set, &mut taken, last, 1).0;
        order.push(last.unwrap().to_string());
    }
    assert_eq!(order, ["10.1.0.2", "10.1.0.3", "10.1.0.4"]);
    taken.clear();
    assert_eq!(take_from(&set, &mut taken, last, 1).0.unwrap().to_string(), "10.1.0.5");
    let end = Some("10.1.0.6".parse().unwrap());
    assert_eq!(take_from(&set, &mut taken, end, 1).0.unwrap().to_string(), "10.1.0.2");
    let foreign = Some("10.9.0.6".parse().unwrap());
    assert_eq!(take_from(&set, &mut taken, foreign, 1).0.unwrap().to_string(), "10.1.0.3");
}

#[test]
fn sixty_thousand_leases_cost_tens_of_probes_and_no_sweep() {
    let set = [range("10.1.0.0/16", Some("10.1.0.1"))];
    let mut taken: HashSet<IpAddr> =
        (2..60_002u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + n))).collect();
    let last = Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + 60_001)));
    let (chosen, probes, swept) = take_from(&set, &mut taken, last, 5);
    assert_eq!((chosen.is_some(), probes, swept), (true, 1, false));
    for seed in 0..200 {
        let (chosen, probes, swept) = take_from(&set, &mut taken, None, seed);
        assert!(chosen.is_some() && !swept && probes <= 128, "seed {seed}: {probes} probes");
    }
}

#[test]
fn an_ipv6_64_is_walked_and_swept() {
    let set = [range("fd00:1::/64", Some("fd00:1::1"))];
    assert_eq!(capacity(&set), (1 << 64) - 2);
    let mut taken = HashSet::new();
    assert_eq!(take_from(&set, &mut taken, None, 3).0, Some("fd00:1::2".parse().unwrap()));
    let end = Some("fd00:1::ffff:ffff:ffff:ffff".parse().unwrap());
    assert_eq!(take_from(&set, &mut taken, end, 3).0, Some("fd00:1::3".parse().unwrap()));
    let all = [range("::/0", None)];
    assert_eq!(take_from(&all, &mut taken, None, 3).0, Some("::1".parse().unwrap()));
}

#[test]
fn a_pool_of_a_gateway_alone_is_empty() {
    let only = [Range {
        subnet: "10.0.0.0/24".parse().unwrap(),
        start: "10.0.0.1".parse().unwrap(),
        end: "10.0.0.1".parse().unwrap(),
        gateway: Some("10.0.0.1".parse().unwrap()),
    }];
    assert_eq!(capacity(&only), 0);
    assert_eq!(take_from(&only, &mut HashSet::new(), None, 0).0, None);
    assert_eq!(take_from(&[], &mut HashSet::new(), None, 0).0, None);
}

#[test]
fn requests_go_to_the_range_set_that_holds_them() {
    let sets = [
        vec![range("10.1.0.0/24", Some("10.1.0.1"))],
        vec![range("fd00::/64", None), range("fd01::/64", None)],
    ];
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert_eq!(assign(&sets, &requested(&["fd01::9"])).unwrap(), [None, ip("fd01::9")]);
    assert_eq!(
        assign(&sets, &requested(&["fd00::9", "10.1.0.7", "10.1.0.7"])).unwrap(),
        [ip("10.1.0.7"), ip("fd00::9")]
    );
    let wrong = |texts: &[&str]| assign(&sets, &requested(texts)).unwrap_err();
    assert!(matches!(wrong(&["10.1.0.1"]), IpamError::IsGateway { .. }));
    assert!(matches!(wrong(&["10.1.0.255"]), IpamError::NotAHost { .. }));
    assert!(matches!(wrong(&["10.2.0.1"]), IpamError::InNoRange { .. }));
    assert!(matches!(wrong(&["fd00::1", "fd01::1"]), IpamError::TooMany { .. }));
}

#[test]
fn automatic_subnets_avoid_what_is_in_use_and_end() {
    let net = |text: &str| text.parse::<IpNetwork>().unwrap();
    let free = automatic_subnet("web", &[net("0.0.0.0/0"), net("128.0.0.0/1"), net("0.0.0.0/1")]).unwrap();
    assert!(net("10.208.0.0/12").contains(free.start));
    assert_eq!(free.subnet.prefix(), 22);
    assert_ne!(automatic_subnet("web", &[free.subnet]).unwrap().subnet, free.subnet);
    let second = automatic_subnet("web", &[net("10.0.0.0/8")]).unwrap();
    assert!(net("172.16.0.0/12").contains(second.start));
    let third = automatic_subnet("web", &[net("10.0.0.0/8"), net("172.16.0.0/12")]).unwrap();
    assert_eq!(third.subnet.prefix(), 24);
    assert_eq!(
        automatic_subnet("web", &[net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16")]),
        None
    );
}
