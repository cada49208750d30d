//! Reading links.

use crate::model::MacAddress;
use crate::model::attributes::{Attributes, find, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::kernel::*;
use super::reading::{text_of, u8_of, u16_of, u32_in, u32_of, u64_of};
use nix::errno::Errno;

/// The size of `ifinfomsg`.
const HEADER: usize = 16;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its driver's name (`IFLA_INFO_KIND`): `bridge`, `veth`; hardware has none.
    pub kind: Option<String>,
    /// Its Ethernet address, where it has one.
    pub mac: Option<MacAddress>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `IFF_*`.
    pub flags: u32,
    /// The index of the bridge (or bond, VRF) that it belongs to.
    pub master: Option<u32>,
    /// Its interface group.
    pub group: u32,
    /// `IFLA_LINK`: the other end of a veth pair, in that end's namespace; the lower device of a VLAN.
    pub peer: Option<u32>,
    /// Whether `peer` counts in another namespace (`IFLA_LINK_NETNSID`).
    pub peer_elsewhere: bool,
    /// `IF_OPER_*` (RFC 2863): 6 is up.
    pub oper_state: u8,
    /// Whether the lower layer has a carrier.
    pub carrier: bool,
    /// How many asked for promiscuous mode: the flag, bridges, packet sockets (`IFLA_PROMISCUITY`).
    pub promiscuity: u32,
    /// The administrator's note on it.
    pub alias: Option<String>,
    /// Packets that the transmit queue holds.
    pub tx_queue_len: u32,
    /// What it is as a port of a bridge.
    pub port: Option<BridgePort>,
    /// What it is as a bridge.
    pub bridge: Option<BridgeInfo>,
    /// Its mode (`enum macvlan_mode`), where it is a macvlan device.
    pub macvlan_mode: Option<u32>,
    /// Its VLAN, where it is a VLAN device.
    pub vlan_id: Option<u16>,
    /// Whether a program of XDP sees what comes in first.
    pub xdp: bool,
    /// What has passed.
    pub traffic: Option<Traffic>,
}

/// What has passed a link since it was made (`rtnl_link_stats64`, `linux/if_link.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets received by it.
    pub rx_packets: u64,
    /// Packets sent by it.
    pub tx_packets: u64,
    /// Bytes received by it.
    pub rx_bytes: u64,
    /// Bytes sent by it.
    pub tx_bytes: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Packets that could not be sent.
    pub tx_dropped: u64,
}

impl Link {
    /// Whether it is administratively up (`IFF_UP`).
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether the promiscuous flag itself is set (`IFF_PROMISC`).
    pub fn is_promisc(&self) -> bool {
        self.flags & IFF_PROMISC != 0
    }

    /// Whether it takes every multicast packet (`IFF_ALLMULTI`).
    pub fn is_allmulti(&self) -> bool {
        self.flags & IFF_ALLMULTI != 0
    }

    /// Whether packets pass (`IF_OPER_UP`, or `IF_OPER_UNKNOWN` with the carrier on).
    pub fn is_operational(&self) -> bool {
        self.oper_state == 6 || (self.oper_state == 0 && self.carrier)
    }
}

/// The options of a bridge's port (`IFLA_BRPORT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgePort {
    /// Spanning tree state: 3 is forwarding.
    pub state: u8,
    /// Whether packets may leave through the port that they came in by.
    pub hairpin: bool,
    /// Whether it may speak to other isolated ports only through none of them.
    pub isolated: bool,
    /// Whether the bridge answers ARP and ND for it.
    pub neigh_suppress: bool,
}

/// The options of a bridge (`IFLA_BR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgeInfo {
    /// Whether VLANs are told apart.
    pub vlan_filtering: bool,
    /// The VLAN of untagged packets on new ports, 0 for none.
    pub default_pvid: u16,
    /// Whether multicast goes only where it is listened to.
    pub multicast_snooping: bool,
}

/// The link of a name, or `None`.
///
/// # Errors
/// Where the kernel refuses for another reason than that there is none.
pub fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, SysError> {
    let message = get(0, Some(name), name.to_owned());
    Ok(socket.get(&message)?.and_then(|answer| parse(&answer.body)))
}

/// The link of an index, or `None`.
///
/// # Errors
/// Where the kernel refuses for another reason than that there is none.
pub fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, SysError> {
    let message = get(index, None, format!("number {index}"));
    Ok(socket.get(&message)?.and_then(|answer| parse(&answer.body)))
}

/// How many ports a bridge has: roughly, where links come and go all the time.
///
/// # Errors
/// As [`Socket::dump_roughly`].
pub fn count_ports(socket: &mut Socket, bridge: u32) -> Result<usize, SysError> {
    let is_port = |body: &[u8]| parse(body).filter(|link| link.master == Some(bridge)).map(drop);
    Ok(socket.dump_roughly(&list(Some(bridge)), |_, body| is_port(body))?.len())
}

/// The links of an interface group.
///
/// # Errors
/// As [`Socket::dump`].
pub fn links_in_group(socket: &mut Socket, group: u32) -> Result<Vec<Link>, SysError> {
    Ok(all_links(socket)?.into_iter().filter(|link| link.group == group).collect())
}

/// Every link of the namespace.
///
/// # Errors
/// As [`Socket::dump`].
pub fn all_links(socket: &mut Socket) -> Result<Vec<Link>, SysError> {
    dump(socket, None)
}

fn get(index: u32, name: Option<&str>, object: String) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, index, 0, 0));
    if let Some(name) = name {
        attributes.put_str(IFLA_IFNAME, name);
    }
    attributes.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    Message::new(RTM_GETLINK, 0, attributes.into_bytes(), "look up the interface", object)
        .tolerating(Errno::ENODEV)
}

fn dump(socket: &mut Socket, master: Option<u32>) -> Result<Vec<Link>, SysError> {
    socket.dump_as(&list(master), |_, body| parse(body))
}

fn list(master: Option<u32>) -> Message {
    let mut attributes = Attributes::after(&link_header(AF_UNSPEC, 0, 0, 0));
    if let Some(master) = master {
        attributes.put_u32(IFLA_MASTER, master);
    }
    attributes.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    Message::new(RTM_GETLINK, 0, attributes.into_bytes(), "list", "the interfaces")
}

/// `ifinfomsg`: family, index, flags and which of them to change.
pub(super) fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

pub(super) fn parse(body: &[u8]) -> Option<Link> {
    let mut link = Link { index: u32_in(body, 4)?, flags: u32_in(body, 8)?, ..Link::default() };
    for (kind, value) in iterate(body.get(HEADER..)?) {
        match kind {
            IFLA_IFNAME => link.name = text_of(value),
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(MacAddress),
            IFLA_MTU => link.mtu = u32_of(value)?,
            IFLA_LINK => link.peer = u32_of(value).filter(|index| *index != 0),
            IFLA_LINK_NETNSID => link.peer_elsewhere = true,
            IFLA_MASTER => link.master = u32_of(value).filter(|index| *index != 0),
            IFLA_GROUP => link.group = u32_of(value)?,
            IFLA_XDP => link.xdp = find(value, IFLA_XDP_ATTACHED).and_then(u8_of).unwrap_or(0) != 0,
            IFLA_OPERSTATE => link.oper_state = u8_of(value)?,
            IFLA_CARRIER => link.carrier = u8_of(value)? != 0,
            IFLA_PROMISCUITY => link.promiscuity = u32_of(value)?,
            IFLA_IFALIAS => link.alias = Some(text_of(value)),
            IFLA_TXQLEN => link.tx_queue_len = u32_of(value)?,
            IFLA_LINKINFO => parse_info(&mut link, value),
            IFLA_STATS64 => link.traffic = parse_traffic(value),
            _ => {}
        }
    }
    Some(link)
}

fn parse_traffic(value: &[u8]) -> Option<Traffic> {
    let number = |at: usize| u64_of(value.get(at * 8..)?);
    Some(Traffic {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_bytes: number(2)?,
        tx_bytes: number(3)?,
        rx_dropped: number(6)?,
        tx_dropped: number(7)?,
    })
}

fn parse_info(link: &mut Link, info: &[u8]) {
    link.kind = find(info, IFLA_INFO_KIND).map(text_of);
    if let Some(data) = find(info, IFLA_INFO_DATA) {
        match link.kind.as_deref() {
            Some("bridge") => link.bridge = Some(parse_bridge(data)),
            Some("macvlan") => link.macvlan_mode = find(data, IFLA_MACVLAN_MODE).and_then(u32_of),
            Some("vlan") => link.vlan_id = find(data, IFLA_VLAN_ID).and_then(u16_of),
            _ => {}
        }
    }
    let port_of_bridge = find(info, IFLA_INFO_SLAVE_KIND).map(text_of).as_deref() == Some("bridge");
    if let Some(data) = find(info, IFLA_INFO_SLAVE_DATA).filter(|_| port_of_bridge) {
        link.port = Some(BridgePort {
            state: find(data, IFLA_BRPORT_STATE).and_then(u8_of).unwrap_or_default(),
            hairpin: flag(data, IFLA_BRPORT_MODE),
            isolated: flag(data, IFLA_BRPORT_ISOLATED),
            neigh_suppress: flag(data, IFLA_BRPORT_NEIGH_SUPPRESS),
        });
    }
}

fn parse_bridge(data: &[u8]) -> BridgeInfo {
    BridgeInfo {
        vlan_filtering: flag(data, IFLA_BR_VLAN_FILTERING),
        default_pvid: find(data, IFLA_BR_VLAN_DEFAULT_PVID).and_then(u16_of).unwrap_or_default(),
        multicast_snooping: flag(data, IFLA_BR_MCAST_SNOOPING),
    }
}

fn flag(data: &[u8], kind: u16) -> bool {
    find(data, kind).and_then(u8_of).is_some_and(|value| value != 0)
}
