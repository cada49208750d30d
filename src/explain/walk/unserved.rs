//! What comes to the host, and nobody of the host takes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::agent;
use crate::firewall::NAMES_PORT;
use crate::model::{Protocol, Publication};
use crate::plan::{self, Plan};
use crate::store::State;
use crate::sys::SysError;
use crate::view::Attachment;

use super::super::query::Transport;
use super::super::{Fault, Finding, ends};
use super::{Walk, surely};

/// What starts an agent where one is needed.
const START_AGENT: &str = "linkspan doctor --fix";

/// A record says that the port leads to a container, and no rule did it.
fn unpublished(own: &Attachment, port: &Publication) -> Finding {
    let what = format!(
        "port {port} is container {}'s by its record, and no rule sends the packet there: the rules are gone",
        own.container
    );
    surely(Fault::RulesMissing, what, Some("linkspan reconcile".to_owned()))
}

/// The agent is to serve an address, and nobody listens there.
fn agent_is_missing(at: SocketAddr, who: &str) -> Finding {
    let what = format!(
        "linkspan's agent is to serve {at} for container {who} (userlandProxy), and does not listen there: perhaps it does not run"
    );
    surely(Fault::NothingListens, what, Some(START_AGENT.to_owned()))
}

impl Walk<'_> {
    /// Why nobody answers at a published port that no rule has sent to its container; nothing where linkspan's agent does
    /// (`userlandProxy`). Whoever else listens there, podman's conmon say, answers for nobody.
    pub(super) fn unserved(
        &self,
        (own, port): (&Attachment, &Publication),
        at: SocketAddr,
        is_heard: bool,
    ) -> Result<Option<Finding>, SysError> {
        let Some(plan) = self.served_by_plan(own, port.protocol, at) else {
            return Ok(Some(unpublished(own, port)));
        };
        // A socket whose process is not seen may be one that is kept for the next agent.
        let strangers = if is_heard { ends::strangers(port.protocol, at, self.agent())? } else { Vec::new() };
        if is_heard && strangers.is_empty() {
            return Ok(None);
        }
        let is_translated = plan.bridge().is_some_and(|bridge| bridge.route_localnet);
        if at.ip() != Ipv4Addr::LOCALHOST || is_translated {
            return Ok(Some(unpublished(own, port)));
        }
        let who = &own.container;
        if strangers.is_empty() {
            return Ok(Some(agent_is_missing(at, who)));
        }
        let names = ends::names(&strangers);
        let what = format!(
            "{names} of the host listens on {}, where linkspan's agent is to serve {at} for container {who} (userlandProxy)",
            strangers[0].address
        );
        let mend = format!("let {names} listen on another port, or publish another one");
        Ok(Some(surely(Fault::PortTaken, what, Some(mend))))
    }

    /// The plan by which linkspan's agent is to serve an address for an attachment, whichever plugin of its list it is of.
    fn served_by_plan(&self, own: &Attachment, protocol: Protocol, at: SocketAddr) -> Option<&Plan> {
        let records = self.reading.records.attachments.iter().map(|found| &found.record);
        let mut own = records.filter(|record| {
            record.key.container_id == own.container && record.key.interface == own.interface
        });
        own.find(|record| agent::serves(&record.plan, protocol, at)).map(|record| &record.plan)
    }

    /// The process number of linkspan's agent, where one runs.
    pub(super) fn agent(&self) -> Option<u32> {
        State::open_existing(&self.reading.records.root).ok().flatten()?.agent_pid()
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
        if self.plan_of(own).and_then(Plan::claims).is_some_and(|claims| claims.proxy) {
            return agent_is_missing(at, who);
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
