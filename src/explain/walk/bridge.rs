//! Through the pair's host end and the bridge: to the host, or to a neighbour.

use std::net::IpAddr;

use crate::sys::rtnl::{FoundRoute, Link};
use crate::view::Attachment;

use super::super::hooks::{self, Hook};
use super::super::{Fault, ends};
use super::container::inside_command;
use super::{Spot, Walk, Way, surely};

fn isolated(link: &Link) -> bool {
    link.port.is_some_and(|port| port.isolated)
}

/// `BR_STATE_FORWARDING`.
const FORWARDING: u8 = 3;

impl<'a> Walk<'a> {
    /// From a container's pair to the host or, over the bridge, to a neighbour.
    pub(super) fn enter_host(
        &mut self,
        attachment: &'a Attachment,
        next: IpAddr,
        (route, inner): (&FoundRoute, &Link),
    ) -> Way<Spot<'a>> {
        let veth = self.port(attachment)?;
        self.fits_link(&veth, None);
        self.is_shaped(&veth)?;
        let Some(bridge) = self.bridge_of(attachment) else {
            self.hop(&veth.name, format!("host end of {}", attachment.container));
            return self.host_receives(veth.index);
        };
        self.intercepted(&veth, true)?;
        let isolation = if isolated(&veth) { ", isolated from other isolated ports" } else { "" };
        self.hop(&veth.name, format!("port of bridge {}, forwarding{isolation}", bridge.name));
        self.entered = Some(attachment);
        self.packet.bridge = Some(bridge.name.clone());
        // Not the recorded one, which may have been changed inside.
        self.packet.source_mac = inner.mac.map(|mac| mac.0);
        self.set_input(&veth);
        self.packet.output = Some(String::new());
        self.packet.output_index = Some(0);
        let passed = hooks::pass(&mut self.host, &mut self.packet, Hook::Prerouting, true, &self.original)?;
        self.tell(&bridge.name, Hook::Prerouting, passed, false)?;
        let host_has = match next {
            // The host answers ARP for any address of its own, and ND for those of the interface.
            IpAddr::V4(_) => self.host.holder(next).is_some(),
            IpAddr::V6(_) => {
                self.host.addresses.iter().any(|a| a.index == bridge.index && a.address.ip() == next)
            }
        };
        if host_has {
            self.hop(&bridge.name, format!("bridge, and the host has {next}: it takes the packet"));
            self.packet.bridge = None;
            return self.host_receives(bridge.index);
        }
        let on_bridge = |other: &&'a Attachment| {
            other.bridge == attachment.bridge
                && other.addresses.iter().any(|own| own.ip() == next)
                && (other.container != attachment.container || other.interface != attachment.interface)
        };
        match self.attachments.iter().find(on_bridge) {
            Some(other) if next == self.destination() => self.bridged(attachment, other, &veth, &bridge),
            other => {
                let finding = self.nobody_has(attachment, next, route, &bridge, other);
                Err(self.ends(&bridge.name, finding))
            }
        }
    }

    /// The next hop is not where the container looks for it.
    fn nobody_has(
        &self,
        attachment: &Attachment,
        next: IpAddr,
        route: &FoundRoute,
        bridge: &Link,
        other: Option<&Attachment>,
    ) -> super::Finding {
        let who = &attachment.container;
        if route.gateway.is_none() {
            let what = format!(
                "nobody on bridge {} has {next}: no container is attached with that address",
                bridge.name
            );
            return surely(Fault::NoRoute, what, None);
        }
        let recorded = self.recorded_gateway(attachment);
        if recorded == Some(next) {
            let plan = self.plan_of(attachment).and_then(|plan| plan.bridge());
            let whole = plan.and_then(|step| step.gateways.iter().find(|gateway| gateway.ip() == next));
            let address = whole.map_or_else(|| next.to_string(), ToString::to_string);
            let what = format!("bridge {} does not have {next}, the gateway of container {who}", bridge.name);
            let mend = format!("ip address add {address} dev {}", bridge.name);
            return surely(Fault::GatewayMissing, what, Some(mend));
        }
        let whose = other.map_or_else(
            || "nobody has it".to_owned(),
            |other| format!("it is of container {}, which is no router", other.container),
        );
        let right = recorded.map(|gateway| format!(" (ADD gave it {gateway})")).unwrap_or_default();
        let what = format!("the route of container {who} leads to {next}, and {whose}{right}");
        let six = if next.is_ipv4() { "" } else { "-6 " };
        let mend = recorded.and_then(|gateway| {
            let command = format!("ip {six}route replace default via {gateway} dev {}", attachment.interface);
            inside_command(attachment, &command)
        });
        surely(Fault::DefaultRoute, what, mend)
    }

    /// From port to port.
    fn bridged(
        &mut self,
        from: &'a Attachment,
        to: &'a Attachment,
        input: &Link,
        bridge: &Link,
    ) -> Way<Spot<'a>> {
        let output = self.port(to)?;
        self.fits_link(&output, None);
        if isolated(input) && isolated(&output) {
            let what = format!(
                "both ports of bridge {} are isolated: containers {} and {} may not talk (the network keeps its containers apart)",
                bridge.name, from.container, to.container
            );
            let mend = format!("bridge link set dev {} isolated off", output.name);
            return Err(self.ends(&bridge.name, surely(Fault::Wall, what, Some(mend))));
        }
        self.packet.destination_mac = self.mac_of(to)?;
        let v4 = self.packet.is_ipv4();
        let seen_by_ip = ends::filters_bridged(v4);
        if seen_by_ip {
            self.hop(&bridge.name, "br_netfilter is on: the chains of IP see what stays on the bridge");
            self.bridged_hook(Hook::Prerouting, bridge)?;
        }
        self.set_input(input);
        self.set_output(&output);
        self.packet.bridge = Some(bridge.name.clone());
        let passed = hooks::pass(&mut self.host, &mut self.packet, Hook::Forward, true, &self.original)?;
        self.tell(&bridge.name, Hook::Forward, passed, false)?;
        if seen_by_ip {
            self.bridged_hook(Hook::Forward, bridge)?;
            self.bridged_hook(Hook::Postrouting, bridge)?;
        }
        // There a bridge's chains do not know where it came in.
        self.packet.input = Some(String::new());
        self.packet.input_index = Some(0);
        self.set_output(&output);
        self.packet.bridge = Some(bridge.name.clone());
        let passed = hooks::pass(&mut self.host, &mut self.packet, Hook::Postrouting, true, &self.original)?;
        self.tell(&bridge.name, Hook::Postrouting, passed, false)?;
        self.hop(&output.name, format!("out by the port of container {}", to.container));
        self.intercepted(&output, false)?;
        self.container_receives(to)
    }

    /// The hardware address that a container's interface has now.
    fn mac_of(&self, attachment: &Attachment) -> Result<Option<[u8; 6]>, super::ExplainError> {
        let site = self.inside(attachment)?;
        Ok(site.link(&attachment.interface).and_then(|link| link.mac).map(|mac| mac.0))
    }

    /// A hook of IP that `br_netfilter` sends a bridged packet through: the bridge is both its interfaces.
    fn bridged_hook(&mut self, hook: Hook, bridge: &Link) -> Way<()> {
        self.packet.bridge = None;
        self.packet.input = Some(if hook == Hook::Postrouting { String::new() } else { bridge.name.clone() });
        self.packet.input_index = Some(if hook == Hook::Postrouting { 0 } else { bridge.index });
        let leaves = hook != Hook::Prerouting;
        self.packet.output = Some(if leaves { bridge.name.clone() } else { String::new() });
        self.packet.output_index = Some(if leaves { bridge.index } else { 0 });
        self.know_addresses()?;
        let passed = hooks::pass(&mut self.host, &mut self.packet, hook, false, &self.original)?;
        self.tell(&bridge.name, hook, passed, true)
    }

    /// By whose port a packet came in over a bridge.
    fn entered_by(&self, bridge: &Link) -> Option<&'a Attachment> {
        self.entered.filter(|own| own.bridge.as_deref() == Some(&bridge.name))
    }

    /// Up from a bridge to the host: the bridge's own chains at input.
    pub(super) fn passed_up(&mut self, bridge: &Link) -> Way<()> {
        let Some(entered) = self.entered_by(bridge) else { return Ok(()) };
        let veth = self.port(entered)?;
        self.set_input(&veth);
        self.packet.bridge = Some(bridge.name.clone());
        let passed = hooks::pass(&mut self.host, &mut self.packet, Hook::Input, true, &self.original)?;
        self.tell(&bridge.name, Hook::Input, passed, false)?;
        self.packet.bridge = None;
        self.set_input(bridge);
        Ok(())
    }

    /// Whether a packet that is translated goes on over the bridge that it came in by and never reaches the host: with
    /// `br_netfilter` it is translated on the bridge itself (`br_nf_pre_routing_finish`).
    pub(super) fn is_turned(&self, bridge: &Link, route: &FoundRoute) -> bool {
        self.entered_by(bridge).is_some()
            && route.first_link() == Some(bridge.index)
            && ends::filters_bridged(self.packet.is_ipv4())
    }

    /// What is turned on a bridge goes from port to port: back out by the port that it came in by only where that lets
    /// it, never between isolated ones, and by the bridge's chains at forward.
    pub(super) fn turned_on_bridge(&mut self, bridge: &Link) -> Way<()> {
        let to = self.destination();
        let holds = |own: &&'a Attachment| {
            own.bridge.as_deref() == Some(&bridge.name) && own.addresses.iter().any(|own| own.ip() == to)
        };
        let (Some(from), Some(to)) = (self.entered_by(bridge), self.attachments.iter().find(holds)) else {
            return Ok(());
        };
        let (input, output) = (self.port(from)?, self.port(to)?);
        let hairpin = output.port.is_some_and(|port| port.hairpin);
        if input.index == output.index && !hairpin {
            let name = &output.name;
            let what = format!(
                "{name}, the port of container {}, does not send back out what came in by it (hairpin is off), and with br_netfilter on bridge {} sends the packet from port to port",
                to.container, bridge.name
            );
            let mend = format!("bridge link set dev {name} hairpin on");
            return Err(self.ends(&bridge.name, surely(Fault::HairpinOff, what, Some(mend))));
        }
        if isolated(&input) && isolated(&output) {
            let key = ends::bridged_parameter(self.packet.is_ipv4());
            let of = if input.index == output.index { "is" } else { "and that of the sender are" };
            let what = format!(
                "{}, the port of container {}, {of} isolated (the network keeps its containers apart), and with {key} on bridge {} sends even a published port's packets from port to port",
                output.name, to.container, bridge.name
            );
            let mend = format!("sysctl -w {key}=0");
            return Err(self.ends(&bridge.name, surely(Fault::Wall, what, Some(mend))));
        }
        self.set_input(&input);
        self.set_output(&output);
        self.packet.bridge = Some(bridge.name.clone());
        self.packet.destination_mac = self.mac_of(to)?;
        let passed = hooks::pass(&mut self.host, &mut self.packet, Hook::Forward, true, &self.original)?;
        self.tell(&bridge.name, Hook::Forward, passed, false)?;
        self.packet.bridge = None;
        Ok(())
    }

    /// Out by a bridge of the host's, to whoever has the next hop.
    pub(super) fn out_by_bridge(&mut self, bridge: &Link, next: IpAddr, turned: bool) -> Way<Spot<'a>> {
        let has = |other: &&'a Attachment| {
            other.bridge.as_deref() == Some(&bridge.name)
                && other.addresses.iter().any(|own| own.ip() == next)
        };
        if Some(next) != self.original.destination {
            self.has_it_alone()?;
        }
        let Some(to) = self.attachments.iter().find(has) else {
            let what = format!(
                "nobody on bridge {} has {next}: no container is attached with that address",
                bridge.name
            );
            return Err(self.ends(&bridge.name, surely(Fault::NoRoute, what, None)));
        };
        let output = self.port(to)?;
        self.fits_link(&output, None);
        self.packet.bridge = Some(bridge.name.clone());
        self.packet.input = Some(String::new());
        self.packet.input_index = Some(0);
        self.set_output(&output);
        self.packet.destination_mac = self.mac_of(to)?;
        // What is turned on the bridge has been in its chains at forward.
        let hooks = if turned { &[Hook::Postrouting][..] } else { &[Hook::Output, Hook::Postrouting] };
        for hook in hooks.iter().copied() {
            let passed = hooks::pass(&mut self.host, &mut self.packet, hook, true, &self.original)?;
            self.tell(&bridge.name, hook, passed, false)?;
        }
        self.hop(&output.name, format!("out by the port of container {}", to.container));
        self.intercepted(&output, false)?;
        self.container_receives(to)
    }

    /// The host's end of a container's pair, which must be up and a port of its bridge, and the bridge up too.
    fn port(&mut self, attachment: &Attachment) -> Way<Link> {
        let who = &attachment.container;
        let Some(name) = attachment.veth.as_deref() else {
            return Err(super::ExplainError::NoPair(who.clone()).into());
        };
        let Some(link) = self.host.link(name).cloned() else {
            let what = format!("the host end {name} of container {who} is gone");
            return Err(self.ends(name, surely(Fault::Detached, what, Some("linkspan reconcile".to_owned()))));
        };
        if !link.is_up() {
            let what = format!("{name}, the host end of container {who}, is down");
            return Err(
                self.ends(name, surely(Fault::LinkDown, what, Some(format!("ip link set {name} up"))))
            );
        }
        let Some(bridge_name) = attachment.bridge.as_deref() else { return Ok(link) };
        let Some(bridge) = self.host.link(bridge_name).cloned() else {
            let what = format!("the bridge {bridge_name} is gone");
            let mend = "linkspan reconcile".to_owned();
            return Err(self.ends(bridge_name, surely(Fault::Detached, what, Some(mend))));
        };
        if link.master != Some(bridge.index) {
            let now = link.master.and_then(|index| self.host.by_index(index)).map(|other| other.name.clone());
            let now = now.map_or_else(|| "of none".to_owned(), |other| format!("of {other}"));
            let what = format!(
                "{name}, the host end of container {who}, is not a port of bridge {bridge_name}, but {now}"
            );
            let mend = self.reattach(attachment, name, bridge_name);
            return Err(self.ends(name, surely(Fault::Detached, what, Some(mend))));
        }
        if !bridge.is_up() {
            let what = format!("the bridge {bridge_name} is down");
            let mend = format!("ip link set {bridge_name} up");
            return Err(self.ends(bridge_name, surely(Fault::LinkDown, what, Some(mend))));
        }
        if let Some(port) = link.port.filter(|port| port.state != FORWARDING) {
            // Whose other end is down does not forward, whatever it is told.
            self.is_up_inside(attachment)?;
            let what = format!(
                "{name} does not forward as a port of {bridge_name} (spanning tree state {})",
                port.state
            );
            let mend = format!("bridge link set dev {name} state {FORWARDING}");
            return Err(self.ends(name, surely(Fault::LinkDown, what, Some(mend))));
        }
        Ok(link)
    }

    /// A port that comes back has lost its options, which `reconcile` knows.
    fn reattach(&self, attachment: &Attachment, name: &str, bridge: &str) -> String {
        match self.plan_of(attachment) {
            Some(_) => "linkspan reconcile".to_owned(),
            None => format!("ip link set {name} master {bridge}"),
        }
    }

    fn bridge_of(&self, attachment: &Attachment) -> Option<Link> {
        attachment.bridge.as_deref().and_then(|name| self.host.link(name)).cloned()
    }

    pub(super) fn set_input(&mut self, link: &Link) {
        self.packet.input = Some(link.name.clone());
        self.packet.input_index = Some(link.index);
    }

    pub(super) fn set_output(&mut self, link: &Link) {
        self.packet.output = Some(link.name.clone());
        self.packet.output_index = Some(link.index);
    }
}
