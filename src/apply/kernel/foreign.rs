//! Whose rules drop what containers send and what goes to published ports: for STATUS, which has the time to look.

use crate::firewall::NAMES_PORT;
use crate::firewall::iptables::{Family, LegacyTable};
use crate::firewall::nft::{self, Chain, Packet, Stopped};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::{sysctl, xtables};

use super::asked::Asked;
use super::{Cause, Kernel, admission};

/// `IPPROTO_UDP`.
const UDP: u8 = 17;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];
/// Legacy iptables, by its commands.
const LEGACY: [(Family, &str); 2] = [(Family::V4, "iptables-legacy"), (Family::V6, "ip6tables-legacy")];
/// No bridge of anybody's: what stops this one too is not aimed at ours.
const NOBODY: &str = "lks-.";

/// Set where packets between ports of a bridge go through the chains of IP (module `br_netfilter`).
const BRIDGED: &str = "net/bridge/bridge-nf-call-iptables";

/// What a network needs to pass: the first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// From a container to the world.
    Outgoing,
    /// From the world to a published port.
    Published,
    /// From a container to another on the same bridge.
    Within,
    /// From a container to the name service at its gateway.
    Names {
        /// Whether that is asked by IPv6.
        ipv6: bool,
    },
}

/// A foreign chain that drops what a network needs to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDrop {
    /// The base chain, `inet firewalld filter_FORWARD`.
    pub base: String,
    /// Its table.
    pub table: String,
    /// What in it drops, in words: its policy, or a rule.
    pub place: String,
    /// Whether its own policy does.
    pub by_policy: bool,
    /// What it drops.
    pub trips: Vec<Trip>,
    /// Whether it surely comes to that; else a rule before may let packets pass that were not looked at.
    pub surely: bool,
    /// Whether it drops for this bridge and not for others: somebody wants it so.
    pub aimed: bool,
    /// Whether it is the FORWARD chain of iptables, or its INPUT chain.
    pub is_iptables: bool,
}

impl Kernel {
    /// Foreign chains that drop what the network of `bridge` forwards, and its containers' questions; a bridge that
    /// is not known is none in particular.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn foreign_drops(&mut self, bridge: Option<&str>) -> Result<Vec<ForeignDrop>, Cause> {
        let uplink = self.uplink()?.map(|link| link.name);
        foreign_drops(self.nft()?, uplink.as_deref(), bridge)
    }

    /// Whether a FORWARD chain of iptables-nft stops what a bridge forwards by one of its rules, as it would stop
    /// anybody's.
    pub(super) fn rejects_forwarded(&mut self, forward: &Chain, bridge: &str) -> Result<bool, Cause> {
        let uplink = self.uplink()?.map(|link| link.name);
        let mut table = Asked::new(self.nft()?, forward.family, &forward.table);
        for (trip, packet) in packets(forward.family, Some(bridge), uplink.as_deref()) {
            if !matches!(trip, Trip::Outgoing | Trip::Published) {
                continue;
            }
            let stops = |stopped: Option<nft::Stopped>| stopped.is_some_and(|stopped| stopped.surely);
            if stops(nft::passage(&mut table, forward, &packet)?)
                && stops(nft::passage(&mut table, forward, &of_nobody(&packet, bridge))?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// As [`Kernel::foreign_drops`], for a host that has no state yet; `uplink` is the interface that its default route
/// leaves by.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn foreign_drops(
    nft: &mut NftSocket,
    uplink: Option<&str>,
    bridge: Option<&str>,
) -> Result<Vec<ForeignDrop>, Cause> {
    let bridged = sysctl::read(BRIDGED).is_ok_and(|value| value == "1");
    let mut drops = legacy_drops(bridge)?;
    drops.extend(legacy_refusals(bridge)?);
    for family in nft::ROUTED_FAMILIES {
        let replies = nft.dump(&nft::dump_chains(family))?;
        for chain in &nft::parse_chains(family, &replies) {
            let passes = |trip: Trip| match trip {
                Trip::Names { .. } => chain.sees_received(),
                Trip::Within => bridged && chain.sees_forwarded(),
                Trip::Outgoing | Trip::Published => chain.sees_forwarded(),
            };
            let mut table = Asked::new(nft, chain.family, &chain.table);
            for (trip, packet) in packets(family, bridge, uplink) {
                if !passes(trip) {
                    continue;
                }
                let Some(stopped) = nft::passage(&mut table, chain, &packet)? else { continue };
                let aimed = is_aimed(bridge, &packet, |other| nft::passage(&mut table, chain, other))?;
                note(&mut drops, chain, &stopped, trip, aimed);
            }
        }
    }
    Ok(drops)
}

/// The FORWARD chains of legacy iptables that drop; a bridge that is not known is let through by none.
fn legacy_drops(bridge: Option<&str>) -> Result<Vec<ForeignDrop>, Cause> {
    let mut drops = Vec::new();
    for (family, tool) in LEGACY {
        if admission::legacy_drops(family, bridge.unwrap_or_default())? {
            let by_rule = admission::legacy_rejects(family)?;
            drops.push(ForeignDrop {
                base: format!("{tool} filter FORWARD"),
                table: "filter".to_owned(),
                place: if by_rule { "by a rule for everything" } else { "by its policy" }.to_owned(),
                by_policy: !by_rule,
                trips: vec![Trip::Outgoing, Trip::Published],
                surely: true,
                aimed: false,
                is_iptables: true,
            });
        }
    }
    Ok(drops)
}

/// The INPUT chains of legacy iptables that drop questions to the name service.
fn legacy_refusals(bridge: Option<&str>) -> Result<Vec<ForeignDrop>, Cause> {
    /// `NF_INET_LOCAL_IN`.
    const INPUT: usize = 1;
    let mut drops = Vec::new();
    for ((family, tool), number) in LEGACY.into_iter().zip(FAMILIES) {
        let Some(table) = xtables::table(family == Family::V6, "filter")? else { continue };
        let own = LegacyTable::new(family, &table.entries);
        let through = |packet: &Packet| {
            let mut packet = packet.clone();
            let end = own.follow("INPUT", table.starts[INPUT], table.policies[INPUT], &mut packet);
            Ok::<_, Cause>(end.stopped())
        };
        for (trip, packet) in packets(number, bridge, None) {
            let (Trip::Names { .. }, Some(stopped)) = (trip, through(&packet)?) else { continue };
            let aimed = is_aimed(bridge, &packet, through)?;
            drops.push(ForeignDrop {
                base: format!("{tool} filter INPUT"),
                table: "filter".to_owned(),
                place: match stopped.rule {
                    None => "by its policy".to_owned(),
                    Some(line) => {
                        format!("by rule {line} ({tool} -L {} --line-numbers)", stopped.chain)
                    }
                },
                by_policy: stopped.rule.is_none(),
                trips: vec![trip],
                surely: stopped.surely,
                aimed,
                is_iptables: true,
            });
        }
    }
    Ok(drops)
}

/// The packets that a chain of this family sees; one of family inet sees those of both.
fn packets(family: u8, bridge: Option<&str>, uplink: Option<&str>) -> Vec<(Trip, Packet)> {
    let packet = |family, input: Option<&str>, output: Option<&str>, published| Packet {
        family,
        input: input.map(str::to_owned),
        output: output.map(str::to_owned),
        published,
        ..Packet::default()
    };
    let seen = FAMILIES.into_iter().filter(|number| *number == family || !FAMILIES.contains(&family));
    seen.flat_map(|family| {
        [
            (Trip::Outgoing, packet(family, bridge, uplink, false)),
            (Trip::Published, packet(family, uplink, bridge, true)),
            (Trip::Within, packet(family, bridge, bridge, false)),
            (Trip::Names { ipv6: family == FAMILIES[1] }, question(packet(family, bridge, None, false))),
        ]
    })
    .collect()
}

/// The packet as a question to a name server on the host.
fn question(packet: Packet) -> Packet {
    Packet { protocol: Some(UDP), destination_port: Some(NAMES_PORT), ..packet }
}

/// Whether what stops this packet lets the same pass on a bridge of nobody's.
fn is_aimed<E>(
    bridge: Option<&str>,
    packet: &Packet,
    mut through: impl FnMut(&Packet) -> Result<Option<Stopped>, E>,
) -> Result<bool, E> {
    let Some(bridge) = bridge else { return Ok(false) };
    Ok(through(&of_nobody(packet, bridge))?.is_none_or(|other| !other.surely))
}

fn of_nobody(packet: &Packet, bridge: &str) -> Packet {
    let mut other = packet.clone();
    for interface in [&mut other.input, &mut other.output] {
        if interface.as_deref() == Some(bridge) {
            *interface = Some(NOBODY.to_owned());
        }
    }
    other
}

/// One entry for each place that drops.
fn note(drops: &mut Vec<ForeignDrop>, chain: &Chain, stopped: &Stopped, trip: Trip, aimed: bool) {
    let place = match stopped.rule {
        None => "by its policy".to_owned(),
        Some(handle) => format!(
            "by the rule with handle {handle} of chain {} (nft -a list chain {} {} {0})",
            stopped.chain,
            chain.family_word(),
            chain.table
        ),
    };
    let base = chain.to_string();
    if let Some(known) = drops.iter_mut().find(|known| known.base == base && known.place == place) {
        if !known.trips.contains(&trip) {
            known.trips.push(trip);
        }
        known.surely |= stopped.surely;
        known.aimed &= aimed;
        return;
    }
    drops.push(ForeignDrop {
        base,
        table: chain.table.clone(),
        place,
        by_policy: stopped.rule.is_none(),
        trips: vec![trip],
        surely: stopped.surely,
        aimed,
        is_iptables: chain.is_of_iptables(),
    });
}
