//! Routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::Route;
use crate::model::attributes::{Attributes, find, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{CREATE, EXCL, Message, Socket};

use super::kernel::*;
use super::reading::{family_of, ip_of, octets, u32_in, u32_of, unspecified};

/// The size of `rtmsg`.
const HEADER: usize = 12;

/// A route to be made or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Destination, next hop, metrics, table, scope.
    pub route: Route,
    /// The link that it leaves by.
    pub oif: Option<u32>,
    /// Whether the next hop is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// Whether it stands for one that the kernel made itself (`RTPROT_KERNEL`).
    pub as_kernels: bool,
}

impl RouteSpec {
    /// A route out of a link.
    pub fn new(route: Route, oif: u32) -> Self {
        Self { route, oif: Some(oif), onlink: false, source: None, as_kernels: false }
    }
}

/// What to do where a route to the same destination is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteMode {
    /// Refuse with `EEXIST`.
    Exclusive,
    /// Take its place.
    Replace,
    /// Stand behind it; IPv6 uses both, where both have a next hop.
    Append,
    /// Stand before it (IPv4).
    Prepend,
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRoute {
    /// Destination; prefix length 0 for the default route.
    pub dst: IpNetwork,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// The link that it leaves by.
    pub oif: Option<u32>,
    /// Its next hops, where there are several.
    pub multipath: Vec<NextHop>,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// Metric.
    pub priority: u32,
    /// Routing table: 254 main, 255 local.
    pub table: u32,
    /// `rtm_scope`.
    pub scope: u8,
    /// `rtm_type`: 1 unicast, 2 local, 3 broadcast, 5 multicast, 6 blackhole, 7 unreachable.
    pub kind: u8,
    /// Who made it (`RTPROT_*`): 2 is the kernel.
    pub protocol: u8,
    /// Path MTU.
    pub mtu: Option<u32>,
    /// TCP maximum segment size to advertise.
    pub advmss: Option<u32>,
}

/// One next hop of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The link that it is on.
    pub oif: u32,
    /// Its address.
    pub gateway: Option<IpAddr>,
}

impl FoundRoute {
    /// `RTN_UNICAST`, the kind of one that leads somewhere.
    pub const UNICAST: u8 = 1;

    /// Whether its addresses are on a link of the host itself, as those of every address that an interface has: who
    /// deletes it cuts the host off from its neighbours, and from its gateway with them.
    pub fn is_connected(&self) -> bool {
        /// `RTPROT_KERNEL`.
        const KERNEL: u8 = 2;
        self.protocol == KERNEL
            || self.kind == Self::UNICAST && self.gateway.is_none() && self.multipath.is_empty()
    }

    /// The link that it leaves by; of several the first.
    pub fn first_link(&self) -> Option<u32> {
        self.oif.or_else(|| self.multipath.first().map(|hop| hop.oif))
    }

    /// Whether it leaves by a link, alone or among others.
    pub fn leaves_by(&self, link: u32) -> bool {
        self.oif == Some(link) || self.multipath.iter().any(|hop| hop.oif == link)
    }
}

/// Which routes to list; what is left `None` does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// IPv4 (`false`: IPv6).
    pub ipv4: Option<bool>,
    /// The link that they leave by.
    pub oif: Option<u32>,
    /// Their table.
    pub table: Option<u32>,
}

/// Makes a route.
pub fn add_route(spec: &RouteSpec, mode: RouteMode) -> Message {
    let flags = match mode {
        RouteMode::Exclusive => CREATE | EXCL,
        RouteMode::Replace => CREATE | NLM_F_REPLACE,
        RouteMode::Append => CREATE | NLM_F_APPEND,
        RouteMode::Prepend => CREATE,
    };
    let protocol = if spec.as_kernels { RTPROT_KERNEL } else { RTPROT_STATIC };
    let mut attributes = start(spec, protocol, FoundRoute::UNICAST);
    if let Some(source) = spec.source {
        attributes.put(RTA_PREFSRC, &octets(source));
    }
    if spec.route.mtu.is_some() || spec.route.advmss.is_some() {
        attributes.nest(RTA_METRICS, |metrics| {
            for (kind, value) in [(RTAX_MTU, spec.route.mtu), (RTAX_ADVMSS, spec.route.advmss)] {
                if let Some(value) = value {
                    metrics.put_u32(kind, value);
                }
            }
        });
    }
    Message::new(RTM_NEWROUTE, flags, attributes.into_bytes(), "add the route", words(&spec.route))
}

/// Deletes a route; that it is gone already (`ESRCH`) is as good.
pub fn delete_route(spec: &RouteSpec) -> Message {
    let attributes = start(spec, 0, 0);
    let object = words(&spec.route);
    Message::new(RTM_DELROUTE, 0, attributes.into_bytes(), "delete the route", object)
        .tolerating(Errno::ESRCH)
}

/// The route that a packet to `dst` would take; `None` where there is none.
///
/// # Errors
/// As [`Socket::get`].
pub fn route_lookup(socket: &mut Socket, dst: IpAddr) -> Result<Option<FoundRoute>, SysError> {
    let width = if dst.is_ipv4() { 32 } else { 128 };
    let mut attributes = Attributes::after(&[family_of(dst), width, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    attributes.put(RTA_DST, &octets(dst));
    let message =
        Message::new(RTM_GETROUTE, 0, attributes.into_bytes(), "look up the route to", dst.to_string())
            .tolerating(Errno::ENETUNREACH)
            .tolerating(Errno::EHOSTUNREACH)
            .tolerating(Errno::EACCES)
            .tolerating(Errno::EINVAL);
    Ok(socket.get(&message)?.and_then(|answer| parse(&answer.body)))
}

/// A packet to be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery {
    /// Its destination.
    pub to: IpAddr,
    /// Its source, where it has one already.
    pub from: Option<IpAddr>,
    /// The link that it comes in by; `None` for one that is made here.
    pub input: Option<u32>,
    /// Its mark.
    pub mark: u32,
}

/// What becomes of a packet as far as routes go: the kernel's own decision, checks of its source included; or its
/// refusal, as the errno that it would be dropped for.
///
/// # Errors
/// As [`Socket::get`].
pub fn route_packet(socket: &mut Socket, query: &RouteQuery) -> Result<Result<FoundRoute, Errno>, SysError> {
    let width = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let from_width = query.from.map_or(0, width);
    let header = [family_of(query.to), width(query.to), from_width, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut attributes = Attributes::after(&header);
    attributes.put(RTA_DST, &octets(query.to));
    if let Some(from) = query.from {
        attributes.put(RTA_SRC, &octets(from));
    }
    if let Some(input) = query.input {
        attributes.put_u32(RTA_IIF, input);
    }
    if query.mark != 0 {
        attributes.put_u32(RTA_MARK, query.mark);
    }
    let message =
        Message::new(RTM_GETROUTE, 0, attributes.into_bytes(), "look up the route to", query.to.to_string());
    match socket.get(&message) {
        Ok(answer) => Ok(answer.and_then(|answer| parse(&answer.body)).ok_or(Errno::ENETUNREACH)),
        // The kernel's answer to a packet that has no way.
        Err(error) => match error.errno() {
            Some(
                errno @ (Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::EACCES
                | Errno::EINVAL
                | Errno::EXDEV
                | Errno::ENETDOWN
                | Errno::ENONET),
            ) => Ok(Err(errno)),
            _ => Err(error),
        },
    }
}

/// The routes that a filter selects, cached ones left out.
///
/// # Errors
/// As [`Socket::dump`].
pub fn routes(socket: &mut Socket, filter: &RouteFilter) -> Result<Vec<FoundRoute>, SysError> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        if filter.ipv4.is_some_and(|ipv4| ipv4 != (family == AF_INET)) {
            continue;
        }
        let mut attributes = Attributes::after(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, value) in [(RTA_OIF, filter.oif), (RTA_TABLE, filter.table)] {
            if let Some(value) = value {
                attributes.put_u32(kind, value);
            }
        }
        // A table that nobody has used is none (ENOENT), a link that is gone is none (ENODEV), and so is a family that
        // the kernel lacks.
        let message = Message::new(RTM_GETROUTE, 0, attributes.into_bytes(), "list", "the routes")
            .tolerating(Errno::ENOENT)
            .tolerating(Errno::ENODEV)
            .tolerating(Errno::EOPNOTSUPP);
        let answers = socket.dump(&message)?;
        let uncached = answers.iter().filter(|a| u32_in(&a.body, 8).is_some_and(|f| f & RTM_F_CLONED == 0));
        // A kernel without IPv6 answers for IPv4.
        let same = uncached.filter(|answer| answer.body.first() == Some(&family));
        found.extend(same.filter_map(|answer| parse(&answer.body)).filter(|route| filter.selects(route)));
    }
    Ok(found)
}

impl RouteFilter {
    fn selects(&self, route: &FoundRoute) -> bool {
        self.table.is_none_or(|table| route.table == table) && self.oif.is_none_or(|oif| route.leaves_by(oif))
    }
}

/// `rtmsg` and what names the route.
fn start(spec: &RouteSpec, protocol: u8, kind: u8) -> Attributes {
    let route = &spec.route;
    let table = route.table.unwrap_or(Route::MAIN_TABLE);
    let deleting = kind == 0;
    let scope = match (route.scope, route.gw) {
        (Some(scope), _) => scope,
        (None, _) if deleting => RT_SCOPE_NOWHERE,
        // On the link itself, as iproute2 has it for IPv4; IPv6 knows no scopes of routes.
        (None, None) if route.dst.is_ipv4() => RT_SCOPE_LINK,
        (None, _) => RT_SCOPE_UNIVERSE,
    };
    let small = u8::try_from(table).unwrap_or(RT_TABLE_COMPAT);
    let [a, b, c, d] = if spec.onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes();
    let family = family_of(route.dst.ip());
    let header = [family, route.dst.prefix(), 0, 0, small, protocol, scope, kind, a, b, c, d];
    let mut attributes = Attributes::after(&header);
    if route.dst.prefix() != 0 {
        attributes.put(RTA_DST, &octets(route.dst.ip()));
    }
    if let Some(gw) = route.gw {
        attributes.put(RTA_GATEWAY, &octets(gw));
    }
    for (kind, value) in [(RTA_OIF, spec.oif), (RTA_PRIORITY, route.priority)] {
        if let Some(value) = value {
            attributes.put_u32(kind, value);
        }
    }
    if table > 255 {
        attributes.put_u32(RTA_TABLE, table);
    }
    attributes
}

fn parse(body: &[u8]) -> Option<FoundRoute> {
    let (family, prefix, table) = (*body.first()?, *body.get(1)?, u32::from(*body.get(4)?));
    let mut route = FoundRoute {
        dst: IpNetwork::new(unspecified(family), prefix).ok()?,
        gateway: None,
        oif: None,
        multipath: Vec::new(),
        source: None,
        priority: 0,
        table,
        scope: *body.get(6)?,
        kind: *body.get(7)?,
        protocol: *body.get(5)?,
        mtu: None,
        advmss: None,
    };
    for (kind, value) in iterate(body.get(HEADER..)?) {
        match kind {
            RTA_DST => route.dst = IpNetwork::new(ip_of(value)?, prefix).ok()?,
            RTA_GATEWAY => route.gateway = ip_of(value),
            RTA_OIF => route.oif = u32_of(value),
            RTA_PREFSRC => route.source = ip_of(value),
            RTA_PRIORITY => route.priority = u32_of(value)?,
            RTA_TABLE => route.table = u32_of(value)?,
            RTA_METRICS => {
                route.mtu = find(value, RTAX_MTU).and_then(u32_of);
                route.advmss = find(value, RTAX_ADVMSS).and_then(u32_of);
            }
            RTA_MULTIPATH => route.multipath = next_hops(value),
            _ => {}
        }
    }
    Some(route)
}

/// A run of `rtnexthop`: length, flags, hops, index, attributes.
fn next_hops(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let (Some(length), Some(oif)) = (bytes.first_chunk::<2>(), u32_in(bytes, 4)) {
        let length = usize::from(u16::from_ne_bytes(*length)).max(8);
        let gateway = bytes.get(8..length).and_then(|attributes| find(attributes, RTA_GATEWAY));
        hops.push(NextHop { oif, gateway: gateway.and_then(ip_of) });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn words(route: &Route) -> String {
    match route.gw {
        Some(gw) => format!("{} via {gw}", route.dst),
        None => route.dst.to_string(),
    }
}
