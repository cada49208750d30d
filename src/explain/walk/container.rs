//! Out of a container, and into one.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use crate::sys::rtnl::{FoundRoute, Link, RouteQuery};
use crate::sys::{Netns, NetnsId};
use crate::view::Attachment;

use super::super::hooks::{self, Hook};
use super::super::query::Transport;
use super::super::site::{Inside, Site};
use super::super::way::Leg;
use super::super::{ExplainError, Fault, ends};
use super::{Spot, Walk, Way, interface_parameter, surely};

/// `RTN_LOCAL`.
pub(super) const LOCAL: u8 = 2;

impl<'a> Walk<'a> {
    /// The namespace of a container, which must be the one that is recorded.
    pub(super) fn inside(&self, attachment: &Attachment) -> Result<Site, ExplainError> {
        let gone = || ExplainError::Gone(attachment.container.clone());
        let path = attachment.sandbox.as_deref().ok_or_else(gone)?;
        let netns = Netns::open(path).map_err(crate::sys::SysError::from)?;
        let recorded = self.plan_of(attachment).and_then(|plan| plan.link()).map(|link| &link.sandbox);
        let expected = recorded.map(|sandbox| NetnsId { device: sandbox.device, inode: sandbox.inode });
        let found = netns.identity().map_err(crate::sys::SysError::from)?;
        if expected.is_some_and(|expected| expected != found) {
            return Err(gone());
        }
        Ok(Site::open_inside(netns, &Inside::new(&attachment.container, path))?)
    }

    /// By its own route, through its own chains, to the host's end of its pair.
    pub(super) fn leave_container(&mut self, attachment: &'a Attachment) -> Way<Spot<'a>> {
        let mut site = self.inside(attachment)?;
        let who = format!("container {}", attachment.container);
        let query = RouteQuery { to: self.destination(), from: self.packet.source, input: None, mark: 0 };
        let route = match site.route(&query)? {
            Ok(route) => route,
            Err(errno) => {
                let finding = self.no_way_out(&mut site, attachment, errno)?;
                return Err(self.ends(who, finding));
            }
        };
        let link = route.oif.and_then(|index| site.by_index(index)).cloned().unwrap_or_default();
        if self.packet.source.is_none() {
            let v4 = self.packet.is_ipv4();
            self.packet.source = route.source.or_else(|| site.addresses_of(link.index, v4).first().copied());
        }
        if self.leg == Leg::There {
            self.keep_original();
        }
        let source = self.sender();
        if route.kind == LOCAL {
            self.hop(&who, format!("{} is its own address: it does not leave it", self.destination()));
            return self.arrive(&mut site, attachment);
        }
        let attachment = self.by_interface(attachment, &link.name)?;
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let to = matched(&site.routes(self.packet.is_ipv4())?, &route, self.destination());
        self.hop(&who, format!("route {to}{via} dev {}, source {source}", link.name));
        self.sends_by(&who, &link);
        if !link.is_up() {
            let what = format!("{} of container {} is down", link.name, attachment.container);
            let mend = inside_command(attachment, &format!("ip link set {} up", link.name));
            return Err(self.ends(who, surely(Fault::LinkDown, what, mend)));
        }
        self.packet.output = Some(link.name.clone());
        self.packet.output_index = Some(link.index);
        for hook in [Hook::Output, Hook::Postrouting] {
            let passed = hooks::pass_inside(&mut site, &mut self.packet, hook)?;
            self.tell(&who, hook, passed, false)?;
        }
        self.unseen_inside(&mut site, attachment, (&link, false))?;
        let next = route.gateway.unwrap_or(self.destination());
        self.enter_host(attachment, next, (&route, &link))
    }

    /// The attachment of the same container by the interface that its route leaves by.
    fn by_interface(&self, from: &'a Attachment, interface: &str) -> Result<&'a Attachment, ExplainError> {
        if from.interface == interface {
            return Ok(from);
        }
        let same = |other: &&Attachment| other.container == from.container && other.interface == interface;
        let found = self.attachments.iter().find(same);
        found.ok_or_else(|| ExplainError::NoPair(format!("{}:{interface}", from.container)))
    }

    /// Why a container's own routes lead nowhere.
    fn no_way_out(
        &self,
        site: &mut Site,
        attachment: &Attachment,
        errno: Errno,
    ) -> Result<super::Finding, ExplainError> {
        let v4 = self.packet.is_ipv4();
        let routes = site.routes(v4)?;
        let who = &attachment.container;
        let link = site.link(&attachment.interface);
        if link.is_none() {
            return Ok(self.link_gone(site, attachment));
        }
        if link.is_some_and(|link| !link.is_up()) {
            let what = format!(
                "{} of container {who} is down, and with it its routes are gone",
                attachment.interface
            );
            let mend = inside_command(attachment, &format!("ip link set {} up", attachment.interface));
            return Ok(surely(Fault::LinkDown, what, mend));
        }
        let is_internal =
            self.plan_of(attachment).and_then(|plan| plan.firewall()).is_some_and(|f| f.network.internal);
        if is_internal {
            let what = format!(
                "network {} of container {who} is internal: it has no way out, and was given no route to {}",
                attachment.network,
                self.destination()
            );
            return Ok(surely(Fault::Wall, what, None));
        }
        if !routes.iter().any(|route| route.dst.prefix() == 0) {
            let what = format!("container {who} has no default route, and none to {}", self.destination());
            let mend = self.recorded_gateway(attachment).and_then(|gateway| {
                let six = if v4 { "" } else { "-6 " };
                inside_command(
                    attachment,
                    &format!("ip {six}route add default via {gateway} dev {}", attachment.interface),
                )
            });
            return Ok(surely(Fault::DefaultRoute, what, mend));
        }
        let what = format!("a route of container {who} refuses {}: {}", self.destination(), errno.desc());
        Ok(surely(Fault::NoRoute, what, inside_command(attachment, "ip route show table all")))
    }

    /// The gateway that ADD gave a container, of the packet's family.
    pub(super) fn recorded_gateway(&self, attachment: &Attachment) -> Option<IpAddr> {
        let plan = self.plan_of(attachment)?;
        let v4 = self.packet.is_ipv4();
        let by_route = plan.interface().into_iter().flat_map(|interface| {
            interface.routes.iter().filter(|route| route.dst.prefix() == 0).filter_map(|route| route.gw)
        });
        let by_bridge =
            plan.bridge().into_iter().flat_map(|bridge| bridge.gateways.iter().map(ipnetwork::IpNetwork::ip));
        by_route.chain(by_bridge).find(|gateway| gateway.is_ipv4() == v4)
    }

    /// Whether a container's interface is there and up.
    pub(super) fn is_up_inside(&mut self, attachment: &Attachment) -> Way<()> {
        let site = self.inside(attachment)?;
        self.up_in(&site, attachment).map(|_| ())
    }

    fn up_in(&mut self, site: &Site, attachment: &Attachment) -> Way<Link> {
        let (name, who) = (&attachment.interface, &attachment.container);
        let finding = match site.link(name) {
            Some(link) if link.is_up() => return Ok(link.clone()),
            Some(_) => {
                let what = format!("{name} of container {who} is down");
                let mend = inside_command(attachment, &format!("ip link set {name} up"));
                surely(Fault::LinkDown, what, mend)
            }
            None => self.link_gone(site, attachment),
        };
        Err(self.ends(format!("container {who}"), finding))
    }

    /// Into a container by its interface.
    pub(super) fn container_receives(&mut self, attachment: &'a Attachment) -> Way<Spot<'a>> {
        let mut site = self.inside(attachment)?;
        let who = format!("container {}", attachment.container);
        let link = self.up_in(&site, attachment)?;
        self.fits_link(&link, Some(attachment));
        self.unseen_inside(&mut site, attachment, (&link, true))?;
        self.packet.bridge = None;
        self.packet.input = Some(link.name.clone());
        self.packet.input_index = Some(link.index);
        self.packet.output = Some(String::new());
        self.packet.output_index = Some(0);
        self.packet.mark = Some(0);
        let passed = hooks::pass_inside(&mut site, &mut self.packet, Hook::Prerouting)?;
        self.tell(&who, Hook::Prerouting, passed, false)?;
        let source = self.packet.source;
        let query = RouteQuery { to: self.destination(), from: source, input: Some(link.index), mark: 0 };
        if self.leg == Leg::There && source.is_some_and(|source| site.holder(source).is_some()) {
            let what = format!(
                "container {} gets its own packet back with its own address {} as the source, and drops it: nothing masquerades what goes back out by the bridge that it came in by",
                attachment.container,
                self.sender()
            );
            let mend = "set \"snat\": true (or leave the key out) in the network's configuration, and attach a container to it";
            return Err(self.ends(who, surely(Fault::HairpinOff, what, Some(mend.to_owned()))));
        }
        let filtered = interface_parameter(&site, true, "all", "rp_filter").max(interface_parameter(
            &site,
            true,
            &link.name,
            "rp_filter",
        ));
        let route = site.route(&query)?;
        let is_local = route.as_ref().is_ok_and(|route| route.kind == LOCAL);
        if !is_local && site.holder(self.destination()).is_none() {
            let what = format!(
                "container {} does not have the address {}",
                attachment.container,
                self.destination()
            );
            let mend = self.lost_address(attachment);
            return Err(self.ends(who, surely(Fault::NoRoute, what, mend)));
        }
        if !is_local {
            let strict = filtered.unwrap_or(0);
            let what = format!(
                "container {} has no way back to {} by {} and its rp_filter is {strict}: its kernel drops the packet",
                attachment.container,
                self.sender(),
                link.name
            );
            let mend = self.recorded_gateway(attachment).and_then(|gateway| {
                let command = format!("ip route add default via {gateway} dev {}", attachment.interface);
                inside_command(attachment, &command)
            });
            let fault = if site.routes(self.packet.is_ipv4())?.iter().any(|r| r.dst.prefix() == 0) {
                Fault::ReversePath
            } else {
                Fault::DefaultRoute
            };
            return Err(self.ends(who, surely(fault, what, mend)));
        }
        self.arrive(&mut site, attachment)
    }

    /// What sees a packet on a container's link and is not followed.
    fn unseen_inside(
        &mut self,
        site: &mut Site,
        attachment: &Attachment,
        (link, incoming): (&Link, bool),
    ) -> Way<()> {
        let found = site.interceptors(link, incoming)?;
        self.doubt(
            found.into_iter().map(|what| format!("in container {}, {what}", attachment.container)).collect(),
        );
        Ok(())
    }

    /// The command that gives a container an address back that ADD gave it.
    fn lost_address(&self, attachment: &Attachment) -> Option<String> {
        let address = attachment.addresses.iter().find(|own| own.ip() == self.destination())?;
        inside_command(attachment, &format!("ip address add {address} dev {}", attachment.interface))
    }

    /// Through a container's input chains to its socket.
    fn arrive(&mut self, site: &mut Site, attachment: &'a Attachment) -> Way<Spot<'a>> {
        let who = format!("container {}", attachment.container);
        let passed = hooks::pass_inside(site, &mut self.packet, Hook::Input)?;
        self.tell(&who, Hook::Input, passed, false)?;
        let whose = format!("container {}", attachment.container);
        if self.leg == Leg::There {
            self.socket(site, &who, &whose)?;
        } else {
            self.hop(&who, format!("the answer is back, from {}", self.sender()));
        }
        Ok(Spot::Container(attachment))
    }

    /// The container's end of its pair is not there. Where the host's end is, it has another name, or is in another
    /// namespace, which only the container's own start mends.
    fn link_gone(&self, site: &Site, attachment: &Attachment) -> super::Finding {
        let (name, who) = (&attachment.interface, &attachment.container);
        let Some(veth) = attachment.veth.as_deref().and_then(|name| self.host.link(name)) else {
            let what = format!("{name} of container {who} is gone");
            return surely(Fault::Detached, what, Some("linkspan reconcile".to_owned()));
        };
        let renamed = site.links.iter().find(|link| link.peer == Some(veth.index) && link.peer_elsewhere);
        let now = renamed.map(|link| format!(", and {} is in its place", link.name)).unwrap_or_default();
        let what =
            format!("{name} of container {who} is gone{now}, while the host's end {} is there", veth.name);
        let mend = "restart the container: 'linkspan reconcile' puts back what is on the host alone";
        surely(Fault::Detached, what, Some(mend.to_owned()))
    }

    /// Whether somebody takes what has come to the end of its way.
    fn socket(&mut self, site: &Site, place: &str, whose: &str) -> Way<()> {
        let Some((protocol, port)) = self.transport.protocol().zip(self.packet.destination_port) else {
            self.hop(place, format!("the kernel of {whose} answers the echo request"));
            return Ok(());
        };
        let at = SocketAddr::new(self.destination(), port);
        if let Some(finding) = ends::listener(site.netns.as_ref(), protocol, at, whose)?.into_iter().next() {
            return Err(self.ends(place, finding));
        }
        self.follows_the_rules(at)?;
        self.hop(place, format!("a process of {whose} takes {protocol} at {at}"));
        Ok(())
    }
}

/// Who has no port is asked by an echo.
pub(super) fn has_ports(transport: Transport) -> bool {
    transport != Transport::Icmp
}

/// `default`, or the network that a route is to: the kernel answers with the address that was asked about.
fn matched(all: &[FoundRoute], route: &FoundRoute, to: IpAddr) -> String {
    let same = all.iter().filter(|r| r.oif == route.oif && r.gateway == route.gateway && r.dst.contains(to));
    match same.max_by_key(|found| found.dst.prefix()) {
        Some(found) if found.dst.prefix() == 0 => "default".to_owned(),
        Some(found) => found.dst.to_string(),
        None => to.to_string(),
    }
}

/// A command inside a container's namespace, as it can be pasted on the host.
pub(super) fn inside_command(attachment: &Attachment, command: &str) -> Option<String> {
    let path = attachment.sandbox.as_deref()?;
    Some(Inside::new(&attachment.container, path).command(command))
}
