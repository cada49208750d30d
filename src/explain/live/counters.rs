//! Counters that moved while the probe was under way: they tell of packets that no rule sees.

use serde::Serialize;

use super::place::Place;

/// Counters that say why a packet went no further, or that it went on; by the names that `nstat` has.
const TELLING: [(&str, &str); 24] = [
    ("TcpExtIPReversePathFilter", "dropped by reverse path filtering (rp_filter)"),
    ("IpExtInNoRoutes", "came in, and no route led on"),
    ("Ip6InNoRoutes", "came in, and no route led on"),
    ("IpOutNoRoutes", "were to be sent, and no route led there"),
    ("Ip6OutNoRoutes", "were to be sent, and no route led there"),
    (
        "IpInAddrErrors",
        "came in for somebody else, and were not forwarded (ip_forward), or had impossible addresses",
    ),
    (
        "Ip6InAddrErrors",
        "came in for somebody else, and were not forwarded (forwarding), or had impossible addresses",
    ),
    ("IpForwDatagrams", "were forwarded"),
    ("Ip6OutForwDatagrams", "were forwarded"),
    ("IpInDiscards", "came in and were discarded"),
    ("Ip6InDiscards", "came in and were discarded"),
    ("IpOutDiscards", "were to be sent and were discarded"),
    ("Ip6OutDiscards", "were to be sent and were discarded"),
    ("IpFragFails", "did not fit and were not to be fragmented"),
    ("Ip6FragFails", "did not fit"),
    ("Ip6InTooBigErrors", "did not fit through the next link"),
    ("UdpNoPorts", "came for a UDP port that nobody listens on"),
    ("Udp6NoPorts", "came for a UDP port that nobody listens on"),
    ("UdpRcvbufErrors", "found the server's buffer full"),
    ("TcpExtListenDrops", "opened connections that the server's queue had no room for"),
    ("TcpExtTCPReqQFullDrop", "opened connections that the server's queue had no room for"),
    ("Conntrack_drop", "were dropped because the table of tracked connections is full"),
    ("Conntrack_insert_failed", "could not be tracked"),
    ("Conntrack_invalid", "belonged to no tracked connection"),
];

/// A counter that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Whose namespace: `host`, `container shop`.
    pub place: String,
    /// Its name, as `nstat` has it.
    pub counter: String,
    /// By how much: of the whole namespace, so that others' packets may be among them.
    pub by: u64,
    /// What it counts.
    pub means: &'static str,
}

/// The telling counters of a place that moved since its watch began.
pub(super) fn moved(place: &Place) -> Vec<Moved> {
    let (before, now) = place.counters();
    let by = |name: &str| {
        let value = now.get(name)?;
        value.checked_sub(before.get(name).copied().unwrap_or(0)).filter(|by| *by > 0)
    };
    let telling = TELLING.iter().filter_map(|(name, means)| Some((*name, *means, by(name)?)));
    telling
        .map(|(counter, means, by)| Moved {
            place: place.name.clone(),
            counter: counter.to_owned(),
            by,
            means,
        })
        .collect()
}
