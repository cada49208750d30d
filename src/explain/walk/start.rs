//! Where a packet begins, and what addresses it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::firewall::nft::Packet;
use crate::model::{Protocol, Publication};
use crate::sys::rtnl::RouteQuery;
use crate::view::{Attachment, Reading};

use super::super::query::Transport;
use super::super::site::Site;
use super::super::{ExplainError, Fault, Finding};
use super::unserved::free_host_port;
use super::{Party, Question, Spot, surely};

/// Addresses that stand for `outside`: a public resolver's, which no host has a route of its own to.
const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);

/// The beginning of a walk.
pub(super) struct Begun<'a> {
    pub(super) from: Spot<'a>,
    pub(super) packet: Packet,
    /// What has been made of the question, where that is not plain.
    pub(super) notes: Vec<String>,
    /// Why it cannot even begin.
    pub(super) refused: Option<Finding>,
}

/// A party, for people.
pub(super) fn words(party: &Party) -> String {
    match party {
        Party::Container(attachment) => match &attachment.name {
            Some(name) => format!("container {} ({name})", attachment.container),
            None => format!("container {}", attachment.container),
        },
        Party::Host => "the host".to_owned(),
        Party::Outside => "outside".to_owned(),
        Party::Address(address) => address.to_string(),
    }
}

pub(super) fn begin<'a>(
    host: &mut Site,
    reading: &Reading,
    attachments: &'a [Attachment],
    question: &Question,
) -> Result<Begun<'a>, ExplainError> {
    let v4 = is_ipv4(question)?;
    let from = origin(host, reading, attachments, question, v4)?;
    let source = source(&question.from, &from, v4);
    let mut begun = Begun { from, packet: Packet::default(), notes: Vec::new(), refused: None };
    begun.notes.extend(question.note.clone());
    let (destination, port) = destination(host, (reading, attachments), question, v4, &mut begun)?;
    if begun.refused.is_none() {
        begun.refused = unheld(host, reading, attachments, (destination, port, question.transport))?;
    }
    begun.packet = Packet {
        family: if v4 { 2 } else { 10 },
        source,
        destination: Some(destination),
        protocol: Some(question.transport.number(v4)),
        destination_port: port,
        mark: Some(0),
        connection_mark: Some(0),
        input: Some(String::new()),
        output: Some(String::new()),
        input_index: Some(0),
        output_index: Some(0),
        ..Packet::default()
    };
    Ok(begun)
}

fn has(party: &Party, v4: bool) -> bool {
    match party {
        Party::Container(attachment) => attachment.addresses.iter().any(|address| address.is_ipv4() == v4),
        Party::Address(address) => address.is_ipv4() == v4,
        Party::Host | Party::Outside => true,
    }
}

fn is_ipv4(question: &Question) -> Result<bool, ExplainError> {
    if let (Party::Address(from), Party::Address(to)) = (&question.from, &question.to)
        && from.is_ipv4() != to.is_ipv4()
    {
        return Err(ExplainError::Families(*from, *to));
    }
    let both = |v4| has(&question.from, v4) && has(&question.to, v4);
    // An address says which it is.
    let said = [&question.from, &question.to].into_iter().find_map(|party| match party {
        Party::Address(address) => Some(address.is_ipv4()),
        _ => None,
    });
    let v4 = match question.ipv6 {
        Some(ipv6) => !ipv6,
        None => said.unwrap_or_else(|| both(true) || !both(false)),
    };
    if both(v4) {
        return Ok(v4);
    }
    let lacking = if has(&question.from, v4) { &question.to } else { &question.from };
    Err(ExplainError::NoAddress {
        who: words(lacking),
        family: if v4 { "IPv4" } else { "IPv6" },
        hint: "'linkspan ps' shows who has which",
    })
}

fn origin<'a>(
    host: &mut Site,
    reading: &Reading,
    attachments: &'a [Attachment],
    question: &Question,
    v4: bool,
) -> Result<Spot<'a>, ExplainError> {
    let same = |own: &&Attachment, other: &Attachment| {
        own.container == other.container && own.interface == other.interface
    };
    match &question.from {
        Party::Container(wanted) => {
            let found = attachments.iter().find(|own| same(own, wanted));
            found.map(Spot::Container).ok_or_else(|| ExplainError::Gone(wanted.container.clone()))
        }
        Party::Host => Ok(Spot::Host),
        Party::Address(address) if host.holder(*address).is_some() => Ok(Spot::Host),
        Party::Address(address) => {
            let holder = attachments.iter().find(|own| own.addresses.iter().any(|a| a.ip() == *address));
            match holder {
                Some(own) => Ok(Spot::Container(own)),
                None => outside(host, reading, question, *address),
            }
        }
        Party::Outside => {
            outside(host, reading, question, if v4 { OUTSIDE4.into() } else { OUTSIDE6.into() })
        }
    }
}

/// By which interface an address of outside comes in: the one that was named, or that which leads there.
fn outside<'a>(
    host: &mut Site,
    reading: &Reading,
    question: &Question,
    address: IpAddr,
) -> Result<Spot<'a>, ExplainError> {
    if let Some(name) = &question.input {
        let link = host.link(name).ok_or_else(|| ExplainError::NoInterface(name.clone()))?;
        return Ok(Spot::Outside(link.index));
    }
    let query = RouteQuery { to: address, from: None, input: None, mark: 0 };
    let by_route = host.route(&query)?.ok().and_then(|route| route.oif);
    let uplink = || reading.host.uplinks().first().map(|link| link.index);
    by_route.or_else(uplink).map(Spot::Outside).ok_or(ExplainError::NoUplink)
}

fn source(party: &Party, from: &Spot<'_>, v4: bool) -> Option<IpAddr> {
    match (party, from) {
        (Party::Address(address), _) => Some(*address),
        (_, Spot::Outside(_)) => Some(if v4 { OUTSIDE4.into() } else { OUTSIDE6.into() }),
        _ => None,
    }
}

/// Where it goes; a container that is asked for from outside is reached by what it publishes.
fn destination(
    host: &Site,
    (reading, attachments): (&Reading, &[Attachment]),
    question: &Question,
    v4: bool,
    begun: &mut Begun<'_>,
) -> Result<(IpAddr, Option<u16>), ExplainError> {
    let loopback: IpAddr = if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    match &question.to {
        Party::Address(address) => Ok((*address, question.port)),
        Party::Outside => Ok((if v4 { OUTSIDE4.into() } else { OUTSIDE6.into() }, question.port)),
        Party::Host => {
            let address = match &begun.from {
                Spot::Host => loopback,
                Spot::Container(attachment) => gateway(host, reading, attachment, v4)?,
                Spot::Outside(index) => own_address(host, *index, v4)?,
            };
            Ok((address, question.port))
        }
        Party::Container(attachment) => {
            let own = attachment.addresses.iter().map(ipnetwork::IpNetwork::ip).find(|a| a.is_ipv4() == v4);
            let own = own.unwrap_or(loopback);
            let (Spot::Outside(index), Some(port)) = (&begun.from, question.port) else {
                return Ok((own, question.port));
            };
            if is_routed(reading, attachment) {
                return Ok((own, question.port));
            }
            let index = *index;
            published(host, attachments, attachment, (own, port), question.transport, index, begun)
        }
    }
}

/// Whether the containers of an attachment's network are reached by their own addresses.
fn is_routed(reading: &Reading, attachment: &Attachment) -> bool {
    let rules = reading.records.network(&attachment.network).map(|network| &network.rules);
    rules.and_then(|rules| rules.get("routed")).and_then(serde_json::Value::as_bool).unwrap_or(false)
}

fn published(
    host: &Site,
    attachments: &[Attachment],
    attachment: &Attachment,
    (own, port): (IpAddr, u16),
    transport: Transport,
    index: u32,
    begun: &mut Begun<'_>,
) -> Result<(IpAddr, Option<u16>), ExplainError> {
    let leads_there = |p: &&Publication| {
        Some(p.protocol) == transport.protocol()
            && p.target.ip() == own
            && (p.target.port()..=p.last_target_port()).contains(&port)
    };
    let found: Vec<&Publication> = attachment.ports.iter().filter(leads_there).collect();
    let mut reachable: Vec<&&Publication> = found.iter().filter(|p| !p.host.ip().is_loopback()).collect();
    // An address that the host has goes before one that it lacks.
    reachable.sort_by_key(|p| !p.host.ip().is_unspecified() && host.holder(p.host.ip()).is_none());
    let Some(publication) = reachable.first() else {
        let finding = not_published(attachments, attachment, found.first().copied(), (port, transport));
        begun.refused = Some(finding);
        return Ok((own, Some(port)));
    };
    let host_port = publication.host.port() + (port - publication.target.port());
    let address = if publication.host.ip().is_unspecified() {
        own_address(host, index, own.is_ipv4())?
    } else {
        publication.host.ip()
    };
    let at = SocketAddr::new(address, host_port);
    let who = &attachment.container;
    begun.notes.push(format!("port {port}/{transport} of container {who} is published at {at}"));
    Ok((address, Some(host_port)))
}

/// A port is published at one address, which the host does not have: nobody answers for it, and nothing is translated.
fn unheld(
    host: &mut Site,
    reading: &Reading,
    attachments: &[Attachment],
    (address, port, transport): (IpAddr, Option<u16>, Transport),
) -> Result<Option<Finding>, ExplainError> {
    const LOCAL: u32 = 2;
    let Some(port) = port else { return Ok(None) };
    let is_there = |p: &Publication| {
        Some(p.protocol) == transport.protocol()
            && p.host.ip() == address
            && (p.host.port()..=p.last_host_port()).contains(&port)
    };
    let Some(holder) = attachments.iter().find(|own| own.ports.iter().any(is_there)) else {
        return Ok(None);
    };
    if host.kind_of(address)? == LOCAL {
        return Ok(None);
    }
    let who = &holder.container;
    let what = format!(
        "the host does not have {address}, at which container {who} publishes port {port}/{transport}: nobody answers for it here"
    );
    let near = host.addresses.iter().find(|own| own.address.contains(address));
    let near = near.and_then(|own| Some((own.address.prefix(), &host.by_index(own.index)?.name)));
    let alone = if address.is_ipv4() { 32 } else { 128 };
    let mend = match (near, reading.host.uplinks().first()) {
        (Some((prefix, name)), _) => format!("ip address add {address}/{prefix} dev {name}"),
        (None, Some(uplink)) => format!("ip address add {address}/{alone} dev {}", uplink.name),
        (None, None) => format!("ip address add {address}/{alone} dev UPLINK"),
    };
    Ok(Some(surely(Fault::NoRoute, what, Some(mend))))
}

/// From outside a port is not reached: it is published to the host itself alone, `local`, or not at all.
fn not_published(
    attachments: &[Attachment],
    attachment: &Attachment,
    local: Option<&Publication>,
    (port, transport): (u16, Transport),
) -> Finding {
    let who = &attachment.container;
    let (what, mend) = match local {
        Some(local) => (
            format!(
                "port {port}/{transport} of container {who} is published at {} alone, which is reached on the host itself and nowhere else",
                local.host
            ),
            format!("publish it without 127.0.0.1, for instance as {}:{port}/{transport}", local.host.port()),
        ),
        None => {
            let protocol = transport.protocol().unwrap_or(Protocol::Tcp);
            let free = free_host_port(attachments, protocol);
            (
                format!(
                    "port {port}/{transport} of container {who} is not published, and from outside nothing else of it is reached"
                ),
                format!(
                    "publish it: a portMappings entry {{\"hostPort\": {free}, \"containerPort\": {port}, \"protocol\": \"{transport}\"}} at the container's ADD"
                ),
            )
        }
    };
    surely(Fault::NotPublished, what, Some(mend))
}

/// The host as a container sees it.
fn gateway(
    host: &Site,
    reading: &Reading,
    attachment: &Attachment,
    v4: bool,
) -> Result<IpAddr, ExplainError> {
    let on_bridge = attachment.bridge.as_deref().and_then(|name| host.link(name)).map(|link| link.index);
    let found = on_bridge.and_then(|index| host.addresses_of(index, v4).first().copied());
    let is_global = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 != 0xfe80,
    };
    let recorded = || {
        let records = reading.records.attachments.iter();
        let own = |key: &crate::model::AttachmentKey| {
            key.container_id == attachment.container && key.interface == attachment.interface
        };
        records
            .filter(|found| own(&found.record.key))
            .filter_map(|found| found.record.plan.bridge())
            .flat_map(|bridge| bridge.gateways.iter().map(ipnetwork::IpNetwork::ip))
            .find(|gateway| gateway.is_ipv4() == v4)
    };
    if let Some(address) = recorded().or_else(|| found.filter(is_global)) {
        return Ok(address);
    }
    let uplink = reading.host.uplinks().first().map(|link| link.index).ok_or(ExplainError::NoUplink)?;
    own_address(host, uplink, v4)
}

fn own_address(host: &Site, index: u32, v4: bool) -> Result<IpAddr, ExplainError> {
    host.addresses_of(index, v4).first().copied().ok_or_else(|| ExplainError::NoAddress {
        who: format!("interface {} of the host", host.by_index(index).map_or("?", |link| &link.name)),
        family: if v4 { "IPv4" } else { "IPv6" },
        hint: "name an address of the host's in place of 'host'",
    })
}
