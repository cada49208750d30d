//! What comes to the host, and nobody of the host takes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::firewall::NAMES_PORT;
use crate::model::{Protocol, Publication};
use crate::plan::{self, Step};
use crate::view::Attachment;

use super::super::query::Transport;
use super::super::{Fault, Finding};
use super::{Walk, surely};

/// What starts an agent where one is needed.
const START_AGENT: &str = "linkspan doctor --fix";

/// A record says that the port leads to a container, and no rule did it.
pub(super) fn unpublished(own: &Attachment, port: &Publication) -> Finding {
    let what = format!(
        "port {port} is container {}'s by its record, and no rule sends the packet there: the rules are gone",
        own.container
    );
    surely(Fault::RulesMissing, what, Some("linkspan reconcile".to_owned()))
}

impl Walk<'_> {
    /// Whether linkspan's agent is to serve ports of an attachment itself (`userlandProxy`), whichever plugin of its list
    /// has published them.
    pub(super) fn is_proxied(&self, own: &Attachment) -> bool {
        self.reading.records.attachments.iter().any(|found| {
            let (key, claims) = (&found.record.key, found.record.plan.claims());
            key.container_id == own.container
                && key.interface == own.interface
                && claims.is_some_and(|claims| claims.proxy)
        })
    }

    /// Nobody publishes the port, and nobody listens on it; `finding` is what was found of listeners.
    pub(super) fn not_published(&self, at: SocketAddr, finding: Finding) -> Finding {
        if let Some(finding) = self.names_unanswered(at) {
            return finding;
        }
        if finding.fault == Fault::ListensOnLoopback {
            return finding;
        }
        let transport = self.transport;
        let what = format!("nothing publishes {transport} {at}, and no process of the host listens there");
        let Some((own, port)) = self.publisher(at.port(), |_| true) else {
            let mend =
                "publish it at the container's ADD (portMappings); 'linkspan ports' lists what is published";
            return surely(Fault::NotPublished, what, Some(mend.to_owned()));
        };
        if at.ip() == Ipv6Addr::LOCALHOST {
            return self.not_at_loopback6(at, own);
        }
        let what = format!("{what}; container {} publishes the port at {} only", own.container, port.host);
        let mend = format!("ask for {}, or publish the port on all addresses", port.host);
        surely(Fault::NotPublished, what, Some(mend))
    }

    /// Who publishes a port of the host's, at an address that fits.
    fn publisher(
        &self,
        port: u16,
        fits: impl Fn(&Publication) -> bool,
    ) -> Option<(&Attachment, &Publication)> {
        let protocol = self.transport.protocol();
        self.attachments.iter().find_map(|own| {
            let found = own.ports.iter().find(|published| {
                Some(published.protocol) == protocol
                    && (published.host.port()..=published.last_host_port()).contains(&port)
                    && fits(published)
            })?;
            Some((own, found))
        })
    }

    /// No rule can send on what comes from `::1`: the agent can, where it is asked to.
    fn not_at_loopback6(&self, at: SocketAddr, own: &Attachment) -> Finding {
        let who = &own.container;
        let claims = self.plan_of(own).and_then(|plan| {
            plan.steps.iter().find_map(|step| match step {
                Step::Claims(claims) => Some(claims),
                _ => None,
            })
        });
        if claims.is_some_and(|claims| claims.proxy) {
            let what = format!(
                "linkspan's agent is to serve {at} for container {who} (userlandProxy), and does not listen there: perhaps it does not run"
            );
            return surely(Fault::NothingListens, what, Some(START_AGENT.to_owned()));
        }
        let what = format!(
            "container {who} publishes the port, but the kernel sends nothing on that goes to {}, and no process of the host listens there",
            at.ip()
        );
        let four = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port());
        let at_four =
            |port: &Publication| port.host.ip() == four.ip() || port.host.ip() == Ipv4Addr::UNSPECIFIED;
        let instead = match self.publisher(at.port(), at_four) {
            Some(_) => four.to_string(),
            None => format!("port {} of another address of the host", at.port()),
        };
        let mend = format!(
            "ask for {instead}; or set \"userlandProxy\": true in the network's configuration, and attach the container anew"
        );
        surely(Fault::NotPublished, what, Some(mend))
    }

    /// The name service of a network is the agent's, which is not there.
    fn names_unanswered(&self, at: SocketAddr) -> Option<Finding> {
        let asks = at.port() == NAMES_PORT && matches!(self.transport, Transport::Udp | Transport::Tcp);
        let mut networks = self.reading.records.networks.iter().filter(|_| asks);
        let network = networks
            .find(|network| plan::written(network).is_some_and(|rules| rules.served.contains(&at.ip())))?;
        let what = format!(
            "linkspan's agent is to answer the names of network {} at {at}, and does not listen there: perhaps it does not run",
            network.name
        );
        Some(surely(Fault::NothingListens, what, Some(START_AGENT.to_owned())))
    }
}

/// The host port that is proposed for what is not published: the first from 8080 on that nobody has; 0, which has ADD
/// choose one, where all are taken.
pub(super) fn free_host_port(attachments: &[Attachment], protocol: Protocol) -> u16 {
    const PROPOSED: std::ops::RangeInclusive<u16> = 8080..=8999;
    let mut taken: Vec<u16> = crate::sys::netlink::Socket::open(crate::sys::netlink::Protocol::SockDiag)
        .and_then(|mut socket| crate::sys::sockdiag::listening(&mut socket, protocol, &PROPOSED))
        .map(|found| found.iter().map(|listener| listener.address.port()).collect())
        .unwrap_or_default();
    let published = attachments.iter().flat_map(|own| &own.ports).filter(|port| port.protocol == protocol);
    taken.extend(published.flat_map(|port| port.host.port()..=port.last_host_port()));
    PROPOSED.into_iter().find(|port| !taken.contains(port)).unwrap_or(0)
}
