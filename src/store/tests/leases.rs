use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use super::super::lease::Taking;
use super::*;
use crate::cni::RequestedAddress;

fn requested(texts: &[&str]) -> Vec<RequestedAddress> {
    texts.iter().map(|text| RequestedAddress { address: text.parse().unwrap(), prefix: None }).collect()
}

fn own(state: &State) -> LeaseDirectory {
    state.lease_directory(&state.lease_path("web", None).unwrap()).unwrap()
}

#[test]
fn a_lease_is_a_file_as_the_reference_writes_it() {
    let (_base, state) = state();
    let leases = own(&state);
    assert!(!leases.is_shared());
    let given = leases.allocate(&[set("10.1.0.0/24"), set("fd00::/64")], &[], &key("a"), unwritten).unwrap();
    let texts: Vec<_> = given.iter().map(|lease| lease.address.to_string()).collect();
    assert_eq!(texts, ["10.1.0.2/24", "fd00::2/64"]);
    assert_eq!(given[1].gateway, Some("fd00::1".parse().unwrap()));
    for name in ["10.1.0.2", "fd00::2"] {
        let file = leases.path().join(name);
        assert_eq!(std::fs::read(&file).unwrap(), b"a\r\neth0");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_to_string(leases.path().join("last_reserved_ip.1")).unwrap(), "fd00::2");
    assert_eq!(leases.count().unwrap(), 2);
    leases.release(&given, &key("b")).unwrap();
    assert_eq!(leases.leases().unwrap()[0].owner.to_string(), "a:eth0");
    leases.release(&given, &key("a")).unwrap();
    leases.release(&given, &key("a")).unwrap();
    assert_eq!(leases.count().unwrap(), 0);
    let next = leases.allocate(&[set("10.1.0.0/24")], &[], &key("a"), unwritten).unwrap();
    assert_eq!(next[0].address.ip(), "10.1.0.3".parse::<IpAddr>().unwrap());
}

#[test]
fn an_allocation_is_all_or_nothing_and_exhaustion_is_exact() {
    let (_base, state) = state();
    let leases = own(&state);
    let small = [set("10.1.0.0/24"), set("10.2.0.0/29")];
    let mut given = HashSet::new();
    for n in 0..5 {
        for lease in leases.allocate(&small, &[], &key(&format!("c{n}")), unwritten).unwrap() {
            assert!(given.insert(lease.address));
        }
    }
    let error = leases.allocate(&small, &[], &key("late"), unwritten).unwrap_err();
    assert!(matches!(error, StoreError::Exhausted { capacity: 5, .. }), "{error}");
    assert_eq!(leases.count().unwrap(), 10);
    // An empty file is nobody's lease.
    std::fs::write(leases.path().join("10.2.0.4"), "").unwrap();
    let last = leases.allocate(&small, &[], &key("late"), unwritten).unwrap();
    assert_eq!(last[1].address.to_string(), "10.2.0.4/29");
}

#[test]
fn a_requested_address_is_given_or_its_holder_named() {
    let (_base, state) = state();
    let leases = own(&state);
    let sets = [set("10.1.0.0/24"), set("fd00::/64")];
    let given = leases.allocate(&sets, &requested(&["fd00::77"]), &key("a"), unwritten).unwrap();
    assert_eq!(given[1].address.to_string(), "fd00::77/64");
    let error = leases.allocate(&sets, &requested(&["fd00::77"]), &key("b"), unwritten).unwrap_err();
    assert!(matches!(&error, StoreError::AddressTaken { owner, .. } if owner == "a:eth0"), "{error}");
    assert_eq!(leases.count().unwrap(), 2);
    // What a killed ADD of the same attachment left is its own.
    let again = leases.allocate(&sets[1..], &requested(&["fd00::77"]), &key("a"), unwritten).unwrap();
    assert_eq!(again[0], given[1]);
    let error = leases.allocate(&sets, &requested(&["10.9.0.1"]), &key("c"), unwritten).unwrap_err();
    assert!(matches!(error, StoreError::Request(_)));
    std::fs::write(leases.path().join("10.1.0.99"), "").unwrap();
    leases.allocate(&sets, &requested(&["10.1.0.99"]), &key("c"), unwritten).unwrap();
}

#[test]
fn a_walk_finds_the_files_of_an_attachment_and_of_old_versions() {
    let (base, state) = state();
    let path = state.lease_path("web", Some(&base.path().join("data"))).unwrap();
    assert!(state.existing_lease_directory(&path).unwrap().is_none());
    let leases = state.lease_directory(&path).unwrap();
    assert!(leases.is_shared());
    for (name, content) in [
        ("10.1.0.2", "a\r\neth0"),
        ("10.1.0.3", "a\n"),
        ("10.1.0.4", "a\r\neth1"),
        ("10.1.0.5", "ab"),
        ("lock", ""),
    ] {
        std::fs::write(path.join(name), content).unwrap();
    }
    let released: Vec<_> =
        leases.release_by_walk(&key("a")).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(released, ["10.1.0.2", "10.1.0.3"]);
    assert_eq!(leases.count().unwrap(), 2);
    assert!(path.join("lock").exists());
}

#[test]
fn a_directory_of_an_earlier_boot_is_swept_once() {
    let (base, state) = state();
    let leases = state.lease_directory(&base.path().join("data/web")).unwrap();
    let given = leases.allocate(&[set("10.1.0.0/24")], &[], &key("a"), unwritten).unwrap();
    let soon = SystemTime::now() + Duration::from_secs(100);
    assert_eq!(leases.sweep_boot("one", SystemTime::UNIX_EPOCH).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(leases.sweep_boot("one", soon).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(leases.sweep_boot("two", soon).unwrap(), [given[0].address.ip()]);
    leases.allocate(&[set("10.1.0.0/24")], &[], &key("a"), unwritten).unwrap();
    assert_eq!(leases.sweep_boot("two", soon).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(leases.count().unwrap(), 1);
}

/// What an ADD would take for its own leaves room.
#[test]
fn leases_of_an_earlier_boot_and_torn_ones_do_not_fill_a_pool() {
    let (base, state) = state();
    let leases = state.lease_directory(&base.path().join("data/web")).unwrap();
    let sets = [set("10.1.0.0/30")];
    let is_full = |boot| leases.exhausted(&sets, boot).unwrap().is_some();
    leases.allocate(&sets, &[], &key("a"), unwritten).unwrap();
    let soon = SystemTime::now() + Duration::from_secs(100);
    assert!(is_full(None));
    assert!(is_full(Some(("one", SystemTime::UNIX_EPOCH))), "it is of this boot");
    assert!(!is_full(Some(("one", soon))), "the next ADD sweeps it");
    leases.sweep_boot("one", SystemTime::UNIX_EPOCH).unwrap();
    assert!(is_full(Some(("one", soon))), "they are swept once a boot");
    for torn in ["", "\r\n"] {
        std::fs::write(leases.path().join("10.1.0.2"), torn).unwrap();
        assert!(!is_full(None));
    }
    assert!(leases.path().join("10.1.0.2").exists(), "who asks removes nothing");
}

#[test]
fn sixty_thousand_leases_cost_no_listing_and_few_probes() {
    let (_base, state) = state();
    let leases = own(&state);
    let sets = [set("10.1.0.0/16")];
    let first = leases.path().join("10.1.0.2");
    std::fs::write(&first, "other\r\neth0").unwrap();
    for n in 3..60_002u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a01_0000 + n);
        std::fs::hard_link(&first, leases.path().join(address.to_string())).unwrap();
    }
    let cost = |id: &str| {
        let owner = key(id);
        let mut taking = Taking::new(&leases, &owner);
        let given = taking.allocate(&sets, &[], unwritten).unwrap();
        let cost = (taking.probes, taking.listings);
        leases.release(&given, &owner).unwrap();
        cost
    };
    std::fs::write(leases.path().join("last_reserved_ip.0"), "10.1.234.97").unwrap();
    assert_eq!(cost("a"), (1, 0));
    for n in 0..50 {
        std::fs::remove_file(leases.path().join("last_reserved_ip.0")).unwrap();
        let (probes, listings) = cost(&format!("b{n}"));
        assert!(probes <= 128 && listings == 0, "{probes} probes, {listings} listings");
    }
    assert_eq!(leases.count().unwrap(), 60_000);
}

#[test]
fn what_will_be_taken_is_told_before_it_is_and_anew_where_a_rival_without_the_lock_is_faster() {
    let (_base, state) = state();
    let leases = own(&state);
    let sets = [set("10.1.0.0/24"), set("fd00::/64")];
    let mut told: Vec<Vec<IpAddr>> = Vec::new();
    let given = leases
        .allocate(&sets, &[], &key("a"), |lease| {
            let addresses: Vec<IpAddr> = lease.iter().map(|lease| lease.address.ip()).collect();
            assert!(addresses.iter().all(|address| !leases.path().join(address.to_string()).exists()));
            if told.is_empty() {
                // The second of the two is lost, and the first one is not kept.
                std::fs::write(leases.path().join(addresses[1].to_string()), "rival\r\neth0").unwrap();
            }
            told.push(addresses);
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let given: Vec<IpAddr> = given.iter().map(|lease| lease.address.ip()).collect();
    assert_eq!((told.len(), &told[1]), (2, &given));
    assert_eq!((told[0][0], told[0][1] == given[1]), (given[0], false));
    assert_eq!(leases.count().unwrap(), 3);
    let refused =
        leases.allocate(&sets, &[], &key("b"), |_| Err(StoreError::BadName { name: "b".to_owned() }));
    assert!(matches!(refused, Err(StoreError::BadName { .. })));
    assert_eq!(leases.count().unwrap(), 3, "what could not be written down is not taken");
    let full: Vec<RangeSet> = vec![vec![Range { end: "10.1.0.2".parse().unwrap(), ..sets[0][0].clone() }]];
    let told = std::cell::Cell::new(0);
    let exhausted = leases.allocate(&full, &[], &key("d"), |_| {
        told.set(told.get() + 1);
        Ok::<_, StoreError>(())
    });
    assert!(matches!(exhausted, Err(StoreError::Exhausted { .. })), "{exhausted:?}");
    assert_eq!(told.get(), 0, "no address that is another's is written down");
    let outrun = leases.allocate(&sets[..1], &[], &key("c"), |lease| {
        std::fs::write(leases.path().join(lease[0].address.ip().to_string()), "rival\r\neth0").unwrap();
        Ok::<_, StoreError>(())
    });
    assert!(matches!(outrun, Err(StoreError::AddressTaken { .. })), "{outrun:?}");
}
