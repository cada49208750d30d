//! Making a veth pair with one end in another namespace, where it stays: to move an end costs 15 ms, to make it there nothing.

use std::os::fd::{AsFd, AsRawFd};

use crate::model::MacAddress;
use crate::model::attributes::Attributes;
use crate::sys::Netns;
use crate::sys::netlink::{CREATE, EXCL, Message};

use super::kernel::*;
use super::link::link_header;

/// A veth pair to be made.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// The name of the end on this side.
    pub name: &'a str,
    /// Its index, where the caller chooses it and so saves a look-up.
    pub index: Option<u32>,
    /// Its address.
    pub mac: Option<MacAddress>,
    /// The bridge to make it a port of.
    pub master: Option<u32>,
    /// Its interface group.
    pub group: Option<u32>,
    /// Whether this end is up at once. The other never is: the kernel refuses that (`ENOTCONN`).
    pub up: bool,
    /// The namespace of the other end; `None` for this one.
    pub netns: Option<&'a Netns>,
    /// The other end's name.
    pub peer_name: &'a str,
    /// The other end's index, where the caller chooses it. The kernel heeds it only where `index` is chosen too.
    pub peer_index: Option<u32>,
    /// The other end's address.
    pub peer_mac: Option<MacAddress>,
    /// The MTU of both ends.
    pub mtu: Option<u32>,
    /// How many packets the transmit queues of both ends hold.
    pub tx_queue_len: Option<u32>,
}

/// Makes a veth pair in one message, with one queue an end (the default, one for each CPU, costs 200 µs and more).
///
/// Refused with `EEXIST` where a name is taken on either side, and with `EEXIST` or `EBUSY` where a chosen index is.
pub fn create_veth(veth: &Veth<'_>) -> Message {
    let flags = if veth.up { IFF_UP } else { 0 };
    let index = veth.index.unwrap_or_default();
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, index, flags, flags));
    put_end(&mut attributes, veth, veth.name, veth.mac);
    if let Some(master) = veth.master {
        attributes.put_u32(IFLA_MASTER, master);
    }
    if let Some(group) = veth.group {
        attributes.put_u32(IFLA_GROUP, group);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, "veth");
        info.nest(IFLA_INFO_DATA, |data| {
            let peer = link_header(AF_UNSPEC, veth.peer_index.unwrap_or_default(), 0, 0);
            data.nest_after(VETH_INFO_PEER, &peer, |peer| {
                put_end(peer, veth, veth.peer_name, veth.peer_mac);
                if let Some(netns) = veth.netns {
                    peer.put(IFLA_NET_NS_FD, &netns.as_fd().as_raw_fd().to_ne_bytes());
                }
            });
        });
    });
    let bytes = attributes.into_bytes();
    Message::new(RTM_NEWLINK, CREATE | EXCL, bytes, "create the veth pair", veth.name)
}

fn put_end(attributes: &mut Attributes, veth: &Veth<'_>, name: &str, mac: Option<MacAddress>) {
    attributes.put_str(IFLA_IFNAME, name);
    attributes.put_u32(IFLA_NUM_TX_QUEUES, 1);
    attributes.put_u32(IFLA_NUM_RX_QUEUES, 1);
    if let Some(mac) = mac {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = veth.mtu {
        attributes.put_u32(IFLA_MTU, mtu);
    }
    if let Some(length) = veth.tx_queue_len {
        attributes.put_u32(IFLA_TXQLEN, length);
    }
}
