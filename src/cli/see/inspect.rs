//! `linkspan inspect`: one network or one container in full.

use clap::{Arg, ArgMatches, Command};

use crate::model::AttachmentKey;
use crate::store::State;
use crate::view::{self, AttachmentDetails, Comparison, NetworkDetails, Reading, Wants};

use super::super::error::Error;
use super::super::mend::recorded;
use super::super::table::{Cell, Table, Tone};
use super::super::{Session, suggest, words};
use super::{Look, Options, document, find, options, read};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("inspect")
        .about("all that is known of a network or a container, record and kernel side by side")
        .arg(Arg::new("NAME").help("a network, or a container: ID, beginning of it, or name"));
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "What differs is marked with '!'. Without NAME: every container that the filters leave.\n\nExamples:\n  \
         linkspan inspect web\n  linkspan inspect 4f1c --json\n  linkspan inspect --label TIER=front",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let name = matches.get_one::<String>("NAME");
    if name.is_none() && options.is_unfiltered() {
        return Err(Error::Usage(
            "'inspect' needs a NAME, of a network or a container: 'linkspan ls' and 'linkspan ps' list them"
                .to_owned(),
        ));
    }
    let look = session.look(&options);
    session.rounds(&options, |_| page(name.map(String::as_str), &options, look))
}

fn page(name: Option<&str>, options: &Options, look: Look) -> Result<String, Error> {
    // One container's leases and ports are looked up by name.
    let judges = name.is_some_and(is_network);
    let wants = Wants { leases: judges, agent: judges, claims: false, ..Wants::ALL };
    let reading = read(wants)?;
    let all = view::attachments(&reading);
    options.require_known(&reading, &all)?;
    if let Some(network) = name.filter(|name| reading.records.network(name).is_some()) {
        return of_network(network, options, &reading, look);
    }
    let found = match name.map(|name| (name, find::one(name, &all))) {
        Some((name, Err(Error::Nothing { .. }))) => return Err(nothing(name, &reading, &all)),
        Some((_, found)) => found?.into_iter().cloned().collect(),
        None => all,
    };
    let mut details = Vec::new();
    for attachment in &options.select(found) {
        details.push(attachment_details(attachment, &reading)?);
    }
    if look.json {
        return document("containers", &details);
    }
    Ok(details
        .iter()
        .map(|details| attachment_text(details, reading.at, look))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Whether a network has this name; what is wrong with the records, the reading says.
fn is_network(name: &str) -> bool {
    let state = State::open_existing(&State::default_root()).ok().flatten();
    state.is_some_and(|state| matches!(state.network(name), Ok(Some(_))))
}

fn nothing(name: &str, reading: &Reading, all: &[view::Attachment]) -> Error {
    let networks = reading.records.networks.iter().map(|network| network.name.as_str());
    let containers = all.iter().map(|attachment| attachment.container.as_str());
    let names = all.iter().filter_map(|attachment| attachment.name.as_deref());
    let hint = suggest::hint(name, networks.chain(containers).chain(names), "");
    let hint = if hint.is_empty() { ": 'linkspan ls' and 'linkspan ps' list them".to_owned() } else { hint };
    Error::Nothing { what: "network or container", name: name.to_owned(), hint }
}

fn attachment_details(attachment: &view::Attachment, reading: &Reading) -> Result<AttachmentDetails, Error> {
    let key = AttachmentKey::new(&attachment.container, &attachment.interface);
    let record = reading.records.attachments.iter().find(|found| found.record.key == key);
    let comparisons =
        record.map(|found| view::compare_attachment(&found.record.plan, reading)).unwrap_or_default();
    let drift = match recorded::context()? {
        Some(mut cx) => recorded::drift(&mut cx, &key, None),
        None => Vec::new(),
    };
    let traffic = view::traffic(reading, std::slice::from_ref(attachment)).pop();
    Ok(AttachmentDetails { attachment: attachment.clone(), comparisons, traffic, drift })
}

fn attachment_text(details: &AttachmentDetails, now: u64, look: Look) -> String {
    let a = &details.attachment;
    let mut text = format!("container {}\n", a.container);
    let mut line = |title: &str, value: String| text.push_str(&format!("{title:<11}{value}\n"));
    if let Some(name) = &a.name {
        line("name", name.clone());
    }
    line("interface", a.interface.clone());
    line("network", a.network.clone());
    line("state", a.state.to_string());
    for problem in &a.problems {
        line("", problem.clone());
    }
    line("age", words::age(now, a.since));
    line("addresses", words::list(&a.addresses));
    line("ports", words::list(a.ports.iter().map(words::port)));
    if !a.waiting.is_empty() {
        line("waits for", words::list(a.waiting.iter().map(words::port)));
    }
    if let Some(sandbox) = &a.sandbox {
        line("namespace", sandbox.clone());
    }
    for (key, value) in &a.labels {
        line("label", format!("{key}={value}"));
    }
    if let Some(traffic) = &details.traffic {
        let (received, sent) =
            (traffic.received_bytes.map(words::bytes), traffic.sent_bytes.map(words::bytes));
        line("received", words::or_dash(received));
        line("sent", words::or_dash(sent));
        line("flows", words::or_dash(traffic.connections));
    }
    text.push('\n');
    text.push_str(&side_by_side(&details.comparisons, look));
    if details.drift.is_empty() {
        text.push_str("\nno drift: everything is as ADD made it\n");
    } else {
        text.push_str("\ndrift:\n");
        for drift in &details.drift {
            text.push_str(&format!("! {drift}\n"));
        }
    }
    text
}

fn of_network(name: &str, options: &Options, reading: &Reading, look: Look) -> Result<String, Error> {
    let attachments = view::attachments(reading);
    let leases = view::leases(reading, &attachments);
    let all = view::networks(reading, &attachments, &leases);
    let Some(network) = all.into_iter().find(|network| network.name == name) else {
        return Err(nothing(name, reading, &attachments));
    };
    let plans: Vec<_> = reading
        .records
        .attachments
        .iter()
        .filter(|found| found.record.network == name)
        .map(|found| &found.record.plan)
        .collect();
    let comparisons = view::compare_network(&network, &plans, reading);
    let own = options.select(attachments).into_iter().filter(|a| a.network == name).collect();
    let details = NetworkDetails { network, comparisons, attachments: own };
    if look.json { document("network", &details) } else { Ok(network_text(&details, reading, look)) }
}

fn network_text(details: &NetworkDetails, reading: &Reading, look: Look) -> String {
    let n = &details.network;
    let mut text = format!("network {}\n", n.name);
    let mut line = |title: &str, value: String| text.push_str(&format!("{title:<11}{value}\n"));
    line("health", n.health.to_string());
    for problem in &n.problems {
        line("", problem.clone());
    }
    line("subnets", words::list(&n.subnets));
    for (set, ranges) in n.ranges.iter().enumerate() {
        for range in ranges {
            line("range", format!("{}-{} of {} (set {set})", range.start, range.end, range.subnet));
        }
    }
    line("addresses", format!("{} used, {} free", n.used, words::or_dash(n.free.map(words::many))));
    line("firewall", n.firewall.to_string());
    line("uplinks", words::list(reading.host.uplinks().iter().map(|link| &link.name)));
    text.push('\n');
    text.push_str(&side_by_side(&details.comparisons, look));
    text.push_str(&format!("\n{} attached", details.attachments.len()));
    text.push_str(if details.attachments.is_empty() { "\n" } else { ":\n" });
    for a in &details.attachments {
        let id = words::container(&a.container, look.whole);
        let addresses = words::list(a.addresses.iter().map(ipnetwork::IpNetwork::ip));
        text.push_str(&format!("  {id} {} {addresses} {}\n", a.interface, a.state));
    }
    text
}

fn side_by_side(comparisons: &[Comparison], look: Look) -> String {
    let mut table = Table::new(&["", "WHAT", "RECORDED", "FOUND"]);
    for row in comparisons {
        let tone = if row.same { Tone::Plain } else { Tone::Bad };
        let mark = if row.same { " " } else { "!" };
        table.row(vec![
            Cell::toned(mark, tone),
            row.what.as_str().into(),
            row.recorded.as_str().into(),
            Cell::toned(row.found.as_str(), tone),
        ]);
    }
    table.render(look.colour)
}
