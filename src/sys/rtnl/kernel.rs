//! The kernel's numbers, under the kernel's names less their common prefix where that is clear. The libc crate has
//! some of them, not all, and in mixed types.
//!
//! Sources: `include/uapi/linux/{rtnetlink,if_link,if_addr,if_bridge,neighbour,veth,ip}.h`.

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_GETNEIGH: u16 = 30;
pub(super) const RTM_NEWQDISC: u16 = 36;
pub(super) const RTM_DELQDISC: u16 = 37;
pub(super) const RTM_GETQDISC: u16 = 38;
pub(super) const RTM_NEWTFILTER: u16 = 44;
pub(super) const RTM_GETTFILTER: u16 = 46;
pub(super) const RTM_GETNETCONF: u16 = 82;
pub(super) const NETCONFA_IFINDEX: u16 = 1;
pub(super) const NETCONFA_FORWARDING: u16 = 2;
pub(super) const NETCONFA_IFINDEX_ALL: u32 = u32::MAX;

pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_APPEND: u16 = 0x800;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_TXQLEN: u16 = 13;
pub(super) const IFLA_OPERSTATE: u16 = 16;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_STATS64: u16 = 23;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_XDP: u16 = 43;
pub(super) const IFLA_XDP_ATTACHED: u16 = 2;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_EXT_MASK: u16 = 29;
pub(super) const IFLA_NUM_TX_QUEUES: u16 = 31;
pub(super) const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(super) const IFLA_CARRIER: u16 = 33;
pub(super) const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_PROMISCUITY: u16 = 30;

pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(super) const IFLA_INFO_SLAVE_DATA: u16 = 5;

pub(super) const VETH_INFO_PEER: u16 = 1;
pub(super) const IFLA_VLAN_ID: u16 = 1;

pub(super) const IFLA_MACVLAN_MODE: u16 = 1;
pub(super) const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;

pub(super) const IFLA_BR_VLAN_FILTERING: u16 = 7;
pub(super) const IFLA_BR_MCAST_SNOOPING: u16 = 23;
pub(super) const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;

pub(super) const IFLA_BRPORT_STATE: u16 = 1;
pub(super) const IFLA_BRPORT_MODE: u16 = 4;
pub(super) const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
pub(super) const IFLA_BRPORT_ISOLATED: u16 = 33;

pub(super) const IFLA_BRIDGE_FLAGS: u16 = 0;
pub(super) const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
pub(super) const BRIDGE_FLAGS_SELF: u16 = 2;
pub(super) const BRIDGE_VLAN_INFO_PVID: u16 = 2;
pub(super) const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 4;
pub(super) const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 8;
pub(super) const BRIDGE_VLAN_INFO_RANGE_END: u16 = 16;

pub(super) const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 4;
pub(super) const RTEXT_FILTER_SKIP_STATS: u32 = 8;

pub(super) const IFLA_INET_CONF: u16 = 1;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

pub(super) const IFF_UP: u32 = 0x1;
pub(super) const IFF_PROMISC: u32 = 0x100;
pub(super) const IFF_ALLMULTI: u32 = 0x200;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_BROADCAST: u16 = 4;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_F_NODAD: u32 = 0x02;
pub(super) const IFA_F_DADFAILED: u32 = 0x08;
pub(super) const IFA_F_NOPREFIXROUTE: u32 = 0x200;
pub(super) const IFA_F_TENTATIVE: u32 = 0x40;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_SRC: u16 = 2;
pub(super) const RTA_IIF: u16 = 3;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_METRICS: u16 = 8;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTA_MARK: u16 = 16;
pub(super) const RTAX_MTU: u16 = 2;
pub(super) const RTAX_ADVMSS: u16 = 8;
pub(super) const RT_TABLE_COMPAT: u8 = 252;
pub(super) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(super) const RT_SCOPE_LINK: u8 = 253;
pub(super) const RT_SCOPE_NOWHERE: u8 = 255;
pub(super) const RTPROT_KERNEL: u8 = 2;
pub(super) const RTPROT_STATIC: u8 = 4;
pub(super) const RTNH_F_ONLINK: u32 = 4;
pub(super) const RTM_F_CLONED: u32 = 0x200;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NDA_IFINDEX: u16 = 8;

/// How IPv6 link-local addresses are made (`linux/if_link.h`).
pub(super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(super) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
