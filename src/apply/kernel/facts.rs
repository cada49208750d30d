//! What has to be known of the host before a network is used for the first time, and for STATUS.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::firewall::nft;
use crate::model::names;
use crate::sys::SysError;
use crate::sys::netlink::Socket;
use crate::sys::rtnl::{self, RouteFilter, Traffic};

use super::{Cause, Kernel};

impl Kernel {
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

    /// How many ports a bridge has; `None` where it does not exist.
    ///
    /// # Errors
    /// Where the kernel cannot be asked, or the name is not a bridge's.
    pub fn bridge_ports(&mut self, name: &str) -> Result<Option<usize>, Cause> {
        let Some(bridge) = self.bridge(name)? else { return Ok(None) };
        Ok(Some(rtnl::links_with_master(self.host()?, bridge.index)?.len()))
    }
}

/// The interface that the default route of a namespace leaves by.
pub(super) fn uplink(socket: &mut Socket) -> Result<Option<rtnl::Link>, SysError> {
    let filter = RouteFilter { table: Some(254), ..RouteFilter::default() };
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
