use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_route::address::AddressAttribute;

use super::*;
use crate::model::Route;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A bridge with addresses of both families, and a veth as its port.
fn addressed(pair: Pair) -> Pair {
    let mut pair = pair.wired();
    let given = ["10.1.0.1/24", "fd00::1/64"].map(|a| add_address(&AddressSpec::new(900, net(a))));
    pair.here.transact(&given).unwrap();
    pair
}

#[test]
fn addresses_serve_at_once_and_are_taken_again() {
    Pair::run(|pair| {
        let mut pair = addressed(pair);
        let found = addresses(&mut pair.here, Some(900)).unwrap();
        for wanted in ["10.1.0.1/24", "fd00::1/64"] {
            let one = found.iter().find(|a| a.address == net(wanted)).unwrap();
            assert!(!one.is_tentative() && !one.is_duplicate() && one.scope == 0 && one.peer.is_none());
        }
        assert!(addresses(&mut pair.here, Some(1000)).unwrap().iter().all(|a| a.index == 1000));
        assert_eq!(addresses(&mut pair.here, Some(4242)).unwrap(), []);
        assert!(addresses(&mut pair.here, None).unwrap().len() >= found.len());
        let again = add_address(&AddressSpec::new(900, net("10.1.0.1/24")));
        assert_eq!(pair.here.transact(&[again]).unwrap_err().errno(), Some(Errno::EEXIST));
        let gone = delete_address(900, net("10.1.0.1/24"));
        pair.here.transact(&[gone.clone(), gone, delete_address(900, net("fd00::1/64"))]).unwrap();
        let left = addresses(&mut pair.here, Some(900)).unwrap();
        assert!(left.iter().all(|a| a.scope == 253), "only the link's own: {left:?}");
    });
}

#[test]
fn forwarding_is_told_as_proc_tells_it() {
    Pair::run(|mut pair| {
        for (is_ipv6, key) in [(false, "net.ipv4.ip_forward"), (true, "net.ipv6.conf.all.forwarding")] {
            for value in ["1", "0", "1"] {
                crate::sys::sysctl::write(key, value).unwrap();
                assert_eq!(forwards(&mut pair.here, is_ipv6).unwrap(), Some(value == "1"), "{key}");
            }
        }
    });
}

#[test]
fn rtnetlink_sees_the_broadcast_address() {
    Pair::run(|pair| {
        let _pair = addressed(pair);
        let attributes = oracle(|handle| async move {
            let query = handle.address().get().set_address_filter(ip("10.1.0.1"));
            query.execute().try_next().await.unwrap().unwrap().attributes
        });
        assert!(attributes.contains(&AddressAttribute::Broadcast("10.1.0.255".parse().unwrap())));
        assert!(attributes.contains(&AddressAttribute::Local(ip("10.1.0.1"))));
    });
}

#[test]
fn a_route_has_its_metrics_and_is_found_and_deleted() {
    Pair::run(|pair| {
        let mut pair = addressed(pair);
        for (dst, gw) in [("10.9.0.0/16", "10.1.0.7"), ("fd09::/32", "fd00::7")] {
            let full = Route {
                mtu: Some(1300),
                advmss: Some(1200),
                priority: Some(50),
                table: Some(1000),
                scope: Some(0),
                ..Route::via(net(dst), Some(ip(gw)))
            };
            let spec = RouteSpec::new(full, 900);
            pair.here.transact(&[add_route(&spec, RouteMode::Exclusive)]).unwrap();
            let error = pair.here.transact(&[add_route(&spec, RouteMode::Exclusive)]).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EEXIST));
            pair.here.transact(&[add_route(&spec, RouteMode::Replace)]).unwrap();
            let filter =
                RouteFilter { table: Some(1000), ipv4: Some(spec.route.dst.is_ipv4()), oif: Some(900) };
            let found = routes(&mut pair.here, &filter).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            let FoundRoute { dst, gateway, oif, priority, table, mtu, advmss, .. } = found[0].clone();
            assert_eq!((dst, gateway, oif), (spec.route.dst, spec.route.gw, Some(900)));
            assert_eq!((priority, table, mtu, advmss), (50, 1000, Some(1300), Some(1200)));
            pair.here.transact(&[delete_route(&spec), delete_route(&spec)]).unwrap();
            assert_eq!(routes(&mut pair.here, &filter).unwrap(), []);
        }
    });
}

#[test]
fn routes_are_filtered_by_link_and_looked_up() {
    Pair::run(|pair| {
        let mut pair = addressed(pair);
        let default = RouteSpec::new(Route::via(net("0.0.0.0/0"), Some(ip("10.1.0.254"))), 900);
        let default6 = RouteSpec::new(Route::via(net("::/0"), Some(ip("fd00::fe"))), 900);
        let direct = RouteSpec::new(Route::via(net("10.77.0.0/16"), None), 1000);
        let all = [&default, &default6, &direct].map(|spec| add_route(spec, RouteMode::Exclusive));
        pair.here.transact(&all).unwrap();
        let of = |oif| RouteFilter { ipv4: Some(true), oif: Some(oif), table: Some(254) };
        let found = routes(&mut pair.here, &of(1000)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].dst, found[0].scope), (net("10.77.0.0/16"), 253));
        assert_eq!(routes(&mut pair.here, &of(900)).unwrap().len(), 2);
        let every = routes(&mut pair.here, &RouteFilter::default()).unwrap();
        assert!(every.iter().any(|r| r.dst == net("::/0") && r.gateway == Some(ip("fd00::fe"))));
        assert!(every.iter().any(|r| r.table == 255 && r.dst == net("10.1.0.1/32")));
        for (dst, gw) in [("192.0.2.9", "10.1.0.254"), ("2001:db8::9", "fd00::fe")] {
            let route = route_lookup(&mut pair.here, ip(dst)).unwrap().unwrap();
            assert_eq!((route.oif, route.gateway), (Some(900), Some(ip(gw))));
        }
        pair.here.transact(&[delete_route(&default)]).unwrap();
        assert_eq!(route_lookup(&mut pair.here, ip("192.0.2.9")).unwrap(), None);
    });
}

#[test]
fn a_next_hop_off_the_link_needs_onlink() {
    Pair::run(|pair| {
        let mut pair = addressed(pair);
        let mut spec = RouteSpec::new(Route::via(net("10.5.0.0/16"), Some(ip("169.254.1.1"))), 900);
        let error = pair.here.transact(&[add_route(&spec, RouteMode::Append)]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENETUNREACH));
        assert!(
            error.to_string().starts_with("cannot add the route 10.5.0.0/16 via 169.254.1.1: "),
            "{error}"
        );
        spec.onlink = true;
        spec.source = Some(ip("10.1.0.1"));
        pair.here.transact(&[add_route(&spec, RouteMode::Append)]).unwrap();
        let found = route_lookup(&mut pair.here, ip("10.5.1.1")).unwrap().unwrap();
        assert_eq!(found.source, Some(ip("10.1.0.1")));
    });
}

/// `ip neigh VERB WORDS` in this namespace.
fn neigh(verb: &str, words: &str) {
    let mut ip = std::process::Command::new("ip");
    assert!(ip.args(["neigh", verb]).args(words.split(' ')).status().unwrap().success(), "{verb} {words}");
}

#[test]
fn neighbours_are_listed() {
    Pair::run(|pair| {
        let mut pair = addressed(pair);
        for address in [ip("10.1.0.9"), ip("fd00::9")] {
            let known = format!("{address} lladdr {} dev br nud permanent", mac(9));
            neigh("replace", &known);
            let found = neighbours(&mut pair.here, 900).unwrap();
            let one = found.iter().find(|n| n.address == address).unwrap();
            assert_eq!((one.mac, one.state), (Some(mac(9)), 0x80));
            neigh("del", &format!("{address} dev br"));
            let left = neighbours(&mut pair.here, 900).unwrap();
            assert!(!left.iter().any(|n| n.address == address && n.state == 0x80), "{left:?}");
        }
        assert_eq!(neighbours(&mut pair.here, 4242).unwrap(), []);
    });
}

/// A packet socket on `device` that sees ARP alone.
fn arp_listener(device: u32) -> std::os::fd::OwnedFd {
    use std::os::fd::{AsRawFd, FromRawFd};
    let protocol = 0x0806_u16.to_be();
    // SAFETY: socket takes no pointers, and the descriptor is nobody else's.
    let fd = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        std::os::fd::OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, kind, i32::from(protocol)))
    };
    // SAFETY: all zeros is a value of sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = 17;
    address.sll_protocol = protocol;
    address.sll_ifindex = device.cast_signed();
    let size = u32::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the pointer and the size are those of a live value.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
    assert_eq!(bound, 0);
    fd
}

/// The sender's address of the next ARP packet, within a second.
fn next_arp(fd: &std::os::fd::OwnedFd) -> Option<[u8; 4]> {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut packet = [0_u8; 64];
    // SAFETY: both calls get a live value and its size.
    let length = unsafe {
        if libc::poll(&raw mut poll, 1, 1000) < 1 {
            return None;
        }
        libc::recv(fd.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0)
    };
    assert!(length >= 28);
    packet[14..18].try_into().ok()
}

#[test]
fn setting_the_same_mac_again_announces_the_address() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let eth0 = LinkTarget::Index(2000);
        let notify = LinkChange { devconf: &[(Devconf::ArpNotify, 1)], ..LinkChange::default() };
        let address = add_address(&AddressSpec::new(2000, net("10.1.0.3/24")));
        pair.there.transact(&[set_link(eth0, &notify), address]).unwrap();
        let forwarding = PortChange { forwarding: true, ..PortChange::default() };
        pair.here.transact(&[set_port(LinkTarget::Name("host"), &forwarding)]).unwrap();
        let listener = arp_listener(900);
        let again = LinkChange { mac: Some(mac(3)), ..LinkChange::default() };
        pair.there.transact(&[set_link(eth0, &again)]).unwrap();
        assert_eq!(next_arp(&listener), Some([10, 1, 0, 3]), "seen on the bridge");
    });
}
