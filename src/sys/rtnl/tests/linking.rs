use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::LinkAttribute;

use super::*;

#[test]
fn a_veth_pair_is_made_whole_with_one_message() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let host = pair.link("host");
        assert_eq!((host.index, host.mac, host.mtu, host.tx_queue_len), (1000, Some(mac(2)), 1400, 123));
        assert_eq!((host.master, host.group, host.kind.as_deref()), (Some(900), 7, Some("veth")));
        assert_eq!((host.peer, host.peer_elsewhere, host.is_up()), (Some(2000), true, true));
        let eth0 = link_by_name(&mut pair.there, "eth0").unwrap().unwrap();
        assert_eq!((eth0.index, eth0.mac, eth0.mtu, eth0.tx_queue_len), (2000, Some(mac(3)), 1400, 123));
        assert_eq!((eth0.peer, eth0.group), (Some(1000), 0));
        assert!(link_by_index(&mut pair.here, 1000).unwrap().unwrap().is_operational());
    });
}

#[test]
fn rtnetlink_sees_the_same_veth() {
    Pair::run(|pair| {
        let _pair = pair.wired();
        let attributes = oracle(|handle| async move {
            let mut links = handle.link().get().match_name("host").execute();
            links.try_next().await.unwrap().unwrap().attributes
        });
        assert!(attributes.contains(&LinkAttribute::Mtu(1400)));
        assert!(attributes.contains(&LinkAttribute::Controller(900)));
        assert!(attributes.contains(&LinkAttribute::Group(7)));
        assert!(attributes.contains(&LinkAttribute::Address(mac(2).0.to_vec())));
        assert!(attributes.contains(&LinkAttribute::NumTxQueues(1)));
        assert!(attributes.contains(&LinkAttribute::NumRxQueues(1)));
    });
}

#[test]
fn a_taken_name_or_index_is_refused_and_leaves_nothing() {
    Pair::run(|mut pair| {
        let first = Veth { index: Some(1000), peer_index: Some(2000), ..veth(&pair.netns) };
        pair.here.transact(&[create_veth(&first)]).unwrap();
        let Pair { here, netns, .. } = &mut pair;
        let mut refused = |veth: &Veth<'_>| here.transact(&[create_veth(veth)]).unwrap_err().errno().unwrap();
        let another = Veth { name: "host2", peer_name: "eth1", ..veth(netns) };
        assert_eq!(refused(&Veth { peer_name: "eth0", ..another.clone() }), Errno::EEXIST);
        assert_eq!(refused(&Veth { name: "host", ..another.clone() }), Errno::EEXIST);
        let taken = [(1000, 2001), (1001, 2000)];
        for (index, peer_index) in taken.map(|(a, b)| (Some(a), Some(b))) {
            let taken = Veth { index, peer_index, ..another.clone() };
            assert!(matches!(refused(&taken), Errno::EEXIST | Errno::EBUSY));
        }
        assert_eq!(link_by_name(&mut pair.here, "host2").unwrap(), None);
        assert_eq!(link_by_name(&mut pair.there, "eth1").unwrap(), None);
    });
}

#[test]
fn a_link_is_changed_by_index_and_by_name() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let change = LinkChange {
            mtu: Some(1300),
            mac: Some(mac(9)),
            master: Some(0),
            group: Some(8),
            promisc: Some(true),
            allmulti: Some(true),
            tx_queue_len: Some(77),
            ..LinkChange::default()
        };
        pair.here.transact(&[set_link(LinkTarget::Name("host"), &change)]).unwrap();
        let host = pair.link("host");
        assert_eq!((host.mtu, host.mac, host.master, host.group), (1300, Some(mac(9)), None, 8));
        assert!(host.is_promisc() && host.is_allmulti() && host.promiscuity == 1 && host.is_up());
        assert_eq!(host.tx_queue_len, 77);
        let down = LinkChange { up: Some(false), promisc: Some(false), ..LinkChange::default() };
        let name = LinkChange { name: Some("other"), ..LinkChange::default() };
        let target = LinkTarget::Index(1000);
        pair.here.transact(&[set_link(target, &down), set_link(target, &name)]).unwrap();
        let other = pair.link("other");
        assert!(!other.is_up() && !other.is_promisc() && other.is_allmulti());
    });
}

#[test]
fn ipv4_options_travel_with_the_link() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let devconf = [
            (Devconf::ArpNotify, 1),
            (Devconf::RpFilter, 2),
            (Devconf::RouteLocalnet, 1),
            (Devconf::ArpIgnore, 3),
            (Devconf::ProxyArp, 1),
        ];
        let change = LinkChange { devconf: &devconf, ..LinkChange::default() };
        pair.here.transact(&[set_link(LinkTarget::Name("host"), &change)]).unwrap();
        let read = |name: &str| crate::sys::sysctl::read(&format!("net/ipv4/conf/host/{name}")).unwrap();
        assert_eq!(read("arp_notify"), "1");
        assert_eq!(read("rp_filter"), "2");
        assert_eq!(read("route_localnet"), "1");
        assert_eq!(read("arp_ignore"), "3");
        assert_eq!(read("proxy_arp"), "1");
    });
}

#[test]
fn links_are_listed_by_master_and_by_group_and_deleted_by_group() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        pair.here.transact(&[create_ifb("ifb", Some(9), Some(1400), None)]).unwrap();
        let names = |links: Vec<Link>| links.into_iter().map(|link| link.name).collect::<Vec<_>>();
        assert_eq!(count_ports(&mut pair.here, 900).unwrap(), 1);
        assert_eq!(names(links_in_group(&mut pair.here, 9).unwrap()), ["ifb"]);
        let ifb = pair.link("ifb");
        assert!(ifb.is_up() && ifb.kind.as_deref() == Some("ifb") && ifb.mtu == 1400);
        let doomed = LinkChange { group: Some(9), ..LinkChange::default() };
        pair.here.transact(&[set_link(LinkTarget::Name("host"), &doomed), delete_group(9)]).unwrap();
        assert_eq!(links_in_group(&mut pair.here, 9).unwrap(), []);
        assert_eq!(link_by_name(&mut pair.there, "eth0").unwrap(), None, "the other end goes too");
        assert!(link_by_name(&mut pair.here, "br").unwrap().is_some(), "another group stays");
        pair.here.transact(&[delete_group(9), delete_link_named("host"), delete_link(1000)]).unwrap();
        pair.here.transact(&[delete_link_named("br")]).unwrap();
        assert_eq!(link_by_index(&mut pair.here, 900).unwrap(), None);
    });
}

/// A question about a name that there is not must not reach `dev_load` of the kernel, which runs modprobe(8) for it: so
/// it is no ioctl, and leaves the socket as it was.
#[test]
fn a_link_is_looked_for_without_a_module() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        assert_eq!(index_of(&pair.here, "host"), Ok(Some(1000)));
        assert_eq!(index_of(&pair.there, "eth0"), Ok(Some(2000)));
        for missing in ["eth0", "", "a-name-of-sixteen", "host "] {
            assert_eq!(is_there(&pair.here, missing), Ok(false), "{missing}");
            assert_eq!(index_of(&pair.here, missing), Ok(None), "{missing}");
        }
        // The socket is still good for whatever link: bound to one, it would not be bound to another without a privilege.
        assert_eq!(is_there(&pair.here, "br"), Ok(true));
        assert_eq!(is_there(&pair.here, "host"), Ok(true));
        assert_eq!(link_by_name(&mut pair.here, "host").unwrap().unwrap().index, 1000);
    });
}
