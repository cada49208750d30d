//! From a question to a probe.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::explain::{Deed, Explanation, Fate, Leg, Party as End, Question, Transport};
use crate::model::Publication;
use crate::sys::probe::Kind;
use crate::view::{Attachment, Reading};

use super::{Order, Party};

impl Order {
    /// The probe that puts an explanation to the test; `None` where that says that there is nothing to send, as for a
    /// port that nobody publishes.
    pub fn of(
        reading: &Reading,
        attachments: &[Attachment],
        question: &Question,
        explanation: &Explanation,
        wait: Duration,
    ) -> Option<Self> {
        if explanation.hops.last().is_some_and(|hop| hop.ends && hop.place == "question") {
            return None;
        }
        let kind = match question.transport {
            Transport::Tcp => Kind::Tcp,
            Transport::Udp => Kind::Udp,
            Transport::Icmp => Kind::Echo,
        };
        let is_host = |address: IpAddr| reading.host.addresses.iter().any(|own| own.address.ip() == address);
        let holder =
            |address: IpAddr| attachments.iter().find(|own| own.addresses.iter().any(|a| a.ip() == address));
        let from = match &question.from {
            End::Container(attachment) => Some(&**attachment),
            End::Address(address) if !is_host(*address) => holder(*address),
            End::Address(_) | End::Host | End::Outside => None,
        };
        let awaited_from = match &question.from {
            End::Address(address) if from.is_none() && !is_host(*address) => Some(*address),
            _ => None,
        };
        let to = SocketAddr::new(explanation.destination, explanation.port.unwrap_or(0));
        let is_own = is_host(to.ip()) || to.ip().is_loopback();
        let target = match (&question.to, from) {
            (End::Container(attachment), _) => Some(&**attachment),
            (_, Some(from)) if to.ip().is_loopback() => Some(from),
            _ if is_own => published(attachments, question.transport, to, explanation),
            _ => holder(to.ip()),
        };
        Some(Self {
            kind,
            from: from.and_then(party),
            awaited: awaited_from.is_some() || question.from == End::Outside,
            awaited_from,
            to,
            target: target.and_then(party),
            to_host: target.is_none() && is_own,
            wait,
            source_port: None,
        })
    }

    /// Whether it is to go to somebody beyond this host.
    pub(super) fn leaves(&self) -> bool {
        self.target.is_none() && !self.to_host
    }
}

fn party(attachment: &Attachment) -> Option<Party> {
    let sandbox = attachment.sandbox.clone()?;
    Some(Party { name: format!("container {}", attachment.container), sandbox })
}

/// The container that a port of the host's leads to. Where the packet is said to arrive untranslated, it is the host's.
fn published<'a>(
    attachments: &'a [Attachment],
    transport: Transport,
    at: SocketAddr,
    explanation: &Explanation,
) -> Option<&'a Attachment> {
    let there = explanation.hops.iter().filter(|hop| hop.leg == Leg::There);
    let is_translated = there.flat_map(|hop| &hop.rules).any(|decision| decision.verdict == Deed::Dnat);
    if !is_translated && explanation.verdict == Fate::Arrives && explanation.unknown.is_empty() {
        return None;
    }
    let wanted = Publication { protocol: transport.protocol()?, host: at, target: at, count: 1 };
    attachments.iter().find(|own| own.ports.iter().any(|port| port.collides(&wanted)))
}
