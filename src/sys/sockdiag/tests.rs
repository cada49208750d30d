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
        let found = listening(socket, Protocol::Tcp, &(81..=81)).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].address, "127.0.0.1:81".parse().unwrap());
        assert_eq!(found[0].inode, inode_of(&v4));
        assert_eq!(found[1].address, "[::1]:81".parse().unwrap());
        assert_eq!(found[1].inode, inode_of(&v6));
        assert!(listening(socket, Protocol::Udp, &(81..=81)).unwrap().is_empty());
        assert!(listening(socket, Protocol::Sctp, &(81..=81)).unwrap().is_empty());
    });
}

#[test]
fn a_dual_stack_listener_is_told_from_one_of_ipv6_alone() {
    on_loopback(|socket| {
        let _both = TcpListener::bind("[::]:90").unwrap();
        assert!(!listening(socket, Protocol::Tcp, &(90..=90)).unwrap()[0].v6_only);
        assert_eq!(bind_probe(Protocol::Tcp, "0.0.0.0:90".parse().unwrap()).unwrap(), Probe::Taken);
    });
}

#[test]
fn a_range_is_one_list_and_a_mapped_address_is_ipv4() {
    on_loopback(|socket| {
        let _all: Vec<_> =
            [89, 90, 95, 100, 101].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap()).into();
        let _mapped = TcpListener::bind("[::ffff:127.0.0.1]:96").unwrap();
        let found = listening(socket, Protocol::Tcp, &(90..=100)).unwrap();
        let mut ports: Vec<String> = found.iter().map(|listener| listener.address.to_string()).collect();
        ports.sort();
        assert_eq!(ports, ["127.0.0.1:100", "127.0.0.1:90", "127.0.0.1:95", "127.0.0.1:96"]);
    });
}

#[test]
fn udp_sockets_are_listeners_until_they_connect() {
    on_loopback(|socket| {
        let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
        assert_eq!(listening(socket, Protocol::Udp, &(53..=53)).unwrap()[0].inode, inode_of(&udp));
        udp.connect("127.0.0.1:54").unwrap();
        assert!(listening(socket, Protocol::Udp, &(53..=53)).unwrap().is_empty());
    });
}

#[test]
fn a_probe_tells_a_taken_port_from_a_free_one() {
    on_loopback(|_| {
        let probe =
            |protocol, address: &str| bind_probe(protocol, address.parse().unwrap()).unwrap() == Probe::Free;
        let _tcp = TcpListener::bind("127.0.0.1:80").unwrap();
        let _udp = UdpSocket::bind("[::1]:53").unwrap();
        assert!(!probe(Protocol::Tcp, "127.0.0.1:80") && !probe(Protocol::Tcp, "0.0.0.0:80"));
        assert!(probe(Protocol::Tcp, "[::]:80") && probe(Protocol::Udp, "127.0.0.1:80"));
        assert!(!probe(Protocol::Udp, "[::]:53") && probe(Protocol::Udp, "0.0.0.0:53"));
        let elsewhere = bind_probe(Protocol::Tcp, "192.0.2.1:80".parse().unwrap()).unwrap();
        assert_eq!(elsewhere, Probe::NoSuchAddress);
        assert!(probe(Protocol::Sctp, "127.0.0.1:80"));
    });
}

#[test]
fn the_owner_of_a_socket_is_found() {
    on_loopback(|_| {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let second = TcpListener::bind("127.0.0.1:81").unwrap();
        let (one, two) = (inode_of(&listener), inode_of(&second));
        let owners = owners_of_inodes(&[one, two, u32::MAX].into());
        assert_eq!(owners.len(), 2);
        let pids = |inode| owners[inode].iter().map(|owner| owner.pid).collect::<Vec<_>>();
        assert_eq!([pids(&one), pids(&two)], [[std::process::id()], [std::process::id()]]);
        assert!(!owners[&one][0].name.is_empty() && !owners[&two][0].command_line.is_empty());
    });
}

#[test]
fn a_process_that_becomes_its_program_is_described_as_that() {
    let called = |command_line: &str| Process { pid: 7, name: "x".into(), command_line: command_line.into() };
    let mut seen = ["", "conmon -c id"].into_iter();
    assert_eq!(settled(|| called(seen.next().unwrap())).command_line, "conmon -c id");
    // One that has its program already is asked once.
    let mut seen = ["sleep 1"].into_iter();
    assert_eq!(settled(|| called(seen.next().unwrap())).command_line, "sleep 1");
}

#[test]
fn parents_have_started_this_and_children_have_not() {
    assert!(has_started(std::process::id()));
    assert!(has_started(kin_of(std::process::id()).unwrap().parent));
    let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
    assert!(!has_started(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}
