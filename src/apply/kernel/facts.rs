//! What has to be known of the host before a network is used for the first time, and for STATUS.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::firewall::nft;
use crate::model::{Route, names};
use crate::sys::SysError;
use crate::sys::netlink::Socket;
use crate::sys::rtnl::{self, RouteFilter, Traffic};

use super::{Cause, Kernel, unless_lacking};

impl Kernel {
    /// Whether the kernel has nf_tables, and lets this process use it.
    ///
    /// # Errors
    /// Where it cannot say, which is no answer: the choice of a backend lasts.
    pub fn has_nftables(&mut self) -> Result<bool, Cause> {
        match unless_lacking(self.nft().and_then(|nft| Ok(nft.get(&nft::probe_table())?))) {
            Ok(found) => Ok(found.is_some()),
            Err(Cause::Sys(error)) if matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
                Ok(false)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Why our table could not be written to, or would not work; `None` where it is well, or not there yet.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn trouble_with_table(&mut self) -> Result<Option<&'static str>, Cause> {
        let found = self.nft()?.get(&nft::probe_table())?;
        Ok(found.and_then(|reply| match () {
            () if nft::is_owned(&reply) => Some(
                "another process has the table inet linkspan for itself: end it, or 'nft delete table inet linkspan'",
            ),
            () if nft::is_dormant(&reply) => Some(
                "the table inet linkspan is switched off (dormant): 'nft delete table inet linkspan', and 'linkspan reconcile' makes it anew",
            ),
            () => None,
        }))
    }

    /// A bridge name for a network that names none: the first that no foreign interface has.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn free_bridge_name(&mut self, network: &str, used: &[String]) -> Result<String, Cause> {
        let mut attempt = 0;
        loop {
            let name = names::bridge(network, attempt);
            let ours = |link: &rtnl::Link| {
                link.kind.as_deref() == Some("bridge")
                    && link.group == names::LINK_GROUP
                    && !used.contains(&name)
            };
            // A bridge of ours without a record is this network's own, from before its record was lost.
            match rtnl::link_by_name(self.host()?, &name)? {
                None if !used.contains(&name) => return Ok(name),
                Some(link) if ours(&link) => return Ok(name),
                _ => attempt += 1,
            }
        }
    }

    /// Refuses a configured bridge name that belongs to a device of another kind.
    ///
    /// # Errors
    /// [`Cause::NotABridge`].
    pub fn require_bridge_name(&mut self, name: &str) -> Result<(), Cause> {
        self.bridge(name).map(drop)
    }

    /// Destinations of all routes of the host in every table, those over `bridge` and the default routes aside.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn networks_in_use(&mut self, bridge: &str) -> Result<Vec<IpNetwork>, Cause> {
        let own = rtnl::link_by_name(self.host()?, bridge)?.map(|link| link.index);
        let filter = RouteFilter { ipv4: Some(true), ..RouteFilter::default() };
        let routes = rtnl::routes(self.host()?, &filter)?;
        let foreign = routes.into_iter().filter(|route| own.is_none() || route.oif != own);
        Ok(foreign.map(|route| route.dst).filter(|dst| dst.prefix() > 0).collect())
    }

    /// A route of the host, by the name of its link, to addresses of `subnet` that are somebody's beyond this host: not
    /// over `bridge`, not a default route, and not one to a single address or, but for the host's neighbours, to more
    /// than the subnet.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn clashing_route(
        &mut self,
        subnet: IpNetwork,
        bridge: &str,
    ) -> Result<Option<(IpNetwork, String)>, Cause> {
        let own = rtnl::link_by_name(self.host()?, bridge)?.map(|link| link.index);
        let filter = RouteFilter {
            ipv4: Some(subnet.is_ipv4()),
            table: Some(Route::MAIN_TABLE),
            ..RouteFilter::default()
        };
        let single = if subnet.is_ipv4() { 32 } else { 128 };
        let clashes = |route: &rtnl::FoundRoute| {
            let prefix = route.dst.prefix();
            let is_near = prefix >= subnet.prefix() || route.is_connected();
            let meets = route.dst.contains(subnet.network()) || subnet.contains(route.dst.network());
            prefix > 0 && prefix < single && is_near && meets && (own.is_none() || route.oif != own)
        };
        let Some(route) = rtnl::routes(self.host()?, &filter)?.into_iter().find(clashes) else {
            return Ok(None);
        };
        let link = match route.oif {
            Some(index) => rtnl::link_by_index(self.host()?, index)?,
            None => None,
        };
        Ok(Some((route.dst, link.map_or_else(|| "nowhere".to_owned(), |link| link.name))))
    }

    /// The MTU of the interface that the host's default route leaves by.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn uplink_mtu(&mut self) -> Result<Option<u32>, Cause> {
        Ok(self.uplink()?.map(|link| link.mtu))
    }

    /// The interface that the host's default route leaves by.
    pub(super) fn uplink(&mut self) -> Result<Option<rtnl::Link>, Cause> {
        Ok(uplink(self.host()?)?)
    }

    /// How much has gone through each link of the host, by name.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn traffic(&mut self) -> Result<HashMap<String, Traffic>, Cause> {
        let links = rtnl::all_links(self.host()?)?.into_iter();
        Ok(links.filter_map(|link| link.traffic.map(|traffic| (link.name, traffic))).collect())
    }

    /// What has gone through published ports, as far as the agent has them counted.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn counted_ports(&mut self) -> Result<HashMap<nft::Tallied, nft::Counted>, Cause> {
        let mut counted = HashMap::new();
        // Without nf_tables there is nothing that counts.
        let Ok(socket) = self.nft() else { return Ok(counted) };
        for (set, question) in nft::tally_dumps().iter().enumerate() {
            for answer in socket.dump(question)? {
                counted.extend(nft::tally_parse(set, &answer));
            }
        }
        Ok(counted)
    }

    /// Whether an interface of the host has an address.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn has_address(&mut self, address: IpAddr) -> Result<bool, Cause> {
        Ok(rtnl::addresses(self.host()?, None)?.iter().any(|found| found.address.ip() == address))
    }

    /// How many ports a bridge has, roughly where they come and go; `None` where it does not exist.
    ///
    /// # Errors
    /// Where the kernel cannot be asked, or the name is not a bridge's.
    pub fn bridge_ports(&mut self, name: &str) -> Result<Option<usize>, Cause> {
        let Some(bridge) = self.bridge(name)? else { return Ok(None) };
        Ok(Some(rtnl::count_ports(self.host()?, bridge.index)?))
    }
}

/// The interface that the default route of a namespace leaves by.
pub(super) fn uplink(socket: &mut Socket) -> Result<Option<rtnl::Link>, SysError> {
    let filter = RouteFilter { table: Some(Route::MAIN_TABLE), ..RouteFilter::default() };
    let mut defaults = rtnl::routes(socket, &filter)?;
    defaults.retain(|route| route.dst.prefix() == 0);
    defaults.sort_by_key(|route| (route.dst.is_ipv6(), route.priority));
    for route in defaults {
        let Some(index) = route.first_link() else { continue };
        if let Some(link) = rtnl::link_by_index(socket, index)? {
            return Ok(Some(link));
        }
    }
    Ok(None)
}
