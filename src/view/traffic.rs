//! What passes: bytes and packets of each container, connections of each container and each port.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::model::{AttachmentKey, Protocol, Publication};
use crate::sys::nfnetlink::flows::Flow;

use super::{Attachment, Reading};

/// What has passed an attachment since it was made, seen from the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// The container.
    pub container: String,
    /// Its interface.
    pub interface: String,
    /// The container's name, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its network.
    pub network: String,
    /// Bytes that the container received; absent where its link is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Packets that it received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_packets: Option<u64>,
    /// Packets that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_packets: Option<u64>,
    /// Packets of either direction that its link dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Tracked connections that it has an end of; absent where they may not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Each published port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortTraffic>,
}

/// What passes a published port at this moment: connections that have ended are not counted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTraffic {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where it is reached.
    pub host: SocketAddr,
    /// The container's address and port.
    pub target: SocketAddr,
    /// How many consecutive ports; absent for one.
    #[serde(skip_serializing_if = "super::port::is_one")]
    pub count: u16,
    /// Tracked connections through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Bytes of those connections in both directions; absent unless `net.netfilter.nf_conntrack_acct` is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of them, those to the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Of them, those from the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Packets of those connections in both directions; absent likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
}

/// The traffic of attachments, in their order.
pub fn traffic(reading: &Reading, attachments: &[Attachment]) -> Vec<Traffic> {
    let flows = reading.host.flows.as_ref().ok().map(|flows| Ends::of(flows, attachments));
    attachments.iter().map(|attachment| of(attachment, reading, flows.as_ref())).collect()
}

fn of(attachment: &Attachment, reading: &Reading, ends: Option<&Ends<'_>>) -> Traffic {
    let link = attachment.veth.as_deref().and_then(|name| reading.host.link(name));
    // The host end receives what the container sends.
    let counted = link.and_then(|link| link.traffic);
    let key = AttachmentKey::new(&attachment.container, &attachment.interface);
    let own = ends.map(|ends| ends.by_owner.get(&key).map(Vec::as_slice).unwrap_or_default());
    let ports = attachment.ports.iter().map(|publication| {
        let through =
            own.map(|own| own.iter().filter(|flow| goes_through(flow, publication)).collect::<Vec<_>>());
        let counted = through.as_ref().filter(|_| reading.host.counts_bytes);
        let sum = |of: &dyn Fn(&Flow) -> Option<u64>| -> Option<u64> {
            counted.map(|flows| flows.iter().filter_map(|flow| of(flow)).sum())
        };
        let (received_bytes, sent_bytes) = (sum(&|flow| flow.original.bytes), sum(&|flow| flow.reply.bytes));
        let packets = (sum(&|flow| flow.original.packets), sum(&|flow| flow.reply.packets));
        PortTraffic {
            protocol: publication.protocol,
            host: publication.host,
            target: publication.target,
            count: publication.count,
            connections: through.as_ref().map(Vec::len),
            bytes: received_bytes.zip(sent_bytes).map(|(received, sent)| received + sent),
            received_bytes,
            sent_bytes,
            packets: packets.0.zip(packets.1).map(|(received, sent)| received + sent),
        }
    });
    Traffic {
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
        name: attachment.name.clone(),
        network: attachment.network.clone(),
        received_bytes: counted.map(|c| c.tx_bytes),
        sent_bytes: counted.map(|c| c.rx_bytes),
        received_packets: counted.map(|c| c.tx_packets),
        sent_packets: counted.map(|c| c.rx_packets),
        dropped: counted.map(|c| c.rx_dropped + c.tx_dropped),
        connections: own.map(<[&Flow]>::len),
        ports: ports.collect(),
    }
}

/// Whether a connection was made to a published port, and was translated.
fn goes_through(flow: &Flow, publication: &Publication) -> bool {
    let (to, from) = (flow.original.to, flow.reply.from);
    let within = |first: u16, last: u16, port: u16| (first..=last).contains(&port);
    flow.protocol == publication.protocol.number()
        && to != from
        && from.ip() == publication.target.ip()
        && within(publication.target.port(), publication.last_target_port(), from.port())
        && within(publication.host.port(), publication.last_host_port(), to.port())
        && (publication.host.ip().is_unspecified() || to.ip() == publication.host.ip())
}

/// Flows by the attachments at their ends: a flow between two containers is both's.
struct Ends<'a> {
    by_owner: HashMap<AttachmentKey, Vec<&'a Flow>>,
}

impl<'a> Ends<'a> {
    fn of(flows: &'a [Flow], attachments: &[Attachment]) -> Self {
        let mut owners: HashMap<IpAddr, AttachmentKey> = HashMap::new();
        for attachment in attachments {
            let key = AttachmentKey::new(&attachment.container, &attachment.interface);
            owners.extend(attachment.addresses.iter().map(|address| (address.ip(), key.clone())));
        }
        let mut by_owner: HashMap<AttachmentKey, Vec<&Flow>> = HashMap::new();
        for flow in flows {
            let ends = [flow.original.from, flow.original.to, flow.reply.from, flow.reply.to];
            let at_ends: HashSet<&AttachmentKey> =
                ends.iter().filter_map(|end| owners.get(&end.ip())).collect();
            for owner in at_ends {
                by_owner.entry(owner.clone()).or_default().push(flow);
            }
        }
        Self { by_owner }
    }
}
