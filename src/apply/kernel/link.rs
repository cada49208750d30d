//! The veth pair and its bridge port.

use nix::errno::Errno;

use crate::model::names;
use crate::plan::{Link, Port, Step, Vlans};
use crate::sys::rtnl::{self, BridgeVlan, LinkChange, LinkTarget, PortChange, VlanFlags};
use crate::sys::{SysError, netlink::Message};

use super::{Cause, Drift, Kernel};

/// Host ends get indexes from here on, container ends from the other: chosen by us, they save look-ups and let all
/// messages of a namespace leave in one batch. A collision is found by the kernel, and then the kernel chooses.
const HOST_INDEX: (u32, u32) = (100_000, 900_000);
const CONTAINER_INDEX: (u32, u32) = (100, 900);

impl Kernel {
    /// Makes the pair, and where it becomes a port of a bridge, what `port` says that the kernel takes at once.
    pub(super) fn ensure_link(&mut self, step: &Link, port: Option<&Port>) -> Result<(), Cause> {
        let master = match &step.bridge {
            Some(name) => match self.bridge(name)? {
                Some(bridge) => Some(bridge.index),
                None => return Err(SysError::refused("find the bridge", name, Errno::ENODEV).into()),
            },
            None => None,
        };
        let peer_index = chosen(CONTAINER_INDEX, &step.name);
        let indexes = (chosen(HOST_INDEX, &step.host_name), peer_index);
        let first = self.create_veth(step, (master, port), Some(indexes))?;
        let Err(error) = first else {
            self.needed_sandbox(&step.sandbox)?.chosen_index = Some(peer_index);
            return self.settle_host_end(step, (master, port));
        };
        match error.errno() {
            Some(Errno::EEXIST | Errno::EBUSY) => {}
            _ => return Err(self.explain(step, error)),
        }
        self.remove_leftover(step)?;
        self.create_veth(step, (master, port), None)?.map_err(|error| self.explain(step, error))?;
        self.settle_host_end(step, (master, port))
    }

    /// A bridge's port has no use for IPv6 of its own: what it forwards never comes there. Making its addresses and
    /// routes costs more with every route of the host, which are as many as containers then.
    fn settle_host_end(
        &mut self,
        step: &Link,
        (master, port): (Option<u32>, Option<&Port>),
    ) -> Result<(), Cause> {
        if master.is_none() {
            return Ok(());
        }
        self.port_set = port.map(|port| port.host_name.clone());
        let directory = self.sysctls().directory(&format!("net/ipv6/conf/{}", step.host_name))?;
        match directory.map(|directory| directory.write_if_there("disable_ipv6", "1")) {
            // A kernel without IPv6 has none to refuse.
            None | Some(Ok(())) => Ok(()),
            // Where sysctls cannot be set, it has no address at least.
            Some(Err(_)) => {
                Ok(self.host()?.transact(&[rtnl::without_link_local(LinkTarget::Name(&step.host_name))])?)
            }
        }
    }

    /// Makes the pair; the inner result is the kernel's answer to the one message.
    fn create_veth(
        &mut self,
        step: &Link,
        (master, port): (Option<u32>, Option<&Port>),
        indexes: Option<(u32, u32)>,
    ) -> Result<Result<(), SysError>, Cause> {
        // The host's socket is taken out for the moment, so that the sandbox can be borrowed beside it.
        self.host()?;
        let Some(mut host) = self.host.take() else { return Ok(Ok(())) };
        let outcome = self.needed_sandbox(&step.sandbox).map(|open| {
            let message = rtnl::create_veth(&rtnl::Veth {
                name: &step.host_name,
                index: indexes.map(|(host, _)| host),
                mac: Some(step.host_mac),
                master,
                group: Some(names::LINK_GROUP),
                up: true,
                netns: Some(&open.netns),
                peer_name: &step.name,
                peer_index: indexes.map(|(_, peer)| peer),
                peer_mac: Some(step.mac),
                mtu: step.mtu,
                tx_queue_len: step.tx_queue_len,
            });
            let flags = port
                .filter(|_| master.is_some())
                .map(|port| rtnl::set_port(LinkTarget::Name(&port.host_name), &port_change(port)));
            host.transact(&[message].into_iter().chain(flags).collect::<Vec<_>>())
        });
        self.host = Some(host);
        outcome
    }

    /// A name is taken, or an index is. A link of our name and mark is left over from a killed call: it goes. A
    /// stranger's is an error, and so is that of another attachment whose name has the same hash.
    fn remove_leftover(&mut self, step: &Link) -> Result<(), Cause> {
        if rtnl::link_by_name(&mut self.needed_sandbox(&step.sandbox)?.socket, &step.name)?.is_some() {
            return Err(Cause::InterfaceExists(step.name.clone()));
        }
        match rtnl::link_by_name(self.host()?, &step.host_name)? {
            Some(link) if link.group == names::LINK_GROUP => {
                let steps = [Step::Link(step.clone())];
                if let Some(owner) = self.other_owner(&link.name, &steps)? {
                    return Err(Cause::HostEndTaken { name: link.name, owner });
                }
                Ok(self.host()?.transact(&[rtnl::delete_link(link.index)])?)
            }
            Some(link) => Err(Cause::InterfaceExists(link.name)),
            None => Ok(()),
        }
    }

    fn explain(&self, step: &Link, error: SysError) -> Cause {
        match error.errno() {
            Some(Errno::EXFULL) => Cause::BridgeFull(step.bridge.clone().unwrap_or_default()),
            Some(Errno::EEXIST) => Cause::InterfaceExists(step.name.clone()),
            _ => error.into(),
        }
    }

    /// Has the port of a link forward.
    pub(super) fn ensure_port(&mut self, step: &Port) -> Result<(), Cause> {
        let known = self.port_set.as_ref() == Some(&step.host_name);
        // The kernel notices the carrier some time later, and until then refuses the forwarding state; with that it
        // gives it.
        rtnl::notice_carrier(self.host()?, &step.host_name);
        if !known {
            self.change_port(step)?;
        }
        // A bridge without forwarding ports has no carrier either. Until the kernel notices that it has one again, what
        // the host sends into it is dropped: the first packets through a published port, or the question for its
        // address, which is asked again only a second later.
        let idle: Vec<String> =
            self.bridges.iter().filter(|bridge| !bridge.carrier).map(|bridge| bridge.name.clone()).collect();
        for bridge in idle {
            rtnl::notice_carrier(self.host()?, &bridge);
        }
        if !step.vlans.is_empty() {
            self.ensure_vlans(step)?;
        }
        if !step.announce {
            return Ok(());
        }
        // With arp_notify and ndisc_notify on, setting the address once more announces it: only now, because what
        // the kernel announced when the link came up met a port that did not forward yet.
        let open = self.needed_sandbox(&step.sandbox)?;
        let index = open.index_of(&step.name)?;
        let announce = LinkChange { mac: Some(step.mac), ..LinkChange::default() };
        Ok(open.socket.transact(&[rtnl::set_link(LinkTarget::Index(index), &announce)])?)
    }

    /// Sets all of a port, whatever it was.
    fn change_port(&mut self, step: &Port) -> Result<(), Cause> {
        let target = LinkTarget::Name(&step.host_name);
        let mut change = PortChange { forwarding: step.up, ..port_change(step) };
        match self.host()?.transact(&[rtnl::set_port(target, &change)]) {
            // A bridge that runs the spanning tree decides on the state by itself.
            Err(error) if step.up && matches!(error.errno(), Some(Errno::EBUSY | Errno::ENETDOWN)) => {
                change.forwarding = false;
                Ok(self.host()?.transact(&[rtnl::set_port(target, &change)])?)
            }
            other => Ok(other?),
        }
    }

    fn ensure_vlans(&mut self, step: &Port) -> Result<(), Cause> {
        let Some(link) = rtnl::link_by_name(self.host()?, &step.host_name)? else {
            return Err(SysError::refused("find the bridge port", &step.host_name, Errno::ENODEV).into());
        };
        let mut messages: Vec<Message> = Vec::new();
        if !step.vlans.keep_default && step.vlans.access != Some(1) {
            let default = BridgeVlan { first: 1, last: 1, flags: VlanFlags::default() };
            messages.push(rtnl::delete_vlans(link.index, false, &[default]).tolerating(Errno::ENOENT));
        }
        messages.push(rtnl::add_vlans(link.index, false, &members(&step.vlans)));
        Ok(self.host()?.transact(&messages)?)
    }

    pub(super) fn probe_link(&mut self, step: &Link, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let object = format!("host interface {}", step.host_name);
        let Some(link) = rtnl::link_by_name(self.host()?, &step.host_name)? else {
            drifts.push(Drift::missing(object));
            return Ok(());
        };
        if !link.is_up() {
            drifts.push(Drift::new(&object, "up", "down"));
        }
        if let Some(mtu) = step.mtu.filter(|mtu| *mtu != link.mtu) {
            drifts.push(Drift::new(format!("MTU of {object}"), mtu.to_string(), link.mtu.to_string()));
        }
        let Some(wanted) = &step.bridge else { return Ok(()) };
        let bridge = self.bridge(wanted)?.map(|bridge| bridge.index);
        if link.master != bridge || bridge.is_none() {
            let found = match link.master {
                Some(index) => rtnl::link_by_index(self.host()?, index)?.map_or("none".into(), |l| l.name),
                None => "none".to_owned(),
            };
            drifts.push(Drift::new(format!("bridge of {object}"), wanted, found));
        }
        Ok(())
    }

    pub(super) fn probe_port(&mut self, step: &Port, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        match rtnl::link_by_name(self.host()?, &step.host_name)? {
            Some(link) => self.probe_port_of(step, &link, drifts),
            None => Ok(()),
        }
    }

    /// As [`Kernel::probe_port`], of a host end that was looked up already.
    pub(super) fn probe_port_of(
        &mut self,
        step: &Port,
        link: &rtnl::Link,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        let Some(port) = &link.port else { return Ok(()) };
        let flags = [("hairpin", step.hairpin, port.hairpin), ("isolated", step.isolated, port.isolated)];
        for (name, expected, found) in flags {
            if expected != found {
                let object = format!("{name} on bridge port {}", step.host_name);
                drifts.push(Drift::new(object, expected.to_string(), found.to_string()));
            }
        }
        if step.vlans.is_empty() {
            return Ok(());
        }
        let found = rtnl::vlans(self.host()?, link.index)?;
        for wanted in members(&step.vlans) {
            let covered = |vlan: u16| found.iter().any(|run| run.first <= vlan && vlan <= run.last);
            if !(wanted.first..=wanted.last).all(covered) {
                let object =
                    format!("VLAN {}-{} on bridge port {}", wanted.first, wanted.last, step.host_name);
                drifts.push(Drift::missing(object));
            }
        }
        Ok(())
    }
}

/// What the kernel takes of a port that has no carrier yet.
fn port_change(port: &Port) -> PortChange {
    PortChange { hairpin: Some(port.hairpin), isolated: Some(port.isolated), forwarding: false }
}

fn members(vlans: &Vlans) -> Vec<BridgeVlan> {
    let access = vlans.access.map(|vlan| BridgeVlan {
        first: vlan,
        last: vlan,
        flags: VlanFlags { pvid: true, untagged: true },
    });
    let trunk = vlans.trunk.iter().map(|(first, last)| BridgeVlan {
        first: *first,
        last: *last,
        flags: VlanFlags::default(),
    });
    access.into_iter().chain(trunk).collect()
}

/// An index that follows from a name.
fn chosen((first, count): (u32, u32), name: &str) -> u32 {
    first + u32::try_from(names::hash(name.as_bytes()) % u64::from(count)).unwrap_or(0)
}
