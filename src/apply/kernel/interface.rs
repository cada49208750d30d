//! The container's end of the link.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::errno::is_passing;
use crate::plan::{Interface, Readings, Sandbox};
use crate::sys::rtnl::{self, AddressSpec, Devconf, LinkChange, LinkTarget};
use crate::sys::{Netns, SysError, sysctl};

use super::{Cause, Drift, Kernel, routes};

/// The index of `lo` in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;
/// How long duplicate address detection may take, where it is asked for, and how often it is looked at.
const DAD_DEADLINE: Duration = Duration::from_secs(5);
const DAD_INTERVAL: Duration = Duration::from_millis(20);

impl Kernel {
    pub(super) fn ensure_interface(&mut self, step: &Interface) -> Result<(), Cause> {
        let sysctls = self.sysctls();
        let open = self.needed_sandbox(&step.sandbox)?;
        let index = open.index_of(&step.name)?;
        prepare(&open.netns, step, &sysctls)?;
        if step.up {
            let messages = messages(step, index);
            let refused = match open.socket.transact_told(&messages) {
                Err(error) if error.errno() == Some(Errno::EADDRINUSE) => self.take_spare_mac(step, index)?,
                outcome => outcome?,
            };
            self.add_further_routes(step, index, routes::refused(step, index, messages.len(), &refused))?;
        }
        if step.dad && step.addresses.iter().any(IpNetwork::is_ipv6) {
            self.wait_for_addresses(step, index)?;
        }
        self.write_sysctls(&step.sandbox, &step.sysctl)
    }

    /// Another interface on the same device has the hardware address (`macvlan`). Gives the places of the messages that
    /// were refused as they tolerate.
    fn take_spare_mac(&mut self, step: &Interface, index: u32) -> Result<Vec<usize>, Cause> {
        let Some(spare) = step.spare_mac else {
            let object = format!("{}: another interface on the same device has it", step.mac);
            return Err(SysError::refused("use the hardware address", object, Errno::EADDRINUSE).into());
        };
        let change = LinkChange { mac: Some(spare), ..LinkChange::default() };
        let socket = &mut self.needed_sandbox(&step.sandbox)?.socket;
        socket.transact(&[rtnl::set_link(LinkTarget::Index(index), &change)])?;
        let refused = socket.transact_told(&messages(step, index))?;
        self.made.mac = Some(spare);
        Ok(refused)
    }

    /// Sets sysctls of a container, and keeps how the kernel tells of them where that is not as they are written, and which
    /// of them another has changed again.
    pub(super) fn write_sysctls(
        &mut self,
        sandbox: &Sandbox,
        sysctls: &BTreeMap<String, String>,
    ) -> Result<(), Cause> {
        if sysctls.is_empty() {
            return Ok(());
        }
        (self.made.readings, self.made.undone) =
            self.needed_sandbox(sandbox)?.netns.enter(|| set_sysctls(sysctls))??;
        Ok(())
    }

    /// Waits until no address is tentative (`enabledad`).
    fn wait_for_addresses(&mut self, step: &Interface, index: u32) -> Result<(), Cause> {
        let begun = Instant::now();
        loop {
            let found = rtnl::addresses(&mut self.needed_sandbox(&step.sandbox)?.socket, Some(index))?;
            let ours = || found.iter().filter(|found| step.addresses.contains(&found.address));
            if let Some(duplicate) = ours().find(|found| found.is_duplicate()) {
                let object = format!("{} on {}: a neighbour has it", duplicate.address, step.name);
                return Err(SysError::refused("use the address", object, Errno::EADDRINUSE).into());
            }
            if !ours().any(rtnl::Address::is_tentative) {
                return Ok(());
            }
            if begun.elapsed() > DAD_DEADLINE {
                let object = format!("the addresses of {}", step.name);
                return Err(SysError::Deadline { action: "confirm", object, limit: DAD_DEADLINE }.into());
            }
            std::thread::sleep(DAD_INTERVAL);
        }
    }

    pub(super) fn probe_interface(&mut self, step: &Interface, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let Some((open, link, object)) = self.interface_or_drift(&step.sandbox, &step.name, drifts)? else {
            return Ok(());
        };
        if step.up != link.is_up() {
            let word = |up| if up { "up" } else { "down" };
            drifts.push(Drift::new(&object, word(step.up), word(link.is_up())));
        }
        if link.mac != Some(step.mac) {
            let found = link.mac.map_or("none".to_owned(), |mac| mac.to_string());
            drifts.push(Drift::new(format!("MAC of {object}"), step.mac.to_string(), found));
        }
        if let Some(mtu) = step.mtu.filter(|mtu| *mtu != link.mtu) {
            drifts.push(Drift::new(format!("MTU of {object}"), mtu.to_string(), link.mtu.to_string()));
        }
        let modes = [
            ("promisc", step.promisc, link.is_promisc()),
            ("allmulti", step.allmulti.unwrap_or_default(), link.is_allmulti()),
        ];
        for (name, expected, found) in modes {
            // Somebody watching the container's traffic is no drift: only what was asked for and is gone.
            if expected && !found {
                drifts.push(Drift::new(format!("{name} of {object}"), "on", "off"));
            }
        }
        let addresses = rtnl::addresses(&mut open.socket, Some(link.index))?;
        for address in &step.addresses {
            if !addresses.iter().any(|found| found.address == *address) {
                drifts.push(Drift::missing(format!("address {address} on {}", step.name)));
            }
        }
        if step.up {
            self.probe_routes(step, link.index, drifts)?;
        }
        self.probe_sysctls(&step.sandbox, &step.sysctl, &step.readings, drifts)
    }

    pub(super) fn probe_sysctls(
        &mut self,
        sandbox: &Sandbox,
        sysctls: &BTreeMap<String, String>,
        readings: &Readings,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        if sysctls.is_empty() {
            return Ok(());
        }
        let values = self
            .needed_sandbox(sandbox)?
            .netns
            .enter(|| sysctls.keys().map(|key| sysctl::read(key)).collect::<Vec<_>>())?;
        for ((key, written), found) in sysctls.iter().zip(values) {
            let expected = match readings.get(key) {
                None => written,
                Some(Some(read)) => read,
                // It could not be read when it was written.
                Some(None) => continue,
            };
            match found {
                Ok(found) if same_words(&found, expected) => {}
                Ok(found) => drifts.push(Drift::new(format!("sysctl {key}"), expected, found)),
                Err(error) => drifts.push(Drift::new(format!("sysctl {key}"), expected, error.to_string())),
            }
        }
        Ok(())
    }
}

/// Sets them in the calling thread's namespace. Gives those that are told of in other words, and in words those that
/// another of them has changed again.
fn set_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(Readings, Vec<String>), SysError> {
    let mut told = Vec::with_capacity(sysctls.len());
    for (key, value) in sysctls {
        sysctl::write(key, value)?;
        // Before the next one, which may change what this one shows.
        told.push((key, value, reading(key)?));
    }
    // After the last there is none.
    let earlier = told.split_last().map_or(&[][..], |(_, earlier)| earlier);
    let mut undone = Vec::new();
    for (key, value, read) in earlier {
        if let Some(now) = reading(key)?.filter(|now| Some(now) != read.as_ref()) {
            undone.push(format!(
                "sysctl {key}: it was set to {value}, and another of the list has made it {now}"
            ));
        }
    }
    let is_as_written = |value: &str, read: Option<&str>| read.is_some_and(|read| same_words(read, value));
    told.retain(|(_, value, read)| !is_as_written(value, read.as_deref()));
    Ok((told.into_iter().map(|(key, _, read)| (key.clone(), read)).collect(), undone))
}

/// How the kernel tells of a sysctl that was set; `None` where it never does.
fn reading(key: &str) -> Result<Option<String>, SysError> {
    // A device's failure (EIO) is also what one says that has no value.
    let may_yet = |errno: Errno| is_passing(errno) && errno != Errno::EIO;
    match sysctl::read(key) {
        Err(error) if error.errno().is_some_and(may_yet) => Err(error),
        read => Ok(read.ok()),
    }
}

/// What has to be set before the link comes up: no address but ours, and no wait for one that is ours.
fn prepare(netns: &Netns, step: &Interface, sysctls: &sysctl::Root) -> Result<(), Cause> {
    let has_v6 = step.addresses.iter().any(IpNetwork::is_ipv6);
    let dad = if step.dad { "1" } else { "0" };
    let mut settings = Vec::new();
    if !step.advertisements {
        settings.extend([("accept_ra", "0"), ("autoconf", "0")]);
    }
    if has_v6 {
        settings.extend([
            ("disable_ipv6", "0"),
            ("accept_dad", dad),
            ("enhanced_dad", dad),
            ("keep_addr_on_down", "1"),
            ("ndisc_notify", "1"),
        ]);
    }
    netns.enter(|| {
        // A kernel without IPv6 has no such directory, and needs none of it.
        if let Some(directory) = sysctls.directory(&format!("net/ipv6/conf/{}", step.name))? {
            for (key, value) in settings {
                directory.write_if_there(key, value)?;
            }
        }
        if has_v6 {
            sysctl::write_if_there("net/ipv6/conf/lo/disable_ipv6", "0")?;
        }
        Ok(())
    })?
}

/// Addresses, up, routes: one batch.
fn messages(step: &Interface, index: u32) -> Vec<crate::sys::netlink::Message> {
    let mut messages = Vec::with_capacity(2 + step.addresses.len() + step.routes.len());
    for address in &step.addresses {
        let no_subnet_route = step.by_gateway.iter().any(|lease| lease.address == *address);
        let spec = AddressSpec { nodad: !step.dad, no_subnet_route, ..AddressSpec::new(index, *address) };
        messages.push(rtnl::add_address(&spec).tolerating(Errno::EEXIST));
    }
    if !step.link_local {
        // Before it comes up.
        messages.push(rtnl::without_link_local(LinkTarget::Index(index)));
    }
    let up = LinkChange {
        up: Some(true),
        promisc: step.promisc.then_some(true),
        allmulti: step.allmulti,
        devconf: &[(Devconf::ArpNotify, 1)],
        ..LinkChange::default()
    };
    messages.push(rtnl::set_link(LinkTarget::Index(index), &up));
    let lo_up = LinkChange { up: Some(true), ..LinkChange::default() };
    messages.push(rtnl::set_link(LinkTarget::Index(LOOPBACK_INDEX), &lo_up));
    messages.extend(routes::messages(step, index));
    messages
}

/// The kernel prints several values with tabs between them.
fn same_words(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}
