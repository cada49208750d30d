//! The walk: there, and the answer back.

mod bridge;
mod container;
mod holder;
mod host;
mod refusal;
mod socket;
mod start;
mod swallowed;
mod unserved;
mod verdict;

use std::net::IpAddr;

use crate::firewall::nft::{Packet, Tracking};
use crate::plan::Plan;
use crate::view::{Attachment, Reading};

use super::hooks::{Connection, Hook, Passed};
use super::query::Transport;
use super::site::Site;
use super::way::{Deed, Explanation, Fate, Hop, Leg};
use verdict::{may_drop, perhaps, surely};

use super::{Certainty, ExplainError, Fault, Finding, blame};

/// An end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// An attached container's interface.
    Container(Box<Attachment>),
    /// This host.
    Host,
    /// Somewhere beyond the host's uplink.
    Outside,
    /// Whoever has this address.
    Address(IpAddr),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// What.
    pub transport: Transport,
    /// To which port.
    pub port: Option<u16>,
    /// Whether by IPv6, where addresses do not say; `None` is IPv4 where both ends have it.
    pub ipv6: Option<bool>,
    /// The interface that a packet from outside comes in by, where it is not the one that leads there.
    pub input: Option<String>,
    /// What was made of what was typed, where that is not plain.
    pub note: Option<String>,
}

/// Follows the packet that a question is about.
///
/// `attachments` are those of the reading. The calling thread is in the host's namespace.
///
/// # Errors
/// [`ExplainError`]: where there is no way to tell of, or the kernel cannot be asked.
pub fn explain(
    reading: &Reading,
    attachments: &[Attachment],
    question: &Question,
) -> Result<Explanation, ExplainError> {
    let mut host = Site::open(None)?;
    let begun = start::begin(&mut host, reading, attachments, question)?;
    let mut walk = Walk {
        reading,
        attachments,
        unknown: host.blind.clone(),
        host,
        packet: begun.packet.clone(),
        hops: Vec::new(),
        doubts: Vec::new(),
        leg: Leg::There,
        original: Connection::default(),
        transport: question.transport,
        wanted: match &question.to {
            Party::Container(attachment) => Some(attachment),
            _ => None,
        },
        entered: None,
        widths: swallowed::Widths::default(),
        from_anywhere: question.from == Party::Outside,
        to_anybody: question.to == Party::Outside,
    };
    let stop = match walk.round(&begun) {
        Ok(()) => None,
        Err(Stop::Ends(finding)) => Some(finding),
        Err(Stop::Failed(error)) => return Err(error),
    };
    Ok(walk.finish(question, &begun, stop))
}

/// Why a walk goes no further.
enum Stop {
    /// The packet ends here.
    Ends(Box<Finding>),
    /// It could not be looked at.
    Failed(ExplainError),
}

impl<E: Into<ExplainError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Way<T> = Result<T, Stop>;

/// Where a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot<'a> {
    Container(&'a Attachment),
    Host,
    /// Beyond an interface of the host's, by its number.
    Outside(u32),
}

struct Walk<'a> {
    reading: &'a Reading,
    attachments: &'a [Attachment],
    host: Site,
    packet: Packet,
    hops: Vec<Hop>,
    doubts: Vec<Finding>,
    unknown: Vec<String>,
    leg: Leg,
    /// The ends of the first packet before any translation.
    original: Connection,
    transport: Transport,
    /// The container that was asked for, where one was.
    wanted: Option<&'a Attachment>,
    /// Whose port the packet came in by, where it came over a bridge.
    entered: Option<&'a Attachment>,
    /// What packets of full size must fit through.
    widths: swallowed::Widths,
    /// Whether anybody outside may be the sender.
    from_anywhere: bool,
    /// Whether anybody outside may be the receiver.
    to_anybody: bool,
}

impl<'a> Walk<'a> {
    /// There and back.
    fn round(&mut self, begun: &start::Begun<'a>) -> Way<()> {
        for words in &begun.notes {
            self.hop("question", words.clone());
        }
        if let Some(finding) = &begun.refused {
            return Err(self.ends("question", finding.clone()));
        }
        self.has_it_alone()?;
        let reached = self.send(&begun.from)?;
        self.fits()?;
        self.leg = Leg::Back;
        let there = self.packet.clone();
        self.packet = Packet {
            source: there.destination,
            destination: there.source,
            source_port: there.destination_port,
            destination_port: None,
            tracking: Tracking::Established,
            reply: true,
            mark: Some(0),
            input: Some(String::new()),
            input_index: Some(0),
            output: Some(String::new()),
            output_index: Some(0),
            bridge: None,
            source_mac: None,
            destination_mac: None,
            ..there
        };
        self.send(&reached)?;
        self.answered()?;
        self.fits()
    }

    /// From where it is to where it is taken.
    fn send(&mut self, from: &Spot<'a>) -> Way<Spot<'a>> {
        match from {
            Spot::Container(attachment) => self.leave_container(attachment),
            Spot::Host => self.leave_host(),
            Spot::Outside(index) => {
                let name = self.host.by_index(*index).map_or_else(String::new, |link| link.name.clone());
                if self.leg == Leg::There {
                    self.keep_original();
                }
                self.hop("outside", format!("comes in by {name} of the host, from {}", self.sender()));
                self.host_receives(*index)
            }
        }
    }

    /// The answer has the addresses that were asked, or the asker does not know it.
    fn answered(&mut self) -> Way<()> {
        let (from, to) = (self.packet.source, self.packet.destination);
        if (from, to) == (self.original.destination, self.original.source) {
            return Ok(());
        }
        let words = |address: Option<IpAddr>| address.map_or_else(|| "?".to_owned(), |a| a.to_string());
        if from == self.original.destination {
            let (to, asker) = (words(to), words(self.original.source));
            let what = format!(
                "the answer goes to {to} and not to {asker}, who asked: nothing translates it back, since a rule takes it out of connection tracking (notrack)"
            );
            return Err(self.ends("answer", surely(Fault::ForeignDrop, what, None)));
        }
        let (asked, from) = (words(self.original.destination), words(from));
        let what = format!(
            "the answer comes from {from} and not from {asked}, which was asked: it goes straight to its neighbour on the bridge, past the host that would translate it back, because nothing masquerades what goes back out by the bridge that it came in by"
        );
        let mend = "set \"snat\": true (or leave the key out) in the network's configuration, and attach a container to it";
        Err(self.ends("answer", surely(Fault::HairpinOff, what, Some(mend.to_owned()))))
    }

    fn keep_original(&mut self) {
        let (source, destination) = (self.packet.source, self.packet.destination);
        let port = self.packet.destination_port;
        self.original = Connection { source, destination, port, settled: false };
        self.packet.original_destination = destination;
        self.packet.original_port = self.packet.destination_port;
    }

    /// The plan of an attachment's interface.
    fn plan_of(&self, attachment: &Attachment) -> Option<&'a Plan> {
        let found = self.reading.records.attachments.iter().find(|found| {
            let key = &found.record.key;
            key.container_id == attachment.container
                && key.interface == attachment.interface
                && key.part.is_interface()
        });
        found.map(|found| &found.record.plan)
    }

    fn destination(&self) -> IpAddr {
        self.packet.destination.unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }

    fn sender(&self) -> String {
        self.packet.source.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
    }

    /// `10.1.0.2:80`, or the address alone.
    fn goal(&self) -> String {
        let address = self.destination();
        match self.packet.destination_port.filter(|_| self.transport != Transport::Icmp) {
            Some(port) => std::net::SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        }
    }

    fn hop(&mut self, place: impl Into<String>, what: impl Into<String>) {
        let number = self.hops.len() + 1;
        let (place, what) = (place.into(), what.into());
        self.hops.push(Hop { number, leg: self.leg, place, what, rules: Vec::new(), ends: false });
    }

    /// The packet ends here.
    fn ends(&mut self, place: impl Into<String>, finding: Finding) -> Stop {
        self.hop(place, finding.what.clone());
        if let Some(hop) = self.hops.last_mut() {
            hop.ends = true;
        }
        Stop::Ends(Box::new(finding))
    }

    /// Tells of a hook of the host's or a container's, and ends the way where it drops. `bridged` says that the packet
    /// is there because `br_netfilter` is on.
    fn tell(&mut self, place: &str, hook: Hook, passed: Passed, bridged: bool) -> Way<()> {
        for (gate, doubt) in &passed.doubts {
            self.doubts.push(may_drop(gate, doubt));
        }
        if passed.decisions.is_empty() {
            return Ok(());
        }
        let summary = match &passed.dropped {
            Some((gate, at, _)) => format!("{}: {}", hook.name(), blame::words(gate, at)),
            None => format!("{}: {}", hook.name(), self.summary(&passed)),
        };
        self.hop(place, summary);
        let ends = passed.dropped.is_some();
        if let Some(hop) = self.hops.last_mut() {
            hop.rules = passed.decisions;
            hop.ends = ends;
        }
        match passed.dropped {
            None => Ok(()),
            Some((gate, at, certain)) => {
                let finding = self.drop_finding(&gate, &at, certain, bridged);
                Err(Stop::Ends(Box::new(finding)))
            }
        }
    }

    fn summary(&self, passed: &Passed) -> String {
        let mut parts = Vec::new();
        for decision in &passed.decisions {
            let Some(handle) = decision.handle else { continue };
            let word = if decision.family.ends_with("legacy") { "rule" } else { "handle" };
            let rule = format!("{} {} {} {word} {handle}", decision.family, decision.table, decision.chain);
            parts.push(match decision.verdict {
                Deed::Dnat => format!("{rule} sends it to {}", self.goal()),
                Deed::Snat => format!("{rule} makes {} its source", self.sender()),
                _ => format!("{rule} accepts"),
            });
        }
        let silent = passed.decisions.iter().filter(|decision| decision.handle.is_none()).count();
        if silent > 0 {
            let chains = if silent == 1 { "1 chain lets" } else { &format!("{silent} chains let") };
            parts.push(format!("{chains} it pass"));
        }
        parts.join("; ")
    }

    fn finish(
        self,
        question: &Question,
        begun: &start::Begun<'a>,
        stop: Option<Box<Finding>>,
    ) -> Explanation {
        let verdict = match &stop {
            None => Fate::Arrives,
            Some(finding) if finding.certainty == Certainty::Surely => Fate::Dies,
            Some(_) => Fate::MayDie,
        };
        let mut findings: Vec<Finding> = stop.into_iter().map(|finding| *finding).collect();
        findings.extend(self.doubts);
        findings.dedup();
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        Explanation {
            from: start::words(&question.from),
            to: start::words(&question.to),
            protocol: question.transport,
            source: self.original.source.or(begun.packet.source).unwrap_or(unspecified),
            destination: begun.packet.destination.unwrap_or(unspecified),
            port: begun.packet.destination_port.filter(|_| question.transport != Transport::Icmp),
            dies_at: self.hops.iter().find(|hop| hop.ends).map(|hop| hop.number),
            hops: self.hops,
            verdict,
            findings,
            unknown: self.unknown,
        }
    }
}

/// `net/ipv4/...` is read on the host that the walk is in.
fn interface_parameter(site: &Site, v4: bool, interface: &str, key: &str) -> Option<u32> {
    site.parameter(&format!("{}/conf/{interface}/{key}", if v4 { "ipv4" } else { "ipv6" }))
}
