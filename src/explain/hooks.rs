//! A packet's way through all base chains of a hook.

use std::net::IpAddr;

use crate::firewall::nft::{Doubt, End, Packet, Place, Tracking, Translation};
use crate::sys::SysError;
use crate::sys::rtnl::RouteQuery;

use super::blame;
use super::site::{BRIDGE, Gate, Site};
use super::way::{Decision, Deed};

/// A hook (`NF_INET_*`; `NF_BR_*` agree).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Hook {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// A connection: what its first packet was before any translation, which an answer is translated back to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Connection {
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
    pub(super) port: Option<u16>,
    /// Whether it is decided how it is translated: what goes to the host itself meets two hooks that could.
    pub(super) settled: bool,
}

/// What came of a hook.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) decisions: Vec<Decision>,
    /// The base chain that drops it, where, and whether that is sure.
    pub(super) dropped: Option<(Gate, Place, bool)>,
    /// Rules that may drop it.
    pub(super) doubts: Vec<(Gate, Doubt)>,
    /// Whether its destination changed.
    pub(super) redirected: bool,
}

/// `NF_IP_PRI_CONNTRACK`: chains before it see no connection.
pub(super) const CONNTRACK: i32 = -200;
/// `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`: where the translations of a known connection are done.
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;

/// Sends a packet through the chains of a hook; `bridged` are those of family bridge.
pub(super) fn pass(
    site: &mut Site,
    packet: &mut Packet,
    hook: Hook,
    bridged: bool,
    original: &Connection,
) -> Result<Passed, SysError> {
    let mut passed = Passed::default();
    let tracking = packet.tracking;
    let begins = matches!(hook, Hook::Prerouting | Hook::Output) && !bridged;
    let family = if bridged { BRIDGE } else { packet.family };
    let mut translated = false;
    let mut undone = bridged;
    for gate in site.hooked(hook as u32, family) {
        let priority = gate.priority();
        let known_from = if begins { DESTINATION } else { SOURCE };
        if !undone && priority >= known_from {
            undo(packet, hook, original);
            undone = true;
        }
        if begins && packet.tracking != Tracking::Untracked {
            packet.tracking = if priority < CONNTRACK { Tracking::Before } else { tracking };
        }
        if gate.is_nat()
            && (packet.reply || original.settled || translated || packet.tracking != Tracking::New)
        {
            continue;
        }
        let Some(followed) = site.follow(&gate, packet)? else { continue };
        let surely = !followed.doubts.iter().any(|doubt| !doubt.drops);
        passed
            .doubts
            .extend(followed.doubts.into_iter().filter(|d| d.drops).map(|doubt| (gate.clone(), doubt)));
        let (place, verdict) = match followed.end {
            End::Passes(place) => (place, Deed::Accept),
            End::Drops(place) => (place, Deed::Drop),
            End::Translates(place, translation) => {
                translated = true;
                let translation = whole(site, packet, hook, translation)?;
                passed.redirected |= translation.destination;
                packet.translate(&translation);
                (place, if translation.destination { Deed::Dnat } else { Deed::Snat })
            }
        };
        passed.decisions.push(decision(&gate, hook, &place, verdict));
        if verdict == Deed::Drop {
            passed.dropped = Some((gate, place, surely));
            break;
        }
    }
    if packet.tracking == Tracking::Before {
        packet.tracking = tracking;
    }
    if !undone {
        undo(packet, hook, original);
    }
    Ok(passed)
}

/// The same inside a container's namespace, which tracks connections of its own and knows nothing of the host's.
pub(super) fn pass_inside(site: &mut Site, packet: &mut Packet, hook: Hook) -> Result<Passed, SysError> {
    let (published, masqueraded) = (packet.published, packet.masqueraded);
    (packet.published, packet.masqueraded) = (false, false);
    let passed = pass(site, packet, hook, false, &Connection::default());
    packet.published |= published;
    packet.masqueraded |= masqueraded;
    passed
}

fn decision(gate: &Gate, hook: Hook, place: &Place, verdict: Deed) -> Decision {
    Decision {
        family: gate.family().to_owned(),
        table: gate.chain.table.clone(),
        base: gate.chain.name.clone(),
        hook: hook.name(),
        priority: gate.priority(),
        chain: place.chain.clone(),
        handle: place.rule,
        owner: blame::owner(gate, place),
        verdict,
    }
}

/// Where an answer comes through, it gets the addresses that the first packet had.
fn undo(packet: &mut Packet, hook: Hook, original: &Connection) {
    if !packet.reply || packet.tracking == Tracking::Untracked {
        return;
    }
    match hook {
        Hook::Prerouting | Hook::Output if packet.masqueraded => packet.destination = original.source,
        Hook::Postrouting | Hook::Input if packet.published => {
            packet.source = original.destination;
            packet.source_port = original.port;
        }
        _ => {}
    }
}

/// Fills in the address of an interface.
fn whole(
    site: &mut Site,
    packet: &Packet,
    hook: Hook,
    mut translation: Translation,
) -> Result<Translation, SysError> {
    if !translation.local {
        return Ok(translation);
    }
    let v4 = packet.is_ipv4();
    translation.address = if translation.destination {
        match (hook, packet.input_index) {
            (Hook::Prerouting, Some(index)) => site.addresses_of(index, v4).first().copied(),
            _ if v4 => Some(IpAddr::from([127, 0, 0, 1])),
            _ => Some(std::net::Ipv6Addr::LOCALHOST.into()),
        }
    } else {
        let chosen = match packet.destination {
            None => None,
            Some(to) => {
                let query = RouteQuery { to, from: None, input: None, mark: packet.mark.unwrap_or(0) };
                site.route(&query)?.ok().and_then(|route| route.source)
            }
        };
        let first = || packet.output_index.and_then(|index| site.addresses_of(index, v4).first().copied());
        chosen.or_else(first)
    };
    Ok(translation)
}
