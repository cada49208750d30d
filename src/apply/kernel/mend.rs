//! The walk of reconciliation: everything that the records say, looked at once, and put back where it differs.
//!
//! What is there and right is not touched. A container's end of its link is left as it is for as long as it exists:
//! what a container, or a later plugin of its chain, has made of it is not ours to judge. Where the pair itself is
//! gone and the container lives, it is made again as ADD made it.

use std::collections::HashMap;

use crate::model::{AttachmentKey, Network};
use crate::plan::{Bridge, Forwarding, Link, Plan, Port, Sandbox, Step};
use crate::sys::rtnl::{self, LinkChange, LinkTarget};

use super::ruleset::Ruleset;
use super::{ApplyError, Cause, Drift, Host, Kernel};

/// What differs from the records, by what it is of: see [`Kernel::look`].
#[derive(Debug, Default)]
pub struct Look {
    /// nf_tables.
    pub rules: Mending,
    /// IP forwarding of the host.
    pub forwarding: Mending,
    /// Bridges: there, up, their addresses and settings.
    pub bridges: Mending,
    /// Host ends, host ports and addresses of attachments, and the dead among them.
    pub attachments: Mending,
}

/// What a walk of reconciliation found.
#[derive(Debug, Default)]
pub struct Mending {
    /// What differed from the records, in the order of the walk: mended, unless it was only looked.
    pub drifts: Vec<Drift>,
    /// What differs and is left as it is: it is the container's, or another plugin's.
    pub left: Vec<Drift>,
    /// What could not be looked at or mended.
    pub failures: Vec<ApplyError>,
    /// Attachments whose container has died: its namespace is gone, and the link with it.
    pub dead: Vec<AttachmentKey>,
}

impl Mending {
    /// Whether there is nothing to do, or to say but what is left as it is.
    pub fn is_empty(&self) -> bool {
        self.drifts.is_empty() && self.failures.is_empty() && self.dead.is_empty()
    }

    fn take(&mut self, object: impl std::fmt::Display, outcome: Result<Vec<Drift>, Cause>) {
        match outcome {
            Ok(drifts) => self.drifts.extend(drifts),
            Err(cause) => self.failures.push(ApplyError::new(object, cause)),
        }
    }
}

impl Kernel {
    /// Compares the host with the records of its networks and of its ready attachments, and with `repair`, under the
    /// main lock, puts back what differs. Never stops at the first error.
    ///
    /// The firewall goes first, so that walls stand before what they guard is joined again.
    pub fn mend(
        &mut self,
        networks: &[Network],
        attached: &[(AttachmentKey, Plan)],
        repair: bool,
    ) -> Mending {
        let mut mending = Mending::default();
        let ruleset = Ruleset::new(networks, attached.iter().map(|(_, plan)| plan));
        let outcome = self.mend_nftables(&ruleset, repair);
        mending.take("the nf_tables ruleset", outcome);
        let outcome = self.mend_iptables(&ruleset, repair);
        mending.take("the iptables ruleset", outcome);
        let outcome = self.mend_admissions(networks, &ruleset, repair);
        mending.take("the exceptions in FORWARD", outcome);
        let outcome = self.mend_zones(attached.iter().map(|(_, plan)| plan), repair);
        mending.take("firewalld's zones", outcome);
        self.mend_host(attached, repair, &mut mending);
        self.mend_bridges(attached, repair, &mut mending);
        self.mend_attachments(attached, repair, &mut mending);
        mending
    }

    /// The same look, but for the rules of iptables and what it lets through FORWARD, which only its own programs could
    /// tell: this one starts none.
    pub fn look(&mut self, networks: &[Network], attached: &[(AttachmentKey, Plan)]) -> Look {
        let mut look = Look::default();
        let ruleset = Ruleset::new(networks, attached.iter().map(|(_, plan)| plan));
        let outcome = self.mend_nftables(&ruleset, false);
        look.rules.take("the nf_tables ruleset", outcome);
        self.mend_host(attached, false, &mut look.forwarding);
        self.mend_bridges(attached, false, &mut look.bridges);
        self.mend_attachments(attached, false, &mut look.attachments);
        look
    }

    fn mend_host(&mut self, attached: &[(AttachmentKey, Plan)], repair: bool, mending: &mut Mending) {
        let outcome = self.mend_forwarding(attached.iter().map(|(_, plan)| plan), repair);
        mending.take("IP forwarding on the host", outcome);
    }

    fn mend_bridges(&mut self, attached: &[(AttachmentKey, Plan)], repair: bool, mending: &mut Mending) {
        for bridge in distinct_bridges(attached.iter().map(|(_, plan)| plan)) {
            let outcome = self.mend_bridge(bridge, repair);
            mending.take(format!("the bridge {}", bridge.name), outcome);
        }
    }

    fn mend_attachments(&mut self, attached: &[(AttachmentKey, Plan)], repair: bool, mending: &mut Mending) {
        let links = match self.host().and_then(|host| Ok(rtnl::all_links(host)?)) {
            Ok(links) => links,
            Err(cause) => return mending.failures.push(ApplyError::new("the interfaces", cause)),
        };
        let links: HashMap<&str, &rtnl::Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        // What parts were added to comes before them: it may have to be made again.
        let (own, parts): (Vec<_>, Vec<_>) = attached.iter().partition(|(_, plan)| plan.link().is_some());
        for (key, plan) in own.into_iter().chain(parts) {
            self.mend_attachment(key, plan, &links, repair, mending);
        }
    }

    fn mend_forwarding<'a>(
        &mut self,
        plans: impl Iterator<Item = &'a Plan>,
        repair: bool,
    ) -> Result<Vec<Drift>, Cause> {
        let mut wanted = Forwarding { ipv4: false, ipv6: false };
        for step in plans.flat_map(|plan| &plan.steps) {
            if let Step::Forwarding(step) = step {
                wanted = Forwarding { ipv4: wanted.ipv4 || step.ipv4, ipv6: wanted.ipv6 || step.ipv6 };
            }
        }
        let mut drifts = Vec::new();
        Self::probe_forwarding(wanted, &mut drifts)?;
        if repair && !drifts.is_empty() {
            self.ensure_forwarding(wanted)?;
        }
        Ok(drifts)
    }

    fn mend_bridge(&mut self, step: &Bridge, repair: bool) -> Result<Vec<Drift>, Cause> {
        let mut drifts = Vec::new();
        // What an earlier step of this walk looked up may be another bridge by now.
        self.forget_bridges();
        self.probe_bridge(step, &mut drifts)?;
        if repair && !drifts.is_empty() {
            self.restore_bridge(step)?;
        }
        Ok(drifts)
    }

    fn mend_attachment(
        &mut self,
        key: &AttachmentKey,
        plan: &Plan,
        links: &HashMap<&str, &rtnl::Link>,
        repair: bool,
        mending: &mut Mending,
    ) {
        let outcome = self.mend_holdings(plan, repair);
        mending.take(key, outcome);
        let Some(link) = plan.link() else {
            return self.mend_without_link(key, plan, links, repair, mending);
        };
        let Some(found) = links.get(link.host_name.as_str()) else {
            if self.is_dead(&link.sandbox) {
                mending.dead.push(key.clone());
                return;
            }
            let made = if repair { self.ensure(&of_the_link(plan)) } else { Ok(()) };
            match made {
                Ok(()) => mending.drifts.push(Drift::missing(format!("interface {} of {key}", link.name))),
                Err((_, error)) => mending.failures.push(error),
            }
            self.close_sandbox(&link.sandbox);
            return;
        };
        let outcome = self.mend_port(link, plan, found, repair);
        mending.take(key, outcome);
    }

    /// What has no pair of linkspan's own: a device over one of the host's, or a part beside another plugin's
    /// interface. What of it is on the host is mended. What is in the container's namespace is the container's, or
    /// the plugin's that made the interface: it is looked at, and told of.
    fn mend_without_link(
        &mut self,
        key: &AttachmentKey,
        plan: &Plan,
        links: &HashMap<&str, &rtnl::Link>,
        repair: bool,
        mending: &mut Mending,
    ) {
        if sandbox_of(plan).is_some_and(|sandbox| self.is_dead(sandbox)) {
            mending.dead.push(key.clone());
            return;
        }
        for step in &plan.steps {
            let mut drifts = Vec::new();
            let on_host = match step {
                Step::Localnet(step) => Some(&step.interface),
                Step::Shape(step) => Some(&step.host_name),
                Step::Upon(_)
                | Step::Macvlan(_)
                | Step::Interface(_)
                | Step::Settings(_)
                | Step::Sources(_) => None,
                // The walk has been there already.
                _ => continue,
            };
            // An interface that is gone is for the plugin that made it to bring back.
            let is_gone = match on_host.filter(|name| !links.contains_key(name.as_str())) {
                // The walk may have made it meanwhile.
                Some(name) => self.index_on_host(name).is_err(),
                None => false,
            };
            if is_gone {
                mending.left.push(Drift::missing(format!(
                    "interface {} of {key}",
                    on_host.unwrap_or(&key.interface)
                )));
                continue;
            }
            let looked = self.probe_step(step, &mut drifts);
            if let Err(cause) = looked {
                mending.failures.push(ApplyError::new(step, cause));
            } else if on_host.is_none() {
                mending.left.append(&mut drifts);
            } else if !drifts.is_empty() {
                let mended = if repair { self.ensure_step(step, None) } else { Ok(()) };
                mending.take(step, mended.map(|()| drifts));
            }
        }
        if let Some(sandbox) = sandbox_of(plan) {
            self.close_sandbox(sandbox);
        }
    }

    /// Addresses and host ports that are held on disk.
    fn mend_holdings(&mut self, plan: &Plan, repair: bool) -> Result<Vec<Drift>, Cause> {
        let mut drifts = Vec::new();
        for step in &plan.steps {
            let before = drifts.len();
            match step {
                Step::Leases(_) | Step::Claims(_) => self.probe_step(step, &mut drifts)?,
                _ => continue,
            }
            if !repair || drifts.len() == before {
                continue;
            }
            match step {
                Step::Leases(step) => self.hold_leases(step)?,
                _ => self.ensure_step(step, None)?,
            }
        }
        Ok(drifts)
    }

    /// The host end of an attachment's link, as a port of its bridge, and its rates.
    fn mend_port(
        &mut self,
        link: &Link,
        plan: &Plan,
        found: &rtnl::Link,
        repair: bool,
    ) -> Result<Vec<Drift>, Cause> {
        let mut drifts = Vec::new();
        let name = &link.host_name;
        let mut master = None;
        if let Some(bridge) = &link.bridge {
            master = self.bridge(bridge)?.map(|bridge| bridge.index);
            if found.master != master {
                let was =
                    found.master.map_or_else(|| "none".to_owned(), |index| format!("interface {index}"));
                drifts.push(Drift::new(format!("bridge of {name}"), bridge, was));
            }
        }
        if !found.is_up() {
            drifts.push(Drift::new(format!("host interface {name}"), "up", "down"));
        }
        let mtu = link.mtu.filter(|mtu| *mtu != found.mtu);
        if let Some(mtu) = mtu {
            drifts.push(Drift::new(format!("MTU of {name}"), mtu.to_string(), found.mtu.to_string()));
        }
        let lost_link = !drifts.is_empty();
        if repair && lost_link {
            let change = LinkChange { up: Some(true), mtu, master, ..LinkChange::default() };
            self.host()?.transact(&[rtnl::set_link(LinkTarget::Index(found.index), &change)])?;
        }
        for step in &plan.steps {
            let before = drifts.len();
            match step {
                Step::Port(port) if found.master == master => self.probe_port_of(port, found, &mut drifts)?,
                Step::Routed(routed) => self.probe_routed(routed, &mut drifts)?,
                Step::Shape(shape) => self.probe_shape(shape, &mut drifts)?,
                Step::Localnet(localnet) => Self::probe_localnet(localnet, &mut drifts)?,
                _ => {}
            }
            match step {
                _ if !repair => {}
                Step::Routed(routed) if lost_link || drifts.len() > before => self.ensure_routed(routed)?,
                Step::Localnet(localnet) if drifts.len() > before => Self::ensure_localnet(localnet)?,
                Step::Port(port) if lost_link || drifts.len() > before => {
                    // The neighbours know the address: it has not changed.
                    self.ensure_port(&Port { announce: false, ..port.clone() })?;
                }
                Step::Shape(shape) if drifts.len() > before => self.ensure_shape(shape)?,
                _ => {}
            }
        }
        Ok(drifts)
    }
}

/// The bridges of all attachments, each distinct wish once: attachments of one network may have different gateways.
fn distinct_bridges<'a>(plans: impl Iterator<Item = &'a Plan>) -> Vec<&'a Bridge> {
    let mut bridges: Vec<&Bridge> = Vec::new();
    for step in plans.flat_map(|plan| &plan.steps) {
        if let Step::Bridge(bridge) = step
            && !bridges.contains(&bridge)
        {
            bridges.push(bridge);
        }
    }
    bridges
}

/// The steps that go with the veth pair: all that the namespace's death, or a deletion of the link, takes away.
fn of_the_link(plan: &Plan) -> Vec<Step> {
    let with_it = |step: &&Step| {
        matches!(
            step,
            Step::Link(_)
                | Step::Routed(_)
                | Step::Interface(_)
                | Step::Port(_)
                | Step::Shape(_)
                | Step::Localnet(_)
        )
    };
    plan.steps.iter().filter(with_it).cloned().collect()
}

/// The namespace that a plan without a veth pair is about.
fn sandbox_of(plan: &Plan) -> Option<&Sandbox> {
    plan.steps.iter().find_map(|step| match step {
        Step::Upon(step) => Some(&step.sandbox),
        Step::Macvlan(step) => Some(&step.sandbox),
        Step::Settings(step) => Some(&step.sandbox),
        Step::Sources(step) => Some(&step.sandbox),
        _ => None,
    })
}
