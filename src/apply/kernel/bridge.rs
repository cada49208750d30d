//! The bridge of a network: made once, pinned to its hardware address, never taken away with an attachment.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::{MacAddress, names};
use crate::plan::{Bridge, SeenBridge};
use crate::sys::rtnl::{self, AddressSpec, BridgeVlan, Devconf, LinkChange, LinkTarget, VlanFlags};
use crate::sys::{SysError, sysctl};

use super::{Cause, Drift, Kernel};

/// What this call knows of a bridge.
#[derive(Debug, Clone)]
pub(super) struct KnownBridge {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<MacAddress>,
    /// In bytes.
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) is_promisc: bool,
    pub(super) carrier: bool,
    /// Whether we made it.
    pub(super) is_own: bool,
}

impl Kernel {
    /// A bridge that this call has looked up, now that a port of this MTU has joined it.
    pub fn seen_bridge(&mut self, name: &str, port: Option<u32>) -> Option<SeenBridge> {
        let known = self.bridges.iter().find(|link| link.name == name)?;
        let (mac, mut mtu) = (known.mac, known.mtu);
        // The kernel gives a bridge the smallest MTU of its ports, unless somebody has set one: only where the port's
        // was the bridge's already, that is no news.
        if port.is_some_and(|port| port != mtu) {
            let host = self.host().ok()?;
            mtu = rtnl::link_by_name(host, name).ok().flatten().map_or(mtu, |link| link.mtu);
        }
        Some(SeenBridge { mac, mtu: port.and(Some(mtu)) })
    }

    /// Tells what a network's record says of its bridge: one that has that address needs no second look, since we gave
    /// it that.
    pub fn expect_bridge(&mut self, name: &str, mac: Option<MacAddress>) {
        self.expected_bridge = mac.map(|mac| (name.to_owned(), mac));
    }

    /// Tells that the call's network wants other things than before, so that a bridge of ours may lack some of them.
    pub fn expect_no_settled_bridge(&mut self) {
        self.is_new_to_bridge = true;
    }

    /// The bridge of a name: `None` where there is no such interface.
    ///
    /// # Errors
    /// [`Cause::NotABridge`] where an interface of another kind has the name.
    pub(super) fn bridge(&mut self, name: &str) -> Result<Option<KnownBridge>, Cause> {
        if let Some(known) = self.bridges.iter().find(|link| link.name == name) {
            return Ok(Some(known.clone()));
        }
        if let Some(known) = self.glance_at(name)? {
            self.bridges.push(known.clone());
            return Ok(Some(known));
        }
        let Some(link) = rtnl::link_by_name(self.host()?, name)? else { return Ok(None) };
        if link.kind.as_deref() != Some("bridge") {
            let kind = link.kind.unwrap_or_else(|| "physical device".to_owned());
            return Err(Cause::NotABridge { name: name.to_owned(), kind });
        }
        let known = KnownBridge {
            index: link.index,
            mac: link.mac,
            mtu: link.mtu,
            is_up: link.is_up(),
            is_promisc: link.is_promisc(),
            carrier: link.carrier,
            is_own: link.group == names::LINK_GROUP,
            name: link.name,
        };
        self.bridges.push(known.clone());
        Ok(Some(known))
    }

    /// The bridge that the network's record tells of, by the address that we pinned; `None` where it is not so.
    fn glance_at(&mut self, name: &str) -> Result<Option<KnownBridge>, Cause> {
        let Some((_, mac)) = self.expected_bridge.clone().filter(|(expected, _)| expected == name) else {
            return Ok(None);
        };
        // Whatever keeps it from being asked, the longer question tells.
        let Ok(Some(seen)) = rtnl::glance(self.host()?, name) else { return Ok(None) };
        let has = |flag: libc::c_int| seen.flags & flag.cast_unsigned() != 0;
        Ok((seen.mac == mac).then(|| KnownBridge {
            index: seen.index,
            name: name.to_owned(),
            mac: Some(seen.mac),
            mtu: seen.mtu,
            is_up: has(libc::IFF_UP),
            is_promisc: has(libc::IFF_PROMISC),
            carrier: seen.carrier,
            is_own: true,
        }))
    }

    /// Looks bridges up again from here on: somebody may have made them anew.
    pub fn forget_bridges(&mut self) {
        self.bridges.clear();
    }

    pub(super) fn ensure_bridge(&mut self, step: &Bridge) -> Result<(), Cause> {
        self.settle_bridge(step, true).map(drop)
    }

    /// As [`Kernel::ensure_bridge`], of a bridge that somebody may have changed since it was made.
    pub(super) fn restore_bridge(&mut self, step: &Bridge) -> Result<(), Cause> {
        self.let_have_ipv6(step)?;
        let index = self.settle_bridge(step, false)?;
        self.forget_bridges();
        self.restore_subnets(step, index)
    }

    /// `trusted` is whether a bridge that we made and that is up counts as having its settings. Gives the link that
    /// carries the gateways.
    fn settle_bridge(&mut self, step: &Bridge, trusted: bool) -> Result<u32, Cause> {
        let (link, fresh) = match self.bridge(&step.name)? {
            Some(link) => (link, false),
            None => (self.create_bridge(step)?, true),
        };
        // It comes up with the last of what a new one is given: who made it may have been killed before.
        let unfinished = fresh || link.is_own && !link.is_up;
        if unfinished {
            self.still_bridge(&step.name)?;
        } else if !link.is_own && !step.gateways.is_empty() {
            // As the reference does: where the host is the router, no container tells it another.
            sysctl::write_if_there(&format!("net/ipv6/conf/{}/accept_ra", step.name), "0")?;
        }
        let index = match step.gateway_vlan {
            Some(vlan) => self.ensure_gateway_link(step, &link, vlan)?,
            None => link.index,
        };
        let devconf: &[(Devconf, u32)] =
            if step.route_localnet { &[(Devconf::RouteLocalnet, 1)] } else { &[] };
        let mut change = LinkChange {
            up: Some(true),
            promisc: step.promisc.then_some(true),
            devconf,
            ..LinkChange::default()
        };
        if unfinished {
            // Setting an address pins it: else it would follow the lowest of the ports', and every neighbour's cache
            // would be wrong when a container comes or goes. The same holds for the MTU.
            change.mac = step.mac.or(link.mac);
            change.mtu = step.mtu;
        }
        let mut messages = Vec::with_capacity(1 + step.gateways.len());
        // A bridge that we made has been through this, for the network as it is; somebody else's may not.
        let settled = trusted
            && !unfinished
            && !self.is_new_to_bridge
            && link.is_own
            && step.promisc == link.is_promisc;
        let first_gateway = usize::from(!settled);
        if !settled {
            messages.push(rtnl::set_link(LinkTarget::Index(link.index), &change));
        }
        for gateway in &step.gateways {
            messages.push(gateway_message(index, *gateway));
        }
        let answers = self.host()?.batch(&messages)?;
        if let Some(known) = self.bridges.iter_mut().find(|known| known.index == link.index) {
            known.mac = change.mac.or(known.mac);
        }
        let mut added = Vec::new();
        for (at, (message, answer)) in messages.iter().zip(answers).enumerate() {
            match answer {
                Some(refusal) if !message.tolerated.contains(&refusal.errno) => {
                    return Err(message.error(refusal).into());
                }
                None => {
                    added.extend(at.checked_sub(first_gateway).and_then(|at| step.gateways.get(at)).copied());
                }
                Some(_) => {}
            }
        }
        // A gateway that was there already needs no second look: the hot path asks for no list of addresses. But IPv6
        // has an address once on a link, and that it is there may mean with another prefix.
        let replaces = step.force_address && !settled;
        if !fresh && (!added.is_empty() || replaces) {
            self.settle_clash(step, index, added)?;
        }
        Ok(index)
    }

    fn create_bridge(&mut self, step: &Bridge) -> Result<KnownBridge, Cause> {
        let bridge = rtnl::Bridge {
            name: &step.name,
            index: None,
            mac: None,
            mtu: None,
            group: Some(names::LINK_GROUP),
            vlan_filtering: step.vlan_filtering,
            default_pvid: None,
            // With every port that joins, a snooping bridge starts the timers of all its ports again: half of what an
            // ADD costs beside 900 containers. Without a querier, and it is none, it sends multicast to all anyway.
            multicast_snooping: false,
            promisc: step.promisc,
            // Router advertisements must be refused before the link is up.
            up: false,
        };
        let create = rtnl::create_bridge(&bridge).tolerating(Errno::EEXIST);
        self.host()?.transact(&[create])?;
        self.bridge(&step.name)?
            .ok_or_else(|| SysError::refused("find the new bridge", &step.name, Errno::ENODEV).into())
    }

    /// Keeps a bridge that is not up yet from listening to router advertisements, and from trying its own addresses.
    fn still_bridge(&mut self, name: &str) -> Result<(), Cause> {
        for (key, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("keep_addr_on_down", "1")] {
            sysctl::write_if_there(&format!("net/ipv6/conf/{name}/{key}"), value)?;
        }
        Ok(())
    }

    /// The link that carries the gateway of a VLAN: a VLAN device over the bridge, which is a member of the VLAN.
    fn ensure_gateway_link(&mut self, step: &Bridge, bridge: &KnownBridge, vlan: u16) -> Result<u32, Cause> {
        let name = names::gateway_link(&step.name, vlan);
        if let Some(link) = rtnl::link_by_name(self.host()?, &name)? {
            return match self.is_gateway_link(&link, bridge.index, vlan)? {
                true => Ok(link.index),
                false => Err(Cause::NotAGatewayLink { name, bridge: step.name.clone(), vlan }),
            };
        }
        let member = BridgeVlan { first: vlan, last: vlan, flags: VlanFlags::default() };
        self.host()?.transact(&[
            rtnl::add_vlans(bridge.index, true, &[member]),
            rtnl::create_vlan(&name, bridge.index, vlan, Some(names::LINK_GROUP)),
        ])?;
        match rtnl::link_by_name(self.host()?, &name)? {
            Some(link) => Ok(link.index),
            None => Err(SysError::refused("find the new VLAN device", &name, Errno::ENODEV).into()),
        }
    }

    /// Whether a link carries the gateway of a VLAN of a bridge: a VLAN device over it, or the host end of the pair that the
    /// reference plugin makes, whose other end is a port of the bridge.
    fn is_gateway_link(&mut self, link: &rtnl::Link, bridge: u32, vlan: u16) -> Result<bool, Cause> {
        let Some(peer) = link.peer.filter(|_| !link.peer_elsewhere) else { return Ok(false) };
        match link.kind.as_deref() {
            Some("vlan") => Ok(peer == bridge && link.vlan_id == Some(vlan)),
            Some("veth") => {
                let port = rtnl::link_by_index(self.host()?, peer)?;
                Ok(port.is_some_and(|port| port.master == Some(bridge)))
            }
            _ => Ok(false),
        }
    }

    /// Refuses a bridge with another address of a gateway's family, unless `forceAddress` is set. Changes nothing.
    ///
    /// # Errors
    /// [`Cause::GatewayClash`].
    pub fn refuse_gateway_clash(&mut self, step: &Bridge) -> Result<(), Cause> {
        if step.force_address || step.gateways.is_empty() {
            return Ok(());
        }
        let Some(link) = self.bridge(&step.name)? else { return Ok(()) };
        let found = rtnl::addresses(self.host()?, Some(link.index))?;
        let missing: Vec<IpNetwork> = step
            .gateways
            .iter()
            .filter(|gateway| !found.iter().any(|found| found.address == **gateway))
            .copied()
            .collect();
        match found.iter().find_map(|found| clash(step, &missing, found.address)) {
            Some(cause) => Err(cause),
            None => Ok(()),
        }
    }

    /// Another address of a gateway's family: with `forceAddress` it goes, else what was added goes and it is an
    /// error. As in the reference, IPv6 subnets that do not overlap may share a bridge, and IPv4 ones only where
    /// they are of the same network.
    fn settle_clash(&mut self, step: &Bridge, index: u32, mut added: Vec<IpNetwork>) -> Result<(), Cause> {
        let found: Vec<IpNetwork> =
            rtnl::addresses(self.host()?, Some(index))?.iter().map(|found| found.address).collect();
        if step.force_address {
            added.extend(step.gateways.iter().filter(|gateway| !found.contains(gateway)));
        }
        for address in found {
            let Some(cause) = clash(step, &added, address) else { continue };
            if step.force_address {
                // With the first address of a subnet the kernel deletes the others of it: ours are set again.
                let mut messages = vec![rtnl::delete_address(index, address)];
                messages.extend(added.iter().map(|gateway| gateway_message(index, *gateway)));
                self.host()?.transact(&messages)?;
                continue;
            }
            let undo: Vec<_> = added.iter().map(|address| rtnl::delete_address(index, *address)).collect();
            self.host()?.transact(&undo)?;
            return Err(cause);
        }
        Ok(())
    }

    pub(super) fn probe_bridge(&mut self, step: &Bridge, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let object = format!("bridge {}", step.name);
        let Some(link) = self.bridge(&step.name)? else {
            drifts.push(Drift::missing(object));
            return Ok(());
        };
        if !link.is_up {
            drifts.push(Drift::new(&object, "up", "down"));
        }
        if step.promisc && !link.is_promisc {
            drifts.push(Drift::new(&object, "promiscuous", "not promiscuous"));
        }
        let (index, is_up) = match step.gateway_vlan {
            Some(vlan) => {
                let name = names::gateway_link(&step.name, vlan);
                let Some(link) = rtnl::link_by_name(self.host()?, &name)? else {
                    drifts.push(Drift::missing(format!("gateway link {name}")));
                    return Ok(());
                };
                let index = self.bridge(&step.name)?.map_or(0, |bridge| bridge.index);
                if !self.is_gateway_link(&link, index, vlan)? {
                    let expected = format!("VLAN {vlan} over {}", step.name);
                    drifts.push(Drift::new(format!("gateway link {name}"), expected, "another device"));
                }
                (link.index, link.is_up())
            }
            None => (link.index, link.is_up),
        };
        let found = rtnl::addresses(self.host()?, Some(index))?;
        for gateway in &step.gateways {
            if !found.iter().any(|address| address.address == *gateway) {
                drifts.push(Drift::missing(format!("gateway address {gateway} on {}", step.name)));
            }
        }
        if is_up {
            self.probe_subnets(step, index, &found, drifts)?;
        }
        let localnet = format!("net/ipv4/conf/{}/route_localnet", step.name);
        if step.route_localnet && sysctl::read(&localnet).is_ok_and(|value| value == "0") {
            drifts.push(Drift::new(localnet, "1", "0"));
        }
        Ok(())
    }
}

/// Adds a gateway's address, if it is not there. It is ours alone: duplicate detection would only keep it from
/// answering for a second.
fn gateway_message(index: u32, gateway: IpNetwork) -> crate::sys::netlink::Message {
    let spec = AddressSpec { nodad: true, ..AddressSpec::new(index, gateway) };
    rtnl::add_address(&spec).tolerating(Errno::EEXIST)
}

/// The clash of an address on the bridge with gateways that are (to be) added beside it, if there is one.
fn clash(step: &Bridge, added: &[IpNetwork], address: IpNetwork) -> Option<Cause> {
    if step.gateways.contains(&address) || step.siblings.contains(&address) {
        return None;
    }
    let clashes = |wanted: &&IpNetwork| match address {
        IpNetwork::V4(_) => wanted.is_ipv4(),
        IpNetwork::V6(_) => wanted.is_ipv6() && overlap(wanted, address),
    };
    added.iter().find(clashes).map(|wanted| Cause::GatewayClash {
        bridge: step.name.clone(),
        found: address.to_string(),
        wanted: wanted.to_string(),
    })
}

fn overlap(a: &IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.ip()) || b.contains(a.ip())
}
