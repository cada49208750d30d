//! The routes of a container's interface.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::{Lease, Route};
use crate::plan::Interface;
use crate::sys::netlink::Message;
use crate::sys::rtnl::{self, FoundRoute, RouteFilter, RouteMode, RouteSpec};

use super::{Cause, Drift, Kernel};

/// By how much the metric of a route may be above what is asked for, since it waits behind others.
const BEHIND: u32 = 64;

/// The routes that come with the addresses' batch, its last messages: all but the few of
/// [`Kernel::add_further_routes`].
///
/// A second interface finds the first one's default route in its place, and is refused: see [`refused`].
pub(super) fn messages(step: &Interface, index: u32) -> impl Iterator<Item = Message> {
    specs(step, index).map(|spec| rtnl::add_route(&spec, RouteMode::Exclusive).tolerating(Errno::EEXIST))
}

fn specs(step: &Interface, index: u32) -> impl Iterator<Item = RouteSpec> {
    let ways = step.by_gateway.iter().flat_map(move |lease| {
        let source = Some(lease.address.ip());
        ways_by_gateway(lease).into_iter().map(move |way| RouteSpec { source, ..RouteSpec::new(way, index) })
    });
    let alone = (0..step.routes.len())
        .filter(|place| mode(step, *place) == RouteMode::Exclusive)
        .map(move |place| spec(step, &step.routes[place], index));
    ways.chain(alone)
}

/// The routes of [`messages`] that found another in their place: `places` are those of a batch of `all` messages.
pub(super) fn refused(step: &Interface, index: u32, all: usize, places: &[usize]) -> Vec<RouteSpec> {
    if places.is_empty() {
        return Vec::new();
    }
    let specs: Vec<RouteSpec> = specs(step, index).collect();
    let first = all.saturating_sub(specs.len());
    let is_refused = |place: usize| places.contains(&(first + place));
    specs.into_iter().enumerate().filter(|(place, _)| is_refused(*place)).map(|(_, spec)| spec).collect()
}

/// A route of the list. Where the gateway alone is on the link, the kernel takes a next hop behind it for none: one that is
/// in the subnet is on the link if the configuration says so.
fn spec(step: &Interface, route: &Route, index: u32) -> RouteSpec {
    let is_behind = |gw| {
        step.by_gateway.iter().any(|lease| lease.address.contains(gw))
            && !step.by_gateway.iter().any(|lease| lease.gateway == Some(gw))
    };
    RouteSpec { onlink: route.gw.is_some_and(is_behind), ..RouteSpec::new(route.clone(), index) }
}

/// How a route of the list has to be made: `Exclusive` unless it finds one of this very interface in its place.
///
/// What the list has first is what is used first, and a written route to the subnet goes before the kernel's own, or
/// it would never be used.
fn mode(step: &Interface, place: usize) -> RouteMode {
    let route = &step.routes[place];
    let earlier = &step.routes[..place];
    if earlier.iter().any(|one| one.is_beside(route)) {
        RouteMode::Append
    } else if route.dst.is_ipv4()
        && subnets_by_link(step).any(|subnet| Route::via(subnet, None).is_beside(route))
    {
        RouteMode::Prepend
    } else {
        RouteMode::Exclusive
    }
}

/// The subnets to which the kernel makes a route by the link when it gets the address.
fn subnets_by_link(step: &Interface) -> impl Iterator<Item = IpNetwork> {
    let by_link = |address: &&IpNetwork| !step.by_gateway.iter().any(|lease| lease.address == **address);
    step.addresses.iter().filter(by_link).filter_map(|a| IpNetwork::new(a.network(), a.prefix()).ok())
}

impl Kernel {
    /// Makes the routes that stand beside another of this interface: to the same destination, in the same table, with
    /// the same metric. Where it is another interface that has one there, they wait behind it, and so do `behind`, for when
    /// that interface goes. A higher metric says it: of two IPv4 default routes with the same the kernel uses now one and
    /// now the other, by which gateway it has heard of.
    ///
    /// Apart from the others, since only the kernel's list tells whose that other is. Most interfaces have none of
    /// these, which costs nothing.
    pub(super) fn add_further_routes(
        &mut self,
        step: &Interface,
        index: u32,
        mut behind: Vec<RouteSpec>,
    ) -> Result<(), Cause> {
        let modes = (0..step.routes.len()).map(|place| (&step.routes[place], mode(step, place)));
        let further: Vec<(&Route, RouteMode)> =
            modes.filter(|(_, mode)| *mode != RouteMode::Exclusive).collect();
        if further.is_empty() && behind.is_empty() {
            return Ok(());
        }
        let socket = &mut self.needed_sandbox(&step.sandbox)?.socket;
        let found = rtnl::routes(socket, &RouteFilter::default())?;
        let is_free = |route: &Route| !found.iter().any(|f| stands_at(f, route) && !f.leaves_by(index));
        let mut messages: Vec<Message> = Vec::new();
        // The same is there twice.
        let mut add = |spec: &RouteSpec, mode| {
            messages.push(rtnl::add_route(spec, mode).tolerating(Errno::EEXIST));
        };
        for (route, mode) in further {
            let spec = spec(step, route, index);
            if is_free(route) {
                add(&spec, mode);
            } else if mode == RouteMode::Append {
                behind.push(spec);
            }
        }
        // What was refused for being there already, on this very interface, waits for nothing.
        behind.retain(|spec| !is_free(&spec.route));
        for spec in &behind {
            let metric = metric_behind(&found, &spec.route, index);
            let route = Route { priority: Some(metric), ..spec.route.clone() };
            add(&RouteSpec { route, ..spec.clone() }, RouteMode::Append);
        }
        Ok(socket.transact(&messages)?)
    }

    pub(super) fn probe_routes(
        &mut self,
        step: &Interface,
        index: u32,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        let ways = step.by_gateway.iter().flat_map(ways_by_gateway);
        let routes: Vec<Route> = ways.chain(step.routes.iter().cloned()).collect();
        if routes.is_empty() {
            return Ok(());
        }
        let found = rtnl::routes(&mut self.needed_sandbox(&step.sandbox)?.socket, &RouteFilter::default())?;
        for route in &routes {
            // A later plugin may move routes to another table (sbr), and an earlier release left a destination to the
            // interface that had it first; both are as good.
            let elsewhere =
                |f: &FoundRoute| f.dst == route.dst && f.table == route.table() && !f.leaves_by(index);
            if found.iter().any(|f| is_way(f, route, index) || elsewhere(f)) {
                continue;
            }
            let via = route.gw.map_or(String::new(), |gw| format!(" via {gw}"));
            let object = format!("route {}{via} in table {} on {}", route.dst, route.table(), step.name);
            drifts.push(Drift::missing(object));
        }
        Ok(())
    }
}

/// Whether what the kernel has is at the place of a route, whatever way it takes.
fn stands_at(found: &FoundRoute, route: &Route) -> bool {
    found.dst == route.dst && found.table == route.table() && found.priority == route.metric()
}

/// The lowest metric, above a route's own, at which no other interface has one to the same destination.
fn metric_behind(found: &[FoundRoute], route: &Route, index: u32) -> u32 {
    let at = |metric: u32| Route { priority: Some(metric), ..route.clone() };
    let is_free = |metric: &u32| !found.iter().any(|f| stands_at(f, &at(*metric)) && !f.leaves_by(index));
    let own = route.metric();
    (own..own.saturating_add(BEHIND)).skip(1).find(is_free).unwrap_or(own)
}

/// Whether what the kernel has is a route, in whatever table; it may wait behind others.
fn is_way(found: &FoundRoute, route: &Route, index: u32) -> bool {
    // Of several next hops of one IPv6 route the kernel tells the sizes of the first alone.
    let is_one_of_several = || found.multipath.iter().any(|hop| hop.oif == index && hop.gateway == route.gw);
    let is_same = || {
        found.oif == Some(index)
            && (route.gw.is_none() || found.gateway == route.gw)
            && route.mtu.is_none_or(|mtu| found.mtu == Some(mtu.min(Route::MAX_MTU)))
            && route.advmss.is_none_or(|advmss| found.advmss == Some(advmss.min(Route::MAX_ADVMSS)))
    };
    found.dst == route.dst
        && (route.priority.is_none()
            || (route.metric()..=route.metric().saturating_add(BEHIND - 1)).contains(&found.priority))
        && (is_same() || is_one_of_several())
}

/// The gateway is on the link, and the rest of the subnet is behind it.
fn ways_by_gateway(lease: &Lease) -> Vec<Route> {
    let Some(gateway) = lease.gateway else { return Vec::new() };
    let mut ways = vec![Route::via(IpNetwork::from(gateway), None)];
    if let Ok(subnet) = IpNetwork::new(lease.address.network(), lease.address.prefix())
        && subnet.prefix() < IpNetwork::from(gateway).prefix()
    {
        ways.push(Route::via(subnet, Some(gateway)));
    }
    ways
}
