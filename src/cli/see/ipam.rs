//! `linkspan ipam`: ranges and leases.

use clap::{ArgMatches, Command};
use serde::Serialize;

use crate::ipam;
use crate::model::Range;
use crate::view::{self, Lease, LeaseState, Network, Reading, Wants};

use super::super::Session;
use super::super::error::Error;
use super::super::table::{Cell, Table, Tone};
use super::super::words;
use super::{Look, Options, document, options};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("ipam").about("address ranges and leases: who, since when; orphans marked");
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "STATE is held, dead (its container is gone; DEL or GC frees it) or orphan (nobody's; GC frees\nit). With \
         --container or --label only leases are shown.\n\nExamples:\n  linkspan ipam --network web\n  \
         linkspan ipam --json | jq -r '.ipam.leases[] | select(.state == \"orphan\") | .address'",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let wants = Wants { leases: true, ..Wants::LEAST };
    session.show(&options, wants, |reading, look| page(&options, reading, look))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Ipam<'a> {
    ranges: Vec<Row<'a>>,
    leases: Vec<Lease>,
}

/// One range of a network.
#[derive(Serialize)]
struct Row<'a> {
    network: &'a str,
    /// The range set that it is of: an attachment gets one address of each.
    set: usize,
    #[serde(flatten)]
    range: &'a Range,
    used: usize,
    free: u64,
}

fn page(options: &Options, reading: &Reading, look: Look) -> Result<String, Error> {
    let attachments = view::attachments(reading);
    options.require_known(reading, &attachments)?;
    let all = view::leases(reading, &attachments);
    let networks = view::networks(reading, &attachments, &all);
    let of_network = |lease: &Lease| options.has_network(&lease.network);
    let ranges: Vec<Row<'_>> =
        networks.iter().filter(|n| options.has_network(&n.name)).flat_map(|n| rows(n, &all)).collect();
    let leases: Vec<Lease> = if options.is_unfiltered() {
        all.clone()
    } else {
        let chosen = options.select(attachments);
        let orphans = options.names_networks_only();
        all.iter()
            .filter(|lease| of_network(lease))
            .filter(|lease| {
                let own = |a: &view::Attachment| {
                    a.container == lease.container
                        && lease.interface.as_ref().is_none_or(|i| *i == a.interface)
                };
                chosen.iter().any(own) || (orphans && lease.state == LeaseState::Orphan)
            })
            .cloned()
            .collect()
    };
    if look.json {
        return document("ipam", &Ipam { ranges, leases });
    }
    Ok(tables(options, &ranges, &leases, reading.at, look))
}

fn rows<'a>(network: &'a Network, leases: &[Lease]) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (set, ranges) in network.ranges.iter().enumerate() {
        for range in ranges {
            let pool = ipam::Pool::new(std::slice::from_ref(range));
            let held = leases.iter().filter(|lease| lease.network == network.name);
            let used = held.filter(|lease| pool.contains(lease.address)).count();
            let capacity = ipam::capacity(std::slice::from_ref(range));
            let free = u64::try_from(capacity.saturating_sub(used as u128)).unwrap_or(u64::MAX);
            rows.push(Row { network: &network.name, set, range, used, free });
        }
    }
    rows
}

fn tables(options: &Options, ranges: &[Row<'_>], leases: &[Lease], now: u64, look: Look) -> String {
    let mut text = String::new();
    if options.is_unfiltered() || options.names_networks_only() {
        let mut table =
            Table::new(&["NETWORK", ">SET", "SUBNET", "FIRST", "LAST", "GATEWAY", ">USED", ">FREE"]);
        for row in ranges {
            table.row(vec![
                row.network.into(),
                row.set.to_string().into(),
                row.range.subnet.to_string().into(),
                row.range.start.to_string().into(),
                row.range.end.to_string().into(),
                words::or_dash(row.range.gateway).into(),
                row.used.to_string().into(),
                words::many(row.free).into(),
            ]);
        }
        text.push_str(&table.render(look.colour));
        text.push('\n');
    }
    let mut table = Table::new(&["ADDRESS", "NETWORK", "CONTAINER", "NAME", "IF", ">SINCE", "STATE"]);
    for lease in leases {
        let (word, tone) = match lease.state {
            LeaseState::Held => ("held", Tone::Good),
            LeaseState::Dead => ("dead", Tone::Doubtful),
            LeaseState::Orphan => ("orphan", Tone::Doubtful),
        };
        let container = Some(&lease.container).filter(|id| !id.is_empty());
        table.row(vec![
            lease.address.to_string().into(),
            lease.network.as_str().into(),
            words::or_dash(container.map(|id| words::container(id, look.whole))).into(),
            words::or_dash(lease.name.as_ref()).into(),
            words::or_dash(lease.interface.as_ref()).into(),
            words::age(now, lease.since).into(),
            Cell::toned(word, tone),
        ]);
    }
    text.push_str(&table.render(look.colour));
    text
}
