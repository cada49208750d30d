//! Sending a probe and watching it, or waiting for somebody's packet.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::firewall::nft::Traced;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::nfnetlink::flows::{self, Flow};
use crate::sys::nfnetlink::trace::{Event, Packet};
use crate::sys::probe::{Kind, Probe, Reply};
use crate::sys::{Netns, SysError, xtables};

use super::place::{self, Place, Watched};
use super::seen::{self, Answer, Direction, Live, Tracked};
use super::{LiveError, counters, judge, size};

/// How long is listened on after an answer: to the rest of the exchange.
const AFTERWARDS: Duration = Duration::from_millis(60);
/// A datagram or an echo request is sent again after so long, as TCP does by itself.
const AGAIN: Duration = Duration::from_millis(1000);
/// The content of a datagram, in bytes: few servers answer to it, but some fall over nothing at all.
const PAYLOAD: usize = 1;
/// Of others' packets that are waited for, so many a second are told of.
const RATE: u64 = 20;
/// `IPS_SEEN_REPLY` (`linux/netfilter/nf_conntrack_common.h`).
const SEEN_REPLY: u32 = 1 << 1;

/// Who has a namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// `container shop`.
    pub name: String,
    /// The path of its namespace.
    pub sandbox: String,
}

/// What is to be sent, or waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub kind: Kind,
    /// Where it is sent from: a container, or with `None` the host.
    pub from: Option<Party>,
    /// Whether it comes from outside, and is waited for.
    pub awaited: bool,
    /// From whom it is waited for; `None` for anybody.
    pub awaited_from: Option<IpAddr>,
    /// Where it is sent to; the port does not matter for an echo request.
    pub to: SocketAddr,
    /// The container that it should reach in the end.
    pub target: Option<Party>,
    /// Whether it should reach the host itself, rather than somebody outside; where there is no target.
    pub to_host: bool,
    /// How long to wait for an answer, or for a packet from outside.
    pub wait: Duration,
    /// The port to send from, where it matters.
    pub source_port: Option<u16>,
}

/// Carries it out. The calling thread is in the host's namespace. It takes `wait` and a second or two at most, and
/// leaves nothing behind.
///
/// # Errors
/// [`LiveError`]; that nothing can be sent, or nothing comes, is none.
pub fn observe(order: &Order) -> Result<Live, LiveError> {
    let _turn = place::turn()?;
    if order.awaited { wait_for(order) } else { send(order) }
}

/// The namespace of a party.
fn netns(party: Option<&Party>) -> Result<Option<Netns>, LiveError> {
    party.map(|party| Netns::open(&party.sandbox)).transpose().map_err(|error| SysError::from(error).into())
}

fn inside<T>(netns: Option<&Netns>, work: impl FnOnce() -> T) -> Result<T, SysError> {
    match netns {
        Some(netns) => netns.enter(work),
        None => Ok(work()),
    }
}

fn send(order: &Order) -> Result<Live, LiveError> {
    let home = netns(order.from.as_ref())?;
    let prepared = inside(home.as_ref(), || Probe::prepare(order.kind, order.to, order.source_port))?;
    let probe = match prepared {
        Ok(probe) => probe,
        Err(error) => {
            let words = error.errno().map_or_else(|| error.to_string(), |errno| errno.desc().to_owned());
            return Ok(judge::unsent(order, words));
        }
    };
    let these = exactly(order, probe.source());
    let mut places = watch_all(order, &these, probe.source().port())?;
    let mut events: Vec<Vec<Event>> = places.iter().map(|_| Vec::new()).collect();
    let mut lost = false;
    let answer = exchange(&probe, order.wait, |until| lost |= listen(&mut places, &mut events, until));
    lost |= listen(&mut places, &mut events, Instant::now() + AFTERWARDS);
    let which = |packet: &Packet| direction(packet, order.kind, probe.source().port());
    let steps =
        places.iter().zip(&events).flat_map(|(place, events)| seen::steps(place, events, which)).collect();
    let tracked = connection(&these)?;
    let mut live = judge::sent(order, probe.source(), steps, answer, tracked);
    live.counters = places.iter().flat_map(counters::moved).collect();
    live.unseen = unseen(&places, lost);
    drop(places);
    if live.outcome.is_through() {
        let target = live.tracked.as_ref().map_or(order.to.ip(), |tracked| tracked.answered_by.ip());
        live.size = inside(home.as_ref(), || size::try_full(target))?;
        judge::weigh_size(&mut live);
    }
    Ok(live)
}

/// The packets of the probe and no others.
fn exactly(order: &Order, source: SocketAddr) -> Traced {
    let v4 = order.to.is_ipv4();
    let echo = order.kind == Kind::Echo;
    Traced {
        from: Some(source.ip()),
        to: Some(order.to.ip()),
        from_port: (!echo).then(|| source.port()),
        to_port: (!echo).then(|| order.to.port()),
        echo: echo.then(|| source.port()),
        ..Traced::all(v4, order.kind.number(v4))
    }
}

/// Watches the host, and the containers at both ends. In the target's namespace the addresses may be translated ones,
/// and the probe is known by its source port alone.
fn watch_all(order: &Order, these: &Traced, port: u16) -> Result<Vec<Place>, LiveError> {
    let by_port = |of_source: bool| Traced {
        from_port: (these.echo.is_none() && of_source).then_some(port),
        to_port: (these.echo.is_none() && !of_source).then_some(port),
        echo: these.echo,
        ..Traced::all(these.v4, these.protocol)
    };
    let exact = Watched { these: these.clone(), answers: Some(these.reversed()), by_connection: false };
    let loose = Watched { these: by_port(true), answers: Some(by_port(false)), by_connection: false };
    let mut places = Vec::new();
    if let Some(from) = order.from.as_ref().filter(|from| Some(*from) != order.target.as_ref()) {
        places.push(Place::watch(&from.name, netns(Some(from))?, &exact)?);
    }
    places.push(Place::watch("host", None, &Watched { by_connection: true, ..exact })?);
    if let Some(target) = &order.target {
        places.push(Place::watch(&target.name, netns(Some(target))?, &loose)?);
    }
    Ok(places)
}

/// Sends until there is an answer or the time is over, while `listen` listens until a moment.
fn exchange(probe: &Probe, wait: Duration, mut listen: impl FnMut(Instant)) -> Answer {
    let end = Instant::now() + wait;
    let mut again = Instant::now();
    loop {
        let now = Instant::now();
        if now >= again {
            if let Err(error) = probe.send(PAYLOAD) {
                return Answer::Refused { words: plain(&error) };
            }
            again = if probe.kind() == Kind::Tcp { end } else { now + AGAIN };
        }
        match probe.reply() {
            Some(Reply::Answered) => return Answer::Answered,
            Some(Reply::Reset) => return Answer::Reset,
            Some(Reply::Failed(errno)) => return Answer::Refused { words: errno.desc().to_owned() },
            Some(Reply::Icmp(error)) => {
                let words = judge::icmp_words(&error);
                return Answer::Icmp { from: error.from, kind: error.kind, code: error.code, words };
            }
            None if now >= end => return Answer::Silence,
            None => listen((now + Duration::from_millis(10)).min(end)),
        }
    }
}

/// The system's word for an error, without its number.
fn plain(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| nix::errno::Errno::from_raw(number).desc().to_owned())
}

/// Listens to all places until a moment; says whether something was lost.
fn listen(places: &mut [Place], events: &mut [Vec<Event>], until: Instant) -> bool {
    let mut lost = false;
    loop {
        for (place, events) in places.iter_mut().zip(events.iter_mut()) {
            let (told, some_lost) = place.told();
            events.extend(told);
            lost |= some_lost;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return lost;
        }
        let mut ears: Vec<PollFd<'_>> =
            places.iter().map(|place| PollFd::new(place.ear().as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // Where polling fails the loop goes round until its end, as it would without news.
        if poll(&mut ears, timeout).unwrap_or(0) == 0 {
            return lost;
        }
    }
}

/// Which packet of the exchange one is.
fn direction(packet: &Packet, kind: Kind, port: u16) -> Option<Direction> {
    match (kind, packet.protocol, packet.from_port) {
        (Kind::Echo, 1, 8) | (Kind::Echo, 58, 128) => (packet.to_port == port).then_some(Direction::There),
        (Kind::Echo, 1, 0) | (Kind::Echo, 58, 129) => (packet.to_port == port).then_some(Direction::Back),
        (_, 1 | 58, _) => Some(Direction::Error),
        _ if packet.from_port == port => Some(Direction::There),
        _ if packet.to_port == port => Some(Direction::Back),
        _ => None,
    }
}

/// The tracked connection of the host's for these packets; none where the kernel tracks none.
fn connection(these: &Traced) -> Result<Option<Tracked>, LiveError> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let is_port = |wanted: Option<u16>, found: u16| wanted.is_none_or(|wanted| wanted == found);
    let is_ip = |wanted: Option<IpAddr>, found: IpAddr| wanted.is_none_or(|wanted| wanted == found);
    let wanted = |flow: &Flow| {
        let (from, to) = (flow.original.from, flow.original.to);
        flow.protocol == these.protocol
            && (is_ip(these.from, from.ip()) && is_ip(these.to, to.ip()))
            && (is_port(these.from_port, from.port()) && is_port(these.to_port, to.port()))
    };
    let found = flows::list(&mut socket, wanted).unwrap_or_default();
    Ok(found.first().map(|flow| Tracked {
        from: flow.original.from,
        to: flow.original.to,
        answered_by: flow.reply.from,
        answered_to: flow.reply.to,
        answered: flow.status & SEEN_REPLY != 0,
    }))
}

fn unseen(places: &[Place], lost: bool) -> Vec<String> {
    let mut unseen: Vec<String> = places.iter().flat_map(|place| place.blind.clone()).collect();
    if lost {
        unseen.push("some of the trace, which came faster than it was read".to_owned());
    }
    // What could not be looked at may be there.
    let may_be_there = |ipv6| xtables::look_in_use(ipv6).map_or(true, |names| names.any());
    if may_be_there(false) || may_be_there(true) {
        unseen.push("rules of iptables-legacy, which the kernel does not tell of".to_owned());
    }
    unseen
}

/// Waits for a packet from outside and follows it.
fn wait_for(order: &Order) -> Result<Live, LiveError> {
    let v4 = order.to.is_ipv4();
    let echo = order.kind == Kind::Echo;
    let these = Traced {
        from: order.awaited_from,
        to: Some(order.to.ip()),
        to_port: (!echo).then(|| order.to.port()),
        opening: order.kind == Kind::Tcp,
        rate: Some(RATE),
        ..Traced::all(v4, order.kind.number(v4))
    };
    let watched = Watched { these: these.clone(), answers: None, by_connection: false };
    let mut places = vec![Place::watch("host", None, &watched)?];
    if let Some(target) = &order.target {
        // Whatever it was translated to.
        let these = Traced { from: None, to: None, to_port: None, ..these.clone() };
        let watched = Watched { these, answers: None, by_connection: false };
        places.push(Place::watch(&target.name, netns(Some(target))?, &watched)?);
    }
    let mut events: Vec<Vec<Event>> = places.iter().map(|_| Vec::new()).collect();
    let (end, mut lost) = (Instant::now() + order.wait, false);
    let first = loop {
        lost |= listen(&mut places, &mut events, (Instant::now() + Duration::from_millis(20)).min(end));
        let comes = |packet: &&Packet| !echo || matches!(packet.from_port, 8 | 128);
        let first = events[0].iter().filter(|event| event.input.is_some()).find_map(|event| event.packet);
        if first.as_ref().filter(comes).is_some() || Instant::now() >= end {
            break first;
        }
    };
    let Some(first) = first else { return Ok(judge::no_packet(order)) };
    let exact = Traced { from: Some(first.from), from_port: (!echo).then_some(first.from_port), ..these };
    let answered = follow(&mut places, &mut events, &exact, &mut lost)?;
    let is_it = |packet: &Packet| {
        let same_port =
            if echo { packet.to_port == first.to_port } else { packet.from_port == first.from_port };
        (packet.protocol == first.protocol && same_port).then_some(Direction::There)
    };
    let steps =
        places.iter().zip(&events).flat_map(|(place, events)| seen::steps(place, events, is_it)).collect();
    let source = SocketAddr::new(first.from, if echo { 0 } else { first.from_port });
    let mut live = judge::sent(
        order,
        source,
        steps,
        Answer::Elsewhere { answered: answered.as_ref().is_some_and(|tracked| tracked.answered) },
        answered,
    );
    live.counters = places.iter().flat_map(counters::moved).collect();
    live.unseen = unseen(&places, lost);
    Ok(live)
}

/// Follows somebody's packet until its connection is answered, or a little while.
fn follow(
    places: &mut [Place],
    events: &mut [Vec<Event>],
    exact: &Traced,
    lost: &mut bool,
) -> Result<Option<Tracked>, LiveError> {
    let end = Instant::now() + AGAIN;
    loop {
        *lost |= listen(places, events, Instant::now() + AFTERWARDS);
        let found = connection(exact)?;
        if found.as_ref().is_some_and(|tracked| tracked.answered) || Instant::now() >= end {
            return Ok(found);
        }
    }
}
