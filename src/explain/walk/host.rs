//! Through the host: its routes, its chains, its own sockets.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use crate::model::Publication;
use crate::sys::rtnl::{FoundRoute, Link, RouteQuery};
use crate::view::Attachment;

use super::super::hooks::{self, Hook};
use super::super::way::Leg;
use super::super::{Fault, Finding, ends};
use super::container::{LOCAL, has_ports};
use super::{Spot, Walk, Way, interface_parameter, perhaps, surely};

/// `RTN_UNICAST`.
const UNICAST: u8 = 1;

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

    fn mark(&self) -> u32 {
        self.packet.mark.unwrap_or(0)
    }

    fn through(&mut self, place: &str, hook: Hook) -> Way<bool> {
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
        self.is_tracked()?;
        self.packet.bridge = None;
        self.set_input(&link);
        self.packet.output = Some(String::new());
        self.packet.output_index = Some(0);
        self.through("host", Hook::Prerouting)?;
        let query = RouteQuery {
            to: self.destination(),
            from: self.packet.source,
            input: Some(index),
            mark: self.mark(),
        };
        let route = self.host.route(&query)?;
        let is_local = self.host.kind_of(self.destination())? == u32::from(LOCAL);
        if let Some(finding) = self.input_refused(&link, route.as_ref().err().copied(), is_local)? {
            return Err(self.ends("host", finding));
        }
        match route {
            Ok(route) if route.kind == LOCAL => {
                self.through("host", Hook::Input)?;
                self.host_takes()
            }
            Ok(route) if route.kind == UNICAST => self.forward(&link, &route),
            Ok(route) => {
                let what =
                    format!("a route of the host refuses {} (type {})", self.destination(), route.kind);
                Err(self.ends("host", surely(Fault::NoRoute, what, self.show_route())))
            }
            Err(errno) => {
                let finding = self.no_route(errno);
                Err(self.ends("host", finding))
            }
        }
    }

    /// Why the kernel does not take what comes in by an interface: the checks of `fib_validate_source` and those before
    /// it, in their order.
    fn input_refused(&mut self, link: &Link, errno: Option<Errno>, is_local: bool) -> Way<Option<Finding>> {
        let v4 = self.packet.is_ipv4();
        let name = &link.name;
        let (source, to) = (self.packet.source, self.destination());
        let loopback = [source, Some(to)].into_iter().flatten().any(|address| address.is_loopback());
        if v4 && loopback && name != "lo" {
            let on = |place: &str| interface_parameter(&self.host, true, place, "route_localnet") == Some(1);
            if !on(name) && !on("all") {
                return Ok(Some(self.localnet_off(name)));
            }
        }
        if !is_local && !self.forwards(name) {
            let (key, what) = if v4 {
                ("net.ipv4.ip_forward", "the host forwards no IPv4")
            } else {
                ("net.ipv6.conf.all.forwarding", "the host forwards no IPv6")
            };
            let all = self.host.parameter(if v4 { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" });
            let (key, what) = if all == Some(0) {
                (key.to_owned(), format!("{what}: {key} is 0"))
            } else {
                let own = format!("net.ipv4.conf.{name}.forwarding");
                let what = format!("the host does not forward what comes in by {name}: {own} is 0");
                (own, what)
            };
            return Ok(Some(surely(Fault::ForwardingOff, what, Some(format!("sysctl -w {key}=1")))));
        }
        if v4 && errno.is_some() {
            return self.reverse_path(name);
        }
        Ok(None)
    }

    fn forwards(&self, interface: &str) -> bool {
        if self.packet.is_ipv4() {
            return interface_parameter(&self.host, true, interface, "forwarding") != Some(0);
        }
        self.host.parameter("ipv6/conf/all/forwarding") != Some(0)
            || interface_parameter(&self.host, false, interface, "force_forwarding") == Some(1)
    }

    /// `rp_filter`, where the way back to the source does not leave by the interface.
    fn reverse_path(&mut self, name: &str) -> Way<Option<Finding>> {
        let filter = interface_parameter(&self.host, true, "all", "rp_filter")
            .max(interface_parameter(&self.host, true, name, "rp_filter"))
            .unwrap_or(0);
        let Some(source) = self.packet.source.filter(|_| filter > 0) else { return Ok(None) };
        if self.host.holder(source).is_some() {
            let what = format!(
                "{source}, the source, is an address of the host itself, and comes in by {name}: the kernel takes that for a forgery"
            );
            return Ok(Some(surely(Fault::ReversePath, what, None)));
        }
        let query = RouteQuery { to: source, from: None, input: None, mark: self.mark() };
        let back = self.host.route(&query)?.ok().and_then(|route| route.oif);
        let back = back.and_then(|index| self.host.by_index(index)).map(|link| link.name.clone());
        if back.as_deref() == Some(name) || (filter == 2 && back.is_some()) {
            return Ok(None);
        }
        let way = back.map_or_else(|| "nowhere".to_owned(), |back| format!("by {back}"));
        let what = format!(
            "{source} comes in by {name}, but the way back to it leads {way}: reverse path filtering drops it (rp_filter of {name} or of all is {filter})"
        );
        let mend = format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
        Ok(Some(surely(Fault::ReversePath, what, Some(mend))))
    }

    fn localnet_off(&self, interface: &str) -> Finding {
        let what = format!(
            "route_localnet of {interface} is off: what comes from 127.0.0.1 does not leave by it, and answers to it do not come in"
        );
        let mend = format!("sysctl -w net.ipv4.conf.{interface}.route_localnet=1");
        surely(Fault::LocalnetOff, what, Some(mend))
    }

    fn show_route(&self) -> Option<String> {
        Some(format!("ip route get {}", self.destination()))
    }

    fn no_route(&self, errno: Errno) -> Finding {
        let to = self.destination();
        let six = if to.is_ipv4() { "" } else { "-6 " };
        let mend = match errno {
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => {
                format!("ip {six}route add default via GATEWAY dev UPLINK")
            }
            _ => format!("ip {six}route show table all"),
        };
        surely(Fault::NoRoute, format!("the host has no route to {to}: {}", errno.desc()), Some(mend))
    }

    /// On, out by another interface.
    fn forward(&mut self, input: &Link, route: &FoundRoute) -> Way<Spot<'a>> {
        let output = self.leaves_by(route)?;
        self.overlapped(&output)?;
        let next = route.gateway.unwrap_or(self.destination());
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        self.hop("host", format!("route to {}{via} dev {}: forwarded", self.destination(), output.name));
        self.fits_route(&output, route);
        self.set_input(input);
        self.set_output(&output);
        self.through("host", Hook::Forward)?;
        self.through("host", Hook::Postrouting)?;
        if input.index == output.index {
            self.turned_on_bridge(&output)?;
        }
        self.emit(&output, next)
    }

    fn leaves_by(&mut self, route: &FoundRoute) -> Way<Link> {
        let index = route.oif.or_else(|| route.multipath.first().copied());
        match index.and_then(|index| self.host.by_index(index)) {
            Some(link) => Ok(link.clone()),
            None => {
                let finding = self.no_route(Errno::ENETUNREACH);
                Err(self.ends("host", finding))
            }
        }
    }

    /// What is for a container must leave by its bridge.
    fn overlapped(&mut self, output: &Link) -> Way<()> {
        let to = self.destination();
        let holder = self.attachments.iter().find(|own| own.addresses.iter().any(|a| a.ip() == to));
        let Some(holder) = holder else { return Ok(()) };
        let own = holder.bridge.as_deref().or(holder.veth.as_deref());
        if own.is_none_or(|own| own == output.name || self.host.link(own).is_none()) {
            return Ok(());
        }
        let own = own.unwrap_or_default();
        if let Some(link) = self.host.link(own).filter(|link| !link.is_up()) {
            let what = format!("{} is down, and its routes with it", link.name);
            let mend = format!("ip link set {} up", link.name);
            return Err(self.ends(own, surely(Fault::LinkDown, what, Some(mend))));
        }
        let v4 = self.packet.is_ipv4();
        let routes = self.host.routes(v4)?;
        let covering = routes
            .iter()
            .filter(|route| route.oif == Some(output.index) && route.dst.contains(to))
            .max_by_key(|route| route.dst.prefix());
        let wanted: Vec<_> = self
            .plan_of(holder)
            .and_then(|plan| plan.bridge())
            .map(|b| b.gateways.clone())
            .unwrap_or_default();
        let gateway = wanted.iter().find(|gateway| gateway.is_ipv4() == v4);
        if let (Some(gateway), None | Some(0)) = (gateway, covering.map(|route| route.dst.prefix()))
            && self.host.holder(gateway.ip()).is_none()
        {
            let what = format!(
                "bridge {own} does not have {}, the gateway of container {}, and so the host has no route to its network",
                gateway.ip(),
                holder.container
            );
            let mend = format!("ip address add {gateway} dev {own}");
            return Err(self.ends("host", surely(Fault::GatewayMissing, what, Some(mend))));
        }
        let six = if v4 { "" } else { "-6 " };
        let (which, mend) = match covering {
            Some(route) => (
                format!("the host's route {} dev {}", route.dst, output.name),
                format!("ip {six}route del {} dev {}", route.dst, output.name),
            ),
            None => (
                format!("a route by {}", output.name),
                format!("ip {six}rule show && ip {six}route show table all"),
            ),
        };
        let what = format!(
            "{which} covers {to} of container {}, which is on {own}: the packet leaves by {}",
            holder.container, output.name
        );
        Err(self.ends("host", surely(Fault::OverlappingRoute, what, Some(mend))))
    }

    /// Out by an interface.
    fn emit(&mut self, output: &Link, next: IpAddr) -> Way<Spot<'a>> {
        if !output.is_up() {
            let what = format!("{} is down", output.name);
            let mend = format!("ip link set {} up", output.name);
            return Err(self.ends(&output.name, surely(Fault::LinkDown, what, Some(mend))));
        }
        let is_ours = |own: &&Attachment| own.bridge.as_deref() == Some(&output.name);
        if output.kind.as_deref() == Some("bridge") && self.attachments.iter().any(|own| is_ours(&own)) {
            return self.out_by_bridge(output, next);
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
        let what = format!("leaves the host by {} for {}, from {}", output.name, self.goal(), self.sender());
        self.hop(&output.name, what);
        Ok(Spot::Outside(output.index))
    }

    /// To a socket of the host's.
    fn host_takes(&mut self) -> Way<Spot<'a>> {
        if self.leg == Leg::Back {
            self.hop("host", format!("the answer is back, from {}", self.sender()));
            return Ok(Spot::Host);
        }
        let pair = self.transport.protocol().zip(self.packet.destination_port);
        let Some((protocol, port)) = pair.filter(|_| has_ports(self.transport)) else {
            self.hop("host", "the kernel of the host answers the echo request");
            return Ok(Spot::Host);
        };
        let at = SocketAddr::new(self.destination(), port);
        let finding = ends::listener(None, protocol, at, "the host")?.into_iter().next();
        let Some(finding) = finding else {
            self.follows_the_rules(at)?;
            self.hop("host", format!("a process of the host takes {protocol} at {at}"));
            if self.wanted.is_some() {
                let own =
                    self.wanted.map(|own| crate::model::AttachmentKey::new(&own.container, &own.interface));
                let found = ends::host_port(protocol, at, own.as_ref(), self.attachments, None)?;
                if let Some(finding) = found.into_iter().next() {
                    return Err(self.ends("host", finding));
                }
            }
            return Ok(Spot::Host);
        };
        let wanted = Publication { protocol, host: at, target: at, count: 1 };
        let recorded = self.attachments.iter().find_map(|own| {
            let port = own.ports.iter().find(|port| port.collides(&wanted))?;
            Some((own, port))
        });
        let finding = match recorded {
            Some((own, port)) => self.unpublished(own, port),
            None => self.not_published(at, finding),
        };
        Err(self.ends("host", finding))
    }

    /// A record says that the port leads to a container, and no rule did it.
    fn unpublished(&self, own: &Attachment, port: &Publication) -> Finding {
        let what = format!(
            "port {port} is container {}'s by its record, and no rule sends the packet there: the rules are gone",
            own.container
        );
        let mend = Some("linkspan reconcile".to_owned());
        surely(Fault::RulesMissing, what, mend)
    }

    /// Nobody publishes the port, and nobody listens on it.
    fn not_published(&self, at: SocketAddr, finding: Finding) -> Finding {
        if finding.fault == Fault::ListensOnLoopback {
            return finding;
        }
        let protocol = self.transport;
        let same_port = self.attachments.iter().find_map(|own| {
            let found = own.ports.iter().find(|port| {
                Some(port.protocol) == protocol.protocol()
                    && (port.host.port()..=port.last_host_port()).contains(&at.port())
            })?;
            Some((own, found))
        });
        let (also, mend) = match same_port {
            Some((own, port)) => (
                format!("; container {} publishes the port at {} only", own.container, port.host),
                format!("ask for {}, or publish the port on all addresses", port.host),
            ),
            None => (
                String::new(),
                "publish it at the container's ADD (portMappings); 'linkspan ports' lists what is published"
                    .to_owned(),
            ),
        };
        let what =
            format!("nothing publishes {protocol} {at}, and no process of the host listens there{also}");
        surely(Fault::NotPublished, what, Some(mend))
    }

    /// Out of a socket of the host's.
    pub(super) fn leave_host(&mut self) -> Way<Spot<'a>> {
        let query = RouteQuery { to: self.destination(), from: self.packet.source, input: None, mark: 0 };
        let mut route = match self.host.route(&query)? {
            Ok(route) => route,
            Err(errno) => {
                let finding = self.no_route(errno);
                return Err(self.ends("host", finding));
            }
        };
        let mut output = self.leaves_by(&route)?;
        let v4 = self.packet.is_ipv4();
        if self.packet.source.is_none() {
            let own = || self.host.addresses_of(output.index, v4).first().copied();
            self.packet.source = route.source.or_else(own);
        }
        if self.leg == Leg::There {
            self.keep_original();
        }
        self.hop("host", format!("sends from {} to {} by {}", self.sender(), self.goal(), output.name));
        self.set_output(&output);
        self.is_tracked()?;
        let before = self.packet.destination;
        self.through("host", Hook::Output)?;
        if self.packet.destination != before {
            let query = RouteQuery {
                to: self.destination(),
                from: self.packet.source,
                input: None,
                mark: self.mark(),
            };
            route = match self.host.route(&query)? {
                Ok(route) => route,
                Err(errno) => {
                    let finding = self.cannot_turn(errno)?;
                    return Err(self.ends("host", finding));
                }
            };
            output = self.leaves_by(&route)?;
            self.hop("host", format!("route to {} dev {}", self.destination(), output.name));
            self.set_output(&output);
        }
        self.sends_by("the host", &output);
        if route.kind == LOCAL {
            return self.within_host(&output);
        }
        self.overlapped(&output)?;
        self.through("host", Hook::Postrouting)?;
        let next = route.gateway.unwrap_or(self.destination());
        self.emit(&output, next)
    }

    /// What is translated on its way out is routed again, and may not leave.
    fn cannot_turn(&mut self, errno: Errno) -> Way<Finding> {
        let query = RouteQuery { to: self.destination(), from: None, input: None, mark: 0 };
        let by = self.host.route(&query)?.ok().and_then(|route| route.oif);
        let by = by.and_then(|index| self.host.by_index(index)).map(|link| link.name.clone());
        Ok(match by {
            Some(by) if self.packet.source.is_some_and(|source| source.is_loopback()) => {
                self.localnet_off(&by)
            }
            _ => self.no_route(errno),
        })
    }

    /// From the host to itself.
    fn within_host(&mut self, output: &Link) -> Way<Spot<'a>> {
        self.through("host", Hook::Postrouting)?;
        let link = self.host.link("lo").cloned().unwrap_or_else(|| output.clone());
        self.set_input(&link);
        self.packet.output = Some(String::new());
        self.packet.output_index = Some(0);
        self.original.settled = true;
        for hook in [Hook::Prerouting, Hook::Input] {
            self.through("host", hook)?;
        }
        self.host_takes()
    }
}
