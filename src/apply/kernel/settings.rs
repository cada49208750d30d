//! Settings of an interface that is there already, and their way back.

use std::path::Path;

use crate::model::LinkSettings;
use crate::plan::{Sandbox, Settings};
use crate::store;
use crate::sys::SysError;
use crate::sys::rtnl::{self, Link, LinkChange, LinkTarget};
use nix::errno::Errno;

use super::{Cause, Drift, Kernel};

impl Kernel {
    /// The settings of an interface in a namespace; `None` where there is no such interface.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn link_settings(&mut self, sandbox: &Sandbox, name: &str) -> Result<Option<LinkSettings>, Cause> {
        let link = rtnl::link_by_name(&mut self.needed_sandbox(sandbox)?.socket, name)?;
        Ok(link.as_ref().map(settings_of))
    }

    pub(super) fn ensure_settings(&mut self, step: &Settings) -> Result<(), Cause> {
        self.write_sysctls(&step.sandbox, &step.sysctl)?;
        if step.wanted.is_empty() {
            return Ok(());
        }
        store::save_settings(Path::new(&step.saved_in), &step.before)?;
        let socket = &mut self.needed_sandbox(&step.sandbox)?.socket;
        let Some(link) = rtnl::link_by_name(socket, &step.name)? else {
            return Err(SysError::refused("find the interface", &step.name, Errno::ENODEV).into());
        };
        Ok(socket.transact(&[rtnl::set_link(LinkTarget::Index(link.index), &change(&step.wanted))])?)
    }

    /// Gives the interface back what it had. One that is gone, or that does not take it back, is let be: it is about
    /// to be deleted, and a container must not be kept for it.
    pub(super) fn restore_settings(&mut self, step: &Settings) -> Result<(), Cause> {
        if !step.before.is_empty()
            && let Some(open) = self.sandbox(&step.sandbox)?
            && let Some(link) = rtnl::link_by_name(&mut open.socket, &step.name)?
        {
            // One by one, so that what one refuses does not keep the others.
            let messages: Vec<_> = each(&step.before)
                .iter()
                .map(|single| rtnl::set_link(LinkTarget::Index(link.index), &change(single)))
                .collect();
            open.socket.batch(&messages)?;
        }
        Ok(store::forget_settings(Path::new(&step.saved_in))?)
    }

    pub(super) fn probe_settings(&mut self, step: &Settings, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let Some((_, link, object)) = self.interface_or_drift(&step.sandbox, &step.name, drifts)? else {
            return Ok(());
        };
        let (wanted, found) = (words(&step.wanted), words(&settings_of(&link)));
        for ((name, wanted), (_, found)) in wanted.into_iter().zip(found) {
            if let Some(wanted) = wanted.filter(|wanted| found.as_ref() != Some(wanted)) {
                let found = found.unwrap_or_else(|| "none".to_owned());
                drifts.push(Drift::new(format!("{name} of {object}"), wanted, found));
            }
        }
        self.probe_sysctls(&step.sandbox, &step.sysctl, &step.readings, drifts)
    }
}

/// Each setting's name, and its value in words.
fn words(settings: &LinkSettings) -> [(&'static str, Option<String>); 5] {
    let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    [
        ("MAC", settings.mac.map(|mac| mac.to_string())),
        ("MTU", settings.mtu.map(|mtu| mtu.to_string())),
        ("promisc", settings.promisc.map(on_off)),
        ("allmulti", settings.allmulti.map(on_off)),
        ("txQLen", settings.tx_queue_len.map(|length| length.to_string())),
    ]
}

fn settings_of(link: &Link) -> LinkSettings {
    LinkSettings {
        mac: link.mac,
        promisc: Some(link.is_promisc()),
        mtu: Some(link.mtu),
        allmulti: Some(link.is_allmulti()),
        tx_queue_len: Some(link.tx_queue_len),
    }
}

fn change(settings: &LinkSettings) -> LinkChange<'static> {
    LinkChange {
        mac: settings.mac,
        promisc: settings.promisc,
        mtu: settings.mtu,
        allmulti: settings.allmulti,
        tx_queue_len: settings.tx_queue_len,
        ..LinkChange::default()
    }
}

/// Settings taken apart.
fn each(settings: &LinkSettings) -> [LinkSettings; 5] {
    let none = LinkSettings::default;
    [
        LinkSettings { mtu: settings.mtu, ..none() },
        LinkSettings { mac: settings.mac, ..none() },
        LinkSettings { promisc: settings.promisc, ..none() },
        LinkSettings { allmulti: settings.allmulti, ..none() },
        LinkSettings { tx_queue_len: settings.tx_queue_len, ..none() },
    ]
}
