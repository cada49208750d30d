//! Firewalls of others.

use crate::apply::{self, ForeignDrop, Trip};
use crate::firewall::nft;
use crate::model::{FirewallBackend, Network};
use crate::plan::{self, Step};
use crate::sys::SysError;
use crate::sys::nfnetlink::NftSocket;
use crate::sys::xtables::{self, LegacyTable};
use crate::verbs::status;

use super::files;
use super::finding::{Findings, Remedy, Severity, Word};
use super::programs;
use super::sight::Sight;

/// `NFPROTO_INET`, `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Entries of each table of legacy iptables without rules: a policy for each of its chains, and the mark of its end.
const EMPTY: [(&str, u32); 5] = [("filter", 4), ("nat", 5), ("mangle", 6), ("raw", 3), ("security", 4)];

/// Looks for those who drop what is forwarded, and for those who will.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let nft = NftSocket::open().map_err(apply::Cause::from);
    let mut nft = match nft {
        Ok(nft) => nft,
        Err(error) => return findings.not_looked("the firewall", error),
    };
    if let Err(error) = drops(sight, &mut nft, findings) {
        findings.not_looked("what other firewalls drop", error);
    }
    if let Err(error) = variants(sight, &mut nft, findings) {
        findings.not_looked("who uses iptables", error);
    }
    daemons(sight, &mut nft, findings);
    // The kernel has nothing of ours to wait for.
    nft.leave_open();
}

fn drops(sight: &Sight<'_>, nft: &mut NftSocket, findings: &mut Findings) -> Result<(), apply::Cause> {
    let uplinks = sight.reading.host.uplinks();
    let uplink = uplinks.first().map(|link| link.name.as_str());
    let networks: Vec<&Network> =
        sight.reading.records.networks.iter().filter(|n| !n.bridge.is_empty()).collect();
    for network in &networks {
        for mut drop in apply::foreign_drops(nft, uplink, Some(&network.bridge))? {
            drop.trips.retain(|trip| is_wanted(sight, network, *trip));
            // The next ADD makes its exception, and nobody misses it before.
            let is_for_nobody = drop.is_iptables
                && drop.by_policy
                && drop.trips.iter().all(|trip| !matches!(trip, Trip::Names { .. }))
                && !sight.attachments.iter().any(|attachment| attachment.network == network.name);
            if !drop.trips.is_empty() && !is_for_nobody {
                tell(&drop, Some(network), findings);
            }
        }
    }
    if networks.is_empty() {
        // The first ADD makes its exception where the host offers a place for it.
        let mut drops = apply::foreign_drops(nft, uplink, None)?;
        // Nobody asks for names yet.
        drops.iter_mut().for_each(|drop| drop.trips.retain(|trip| !matches!(trip, Trip::Names { .. })));
        drops.retain(|drop| !drop.trips.is_empty());
        for drop in drops.iter().filter(|drop| !(drop.is_iptables && drop.by_policy)) {
            tell(drop, None, findings);
        }
    }
    Ok(())
}

/// Whether the network itself lets such packets through: nobody misses what it stops anyway.
fn is_wanted(sight: &Sight<'_>, network: &Network, trip: Trip) -> bool {
    let rules = plan::written(network);
    let of_network = |found: &&crate::store::Found<plan::Plan>| found.record.network == network.name;
    let mut ports = sight.reading.records.attachments.iter().filter(of_network);
    let isolated =
        ports.any(|found| found.record.plan.steps.iter().any(|s| matches!(s, Step::Port(p) if p.isolated)));
    match trip {
        Trip::Outgoing | Trip::Published => !rules.is_some_and(|rules| rules.internal),
        Trip::Within => !isolated && !rules.is_some_and(|rules| rules.keeps_apart()),
        Trip::Names { ipv6 } => {
            rules.is_some_and(|rules| rules.served.iter().any(|address| address.is_ipv6() == ipv6))
        }
    }
}

fn tell(drop: &ForeignDrop, network: Option<&Network>, findings: &mut Findings) {
    let (bridge, backend) =
        network.map_or(("BRIDGE", FirewallBackend::Nftables), |n| (n.bridge.as_str(), n.backend));
    let severity = if drop.surely && !drop.aimed { Severity::Fault } else { Severity::Warning };
    let of = network.map(|network| format!(" of network {}", network.name)).unwrap_or_default();
    let what = status::suffering(drop) + &of;
    if network.is_some() && status::is_mended_by_reconcile(drop, backend) {
        let why = "the exception that linkspan makes there for the network is missing: the chain began to drop after the \
                   network was made, or somebody took the exception away";
        return findings.add_mendable(severity, Word::ForeignDrop, what, why, Remedy::Reconcile);
    }
    let advice = status::advice(drop, bridge, backend);
    findings.add(
        severity,
        Word::ForeignDrop,
        what,
        "a rule of linkspan cannot overrule another firewall's drop, and linkspan changes no other firewall's policy",
        ["let them pass: ", "let them in: "]
            .iter()
            .find_map(|words| advice.strip_prefix(words))
            .unwrap_or(&advice),
    );
}

/// Rules of both kinds of iptables: each sees its own alone.
fn variants(sight: &Sight<'_>, nft: &mut NftSocket, findings: &mut Findings) -> Result<(), SysError> {
    let legacy = xtables::legacy_tables()?;
    let has_rules = |table: &&LegacyTable| {
        EMPTY.iter().any(|(name, empty)| *name == table.name && table.entries > *empty)
    };
    let by_legacy = legacy.iter().any(|table| has_rules(&table));
    let chains = nft::parse_chains(IPV4, &nft.dump(&nft::dump_chains(IPV4))?);
    // What a chain counts are its rules: a base chain is jumped to by nobody.
    let over_nft =
        chains.iter().any(|chain| ["filter", "nat"].contains(&chain.table.as_str()) && chain.uses > 0);
    if by_legacy && over_nft {
        findings.add(
            Severity::Warning,
            Word::BothIptables,
            "there are rules of legacy iptables and of iptables over nf_tables",
            "every packet has to pass both, and 'iptables -S' shows one of them: what one accepts the other may drop",
            "look at both (iptables-legacy-save, iptables-nft-save), flush those that nobody wants, and let \
             'update-alternatives --config iptables' choose one",
        );
    }
    let is_legacy = programs::iptables_is_legacy() == Some(true);
    for (family, number, legacy_number) in [("IPv4", IPV4, libc::AF_INET), ("IPv6", IPV6, libc::AF_INET6)] {
        if !needs_own_rules(sight, number == IPV6) {
            continue;
        }
        let there = if is_legacy {
            legacy
                .iter()
                .any(|table| table.family == legacy_number && table.name == "nat" && has_rules(&table))
        } else {
            let chain = nft.get(&nft::chain_policy(number, "nat", "LINKSPAN-POST"))?;
            // Its rules, and the jump to it.
            chain.and_then(|reply| nft::parse_chain(number, &reply)).is_some_and(|chain| chain.uses > 1)
        };
        if !there {
            findings.add_mendable(
                Severity::Fault,
                Word::RulesMissing,
                format!("the {family} rules of the backend iptables are gone"),
                "published ports, masquerade and walls do not work until they are put back",
                Remedy::Reconcile,
            );
        }
    }
    Ok(())
}

/// Whether a container on the backend iptables has addresses of a family, so that its rules have to be there.
fn needs_own_rules(sight: &Sight<'_>, ipv6: bool) -> bool {
    let on = |network: &&Network| network.backend == FirewallBackend::Iptables;
    sight.reading.records.networks.iter().filter(on).any(|network| {
        let mut own = sight.attachments.iter().filter(|attachment| attachment.network == network.name);
        own.any(|attachment| attachment.addresses.iter().any(|address| address.is_ipv6() == ipv6))
    })
}

/// Daemons that write rules by themselves.
fn daemons(sight: &Sight<'_>, nft: &mut NftSocket, findings: &mut Findings) {
    let chains = nft.dump(&nft::dump_chains(INET)).unwrap_or_default();
    let has_table = nft::parse_chains(INET, &chains).iter().any(|chain| chain.table == "firewalld");
    if has_table || files::is_running("/run/firewalld.pid") {
        let by_iptables = sight.needs_iptables();
        let (severity, why) = match &by_iptables {
            Some(_) => (
                Severity::Warning,
                "'firewall-cmd --reload' may flush iptables, and linkspan's rules with it",
            ),
            None => {
                (Severity::Remark, "it keeps to a table of its own; what that drops is a finding by itself")
            }
        };
        findings.add(
            severity,
            Word::Firewalld,
            "firewalld runs",
            why,
            "put the bridges into its zone trusted (firewall-cmd --permanent --zone=trusted --add-interface=BRIDGE), and \
             let linkspan's agent or 'linkspan reconcile' put back what a reload flushes",
        );
    }
    let ufw = files::text("/etc/ufw/ufw.conf").unwrap_or_default();
    if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")) {
        findings.add(
            Severity::Remark,
            Word::Ufw,
            "ufw is on",
            "its rules for what comes in do not see published ports, which are forwarded; what it drops is a finding by itself",
            "to close a published port, bind it to an address (hostIP) or use 'ufw route deny'",
        );
    }
}
