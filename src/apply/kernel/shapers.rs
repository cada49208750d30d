//! Rate limits on links that another plugin made, and the devices that belong to them.

use std::collections::HashMap;

use crate::model::names;
use crate::plan::{Sandbox, Shape};
use crate::sys::rtnl::{self, LinkTarget};

use super::departure::delete_together;
use super::{Cause, Kernel};

/// The interface group of devices that are about to go.
const IDLE_GROUP: u32 = names::LINK_GROUP + 3;

/// The host's end of a container's veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEnd {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
}

impl Kernel {
    /// The host's end of a container's interface; `None` where there is no such interface, it is no veth, or its other
    /// end is not on the host.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn host_end(&mut self, sandbox: &Sandbox, name: &str) -> Result<Option<HostEnd>, Cause> {
        let inner = rtnl::link_by_name(&mut self.needed_sandbox(sandbox)?.socket, name)?;
        let Some(peer) = inner.filter(|link| link.kind.as_deref() == Some("veth")).and_then(|link| link.peer)
        else {
            return Ok(None);
        };
        let outer = rtnl::link_by_index(self.host()?, peer)?.filter(|l| l.kind.as_deref() == Some("veth"));
        Ok(outer.map(|link| HostEnd { index: link.index, name: link.name, mtu: link.mtu }))
    }

    /// Whether the host has a link of this name.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn has_host_link(&mut self, name: &str) -> Result<bool, Cause> {
        Ok(rtnl::link_by_name(self.host()?, name)?.is_some())
    }

    /// Whether a shaping device's name can be used for a host end: nothing else is sent to a device of that name.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn is_free_shaper(&mut self, name: &str, host: &HostEnd) -> Result<bool, Cause> {
        let Some(device) = rtnl::link_by_name(self.host()?, name)? else { return Ok(true) };
        let user = self.shapers_in_use()?.get(&device.index).copied();
        Ok(user.is_none_or(|user| user == host.index))
    }

    /// Takes shaping devices with the reference's names away that nothing is sent to; gives their names.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_idle_shapers(&mut self) -> Result<Vec<String>, Cause> {
        let is_theirs = |name: &str| {
            let digits = name.strip_prefix(names::REFERENCE_SHAPING_PREFIX).unwrap_or_default();
            digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let mut idle = rtnl::all_links(self.host()?)?;
        idle.retain(|link| link.kind.as_deref() == Some("ifb") && is_theirs(&link.name));
        if idle.is_empty() {
            return Ok(Vec::new());
        }
        let used = self.shapers_in_use()?;
        idle.retain(|link| !used.contains_key(&link.index));
        if !idle.is_empty() {
            let targets = idle.iter().map(|link| LinkTarget::Index(link.index));
            self.host()?.transact(&delete_together(targets, IDLE_GROUP))?;
        }
        Ok(idle.into_iter().map(|link| link.name).collect())
    }

    /// The devices that incoming packets are sent to, each with the link that they come in by.
    fn shapers_in_use(&mut self) -> Result<HashMap<u32, u32>, Cause> {
        let mut used = HashMap::new();
        for link in rtnl::ingress_links(self.host()?)? {
            used.extend(rtnl::redirects(self.host()?, link)?.iter().map(|found| (found.to, link)));
        }
        Ok(used)
    }

    /// Takes the limits off a host end that stays.
    pub(super) fn unshape(&mut self, step: &Shape) -> Result<(), Cause> {
        if step.host_name.is_empty() {
            return Ok(());
        }
        let Some(link) = rtnl::link_by_name(self.host()?, &step.host_name)? else { return Ok(()) };
        let mut messages = Vec::new();
        if step.shaping.ingress.is_some() {
            messages.push(rtnl::delete_root(link.index));
        }
        if step.shaping.egress.is_some() {
            messages.push(rtnl::delete_ingress(link.index));
        }
        Ok(self.host()?.transact(&messages)?)
    }
}
