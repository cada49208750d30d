//! The routes to the subnets of bridges. The kernel makes them with the gateways' addresses, and who deletes one cuts the
//! network off while everything else is as it was.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::{Route, names};
use crate::plan::Bridge;
use crate::sys::rtnl::{self, Address, FoundRoute, RouteFilter, RouteMode, RouteSpec};
use crate::sys::sysctl;

use super::{Cause, Drift, Kernel};

/// The metric of the kernel's own routes of IPv6 (`IP6_RT_PRIO_ADDRCONF`).
const V6_METRIC: u32 = 256;

impl Kernel {
    /// Says which routes are not there, of a link that is up and has these addresses.
    pub(super) fn probe_subnets(
        &mut self,
        step: &Bridge,
        index: u32,
        found: &[Address],
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        let lost = self.lost_subnets(step, index, found)?;
        let object = |gateway: &IpNetwork| format!("route to {} by {}", subnet_of(*gateway), step.name);
        drifts.extend(lost.iter().map(|gateway| Drift::missing(object(gateway))));
        Ok(())
    }

    /// Turns IPv6 on again for a bridge of ours that has gateways of it, where somebody has turned it off.
    pub(super) fn let_have_ipv6(&mut self, step: &Bridge) -> Result<(), Cause> {
        let wants = step.gateways.iter().any(IpNetwork::is_ipv6);
        if !wants || !self.bridge(&step.name)?.is_some_and(|bridge| bridge.is_own) {
            return Ok(());
        }
        let link = step.gateway_vlan.map(|vlan| names::gateway_link(&step.name, vlan));
        let key = format!("net/ipv6/conf/{}/disable_ipv6", link.as_deref().unwrap_or(&step.name));
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            sysctl::write(&key, "0")?;
        }
        Ok(())
    }

    /// Puts them back, by the link of that index.
    ///
    /// # Errors
    /// Where another route to the same subnet stands there: it is somebody's, and is told of.
    pub(super) fn restore_subnets(&mut self, step: &Bridge, index: u32) -> Result<(), Cause> {
        let found = rtnl::addresses(self.host()?, Some(index))?;
        let mut blocked = Ok(());
        for gateway in self.lost_subnets(step, index, &found)? {
            let mut route = Route::via(subnet_of(gateway), None);
            if gateway.is_ipv4() {
                route.scope = Some(Route::SCOPE_LINK);
            } else {
                route.priority = Some(V6_METRIC);
            }
            let source = Some(gateway.ip()).filter(|_| gateway.is_ipv4());
            let spec = RouteSpec { source, as_kernels: true, ..RouteSpec::new(route, index) };
            match self.host()?.transact(&[rtnl::add_route(&spec, RouteMode::Exclusive)]) {
                // Somebody else may have put it back meanwhile.
                Err(error) if error.errno() == Some(Errno::EEXIST) => {
                    if self.lost_subnets(step, index, &found)?.contains(&gateway) {
                        blocked = blocked.and(Err(self.blocked(step, subnet_of(gateway))?));
                    }
                }
                outcome => outcome?,
            }
        }
        blocked
    }

    /// What stands where the route to a bridge's subnet should.
    fn blocked(&mut self, step: &Bridge, subnet: IpNetwork) -> Result<Cause, Cause> {
        let v4 = subnet.is_ipv4();
        let filter = RouteFilter { ipv4: Some(v4), table: Some(Route::MAIN_TABLE), ..RouteFilter::default() };
        let routes = rtnl::routes(self.host()?, &filter)?;
        let words = match routes.into_iter().find(|route| route.dst == subnet) {
            Some(route) => self.words(&route)?,
            None => "another route".to_owned(),
        };
        Ok(Cause::BlockedRoute { subnet, bridge: step.name.clone(), found: words })
    }

    /// A route as ip(8) would have it.
    fn words(&mut self, route: &FoundRoute) -> Result<String, Cause> {
        let kind = match route.kind {
            FoundRoute::UNICAST => "",
            6 => "blackhole ",
            7 => "unreachable ",
            8 => "prohibit ",
            _ => "another kind of route ",
        };
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let dev = match route.first_link() {
            Some(index) => {
                rtnl::link_by_index(self.host()?, index)?.map(|link| format!(" dev {}", link.name))
            }
            None => None,
        };
        Ok(format!("{kind}{}{via}{}", route.dst, dev.unwrap_or_default()))
    }

    /// The gateways that are on the link while no route leads to their subnet by it.
    fn lost_subnets(
        &mut self,
        step: &Bridge,
        index: u32,
        found: &[Address],
    ) -> Result<Vec<IpNetwork>, Cause> {
        let mut lost: Vec<IpNetwork> = found
            .iter()
            // Who has said that there is to be none has it so, and the subnet of one address is no subnet.
            .filter(|found| !found.has_no_subnet_route() && step.gateways.contains(&found.address))
            .map(|found| found.address)
            .filter(|gateway| gateway.prefix() < if gateway.is_ipv4() { 32 } else { 128 })
            .collect();
        if lost.is_empty() {
            return Ok(lost);
        }
        let filter = RouteFilter { oif: Some(index), ..RouteFilter::default() };
        let routes = rtnl::routes(self.host()?, &filter)?;
        lost.retain(|gateway| {
            let subnet = subnet_of(*gateway);
            !routes.iter().any(|route| route.dst == subnet && route.kind == FoundRoute::UNICAST)
        });
        Ok(lost)
    }
}

fn subnet_of(address: IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}
