//! `linkspan ports`: published ports.

use clap::{Arg, ArgMatches, Command};

use crate::view::{self, Reading, Wants};

use super::super::Session;
use super::super::error::Error;
use super::super::table::Table;
use super::super::words;
use super::{Look, Options, document, find, options};

pub(in crate::cli) fn describe() -> Command {
    let command =
        Command::new("ports").about("published ports, of all containers or of one as 'docker port'").arg(
            Arg::new("CONTAINER")
                .help("print '80/tcp -> 0.0.0.0:8080' for this one: ID, beginning of it, or name"),
        );
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "Examples:\n  linkspan ports\n  linkspan ports 4f1c\n  linkspan ports --network web --json",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let one = matches.get_one::<String>("CONTAINER").cloned();
    session.show(&options, Wants::LEAST, |reading, look| page(&options, one.as_deref(), reading, look))
}

fn page(options: &Options, one: Option<&str>, reading: &Reading, look: Look) -> Result<String, Error> {
    let all = view::attachments(reading);
    options.require_known(reading, &all)?;
    let attachments = match one {
        None => options.select(all),
        Some(typed) => options.select(find::one(typed, &all)?.into_iter().cloned().collect()),
    };
    let ports = view::ports(&attachments);
    if look.json {
        return document("ports", &ports);
    }
    if one.is_some() {
        let lines = ports.iter().map(|p| words::docker_port(p) + "\n");
        return Ok(lines.collect());
    }
    let mut table = Table::new(&["HOST", "PROTOCOL", "CONTAINER", "NAME", "NETWORK", "TARGET"]);
    for port in &ports {
        table.row(vec![
            words::endpoint(port.host, port.count).into(),
            port.protocol.to_string().into(),
            words::container(&port.container, look.whole).into(),
            words::or_dash(port.name.as_ref()).into(),
            port.network.as_str().into(),
            format!(
                "{}{}",
                words::endpoint(port.target, port.count),
                if port.waiting { words::WAITS } else { "" }
            )
            .into(),
        ]);
    }
    Ok(table.render(look.colour))
}
