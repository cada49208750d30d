//! What a part is added to: an interface of another plugin's, and the host's way to it.

use nix::errno::Errno;

use crate::plan::{Localnet, Plan, Upon};
use crate::sys::{rtnl, sysctl};

use super::{ApplyError, Cause, Drift, Kernel};

/// The host's way to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSide {
    /// The interface that packets to the container leave by.
    pub interface: String,
    /// Whether that is a bridge, which others are behind as well.
    pub is_bridge: bool,
}

impl Kernel {
    /// The interface by which the host reaches an address; `None` where it has no route there.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn host_side(&mut self, address: std::net::IpAddr) -> Result<Option<HostSide>, ApplyError> {
        self.way_to(address).map_err(|cause| ApplyError::new(format!("the route to {address}"), cause))
    }

    fn way_to(&mut self, address: std::net::IpAddr) -> Result<Option<HostSide>, Cause> {
        let Some(route) = rtnl::route_lookup(self.host()?, address)? else { return Ok(None) };
        let Some(index) = route.oif else { return Ok(None) };
        let Some(link) = rtnl::link_by_index(self.host()?, index)? else { return Ok(None) };
        let is_bridge = link.kind.as_deref() == Some("bridge");
        Ok(Some(HostSide { interface: link.name, is_bridge }))
    }

    /// An interface of the host by name; `None` where there is none.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn host_interface(&mut self, name: &str) -> Result<Option<HostSide>, ApplyError> {
        let found = self.host().and_then(|host| Ok(rtnl::link_by_name(host, name)?));
        let found = found.map_err(|cause| ApplyError::new(format!("interface {name}"), cause))?;
        Ok(found.map(|link| {
            let is_bridge = link.kind.as_deref() == Some("bridge");
            HostSide { interface: link.name, is_bridge }
        }))
    }

    /// Whether the container that a part was added to is gone, or has lost the interface. One that cannot be seen from
    /// here is not gone for that.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn has_lost_its_container(&mut self, plan: &Plan) -> Result<bool, ApplyError> {
        let Some(upon) = plan.upon() else { return Ok(false) };
        if !matches!(self.sandbox(&upon.sandbox), Ok(Some(_))) {
            return Ok(self.is_dead(&upon.sandbox));
        }
        let there = self
            .has_interface(&upon.sandbox, &upon.name)
            .map_err(|error| ApplyError::new(format!("interface {}", upon.name), error))?;
        Ok(!there)
    }

    pub(super) fn probe_upon(&mut self, step: &Upon, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        if !self.has_interface(&step.sandbox, &step.name)? {
            drifts.push(Drift::missing(format!("interface {} in {}", step.name, step.sandbox.path)));
        }
        Ok(())
    }

    /// As in the reference it is never taken back: others' ports may need it.
    pub(super) fn ensure_localnet(step: &Localnet) -> Result<(), Cause> {
        let key = localnet_key(step);
        if sysctl::read(&key)? != "1" {
            sysctl::write(&key, "1")?;
        }
        Ok(())
    }

    pub(super) fn probe_localnet(step: &Localnet, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let key = localnet_key(step);
        match sysctl::read(&key) {
            Ok(value) if value == "1" => {}
            Ok(value) => drifts.push(Drift::new(key, "1", value)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => drifts.push(Drift::missing(key)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn localnet_key(step: &Localnet) -> String {
    format!("net/ipv4/conf/{}/route_localnet", step.interface)
}
