//! What the kernel tells of links, addresses and settings as they change (rtnetlink(7), `RTNLGRP_*`).

use super::kernel::*;
use super::reading::{u32_in, u32_of};
use super::{Address, Link, address, link};
use crate::model::attributes::find;
use crate::sys::SysError;
use crate::sys::netlink::{Monitor, Protocol};

/// `RTNLGRP_LINK`, `_TC`, `_IPV4_IFADDR`, `_IPV6_IFADDR`, `_IPV4_NETCONF`, `_IPV6_NETCONF` (`linux/rtnetlink.h`).
const GROUPS: [u32; 6] = [1, 4, 5, 9, 24, 25];
/// `RTNLGRP_IPV4_ROUTE` and `_IPV6_ROUTE`.
const ROUTES: [u32; 2] = [7, 11];
/// `RTM_NEWNETCONF`.
const RTM_NEWNETCONF: u16 = 80;
/// `NETCONFA_IFINDEX`, `NETCONFA_FORWARDING` (`linux/netconf.h`).
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`.
const EVERY_INTERFACE: i32 = -1;
/// `AF_BRIDGE`: what a bridge tells of its ports.
const AF_BRIDGE: u8 = 7;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A link is there, or is otherwise than before.
    Link(Link),
    /// A link is gone.
    NoLink(Link),
    /// A link is no port of a bridge any more.
    NoPort(Link),
    /// An address is gone.
    NoAddress(Address),
    /// A route is gone. Told to those who have asked for it ([`hear_routes`]).
    NoRoute {
        /// The index of the link that it led over.
        index: u32,
    },
    /// Whether the host forwards packets of a family (`AF_INET`, `AF_INET6`), as it is now.
    Forwarding {
        /// `AF_INET` or `AF_INET6`.
        family: u8,
        /// Whether it does.
        on: bool,
    },
    /// A queueing discipline of a link is gone.
    NoQdisc {
        /// The link's index.
        index: u32,
    },
}

/// Listens to all changes of the calling thread's namespace.
///
/// # Errors
/// As [`Monitor::open`].
pub fn monitor() -> Result<Monitor, SysError> {
    Monitor::open(Protocol::Route, &GROUPS)
}

/// Listens to changes of routes as well. A router has many, which are none of the host's containers.
///
/// # Errors
/// As [`Monitor::join`].
pub fn hear_routes(monitor: &Monitor) -> Result<(), SysError> {
    ROUTES.iter().try_for_each(|group| monitor.join(*group))
}

/// Reads a notification; `None` where it is of no interest here.
pub fn notice(kind: u16, body: &[u8]) -> Option<Notice> {
    let of_bridge = body.first() == Some(&AF_BRIDGE);
    match kind {
        RTM_NEWLINK if !of_bridge => link::parse(body).map(Notice::Link),
        RTM_DELLINK if of_bridge => link::parse(body).map(Notice::NoPort),
        RTM_DELLINK => link::parse(body).map(Notice::NoLink),
        RTM_DELADDR => address::parse(body).map(Notice::NoAddress),
        RTM_DELROUTE => {
            // RTA_OIF, after `struct rtmsg`.
            find(body.get(12..)?, 4).and_then(u32_of).map(|index| Notice::NoRoute { index })
        }
        RTM_DELQDISC => u32_in(body, 4).map(|index| Notice::NoQdisc { index }),
        RTM_NEWNETCONF => {
            let attributes = body.get(4..)?;
            let index = find(attributes, NETCONFA_IFINDEX).and_then(u32_of)?.cast_signed();
            let on = find(attributes, NETCONFA_FORWARDING).and_then(u32_of)? != 0;
            (index == EVERY_INTERFACE).then_some(Notice::Forwarding { family: *body.first()?, on })
        }
        _ => None,
    }
}
