//! Whether packets of full size get through.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::sys::netlink::{Protocol, Socket};
use crate::sys::probe::{Kind, Probe, Reply};
use crate::sys::rtnl;

/// How long each echo is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_millis(250);
const TRIES: usize = 2;
/// The headers of an echo request: IPv4 or IPv6, and ICMP.
const HEADERS: [u32; 2] = [20 + 8, 40 + 8];

/// What became of an echo request as large as the sender's interface allows, not to be fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SizeTest {
    /// To whom.
    pub to: IpAddr,
    /// Its size in bytes, IP header included.
    pub bytes: u32,
    /// Whether it was answered.
    pub answered: bool,
    /// The MTU that a router, or the sender's own kernel, told of by ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<u32>,
    /// Where an MTU was told: whether one in fragments was answered, whose answer is as large again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<bool>,
}

impl SizeTest {
    /// Whether it got lost without a word.
    pub(super) fn is_swallowed(&self) -> bool {
        !self.answered && (self.told.is_none() || self.pieces == Some(false))
    }
}

/// Tries it from the calling thread's namespace. `None` where even a small echo is not answered, so that a large one
/// would tell nothing.
pub(super) fn try_full(to: IpAddr) -> Option<SizeTest> {
    let largest = mtu_towards(to)?;
    let small = || echo(to, 0, true).filter(|reply| *reply == Reply::Answered);
    small()?;
    let mut test = SizeTest { to, bytes: largest, answered: false, told: None, pieces: None };
    let payload = usize::try_from(largest.checked_sub(HEADERS[usize::from(to.is_ipv6())])?).ok()?;
    for _ in 0..TRIES {
        match echo(to, payload, true) {
            Some(Reply::Answered) => test.answered = true,
            Some(Reply::Icmp(error)) if error.mtu.is_some() => test.told = error.mtu,
            _ => continue,
        }
        break;
    }
    // Nor does it where small ones get lost by now as well: a host may be too busy to answer any in time.
    if !test.answered && test.told.is_none() {
        small()?;
    }
    if test.told.is_some() {
        // What was learned of the path is heeded now.
        let in_pieces = || echo(to, payload, false) == Some(Reply::Answered);
        test.pieces = Some((0..TRIES).any(|_| in_pieces()));
    }
    Some(test)
}

/// The MTU of the interface, or of the route, that leads there.
fn mtu_towards(to: IpAddr) -> Option<u32> {
    let mut socket = Socket::open(Protocol::Route).ok()?;
    let route = rtnl::route_lookup(&mut socket, to).ok()??;
    let link = rtnl::link_by_index(&mut socket, route.oif?).ok()??;
    // What the kernel learned of the path meanwhile is not meant, and no path is wider than an echo can be.
    Some(link.mtu.min(65_000))
}

/// What comes back of one echo request, which may not be fragmented where it is `whole`.
fn echo(to: IpAddr, payload: usize, whole: bool) -> Option<Reply> {
    let probe = Probe::prepare(Kind::Echo, SocketAddr::new(to, 0), None).ok()?;
    if whole {
        probe.never_fragment().ok()?;
    }
    probe.send(payload).ok()?;
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(reply) = probe.reply() {
            return Some(reply);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
