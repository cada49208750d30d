//! Making links, and taking them away.

use nix::errno::Errno;

use crate::model::MacAddress;
use crate::model::attributes::Attributes;
use crate::sys::netlink::{CREATE, EXCL, Message};

use super::kernel::*;
use super::link::link_header;

/// A bridge to be made.
#[derive(Debug, Clone)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index, where the caller chooses it.
    pub index: Option<u32>,
    /// Its address. Given here it is pinned: the kernel no longer takes the lowest of the ports'.
    pub mac: Option<MacAddress>,
    /// Its MTU. The bridge starts with it and then follows the smallest of its ports'. To pin one, leave this `None` and
    /// set the MTU by [`set_link`](super::set_link), which the kernel heeds where it differs from the 1,500 of a new bridge.
    pub mtu: Option<u32>,
    /// Its interface group.
    pub group: Option<u32>,
    /// Whether it tells VLANs apart.
    pub vlan_filtering: bool,
    /// The VLAN of untagged packets on new ports, where not the kernel's 1; 0 for none.
    pub default_pvid: Option<u16>,
    /// Whether it learns who listens to a multicast group, and keeps timers for that; else multicast goes to all ports.
    pub multicast_snooping: bool,
    /// Whether it takes every packet.
    pub promisc: bool,
    /// Whether it is up at once.
    pub up: bool,
}

/// Makes a bridge; refused with `EEXIST` where the name or the index is taken.
pub fn create_bridge(bridge: &Bridge<'_>) -> Message {
    let mut flags = 0;
    if bridge.up {
        flags |= IFF_UP;
    }
    if bridge.promisc {
        flags |= IFF_PROMISC;
    }
    let index = bridge.index.unwrap_or_default();
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, index, flags, flags));
    attributes.put_str(IFLA_IFNAME, bridge.name);
    if let Some(mac) = bridge.mac {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = bridge.mtu {
        attributes.put_u32(IFLA_MTU, mtu);
    }
    if let Some(group) = bridge.group {
        attributes.put_u32(IFLA_GROUP, group);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, "bridge");
        info.nest(IFLA_INFO_DATA, |data| {
            data.put_u8(IFLA_BR_MCAST_SNOOPING, u8::from(bridge.multicast_snooping));
            if bridge.vlan_filtering {
                data.put_u8(IFLA_BR_VLAN_FILTERING, 1);
            }
            if let Some(pvid) = bridge.default_pvid {
                data.put_u16(IFLA_BR_VLAN_DEFAULT_PVID, pvid);
            }
        });
    });
    create(attributes, "create the bridge", bridge.name)
}

/// Makes an intermediate functional block device, where what comes in can be queued as if it went out; up at once.
pub fn create_ifb(name: &str, group: Option<u32>, mtu: Option<u32>, mac: Option<MacAddress>) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP));
    attributes.put_str(IFLA_IFNAME, name);
    attributes.put_u32(IFLA_NUM_TX_QUEUES, 1);
    attributes.put_u32(IFLA_NUM_RX_QUEUES, 1);
    if let Some(mac) = mac {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    if let Some(group) = group {
        attributes.put_u32(IFLA_GROUP, group);
    }
    if let Some(mtu) = mtu {
        attributes.put_u32(IFLA_MTU, mtu);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, "ifb");
    });
    create(attributes, "create the shaping device", name)
}

/// Makes a VLAN device over `lower`; up at once. Refused with `EOPNOTSUPP` where the kernel lacks 802.1Q.
pub fn create_vlan(name: &str, lower: u32, vlan: u16, group: Option<u32>) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, IFF_UP, IFF_UP));
    attributes.put_str(IFLA_IFNAME, name);
    attributes.put_u32(IFLA_LINK, lower);
    if let Some(group) = group {
        attributes.put_u32(IFLA_GROUP, group);
    }
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_KIND, "vlan");
        info.nest(IFLA_INFO_DATA, |data| {
            data.put_u16(IFLA_VLAN_ID, vlan);
        });
    });
    create(attributes, "create the VLAN device", name)
}

/// Deletes a link; that it is gone already (`ENODEV`) is as good.
pub fn delete_link(index: u32) -> Message {
    let attributes = Attributes::after(&link_header(AF_UNSPEC, index, 0, 0));
    delete(attributes, format!("number {index}"))
}

/// Deletes the link of a name; that it is gone already (`ENODEV`) is as good.
pub fn delete_link_named(name: &str) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, 0, 0));
    attributes.put_str(IFLA_IFNAME, name);
    delete(attributes, name.to_owned())
}

/// Deletes every link of an interface group at the price of one; that there is none is as good. Refused as a whole
/// (`EOPNOTSUPP`) where the group holds a link that cannot be deleted.
pub fn delete_group(group: u32) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, 0, 0));
    attributes.put_u32(IFLA_GROUP, group);
    delete(attributes, format!("of group {group:#x}"))
}

fn create(attributes: Attributes, action: &'static str, name: &str) -> Message {
    Message::new(RTM_NEWLINK, CREATE | EXCL, attributes.into_bytes(), action, name)
}

fn delete(attributes: Attributes, object: String) -> Message {
    Message::new(RTM_DELLINK, 0, attributes.into_bytes(), "delete the interface", object)
        .tolerating(Errno::ENODEV)
}
