//! IP forwarding on the host.

use nix::errno::Errno;

use crate::plan::Forwarding;
use crate::sys::rtnl;
use crate::sys::sysctl::{self, FORWARDING4, FORWARDING6};

use super::{Cause, Drift, Kernel};

impl Kernel {
    pub(super) fn ensure_forwarding(&mut self, step: Forwarding) -> Result<(), Cause> {
        if step.ipv4 && !self.forwards(false)? {
            sysctl::write(FORWARDING4, "1")?;
        }
        if step.ipv6 && !self.forwards(true)? {
            self.keep_advertised_routes()?;
            sysctl::write(FORWARDING6, "1")?;
        }
        Ok(())
    }

    /// Whether the host forwards a family.
    fn forwards(&mut self, is_ipv6: bool) -> Result<bool, Cause> {
        match rtnl::forwards(self.host()?, is_ipv6)? {
            Some(forwards) => Ok(forwards),
            None => Ok(sysctl::read(if is_ipv6 { FORWARDING6 } else { FORWARDING4 })? == "1"),
        }
    }

    /// A host that forwards stops listening to router advertisements (`accept_ra` 1) and loses the default route
    /// that it learned from one. Interfaces that listen are told to go on (`accept_ra` 2) first.
    fn keep_advertised_routes(&mut self) -> Result<(), Cause> {
        for link in rtnl::all_links(self.host()?)? {
            let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
            match sysctl::read(&key) {
                Ok(value) if value == "1" => sysctl::write(&key, "2")?,
                Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn probe_forwarding(step: Forwarding, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        for (wanted, key) in [(step.ipv4, FORWARDING4), (step.ipv6, FORWARDING6)] {
            if wanted && sysctl::read(key)? != "1" {
                drifts.push(Drift::new(key, "1", "0"));
            }
        }
        Ok(())
    }
}
