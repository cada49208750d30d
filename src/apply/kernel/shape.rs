//! Rate limits: a token bucket on the host end for what the container receives, and one on an IFB device, where what
//! it sends is redirected to.

use nix::errno::Errno;

use crate::model::{Rate, names};
use crate::plan::Shape;
use crate::sys::SysError;
use crate::sys::rtnl::{self, LinkChange, LinkTarget, ShapedRate};

use super::{Cause, Drift, Kernel};

impl Kernel {
    pub(super) fn ensure_shape(&mut self, step: &Shape) -> Result<(), Cause> {
        let host = self.index_on_host(&step.host_name)?;
        if let Some(rate) = step.shaping.ingress {
            self.host()?.transact(&[rtnl::set_tbf(host, in_bytes(rate))])?;
        }
        let Some(rate) = step.shaping.egress else { return Ok(()) };
        // A device with a name of the reference's has no mark of ours: that nothing is sent to it tells an orphan.
        let group = step.ifb_name.starts_with(names::LINK_PREFIX).then_some(names::LINK_GROUP);
        let create = rtnl::create_ifb(&step.ifb_name, group, step.mtu, step.ifb_mac);
        self.host()?.transact(&[create.tolerating(Errno::EEXIST)])?;
        let Some(device) = rtnl::link_by_name(self.host()?, &step.ifb_name)? else {
            return Err(SysError::refused("find the interface", &step.ifb_name, Errno::ENODEV).into());
        };
        let ifb = device.index;
        let redirects = rtnl::redirects(self.host()?, host)?;
        let redirected = redirects.iter().any(|found| found.to == ifb);
        let mut messages = vec![rtnl::set_tbf(ifb, in_bytes(rate))];
        if !device.is_up() {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            messages.push(rtnl::set_link(LinkTarget::Index(ifb), &up));
        }
        if !redirected {
            // What is redirected to a device that somebody deleted is lost, whatever redirects it after that.
            if self.any_gone(&redirects)? {
                messages.push(rtnl::delete_ingress(host));
            }
            messages.push(rtnl::add_ingress(host).tolerating(Errno::EEXIST));
            messages.push(rtnl::redirect_ingress(host, ifb));
        }
        Ok(self.host()?.transact(&messages)?)
    }

    fn any_gone(&mut self, redirects: &[rtnl::Redirect]) -> Result<bool, Cause> {
        for redirect in redirects {
            if redirect.to == 0 || rtnl::link_by_index(self.host()?, redirect.to)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn index_on_host(&mut self, name: &str) -> Result<u32, Cause> {
        match rtnl::link_by_name(self.host()?, name)? {
            Some(link) => Ok(link.index),
            None => Err(SysError::refused("find the interface", name, Errno::ENODEV).into()),
        }
    }

    pub(super) fn probe_shape(&mut self, step: &Shape, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        // A host end that is not there is the link's drift, not ours.
        let Some(host) = rtnl::link_by_name(self.host()?, &step.host_name)? else { return Ok(()) };
        if let Some(rate) = step.shaping.ingress {
            self.probe_rate(host.index, &step.host_name, rate, drifts)?;
        }
        let Some(rate) = step.shaping.egress else { return Ok(()) };
        let Some(ifb) = rtnl::link_by_name(self.host()?, &step.ifb_name)? else {
            drifts.push(Drift::missing(format!("shaping device {}", step.ifb_name)));
            return Ok(());
        };
        if !ifb.is_up() {
            drifts.push(Drift::new(format!("shaping device {}", step.ifb_name), "up", "down"));
        }
        self.probe_rate(ifb.index, &step.ifb_name, rate, drifts)?;
        if !rtnl::redirects(self.host()?, host.index)?.iter().any(|found| found.to == ifb.index) {
            let object = format!("redirection of what {} receives to {}", step.host_name, step.ifb_name);
            drifts.push(Drift::missing(object));
        }
        Ok(())
    }

    fn probe_rate(
        &mut self,
        index: u32,
        name: &str,
        rate: Rate,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        let wanted = in_bytes(rate).rate;
        let found =
            rtnl::qdiscs(self.host()?, index)?.iter().find_map(|q| q.rate.filter(|_| q.kind == "tbf"));
        if found != Some(wanted) {
            let found = found.map_or("none".to_owned(), |rate| format!("{} bit/s", rate * 8));
            drifts.push(Drift::new(format!("rate limit on {name}"), format!("{} bit/s", wanted * 8), found));
        }
        Ok(())
    }
}

/// Bits, as configurations have them, in the kernel's bytes.
fn in_bytes(rate: Rate) -> ShapedRate {
    ShapedRate {
        rate: (rate.rate / 8).max(1),
        burst: u32::try_from((rate.burst / 8).max(1)).unwrap_or(u32::MAX),
    }
}
