//! What swallows a packet though every hop lets it pass: a full table of connections, another with its address, a flow
//! that leads astray, a link that is too narrow.

use std::net::SocketAddr;

use crate::firewall::nft::Tracking;
use crate::sys::rtnl::{self, Link};
use crate::view::Attachment;

use super::super::hooks::{self, Connection, Hook};
use super::super::query::Transport;
use super::super::way::Leg;
use super::super::{Certainty, blame, ends};
use super::container::inside_command;
use super::{Walk, Way};

/// How large the packets of a leg can be, and what they have to fit through.
#[derive(Debug, Default)]
pub(super) struct Widths {
    sender: Option<ends::Sender>,
    links: Vec<ends::Link>,
}

impl<'a> Walk<'a> {
    /// The kernel drops a connection's first packet that it cannot track.
    pub(super) fn is_tracked(&mut self) -> Way<()> {
        if self.leg == Leg::Back {
            return Ok(());
        }
        for finding in ends::conntrack_table() {
            if finding.certainty == Certainty::Surely {
                return Err(self.ends("conntrack", finding));
            }
            self.doubts.push(finding);
        }
        Ok(())
    }

    /// Whoever has the destination's address is the only one.
    pub(super) fn has_it_alone(&mut self) -> Way<()> {
        let to = self.destination();
        let owner = self.attachments.iter().find(|own| own.addresses.iter().any(|a| a.ip() == to));
        let Some(owner) = owner.filter(|_| self.leg == Leg::There) else { return Ok(()) };
        for finding in ends::duplicate_address(to, owner, self.reading, self.attachments)? {
            if finding.certainty == Certainty::Surely {
                return Err(self.ends("neighbours", finding));
            }
            self.doubts.push(finding);
        }
        Ok(())
    }

    /// A datagram to a port that is translated follows its flow, and not the rules, where there is one. Whoever is known
    /// by address is concerned by that client's flows alone.
    pub(super) fn follows_the_rules(&mut self, target: SocketAddr) -> Way<()> {
        let to =
            self.original.destination.zip(self.original.port).map(|(ip, port)| SocketAddr::new(ip, port));
        let Some(to) = to.filter(|_| self.leg == Leg::There && self.transport == Transport::Udp) else {
            return Ok(());
        };
        let Ok(mut stale) = ends::stale_flows(to, target) else { return Ok(()) };
        if !self.from_anywhere {
            stale.retain(|flow| Some(flow.client.ip()) == self.original.source);
        }
        match ends::StaleFlow::finding(&stale, target) {
            Some(finding) => Err(self.ends("conntrack", finding)),
            None => Ok(()),
        }
    }

    /// A leg begins at an interface of a container's, or of the host's.
    pub(super) fn sends_by(&mut self, whose: &str, link: &Link) {
        let sender = ends::Sender { what: format!("{} of {whose}", link.name), mtu: link.mtu };
        self.widths = Widths { sender: Some(sender), links: Vec::new() };
    }

    /// Over a link without routing: a veth pair, a bridge's port.
    pub(super) fn fits_link(&mut self, link: &Link, inside: Option<&Attachment>) {
        let command = format!("ip link set dev {} mtu {{}}", link.name);
        let (what, widen) = match inside {
            Some(own) => {
                let widen = inside_command(own, &command).unwrap_or(command);
                (format!("{} of container {}", link.name, own.container), widen)
            }
            None => (link.name.clone(), command),
        };
        self.widths.links.push(ends::Link { what, mtu: link.mtu, routed: false, widen });
    }

    /// Routed to a link, by a route that may be narrower.
    pub(super) fn fits_route(&mut self, link: &Link, route: &rtnl::FoundRoute) {
        let mtu = route.mtu.filter(|mtu| *mtu > 0).map_or(link.mtu, |mtu| mtu.min(link.mtu));
        let widen = format!("ip link set dev {} mtu {{}}", link.name);
        self.widths.links.push(ends::Link { what: link.name.clone(), mtu, routed: true, widen });
    }

    /// Packets of the sender's full size get through to the end of the leg. Of somebody outside the size is not known.
    pub(super) fn fits(&mut self) -> Way<()> {
        let widths = std::mem::take(&mut self.widths);
        let Some(sender) = widths.sender else { return Ok(()) };
        let narrow = widths.links.iter().any(|link| link.routed && link.mtu < sender.mtu);
        let muted = if narrow { self.mutes_icmp()? } else { None };
        match ends::black_hole(&sender, &widths.links, muted.as_deref()).into_iter().next() {
            Some(finding) => Err(self.ends("MTU", finding)),
            None => Ok(()),
        }
    }

    /// Who drops the ICMP error of the host's that would tell the sender what fits.
    fn mutes_icmp(&mut self) -> Way<Option<String>> {
        let mut error = self.packet.clone();
        std::mem::swap(&mut error.source, &mut error.destination);
        error.protocol = Some(if error.is_ipv4() { 1 } else { 58 });
        (error.source_port, error.destination_port) = (None, None);
        error.tracking = Tracking::Related;
        std::mem::swap(&mut error.input, &mut error.output);
        std::mem::swap(&mut error.input_index, &mut error.output_index);
        (error.input, error.input_index) = (Some(String::new()), Some(0));
        (error.output, error.output_index) = (None, None);
        for hook in [Hook::Output, Hook::Postrouting] {
            let passed = hooks::pass(&mut self.host, &mut error, hook, false, &Connection::default())?;
            if let Some((chain, place, _)) = &passed.dropped {
                return Ok(Some(blame::words(chain, place)));
            }
        }
        Ok(None)
    }
}
