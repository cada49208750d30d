//! `linkspan top`: what passes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};

use crate::view::{self, Traffic, Wants};

use super::super::Session;
use super::super::error::Error;
use super::super::table::Table;
use super::super::words;
use super::{Look, Options, document, options, read};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("top").about("live bytes, packets and connections, per container and port");
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "At a terminal it goes on every 2 seconds, the busiest first; elsewhere it prints once. Rates\nare since the page \
         before. A container's bytes and packets are its own, since it was attached.\nCONNS are connections that the kernel \
         tracks now; a port's bytes and packets are theirs, and\nonly while net.netfilter.nf_conntrack_acct is 1. Not \
         counted by port: connections that have ended,\nand those inside a network that go straight to the container.\n\n\
         Examples:\n  linkspan top\n  linkspan top --network web --watch=1 --count 2",
    )
}

/// Bytes received and sent by each interface of each container, and when they were read.
struct Before {
    at: Instant,
    counts: HashMap<(String, String), (u64, u64)>,
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let mut options = Options::of(matches);
    if options.watch.is_none() && options.count.is_none() && session.terminal.stdout && !options.json {
        options.watch = Some(Duration::from_secs(2));
    }
    let look = session.look(&options);
    let mut before: Option<Before> = None;
    session.rounds(&options, |_| page(&options, look, &mut before))
}

fn page(options: &Options, look: Look, before: &mut Option<Before>) -> Result<String, Error> {
    let reading = read(Wants { flows: true, ..Wants::LEAST })?;
    let all = view::attachments(&reading);
    options.require_known(&reading, &all)?;
    let traffic = view::traffic(&reading, &options.select(all));
    if look.json {
        return document("traffic", &traffic);
    }
    let now = Instant::now();
    let counts = traffic.iter().map(|t| {
        let key = (t.container.clone(), t.interface.clone());
        (key, (t.received_bytes.unwrap_or_default(), t.sent_bytes.unwrap_or_default()))
    });
    let current = Before { at: now, counts: counts.collect() };
    let mut text = table(&traffic, before.as_ref(), now, look);
    if let Some((count, max)) = reading.host.tracked {
        text.push_str(&format!("\n{count} of {max} connections tracked on this host\n"));
    }
    if reading.host.tracked.is_some()
        && !reading.host.counts_bytes
        && traffic.iter().any(|t| !t.ports.is_empty())
    {
        text.push_str(
            "bytes of ports are not counted: 'sysctl net.netfilter.nf_conntrack_acct=1' turns that on\n",
        );
    }
    if let Err(reason) = &reading.host.flows {
        text.push_str(&format!("connections are not shown: {reason}\n"));
    }
    *before = Some(current);
    Ok(text)
}

fn table(traffic: &[Traffic], before: Option<&Before>, now: Instant, look: Look) -> String {
    let mut rows: Vec<(&Traffic, Option<(u64, u64)>)> =
        traffic.iter().map(|t| (t, before.and_then(|before| rate(t, before, now)))).collect();
    let total = |t: &Traffic| t.received_bytes.unwrap_or_default() + t.sent_bytes.unwrap_or_default();
    rows.sort_by_key(|(t, rate)| std::cmp::Reverse((rate.map(|(r, s)| r + s), total(t))));
    let mut table = Table::new(&[
        "CONTAINER",
        "NAME",
        "NETWORK",
        ">RECV/s",
        ">SENT/s",
        ">RECEIVED",
        ">SENT",
        ">PACKETS",
        ">DROPPED",
        ">CONNS",
    ]);
    for (t, rate) in rows {
        let packets = t.received_packets.zip(t.sent_packets).map(|(received, sent)| received + sent);
        table.row(vec![
            words::container(&t.container, look.whole).into(),
            words::or_dash(t.name.as_ref()).into(),
            t.network.as_str().into(),
            words::or_dash(rate.map(|(received, _)| words::bytes(received))).into(),
            words::or_dash(rate.map(|(_, sent)| words::bytes(sent))).into(),
            words::or_dash(t.received_bytes.map(words::bytes)).into(),
            words::or_dash(t.sent_bytes.map(words::bytes)).into(),
            words::or_dash(packets).into(),
            words::or_dash(t.dropped).into(),
            words::or_dash(t.connections).into(),
        ]);
        for port in &t.ports {
            table.row(vec![
                format!(
                    "  {}->{}/{}",
                    words::endpoint(port.host, port.count),
                    words::run(port.target.port(), port.count),
                    port.protocol
                )
                .into(),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
                words::or_dash(port.received_bytes.map(words::bytes)).into(),
                words::or_dash(port.sent_bytes.map(words::bytes)).into(),
                words::or_dash(port.packets).into(),
                "".into(),
                words::or_dash(port.connections).into(),
            ]);
        }
    }
    table.render(look.colour)
}

/// Bytes a second since the page before.
fn rate(traffic: &Traffic, before: &Before, now: Instant) -> Option<(u64, u64)> {
    let (received, sent) =
        before.counts.get(&(traffic.container.clone(), traffic.interface.clone())).copied()?;
    let milliseconds = u64::try_from(now.duration_since(before.at).as_millis()).ok().filter(|ms| *ms > 0)?;
    let of = |now: Option<u64>, then: u64| Some(now?.checked_sub(then)?.saturating_mul(1000) / milliseconds);
    Some((of(traffic.received_bytes, received)?, of(traffic.sent_bytes, sent)?))
}
