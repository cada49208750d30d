//! The host's way to a container: by the container's own bridge or pair, and by nothing else.

use std::net::IpAddr;

use crate::sys::rtnl::{FoundRoute, Link};
use crate::view::Attachment;

use super::super::{Fault, Finding};
use super::{Walk, Way, surely};

impl Walk<'_> {
    /// What is for a container must leave by its own link of the host's. `output` is where the routes lead, which may be
    /// nowhere; `None` ends no packet by itself.
    pub(super) fn overlapped(&mut self, output: Option<&Link>) -> Way<()> {
        let to = self.destination();
        let leads_to = |name: &str| output.is_some_and(|output| output.name == name);
        let holders: Vec<(&Attachment, &str)> = self
            .attachments
            .iter()
            .filter(|own| own.addresses.iter().any(|address| address.ip() == to))
            .filter_map(|own| Some((own, own.bridge.as_deref().or(own.veth.as_deref())?)))
            .collect();
        let Some(&(holder, name)) = holders.first() else { return Ok(()) };
        if holders.iter().any(|(_, name)| leads_to(name)) {
            return Ok(());
        }
        let Some(own) = self.host.link(name).cloned() else {
            let what = match &holder.bridge {
                Some(bridge) => format!("the bridge {bridge} is gone"),
                None => format!("the host end {name} of container {} is gone", holder.container),
            };
            let way = output.map(|output| format!(": {to} leaves by {} instead", output.name));
            let what = format!("{what}, and with it the host's route to {to}{}", way.unwrap_or_default());
            return Err(self.ends(name, surely(Fault::Detached, what, Some("linkspan reconcile".to_owned()))));
        };
        if !own.is_up() {
            let what = format!("{name} is down, and its routes with it");
            let mend = format!("ip link set {name} up");
            return Err(self.ends(name, surely(Fault::LinkDown, what, Some(mend))));
        }
        let routes = self.host.routes(to.is_ipv4())?;
        match self.astray(holder, &own, output, &routes) {
            Some(finding) => Err(self.ends("host", finding)),
            None => Ok(()),
        }
    }

    /// Why the routes do not lead to a container's own link, which is up.
    fn astray(
        &self,
        holder: &Attachment,
        own: &Link,
        output: Option<&Link>,
        routes: &[FoundRoute],
    ) -> Option<Finding> {
        let to = self.destination();
        let (name, who) = (&own.name, &holder.container);
        let by = |link: &Link| {
            let index = link.index;
            let covers = routes.iter().filter(move |r| r.oif == Some(index) && r.dst.contains(to));
            covers.max_by_key(|route| route.dst.prefix())
        };
        let covering = output.and_then(by);
        let six = if to.is_ipv4() { "" } else { "-6 " };
        if covering.is_none_or(|route| route.dst.prefix() == 0) && by(own).is_none() {
            return Some(self.no_own_route(holder, own));
        }
        let output = output?;
        let (which, mend) = match covering {
            Some(route) => (
                format!("the host's route {} dev {}", route.dst, output.name),
                format!("ip {six}route del {} dev {}", route.dst, output.name),
            ),
            None => (
                format!("a route by {}", output.name),
                format!("ip {six}rule show && ip {six}route show table all"),
            ),
        };
        let what = format!(
            "{which} covers {to} of container {who}, which is on {name}: the packet leaves by {}",
            output.name
        );
        Some(surely(Fault::OverlappingRoute, what, Some(mend)))
    }

    /// No route leads by a container's own link: the bridge has lost its address, or the route alone is gone.
    fn no_own_route(&self, holder: &Attachment, own: &Link) -> Finding {
        let (name, to) = (&own.name, self.destination());
        let plan = self.plan_of(holder).and_then(|plan| plan.bridge());
        let gateway = plan.and_then(|bridge| {
            bridge.gateways.iter().find(|gateway| gateway.is_ipv4() == to.is_ipv4()).copied()
        });
        if let Some(gateway) = gateway.filter(|gateway| self.host.holder(gateway.ip()).is_none()) {
            let what = format!(
                "bridge {name} does not have {}, the gateway of container {}, and so the host has no route to its network",
                gateway.ip(),
                holder.container
            );
            let mend = format!("ip address add {gateway} dev {name}");
            return surely(Fault::GatewayMissing, what, Some(mend));
        }
        let six = if to.is_ipv4() { "" } else { "-6 " };
        let network = match gateway {
            Some(gateway) => format!("{}/{}", gateway.network(), gateway.prefix()),
            None => to.to_string(),
        };
        let source = gateway.map(|gateway| gateway.ip()).filter(IpAddr::is_ipv4);
        let source = source.map(|source| format!(" src {source}")).unwrap_or_default();
        let what = format!(
            "the host has no route to {network} by {name}, which container {} is on",
            holder.container
        );
        surely(Fault::NoRoute, what, Some(format!("ip {six}route add {network} dev {name}{source}")))
    }
}
