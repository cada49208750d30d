use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use super::*;
use crate::sys::netlink;
use crate::sys::rtnl::{LinkChange, LinkTarget, set_link};
use crate::sys::testing::isolated;

fn inode_of(fd: &impl AsRawFd) -> u32 {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn on_loopback(test: impl FnOnce(&mut Socket) + Send) {
    isolated(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut route = Socket::open(netlink::Protocol::Route).unwrap();
        route.transact(&[set_link(LinkTarget::Name("lo"), &up)]).unwrap();
        test(&mut Socket::open(netlink::Protocol::SockDiag).unwrap());
    });
}

#[test]
fn listeners_of_a_port_are_found_with_address_and_inode() {
    on_loopback(|socket| {
        let (v4, _other) =
            (TcpListener::bind("127.0.0.1:81").unwrap(), TcpListener::bind("127.0.0.1:82").unwrap());
        let v6 = TcpListener::bind("[::1]:81").unwrap();
        let found = listening(socket, Protocol::Tcp, 81).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].address, "127.0.0.1:81".parse().unwrap());
        assert_eq!(found[0].inode, inode_of(&v4));
        assert_eq!(found[1].address, "[::1]:81".parse().unwrap());
        assert_eq!(found[1].inode, inode_of(&v6));
        assert!(listening(socket, Protocol::Udp, 81).unwrap().is_empty());
        assert!(listening(socket, Protocol::Sctp, 81).unwrap().is_empty());
    });
}

#[test]
fn a_dual_stack_listener_is_told_from_one_of_ipv6_alone() {
    on_loopback(|socket| {
        let _both = TcpListener::bind("[::]:90").unwrap();
        assert!(!listening(socket, Protocol::Tcp, 90).unwrap()[0].v6_only);
        assert!(!bind_probe(Protocol::Tcp, "0.0.0.0:90".parse().unwrap()).unwrap());
    });
}

#[test]
fn udp_sockets_are_listeners_until_they_connect() {
    on_loopback(|socket| {
        let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
        assert_eq!(listening(socket, Protocol::Udp, 53).unwrap()[0].inode, inode_of(&udp));
        udp.connect("127.0.0.1:54").unwrap();
        assert!(listening(socket, Protocol::Udp, 53).unwrap().is_empty());
    });
}

#[test]
fn a_probe_tells_a_taken_port_from_a_free_one() {
    on_loopback(|_| {
        let probe = |protocol, address: &str| bind_probe(protocol, address.parse().unwrap()).unwrap();
        let _tcp = TcpListener::bind("127.0.0.1:80").unwrap();
        let _udp = UdpSocket::bind("[::1]:53").unwrap();
        assert!(!probe(Protocol::Tcp, "127.0.0.1:80") && !probe(Protocol::Tcp, "0.0.0.0:80"));
        assert!(probe(Protocol::Tcp, "[::]:80") && probe(Protocol::Udp, "127.0.0.1:80"));
        assert!(!probe(Protocol::Udp, "[::]:53") && probe(Protocol::Udp, "0.0.0.0:53"));
        assert!(probe(Protocol::Tcp, "192.0.2.1:80"), "an address that the host does not have");
        assert!(probe(Protocol::Sctp, "127.0.0.1:80"));
    });
}

#[test]
fn the_owner_of_a_socket_is_found() {
    on_loopback(|_| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let owner = owner_of_inode(inode_of(&listener)).unwrap();
        assert_eq!(owner.pid, std::process::id());
        assert!(!owner.name.is_empty() && !owner.command_line.is_empty());
        assert_eq!(owner_of_inode(u32::MAX), None);
    });
}

#[test]
fn parents_are_ancestors_and_children_are_not() {
    assert!(is_ancestor(std::process::id()));
    assert!(is_ancestor(parent_of(std::process::id()).unwrap()));
    let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
    assert!(!is_ancestor(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}
