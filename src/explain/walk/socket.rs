//! To and from the host's own sockets.

use std::net::{Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use crate::model::{AttachmentKey, Protocol, Publication};
use crate::sys::rtnl::{Link, RouteQuery};
use crate::view::Attachment;

use super::super::hooks::Hook;
use super::super::way::Leg;
use super::super::{Finding, ends};
use super::container::{LOCAL, has_ports};
use super::{Spot, Walk, Way};

impl<'a> Walk<'a> {
    /// To a socket of the host's.
    pub(super) fn host_takes(&mut self) -> Way<Spot<'a>> {
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
        let recorded = self.recorded(protocol, at);
        if let Some((own, port)) = recorded
            && let Some(finding) = self.unserved((own, port), at, finding.is_none())?
        {
            return Err(self.ends("host", finding));
        }
        if let Some(finding) = finding {
            let finding = self.not_published(at, finding);
            return Err(self.ends("host", finding));
        }
        self.follows_the_rules(at)?;
        self.hop("host", format!("a process of the host takes {protocol} at {at}"));
        if self.wanted.is_some() {
            let own = self.wanted.map(|own| AttachmentKey::new(&own.container, &own.interface));
            let found = ends::host_port(protocol, at, own.as_ref(), self.attachments, self.agent())?;
            if let Some(finding) = found.into_iter().next() {
                return Err(self.ends("host", finding));
            }
        }
        Ok(Spot::Host)
    }

    /// Whose the host's port is by the records. The kernel sends nothing on that goes to ::1, and the rules leave it
    /// alone.
    fn recorded(&self, protocol: Protocol, at: SocketAddr) -> Option<(&'a Attachment, &'a Publication)> {
        let wanted = Publication { protocol, host: at, target: at, count: 1 };
        let mut records = self.attachments.iter().filter(|_| at.ip() != Ipv6Addr::LOCALHOST);
        records.find_map(|own| Some((own, own.ports.iter().find(|port| port.collides(&wanted))?)))
    }

    /// Out of a socket of the host's.
    pub(super) fn leave_host(&mut self) -> Way<Spot<'a>> {
        let query = RouteQuery { to: self.destination(), from: self.packet.source, input: None, mark: 0 };
        let mut route = match self.host.route(&query)? {
            Ok(route) => route,
            Err(errno) => {
                self.overlapped(None)?;
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
        self.overlapped(Some(&output))?;
        self.through("host", Hook::Postrouting)?;
        let next = route.gateway.unwrap_or(self.destination());
        self.emit(&output, next)
    }

    /// What is translated on its way out is routed again, and may not leave.
    fn cannot_turn(&mut self, errno: Errno) -> Way<Finding> {
        let query = RouteQuery { to: self.destination(), from: None, input: None, mark: 0 };
        let by = self.host.route(&query)?.ok().and_then(|route| route.oif);
        let by = by.and_then(|index| self.host.by_index(index)).cloned();
        self.overlapped(by.as_ref())?;
        Ok(match by {
            Some(by) if self.packet.source.is_some_and(|source| source.is_loopback()) => {
                self.localnet_off(&by.name)
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
