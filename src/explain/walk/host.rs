//! Through the host: its routes, its chains, its own sockets.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::plan::Step;
use crate::sys::rtnl::{Address, FoundRoute, Link, RouteQuery};
use crate::view::Attachment;

use super::super::hooks::{self, Hook};
use super::super::way::Leg;
use super::super::{Fault, ends};
use super::container::LOCAL;
use super::{Spot, Walk, Way, perhaps, surely};

impl<'a> Walk<'a> {
    /// What the routing tables say of both addresses.
    pub(super) fn know_addresses(&mut self) -> Way<()> {
        let (source, destination) = (self.packet.source, self.packet.destination);
        if let Some(source) = source {
            self.packet.source_type = Some(self.host.kind_of(source)?);
            let query = RouteQuery { to: source, from: None, input: None, mark: self.mark() };
            let back = self.host.route(&query)?.ok().and_then(|route| route.oif);
            self.packet.reverse_path = Some(back.is_some() && back == self.packet.input_index);
        }
        if let Some(destination) = destination {
            self.packet.destination_type = Some(self.host.kind_of(destination)?);
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> u32 {
        self.packet.mark.unwrap_or(0)
    }

    pub(super) fn through(&mut self, place: &str, hook: Hook) -> Way<bool> {
        self.know_addresses()?;
        let passed = hooks::pass(&mut self.host, &mut self.packet, hook, false, &self.original)?;
        let redirected = passed.redirected;
        self.tell(place, hook, passed, false)?;
        Ok(redirected)
    }

    /// In by an interface: to the host itself, or on to where the routes lead.
    pub(super) fn host_receives(&mut self, index: u32) -> Way<Spot<'a>> {
        let link = self.host.by_index(index).cloned().unwrap_or_default();
        if !link.is_up() {
            let what = format!("{} of the host is down", link.name);
            let mend = format!("ip link set {} up", link.name);
            return Err(self.ends(&link.name, surely(Fault::LinkDown, what, Some(mend))));
        }
        self.intercepted(&link, true)?;
        self.is_tracked()?;
        self.packet.bridge = None;
        self.set_input(&link);
        self.packet.output = Some(String::new());
        self.packet.output_index = Some(0);
        let seen_by_ip = ends::filters_bridged(self.packet.is_ipv4());
        if !seen_by_ip {
            self.passed_up(&link)?;
        }
        let before = self.packet.destination;
        self.through("host", Hook::Prerouting)?;
        let translated = self.packet.destination != before;
        let query = RouteQuery {
            to: self.destination(),
            from: self.packet.source,
            input: Some(index),
            mark: self.mark(),
        };
        let route = self.host.route(&query)?;
        let turned = translated && route.as_ref().is_ok_and(|route| self.is_turned(&link, route));
        if seen_by_ip && !turned {
            self.passed_up(&link)?;
        }
        let is_local = self.host.kind_of(self.destination())? == u32::from(LOCAL);
        if let Some(finding) = self.input_refused(&link, route.as_ref().err().copied(), is_local)? {
            return Err(self.ends("host", finding));
        }
        match route {
            Ok(route) if route.kind == LOCAL => {
                self.through("host", Hook::Input)?;
                self.host_takes()
            }
            Ok(route) if route.kind == FoundRoute::UNICAST => self.forward(&link, &route, turned),
            Ok(route) => {
                let what =
                    format!("a route of the host refuses {} (type {})", self.destination(), route.kind);
                Err(self.ends("host", surely(Fault::NoRoute, what, self.show_route())))
            }
            Err(errno) => {
                self.overlapped(None)?;
                let finding = self.no_route(errno);
                Err(self.ends("host", finding))
            }
        }
    }

    /// What sees a packet on a link of the host's and is not followed.
    pub(super) fn intercepted(&mut self, link: &Link, incoming: bool) -> Way<()> {
        let found = self.host.interceptors(link, incoming)?;
        self.doubt(found);
        Ok(())
    }

    /// What a container sends passes the device that limits its rate: where that is down or gone, nothing does.
    pub(super) fn is_shaped(&mut self, veth: &Link) -> Way<()> {
        let records = self.reading.records.attachments.iter();
        let steps = records.flat_map(|found| &found.record.plan.steps);
        let mut shapes = steps.filter_map(|step| match step {
            Step::Shape(shape) if shape.host_name == veth.name && shape.shaping.egress.is_some() => {
                Some(shape)
            }
            _ => None,
        });
        let Some(shape) = shapes.next() else { return Ok(()) };
        let device = self.host.link(&shape.ifb_name);
        let state = match device {
            Some(device) if device.is_up() => return Ok(()),
            Some(_) => "down",
            None => "gone",
        };
        // The number of a device that is gone is 0.
        let to = device.map_or(0, |device| device.index);
        if !self.host.redirects(veth)?.contains(&to) {
            return Ok(());
        }
        let name = &shape.ifb_name;
        let what = format!(
            "{name}, the device that limits what {} takes in, is {state}: nothing of what the container sends arrives",
            veth.name
        );
        let mend = Some("linkspan reconcile".to_owned());
        Err(self.ends(&veth.name, surely(Fault::LinkDown, what, mend)))
    }

    /// What is not known, each once.
    pub(super) fn doubt(&mut self, unknown: Vec<String>) {
        for words in unknown {
            if !self.unknown.contains(&words) {
                self.unknown.push(words);
            }
        }
    }

    /// On, out by another interface.
    fn forward(&mut self, input: &Link, route: &FoundRoute, turned: bool) -> Way<Spot<'a>> {
        let output = self.leaves_by(route)?;
        self.overlapped(Some(&output))?;
        let next = route.gateway.unwrap_or(self.destination());
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        self.hop("host", format!("route to {}{via} dev {}: forwarded", self.destination(), output.name));
        self.fits_route(&output, route);
        if turned {
            self.turned_on_bridge(&output)?;
        }
        self.set_input(input);
        self.set_output(&output);
        self.through("host", Hook::Forward)?;
        self.through("host", Hook::Postrouting)?;
        if turned {
            return self.out_by_bridge(&output, next, true);
        }
        self.emit(&output, next)
    }

    pub(super) fn leaves_by(&mut self, route: &FoundRoute) -> Way<Link> {
        let index = route.first_link();
        match index.and_then(|index| self.host.by_index(index)) {
            Some(link) => Ok(link.clone()),
            None => {
                let finding = self.no_route(Errno::ENETUNREACH);
                Err(self.ends("host", finding))
            }
        }
    }

    /// Out by an interface.
    pub(super) fn emit(&mut self, output: &Link, next: IpAddr) -> Way<Spot<'a>> {
        if !output.is_up() {
            let what = format!("{} is down", output.name);
            let mend = format!("ip link set {} up", output.name);
            return Err(self.ends(&output.name, surely(Fault::LinkDown, what, Some(mend))));
        }
        self.intercepted(output, false)?;
        let is_ours = |own: &&Attachment| own.bridge.as_deref() == Some(&output.name);
        if output.kind.as_deref() == Some("bridge") && self.attachments.iter().any(|own| is_ours(&own)) {
            return self.out_by_bridge(output, next, false);
        }
        let routed = self
            .attachments
            .iter()
            .find(|own| own.bridge.is_none() && own.veth.as_deref() == Some(&output.name));
        if let Some(to) = routed {
            self.hop(&output.name, format!("out to container {}", to.container));
            return self.container_receives(to);
        }
        self.leaves_host(output)
    }

    /// Beyond the host nothing is known but whether an answer can be addressed.
    fn leaves_host(&mut self, output: &Link) -> Way<Spot<'a>> {
        let source = self.packet.source;
        let sender = self.attachments.iter().find(|own| own.addresses.iter().any(|a| Some(a.ip()) == source));
        if let Some(sender) = sender.filter(|_| self.leg == Leg::There) {
            let rules = self.plan_of(sender).and_then(|plan| plan.firewall()).map(|step| &step.network);
            let inside = |rules: &crate::firewall::NetworkRules| {
                rules.inside.iter().any(|subnet| subnet.contains(self.destination()))
            };
            if rules.is_some_and(|rules| rules.masquerade && !inside(rules)) {
                let what = format!(
                    "it leaves by {} with the container's own address {} as its source, which nobody outside can answer: the records want it masqueraded, and no rule does so",
                    output.name,
                    self.sender()
                );
                let mend = Some("linkspan reconcile".to_owned());
                return Err(self.ends(&output.name, perhaps(Fault::RulesMissing, what, mend)));
            }
            let note = format!(
                "whether those outside have a route back to {}, which is not masqueraded",
                self.sender()
            );
            self.unknown.push(note);
        }
        self.gets_the_answer(output)?;
        let what = format!("leaves the host by {} for {}, from {}", output.name, self.goal(), self.sender());
        self.hop(&output.name, what);
        if self.leg == Leg::There {
            self.unknown.push(format!("what becomes of it beyond {}", output.name));
        }
        Ok(Spot::Outside(output.index))
    }

    /// An answer to an address that packets leave with comes back where the host has it.
    fn gets_the_answer(&mut self, output: &Link) -> Way<()> {
        let Some(source) = self.packet.source.filter(|_| self.leg == Leg::There && self.packet.masqueraded)
        else {
            return Ok(());
        };
        if self.host.kind_of(source)? == u32::from(LOCAL) {
            return Ok(());
        }
        let is_near = |own: &&Address| own.index == output.index && own.address.contains(source);
        let name = &output.name;
        let Some(near) = self.host.addresses.iter().find(|own| is_near(own)) else {
            self.unknown.push(format!(
                "whether a router sends answers to {source} here, which the packet leaves with and the host does not have"
            ));
            return Ok(());
        };
        let what = format!(
            "it leaves by {name} with the source {source}, which the host does not have: its neighbours there ask for it, and nobody answers"
        );
        let mend = format!("ip address add {source}/{} dev {name}", near.address.prefix());
        Err(self.ends(name, perhaps(Fault::NoRoute, what, Some(mend))))
    }
}
