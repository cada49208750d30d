//! Settings of the kernel that are a container's business, those that a record calls for aside (see [`super::drift`]).

use crate::plan::Step;
use crate::sys::sysctl;

use super::finding::{Findings, Severity, Word, some};
use super::sight::Sight;

/// `RTPROT_RA` (`linux/rtnetlink.h`): a route that a router advertised.
const RTPROT_RA: u8 = 9;
/// From here on a table counts as nearly full, in percent.
const NEARLY: u64 = 80;
/// From here on packets are dropped any moment, in percent.
const FULL: u64 = 97;
/// How many neighbours a container is: one of each family.
const NEIGHBOURS: u64 = 2;

/// Looks at what is neither of one network nor of one container.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    if let Some((count, max)) = sight.reading.host.tracked {
        conntrack(count, max, findings);
    }
    let containers = sight.attachments.len() as u64;
    neighbours("net/ipv4/neigh/default/gc_thresh3", containers, findings);
    forwarding_of_links(sight, findings);
    reverse_path(sight, findings);
    router_advertisements(sight, findings);
    ephemeral_ports(sight, findings);
}

fn number(key: &str) -> Option<u64> {
    sysctl::read(key).ok()?.trim().parse().ok()
}

fn conntrack(count: u64, max: u64, findings: &mut Findings) {
    let used = count.saturating_mul(100) / max.max(1);
    let severity = match used {
        FULL.. => Severity::Fault,
        NEARLY.. => Severity::Warning,
        _ => return,
    };
    findings.add(
        severity,
        Word::ConntrackFull,
        format!("{count} of {max} connections are tracked"),
        "when the table is full the kernel drops the first packet of every new connection, of the host and of containers",
        format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(2).max(count.saturating_mul(2))),
    );
}

/// Containers that talk are entries of the host's neighbour table, which drops new ones past its third threshold.
fn neighbours(key: &str, containers: u64, findings: &mut Findings) {
    let Some(limit) = number(key) else { return };
    if let Some(wanted) = too_many(containers, limit) {
        findings.add(
            Severity::Warning,
            Word::NeighbourTable,
            format!("{containers} containers, and room for {limit} neighbours"),
            "past that the kernel refuses to learn a container's hardware address ('neighbour table overflow')",
            format!("sysctl -w net.ipv4.neigh.default.gc_thresh3={wanted} net.ipv6.neigh.default.gc_thresh3={wanted}"),
        );
    }
}

/// The limit that there should be, where there is too little room.
fn too_many(containers: u64, limit: u64) -> Option<u64> {
    (containers.saturating_mul(100) / limit.max(1) >= NEARLY)
        .then(|| (containers * NEIGHBOURS * 2).next_power_of_two().max(limit))
}

/// A host that forwards may have single interfaces that do not.
fn forwarding_of_links(sight: &Sight<'_>, findings: &mut Findings) {
    if !sysctl::read(sysctl::FORWARDING4).is_ok_and(|value| value == "1") {
        return;
    }
    let host = &sight.reading.host;
    let mut links: Vec<&str> = host.uplinks().iter().map(|link| link.name.as_str()).collect();
    links.extend(sight.reading.records.networks.iter().map(|network| network.bridge.as_str()));
    links.retain(|name| {
        !name.is_empty() && sight.needs_step(|step| matches!(step, Step::Forwarding(f) if f.ipv4)).is_some()
    });
    links.dedup();
    for name in links {
        let key = format!("net/ipv4/conf/{name}/forwarding");
        if sysctl::read(&key).is_ok_and(|value| value == "0") {
            findings.add(
                Severity::Fault,
                Word::ForwardingOff,
                format!("{name} forwards nothing, though the host does"),
                "what comes in by this interface and is for a container, or the other way round, is dropped",
                format!("sysctl -w {key}=1"),
            );
        }
    }
}

/// Answers to what came in by one uplink leave by another where there are two.
fn reverse_path(sight: &Sight<'_>, findings: &mut Findings) {
    let uplinks = sight.reading.host.uplinks();
    if uplinks.len() < 2 {
        return;
    }
    let all = number("net/ipv4/conf/all/rp_filter").unwrap_or(0);
    let is_strict =
        |name: &str| all.max(number(&format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0)) == 1;
    for link in uplinks.iter().filter(|link| is_strict(&link.name)) {
        findings.add(
            Severity::Warning,
            Word::ReversePath,
            format!("{} filters reverse paths strictly, and is one of {} ways out", link.name, uplinks.len()),
            "what comes to a published port by this interface is dropped where the answer would leave by another",
            format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", link.name),
        );
    }
}

/// A host that forwards heeds router advertisements only where it is told so.
fn router_advertisements(sight: &Sight<'_>, findings: &mut Findings) {
    let host = &sight.reading.host;
    if number(sysctl::FORWARDING6) != Some(1) {
        return;
    }
    for link in host.uplinks() {
        let learned = host.routes.iter().any(|route| {
            route.dst.is_ipv6()
                && route.dst.prefix() == 0
                && route.protocol == RTPROT_RA
                && route.oif == Some(link.index)
        });
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if learned && number(&key) == Some(1) {
            findings.add(
                Severity::Warning,
                Word::RouterAdvertisements,
                format!("{} has its default route from a router, and no longer listens to it", link.name),
                "the host forwards, so the kernel passes router advertisements over: the route is gone when it expires",
                format!("sysctl -w {key}=2"),
            );
        }
    }
}

/// The host takes ports of this range for its own connections.
fn ephemeral_ports(sight: &Sight<'_>, findings: &mut Findings) {
    let Some((first, last)) = sysctl::read("net/ipv4/ip_local_port_range").ok().and_then(|text| range(&text))
    else {
        return;
    };
    let reserved = sysctl::read("net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let taken = runs(&reserved);
    let is_open = |port: u16| (first..=last).contains(&port) && !taken.iter().any(|run| run.contains(&port));
    let (mut ports, mut held) = (Vec::new(), false);
    for step in sight.steps() {
        let Step::Claims(claims) = step else { continue };
        for publication in &claims.publications {
            let begin = publication.host.port();
            let end = begin.saturating_add(publication.count.saturating_sub(1));
            if (begin..=end).any(is_open) {
                ports.push(if begin == end { begin.to_string() } else { format!("{begin}-{end}") });
                held |= claims.hold;
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return;
    }
    let severity = if held { Severity::Warning } else { Severity::Remark };
    let before = if reserved.is_empty() { String::new() } else { format!("{reserved},") };
    findings.add(
        severity,
        Word::EphemeralPort,
        format!("published ports among those that the host uses for its own connections ({first}-{last}): {}", some(&ports)),
        "while a connection of the host has such a port, the port cannot be held, and answers to that connection are at risk",
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={before}{}", ports.join(",")),
    );
}

/// Two numbers with a blank between them.
fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `1,3-5`.
fn runs(text: &str) -> Vec<std::ops::RangeInclusive<u16>> {
    let run = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_conntrack(count: u64, max: u64) -> Option<Severity> {
        let mut findings = Findings::default();
        conntrack(count, max, &mut findings);
        findings.all().first().map(|finding| finding.severity)
    }

    #[test]
    fn a_table_is_nearly_full_before_it_is() {
        assert_eq!(of_conntrack(0, 0), None);
        assert_eq!(of_conntrack(799, 1000), None);
        assert_eq!(of_conntrack(800, 1000), Some(Severity::Warning));
        assert_eq!(of_conntrack(990, 1000), Some(Severity::Fault));
    }

    #[test]
    fn room_for_neighbours_is_twice_what_is_needed() {
        assert_eq!(too_many(100, 1024), None);
        assert_eq!(too_many(1000, 1024), Some(4096));
    }

    #[test]
    fn ranges_of_ports_are_read() {
        assert_eq!(range("32768\t60999"), Some((32_768, 60_999)));
        assert_eq!(range("x"), None);
        let reserved = runs("80,8000-8010");
        assert!(
            reserved.iter().any(|run| run.contains(&8005)) && !reserved.iter().any(|run| run.contains(&81))
        );
        assert!(runs("").is_empty());
    }
}
