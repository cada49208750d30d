//! Devices over one of the host's own.

use nix::errno::Errno;

use crate::model::names;
use crate::plan::{Lower, Macvlan, Sandbox};
use crate::sys::rtnl::{self, Devconf, LinkChange, LinkTarget, MacvlanDevice};
use crate::sys::{SysError, sysctl};

use super::{Cause, Drift, Kernel};

impl Kernel {
    /// The device that macvlan devices are made over: the one of a name, or that of the default route; on the host or
    /// `inside` a container. `None` where there is none.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn lower_device(
        &mut self,
        name: Option<&str>,
        inside: Option<&Sandbox>,
    ) -> Result<Option<Lower>, Cause> {
        let socket = match inside {
            Some(sandbox) => &mut self.needed_sandbox(sandbox)?.socket,
            None => self.host()?,
        };
        let link = match name {
            Some(name) => rtnl::link_by_name(socket, name)?,
            None => super::facts::uplink(socket)?,
        };
        Ok(link.map(|link| Lower { name: link.name, mtu: link.mtu, mac: link.mac }))
    }

    pub(super) fn ensure_macvlan(&mut self, step: &Macvlan) -> Result<(), Cause> {
        let missing = || SysError::refused("find the lower device", &step.master, Errno::ENODEV);
        let device = |lower, netns| {
            rtnl::create_macvlan(&MacvlanDevice {
                name: &step.first_name,
                lower,
                mac: step.mac,
                mode: step.mode.number(),
                mtu: step.mtu,
                broadcast_queue: step.broadcast_queue,
                group: names::LINK_GROUP,
                netns,
            })
        };
        if step.in_container {
            let socket = &mut self.needed_sandbox(&step.sandbox)?.socket;
            let lower = rtnl::link_by_name(socket, &step.master)?.ok_or_else(missing)?;
            socket.transact(&[device(lower.index, None)])?;
        } else {
            let lower = rtnl::link_by_name(self.host()?, &step.master)?.ok_or_else(missing)?;
            // The host's socket is taken out for the moment, so that the sandbox can be borrowed beside it.
            let Some(mut host) = self.host.take() else { return Err(missing().into()) };
            let made = self
                .needed_sandbox(&step.sandbox)
                .map(|open| host.transact(&[device(lower.index, Some(&open.netns))]));
            self.host = Some(host);
            made??;
        }
        self.name_macvlan(step)
    }

    /// Gives the device its own name, and lets it announce its addresses when it comes up.
    fn name_macvlan(&mut self, step: &Macvlan) -> Result<(), Cause> {
        let open = self.needed_sandbox(&step.sandbox)?;
        let Some(link) = rtnl::link_by_name(&mut open.socket, &step.first_name)? else {
            return Err(SysError::refused("find the interface", &step.first_name, Errno::ENODEV).into());
        };
        let target = LinkTarget::Index(link.index);
        let rename = LinkChange { name: Some(&step.name), ..LinkChange::default() };
        let announce = LinkChange { devconf: &[(Devconf::ArpNotify, 1)], ..LinkChange::default() };
        open.socket.transact(&[rtnl::set_link(target, &rename), rtnl::set_link(target, &announce)])?;
        open.chosen_index = Some(link.index);
        open.netns
            .enter(|| sysctl::write_if_there(&format!("net/ipv6/conf/{}/ndisc_notify", step.name), "1"))??;
        Ok(())
    }

    /// Takes the device away where its namespace is still there; it goes with the namespace else.
    pub(super) fn remove_macvlan(&mut self, step: &Macvlan) -> Result<(), Cause> {
        let Some(open) = self.sandbox(&step.sandbox)? else { return Ok(()) };
        for name in [&step.name, &step.first_name] {
            let Some(link) = rtnl::link_by_name(&mut open.socket, name)? else { continue };
            if link.kind.as_deref() == Some("macvlan") {
                open.socket.transact(&[rtnl::delete_link(link.index)])?;
            }
        }
        Ok(())
    }

    pub(super) fn probe_macvlan(&mut self, step: &Macvlan, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let inside = step.in_container.then_some(&step.sandbox);
        if self.sandbox(&step.sandbox)?.is_none() {
            // The interface's own drift says so.
            return Ok(());
        }
        if self.lower_device(Some(&step.master), inside)?.is_none() {
            drifts.push(Drift::missing(format!("lower device {}", step.master)));
        }
        let Some(open) = self.sandbox(&step.sandbox)? else { return Ok(()) };
        let Some(link) = rtnl::link_by_name(&mut open.socket, &step.name)? else { return Ok(()) };
        let object = format!("interface {} in the container", step.name);
        if link.kind.as_deref() != Some("macvlan") {
            let found = link.kind.unwrap_or_else(|| "hardware".to_owned());
            drifts.push(Drift::new(format!("kind of {object}"), "macvlan", found));
        } else if link.macvlan_mode != Some(step.mode.number()) {
            let mode =
                |number| crate::model::MacvlanMode::ALL.into_iter().find(|mode| mode.number() == number);
            let found = link.macvlan_mode.and_then(mode).map_or("another", crate::model::MacvlanMode::word);
            drifts.push(Drift::new(format!("mode of {object}"), step.mode.word(), found));
        }
        Ok(())
    }
}
