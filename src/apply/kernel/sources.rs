//! Routing by source: a rule for each address, a table for each rule.

use nix::errno::Errno;

use crate::model::Route;
use crate::plan::{RoutingFacts, Sandbox, SourceRoute, Sources};
use crate::sys::SysError;
use crate::sys::netlink::Message;
use crate::sys::rtnl::{self, FoundRoute, RouteFilter, RouteMode, RouteSpec, Rule};

use super::{Cause, Drift, Kernel};

impl Kernel {
    /// What has to be known of a container's routing before some of it moves; `None` where it has no such interface.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn routing_facts(&mut self, sandbox: &Sandbox, name: &str) -> Result<Option<RoutingFacts>, Cause> {
        let socket = &mut self.needed_sandbox(sandbox)?.socket;
        let Some(link) = rtnl::link_by_name(socket, name)? else { return Ok(None) };
        let rules = rtnl::rules(socket)?;
        let routes = rtnl::routes(socket, &RouteFilter::default())?;
        let movable = |route: &&FoundRoute| {
            route.table == Route::MAIN_TABLE
                && route.oif == Some(link.index)
                && route.kind == FoundRoute::UNICAST
        };
        let movable: Vec<&FoundRoute> = routes.iter().filter(movable).collect();
        Ok(Some(RoutingFacts {
            used: rules.iter().map(|rule| rule.table).chain(routes.iter().map(|route| route.table)).collect(),
            routes: movable.iter().map(|route| as_it_is(route, &movable)).collect(),
            addresses: rtnl::addresses(socket, Some(link.index))?.iter().map(|a| a.address).collect(),
            rules: rules.iter().map(|rule| (rule.source, rule.table)).collect(),
        }))
    }

    pub(super) fn ensure_sources(&mut self, step: &Sources) -> Result<(), Cause> {
        let socket = &mut self.needed_sandbox(&step.sandbox)?.socket;
        let Some(link) = rtnl::link_by_name(socket, &step.name)? else {
            return Err(SysError::refused("find the interface", &step.name, Errno::ENODEV).into());
        };
        let there = rtnl::rules(socket)?;
        let mut messages: Vec<Message> = Vec::new();
        for table in &step.tables {
            if !there.iter().any(|rule| is(rule, table.source, table.table)) {
                messages.push(rtnl::add_rule(table.source, table.table));
            }
            let route = |route| rtnl::add_route(&spec(route, link.index, table.table), RouteMode::Replace);
            messages.extend(direct_first(&table.routes).map(route));
        }
        // Next hops last: the routes that they depend on go after them.
        let leave = |route| rtnl::delete_route(&spec(route, link.index, Route::MAIN_TABLE));
        messages.extend(direct_first(&step.moved).map(leave).rev());
        Ok(socket.transact(&messages)?)
    }

    /// Takes the rules away, and the routes back to the main table where the interface is still there.
    pub(super) fn remove_sources(&mut self, step: &Sources) -> Result<(), Cause> {
        let Some(open) = self.sandbox(&step.sandbox)? else { return Ok(()) };
        let mut messages: Vec<Message> =
            step.tables.iter().map(|table| rtnl::delete_rule(table.source, table.table)).collect();
        if let Some(link) = rtnl::link_by_name(&mut open.socket, &step.name)? {
            for route in direct_first(&step.moved) {
                // Beside what another interface has to the same destination.
                let back = rtnl::add_route(&spec(route, link.index, Route::MAIN_TABLE), RouteMode::Append);
                // An interface that is down, or whose address has gone, takes none: it is about to be deleted.
                let refusals =
                    [Errno::EEXIST, Errno::ENETDOWN, Errno::ENETUNREACH, Errno::EINVAL, Errno::EHOSTUNREACH];
                messages.push(refusals.into_iter().fold(back, Message::tolerating));
            }
            for table in &step.tables {
                let leave = |route| rtnl::delete_route(&spec(route, link.index, table.table));
                messages.extend(direct_first(&table.routes).map(leave).rev());
            }
        }
        Ok(open.socket.transact(&messages)?)
    }

    pub(super) fn probe_sources(&mut self, step: &Sources, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let Some(open) = self.sandbox(&step.sandbox)? else {
            drifts.push(Drift::missing(format!("network namespace {}", step.sandbox.path)));
            return Ok(());
        };
        let rules = rtnl::rules(&mut open.socket)?;
        let routes = rtnl::routes(&mut open.socket, &RouteFilter::default())?;
        for table in &step.tables {
            if !rules.iter().any(|rule| is(rule, table.source, table.table)) {
                let object = format!("rule from {} to table {}", table.source, table.table);
                drifts.push(Drift::missing(object));
            }
            for SourceRoute { route, .. } in &table.routes {
                let same = |found: &FoundRoute| {
                    found.table == table.table && found.dst == route.dst && found.gateway == route.gw
                };
                if !routes.iter().any(same) {
                    drifts.push(Drift::missing(format!("route {} in table {}", route.dst, table.table)));
                }
            }
        }
        Ok(())
    }
}

fn is(rule: &Rule, source: ipnetwork::IpNetwork, table: u32) -> bool {
    rule.source == source && rule.table == table
}

/// Routes without a next hop, then those that may need them.
fn direct_first(routes: &[SourceRoute]) -> impl DoubleEndedIterator<Item = &SourceRoute> {
    let (direct, further): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.route.gw.is_none());
    direct.into_iter().chain(further)
}

fn spec(route: &SourceRoute, index: u32, table: u32) -> RouteSpec {
    let mut spec = RouteSpec::new(route.route.clone(), index);
    spec.route.table = Some(table);
    spec.source = route.source;
    spec.onlink = route.onlink;
    spec
}

/// A route of an interface. Where no other one leads to its next hop, the kernel has taken that on somebody's word, and
/// does not take it again without.
fn as_it_is(found: &FoundRoute, all: &[&FoundRoute]) -> SourceRoute {
    let is_reached = |gw| all.iter().any(|other| other.gateway.is_none() && other.dst.contains(gw));
    SourceRoute {
        route: crate::model::Route {
            dst: found.dst,
            gw: found.gateway,
            mtu: found.mtu,
            advmss: found.advmss,
            priority: Some(found.priority),
            table: None,
            scope: Some(found.scope),
        },
        source: found.source,
        onlink: found.gateway.is_some_and(|gw| !is_reached(gw)),
    }
}
