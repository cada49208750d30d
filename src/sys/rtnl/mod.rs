//! Links, addresses, routes, neighbours and queueing disciplines: builders that return [`Message`]s, to be sent in
//! batches through a [`Socket`], and typed queries. Kernel: `rtnetlink(7)`, `include/uapi/linux/if_link.h`.
//!
//! [`Message`]: super::netlink::Message
//! [`Socket`]: super::netlink::Socket

mod address;
mod bridge;
mod create;
mod glance;
mod kernel;
mod link;
mod macvlan;
mod neighbour;
mod netconf;
mod notice;
mod reading;
mod route;
mod rule;
mod set;
mod tc;
mod tc_query;
mod veth;

pub use address::{Address, AddressSpec, add_address, addresses, delete_address};
pub use bridge::{BridgeVlan, PortChange, VlanFlags, add_vlans, delete_vlans, set_port, vlans};
pub use create::{
    Bridge, create_bridge, create_ifb, create_vlan, delete_group, delete_link, delete_link_named,
};
pub use glance::{Glance, glance, index_of, is_there, notice_carrier};
pub use link::{
    BridgeInfo, BridgePort, Link, Traffic, all_links, count_ports, link_by_index, link_by_name,
    links_in_group,
};
pub use macvlan::{MacvlanDevice, create_macvlan};
pub use neighbour::{Neighbour, neighbours};
pub use netconf::forwards;
pub use notice::{Notice, hear_routes, monitor, notice};
pub use route::{
    FoundRoute, NextHop, RouteFilter, RouteMode, RouteQuery, RouteSpec, add_route, delete_route,
    route_lookup, route_packet, routes,
};
pub use rule::{Rule, add_rule, delete_rule, rules};
pub use set::{Devconf, LinkChange, LinkTarget, set_link, without_link_local};
pub use tc::{ShapedRate, add_ingress, delete_ingress, delete_root, redirect_ingress, set_tbf};
pub use tc_query::{Qdisc, Redirect, filter_kinds, filtered_links, ingress_links, qdiscs, redirects};
pub use veth::{Veth, create_veth};

#[cfg(test)]
mod tests;
