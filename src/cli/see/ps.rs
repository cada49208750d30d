//! `linkspan ps`: attachments.

use clap::{ArgMatches, Command};

use crate::view::{self, Attachment, Reading, Wants};

use super::super::Session;
use super::super::error::Error;
use super::super::table::Table;
use super::super::words;
use super::{Look, Options, document, options, state, unrecorded};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("ps").about("containers: network, addresses, ports, age, state");
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "STATE is up, attaching, half-made (its ADD was killed), leaving (its DEL has not ended), dead\n(the container \
         is gone without DEL) or broken; what is wrong follows the table.\n\nExamples:\n  linkspan ps --network web\n  \
         linkspan ps --label K8S_POD_NAMESPACE=default --watch",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let wants = Wants { firewall: true, ..Wants::LEAST };
    session.show(&options, wants, |reading, look| page(&options, reading, look))
}

fn page(options: &Options, reading: &Reading, look: Look) -> Result<String, Error> {
    let attachments = view::attachments(reading);
    options.require_known(reading, &attachments)?;
    let attachments = options.select(attachments);
    if look.json {
        return document("attachments", &attachments);
    }
    Ok(table(&attachments, reading.at, look) + &unrecorded(reading))
}

fn table(attachments: &[Attachment], now: u64, look: Look) -> String {
    let mut table =
        Table::new(&["CONTAINER", "NAME", "IF", "NETWORK", "ADDRESSES", "PORTS", ">AGE", "STATE"]);
    for attachment in attachments {
        table.row(vec![
            words::container(&attachment.container, look.whole).into(),
            words::or_dash(attachment.name.as_ref()).into(),
            attachment.interface.as_str().into(),
            attachment.network.as_str().into(),
            words::list(attachment.addresses.iter().map(ipnetwork::IpNetwork::ip)).into(),
            words::list(attachment.ports.iter().map(words::port)).into(),
            words::age(now, attachment.since).into(),
            state(attachment),
        ]);
    }
    let mut text = table.render(look.colour);
    for attachment in attachments {
        for problem in &attachment.problems {
            text.push_str(&format!("{}: {problem}\n", words::container(&attachment.container, look.whole)));
        }
    }
    text
}
