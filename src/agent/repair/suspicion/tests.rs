use std::collections::BTreeMap;

use super::*;
use crate::model::{MacAddress, names};
use crate::plan::{Forwarding, Link as LinkStep, Sandbox};
use crate::sys::rtnl::Address;

/// `IFF_UP`.
const UP: u32 = 1;

fn record(id: &str) -> Record<Plan> {
    let key = AttachmentKey::new(id, "eth0");
    let link = LinkStep {
        sandbox: Sandbox { path: "/run/netns/a".into(), device: 1, inode: 2, cookie: None },
        host_name: names::host_interface(&key),
        host_mac: MacAddress([2; 6]),
        name: "eth0".into(),
        mac: MacAddress([4; 6]),
        bridge: Some("lks-web".into()),
        mtu: Some(1500),
        tx_queue_len: None,
    };
    let forwarding = Step::Forwarding(Forwarding { ipv4: true, ipv6: false });
    let plan = Plan { steps: vec![forwarding, Step::Link(link)] };
    Record {
        version: 1,
        key,
        network: "web".into(),
        created: 0,
        begun: 0,
        labels: BTreeMap::new(),
        naming: None,
        plan,
    }
}

fn link(name: &str, index: u32) -> Link {
    let group = names::LINK_GROUP;
    Link { index, name: name.into(), flags: UP, mtu: 1500, master: Some(7), group, ..Link::default() }
}

fn watching() -> (Suspicions, String) {
    let mut all = Suspicions::default();
    let record = record("a");
    all.attached(&record);
    all.hear(&Notice::Link(Link { master: None, ..link("lks-web", 7) }));
    let end = names::host_interface(&record.key);
    all.hear(&Notice::Link(link(&end, 9)));
    assert!(!all.any());
    (all, end)
}

fn suspected(all: &mut Suspicions, name: &str) -> bool {
    all.take() == HashSet::from([Suspect::Link(name.to_owned())])
}

#[test]
fn a_damaged_link_is_suspect_and_a_right_one_is_not() {
    let (mut all, end) = watching();
    let damaged = [
        Link { flags: 0, ..link(&end, 9) },
        Link { master: None, ..link(&end, 9) },
        Link { mtu: 1300, ..link(&end, 9) },
    ];
    for link in damaged {
        all.hear(&Notice::Link(link));
        assert!(suspected(&mut all, &end));
    }
    all.hear(&Notice::Link(Link { flags: 0, ..link(&end, 9) }));
    all.hear(&Notice::Link(link(&end, 9)));
    assert!(all.take().is_empty(), "it was right again before anybody looked");
    for notice in [Notice::NoPort(link(&end, 9)), Notice::NoLink(link(&end, 9))] {
        all.hear(&notice);
        assert!(suspected(&mut all, &end));
    }
    all.hear(&Notice::Link(Link { flags: 0, ..link("lks-web", 7) }));
    assert!(suspected(&mut all, "lks-web"));
    let address = "10.1.0.1/24".parse().unwrap();
    let address = |index| Address { index, address, peer: None, scope: 0, flags: 0 };
    all.hear(&Notice::NoAddress(address(7)));
    assert!(suspected(&mut all, "lks-web"));
    all.hear(&Notice::NoAddress(address(3)));
    all.hear(&Notice::NoLink(link("eth0", 2)));
    assert!(all.take().is_empty(), "strangers are not our business");
}

#[test]
fn what_is_detached_meanwhile_is_no_suspect() {
    let (mut all, end) = watching();
    all.hear(&Notice::NoLink(link(&end, 9)));
    all.detached(&AttachmentKey::new("a", "eth0"));
    assert!(all.take().is_empty());
    all.hear(&Notice::NoLink(link("lks-web", 7)));
    assert!(all.take().is_empty(), "a bridge without attachments comes back with the next ADD");
}

#[test]
fn forwarding_counts_where_it_is_wanted() {
    let (mut all, _) = watching();
    all.hear(&Notice::Forwarding { family: 10, on: false });
    assert!(!all.any());
    all.hear(&Notice::Forwarding { family: 2, on: false });
    assert!(all.any());
}

/// firewalld's table counts where it holds sources of ours, and not otherwise.
#[test]
fn a_reload_of_firewalld_counts_where_it_has_our_addresses() {
    let told = FirewallNotice::Changed { family: 1, table: "firewalld".into(), chain: None };
    for zoned in [false, true] {
        let mut record = record("a");
        if zoned {
            let sources = vec!["10.1.0.2".parse().unwrap()];
            record.plan.steps.push(Step::Zone(crate::plan::Zone { zone: "trusted".into(), sources }));
        }
        let mut all = Suspicions::default();
        all.attached(&record);
        all.hear_firewall(&told, |_| false);
        all.hear_firewall(&FirewallNotice::Committed { by: "firewalld".into() }, |_| false);
        assert_eq!(all.any(), zoned);
    }
}

#[test]
fn a_transaction_counts_by_its_tables_and_by_who_made_it() {
    let changed = |family, table: &str, chain: Option<&str>| FirewallNotice::Changed {
        family,
        table: table.to_owned(),
        chain: chain.map(str::to_owned),
    };
    let cases = [
        (changed(1, "linkspan", None), "nft", true),
        (changed(7, "linkspan", Some("prerouting")), "nft", true),
        (changed(1, "linkspan", None), "linkspan", false),
        (changed(1, "firewalld", None), "firewalld", false),
        (changed(2, "nat", Some("LINKSPAN-POST")), "iptables", true),
        (changed(2, "filter", Some("FORWARD")), "iptables", true),
        (changed(2, "nat", Some("KUBE-SERVICES")), "iptables-restor", false),
        (changed(10, "nat", None), "nft", true),
    ];
    for (notice, by, wanted) in cases {
        let mut all = Suspicions::default();
        all.hear_firewall(&notice, |name| name == "linkspan");
        assert!(!all.any(), "only the end of a transaction says who made it");
        all.hear_firewall(&FirewallNotice::Committed { by: by.to_owned() }, |name| name == "linkspan");
        assert_eq!(all.any(), wanted, "{notice:?} by {by}");
    }
}
