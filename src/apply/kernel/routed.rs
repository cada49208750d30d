//! The host end of a veth pair that is routed to.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::Route;
use crate::plan::Routed;
use crate::sys::rtnl::{self, AddressSpec, RouteFilter, RouteMode, RouteSpec};
use crate::sys::sysctl;

use super::{Cause, Drift, Kernel};

/// `RT_SCOPE_HOST`.
const SCOPE_HOST: u8 = 254;

impl Kernel {
    pub(super) fn ensure_routed(&mut self, step: &Routed) -> Result<(), Cause> {
        // The container must not tell the host where to route to.
        sysctl::write_if_there(&format!("net/ipv6/conf/{}/accept_ra", step.host_name), "0")?;
        let index = self.index_on_host(&step.host_name)?;
        let address = |gateway: &IpNetwork| {
            rtnl::add_address(&AddressSpec::new(index, *gateway)).tolerating(Errno::EEXIST)
        };
        let route = |destination: &IpNetwork| {
            // The reference's scope; IPv6 knows no scopes of routes.
            let scope = destination.is_ipv4().then_some(SCOPE_HOST);
            let spec = RouteSpec::new(Route { scope, ..Route::via(*destination, None) }, index);
            rtnl::add_route(&spec, RouteMode::Exclusive).tolerating(Errno::EEXIST)
        };
        let messages: Vec<_> =
            step.gateways.iter().map(address).chain(step.destinations.iter().map(route)).collect();
        Ok(self.host()?.transact(&messages)?)
    }

    pub(super) fn probe_routed(&mut self, step: &Routed, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        // A host end that is not there is the link's drift, not ours.
        let Some(link) = rtnl::link_by_name(self.host()?, &step.host_name)? else { return Ok(()) };
        let addresses = rtnl::addresses(self.host()?, Some(link.index))?;
        for gateway in &step.gateways {
            if !addresses.iter().any(|found| found.address == *gateway) {
                drifts.push(Drift::missing(format!("address {gateway} on {}", step.host_name)));
            }
        }
        let filter = RouteFilter { oif: Some(link.index), ..RouteFilter::default() };
        let routes = rtnl::routes(self.host()?, &filter)?;
        for destination in &step.destinations {
            if !routes.iter().any(|found| found.dst == *destination) {
                drifts.push(Drift::missing(format!("route {destination} dev {}", step.host_name)));
            }
        }
        Ok(())
    }
}
