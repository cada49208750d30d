use super::*;
use crate::sys::rtnl::{self, Bridge, LinkChange, LinkTarget};
use crate::sys::testing::{another, isolated};

fn bridge(name: &str) -> Message {
    rtnl::create_bridge(&Bridge {
        name,
        index: None,
        mac: None,
        mtu: None,
        group: None,
        vlan_filtering: false,
        multicast_snooping: false,
        default_pvid: None,
        promisc: false,
        up: false,
    })
}

fn missing(name: &str) -> Message {
    rtnl::set_link(LinkTarget::Name(name), &LinkChange { up: Some(true), ..LinkChange::default() })
}

#[test]
fn a_batch_answers_in_order_and_goes_on_after_a_refusal() {
    isolated(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let answers =
            socket.batch(&[bridge("a"), bridge("a"), missing("gone"), bridge("b"), bridge("b")]).unwrap();
        let errnos: Vec<_> = answers.iter().map(|a| a.as_ref().map(|r| r.errno)).collect();
        let (exists, gone) = (Some(Errno::EEXIST), Some(Errno::ENODEV));
        assert_eq!(errnos, [None, exists, gone, None, exists]);
        assert!(rtnl::link_by_name(&mut socket, "b").unwrap().is_some());
    });
}

#[test]
fn a_batch_longer_than_the_receive_buffer_loses_no_answer() {
    isolated(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let many: Vec<_> = (0..1000).map(|n| missing(&format!("gone{n}"))).collect();
        let answers = socket.batch(&many).unwrap();
        assert!(answers.iter().all(|a| a.as_ref().is_some_and(|r| r.errno == Errno::ENODEV)));
        socket.transact(&[bridge("after")]).unwrap();
        assert!(socket.batch(&[]).unwrap().is_empty());
    });
}

#[test]
fn a_refusal_names_its_message_and_carries_the_kernels_words() {
    isolated(|| {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        socket.transact(&[bridge("a"), bridge("a").tolerating(Errno::EEXIST)]).unwrap();
        let error = socket.transact(&[missing("gone")]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
        assert_eq!(error.to_string(), "cannot change the interface gone: No such device");
        // The kernel explains an MTU that is out of range.
        let far = LinkChange { mtu: Some(1_000_000), ..LinkChange::default() };
        let error = socket.transact(&[rtnl::set_link(LinkTarget::Name("a"), &far)]).unwrap_err();
        assert!(error.to_string().contains("(mtu greater than device maximum)"), "{error}");
    });
}

#[test]
fn a_socket_keeps_to_the_namespace_it_was_opened_in() {
    isolated(|| {
        let other = another();
        let mut there = Socket::open_in(&other, Protocol::Route).unwrap();
        there.transact(&[bridge("there")]).unwrap();
        let mut here = Socket::open(Protocol::Route).unwrap();
        assert!(rtnl::link_by_name(&mut here, "there").unwrap().is_none());
        assert!(rtnl::link_by_name(&mut there, "there").unwrap().is_some());
    });
}
