//! Changing links.

use nix::errno::Errno;

use crate::model::MacAddress;
use crate::model::attributes::Attributes;
use crate::sys::netlink::Message;

use super::kernel::*;
use super::link::link_header;

/// Which link is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTarget<'a> {
    /// The one of this index.
    Index(u32),
    /// The one of this name.
    Name(&'a str),
}

impl LinkTarget<'_> {
    /// The run of attributes that a message about the link starts with.
    pub(super) fn start(self, flags: u32, change: u32) -> Attributes {
        match self {
            Self::Index(index) => Attributes::after(&link_header(AF_UNSPEC, index, flags, change)),
            Self::Name(name) => {
                let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, flags, change));
                attributes.put_str(IFLA_IFNAME, name);
                attributes
            }
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Index(index) => format!("number {index}"),
            Self::Name(name) => name.to_owned(),
        }
    }
}

/// An IPv4 option of a device that travels with a link message (`IPV4_DEVCONF_*`, `linux/ip.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Devconf {
    /// `proxy_arp`.
    ProxyArp = 3,
    /// `rp_filter`.
    RpFilter = 8,
    /// `arp_ignore`.
    ArpIgnore = 19,
    /// `arp_notify`: announce the address when the device comes up or its MAC is set.
    ArpNotify = 22,
    /// `route_localnet`: 127.0.0.0/8 may be routed.
    RouteLocalnet = 26,
}

/// What to change of a link; what is left `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address. Set once more to the same value, with `arp_notify` on, it announces the addresses.
    pub mac: Option<MacAddress>,
    /// The bridge to belong to, 0 for none.
    pub master: Option<u32>,
    /// Interface group.
    pub group: Option<u32>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// Every multicast packet.
    pub allmulti: Option<bool>,
    /// Packets that the transmit queue holds.
    pub tx_queue_len: Option<u32>,
    /// A new name, where the link is meant by index.
    pub name: Option<&'a str>,
    /// IPv4 options.
    pub devconf: &'a [(Devconf, u32)],
    /// Whether it makes itself no IPv6 link-local address (`IN6_ADDR_GEN_MODE_NONE`).
    pub no_link_local: bool,
}

impl LinkChange<'_> {
    fn flags(&self) -> (u32, u32) {
        let wanted = [(self.up, IFF_UP), (self.promisc, IFF_PROMISC), (self.allmulti, IFF_ALLMULTI)];
        let mut flags = 0;
        let mut change = 0;
        for (value, flag) in wanted {
            if let Some(on) = value {
                change |= flag;
                flags |= if on { flag } else { 0 };
            }
        }
        (flags, change)
    }
}

impl LinkChange<'_> {
    /// The options of single families, under `IFLA_AF_SPEC`.
    fn put_families(&self, spec: &mut Attributes) {
        if !self.devconf.is_empty() {
            spec.nest(u16::from(AF_INET), |inet| {
                inet.nest(IFLA_INET_CONF, |conf| {
                    for (option, value) in self.devconf {
                        conf.put_u32(*option as u16, *value);
                    }
                });
            });
        }
        if self.no_link_local {
            spec.nest(u16::from(AF_INET6), |inet6| {
                inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        }
    }
}

/// Has a link make itself no link-local address; fine where the kernel has no IPv6, and so makes none.
pub fn without_link_local(target: LinkTarget<'_>) -> Message {
    let change = LinkChange { no_link_local: true, ..LinkChange::default() };
    set_link(target, &change).tolerating(Errno::EAFNOSUPPORT)
}

/// Changes a link; refused with `ENODEV` where it is not there.
pub fn set_link(target: LinkTarget<'_>, change: &LinkChange<'_>) -> Message {
    let (flags, mask) = change.flags();
    let mut attributes = target.start(flags, mask);
    if let (LinkTarget::Index(_), Some(name)) = (target, change.name) {
        attributes.put_str(IFLA_IFNAME, name);
    }
    if let Some(mac) = change.mac {
        attributes.put(IFLA_ADDRESS, &mac.0);
    }
    let numbers = [
        (IFLA_MTU, change.mtu),
        (IFLA_MASTER, change.master),
        (IFLA_GROUP, change.group),
        (IFLA_TXQLEN, change.tx_queue_len),
    ];
    for (kind, value) in numbers {
        if let Some(value) = value {
            attributes.put_u32(kind, value);
        }
    }
    if change.no_link_local || !change.devconf.is_empty() {
        attributes.nest(IFLA_AF_SPEC, |spec| change.put_families(spec));
    }
    Message::new(RTM_SETLINK, 0, attributes.into_bytes(), "change the interface", target.text())
}
