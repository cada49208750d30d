//! Making a macvlan device, in another namespace at once.

use std::os::fd::{AsFd, AsRawFd};

use crate::model::MacAddress;
use crate::model::attributes::Attributes;
use crate::sys::Netns;
use crate::sys::netlink::{CREATE, EXCL, Message};

use super::kernel::*;
use super::link::link_header;

/// A macvlan device to be made.
#[derive(Debug, Clone)]
pub struct MacvlanDevice<'a> {
    /// Its name. The kernel looks for a device of the same name in the namespace of the lower one too.
    pub name: &'a str,
    /// The index of the device below.
    pub lower: u32,
    /// Its address.
    pub mac: MacAddress,
    /// Its mode (`enum macvlan_mode`).
    pub mode: u32,
    /// Its MTU; the lower device's where it is missing.
    pub mtu: Option<u32>,
    /// Broadcast packets that may wait at the lower device.
    pub broadcast_queue: Option<u32>,
    /// Its interface group.
    pub group: u32,
    /// Its namespace; `None` for that of the lower device.
    pub netns: Option<&'a Netns>,
}

/// Makes a macvlan device, down; refused with `EEXIST` where the name is taken, with `EINVAL` where the lower device is
/// passed through to another, and with `EOPNOTSUPP` where the kernel lacks the driver.
pub fn create_macvlan(device: &MacvlanDevice<'_>) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, 0, 0));
    attributes.put_str(IFLA_IFNAME, device.name);
    attributes.put_u32(IFLA_LINK, device.lower);
    attributes.put(IFLA_ADDRESS, &device.mac.0);
    attributes.put_u32(IFLA_GROUP, device.group);
    if let Some(mtu) = device.mtu {
        attributes.put_u32(IFLA_MTU, mtu);
    }
    if let Some(netns) = device.netns {
        attributes.put(IFLA_NET_NS_FD, &netns.as_fd().as_raw_fd().to_ne_bytes());
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, "macvlan");
        info.nest(IFLA_INFO_DATA, |data| {
            data.put_u32(IFLA_MACVLAN_MODE, device.mode);
            if let Some(length) = device.broadcast_queue {
                data.put_u32(IFLA_MACVLAN_BC_QUEUE_LEN, length);
            }
        });
    });
    let bytes = attributes.into_bytes();
    Message::new(RTM_NEWLINK, CREATE | EXCL, bytes, "create the macvlan device", device.name)
}
