//! `linkspan graph`: a picture.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use crate::view::{self, Reading, Wants};

use super::super::error::Error;
use super::super::{Session, draw};
use super::{Look, Options, document, options};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("graph").about("draw uplinks, bridges, containers, ports and walls").arg(
        Arg::new("format")
            .long("format")
            .short('f')
            .value_name("FORMAT")
            .default_value("text")
            .value_parser(PossibleValuesParser::new(["text", "svg", "dot", "mermaid"]))
            .hide_possible_values(true)
            .help("text, svg, dot or mermaid"),
    );
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "Examples:\n  linkspan graph\n  linkspan graph --format svg > network.svg\n  \
         linkspan graph --network web --format dot | dot -Tpng > web.png",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let format = matches.get_one::<String>("format").map(String::as_str).unwrap_or_default();
    let wants = Wants { firewall: true, leases: true, agent: true, ..Wants::LEAST };
    session.show(&options, wants, |reading, look| page(&options, format, reading, look))
}

fn page(options: &Options, format: &str, reading: &Reading, look: Look) -> Result<String, Error> {
    let attachments = view::attachments(reading);
    options.require_known(reading, &attachments)?;
    let leases = view::leases(reading, &attachments);
    let mut networks = view::networks(reading, &attachments, &leases);
    let attachments = options.select(attachments);
    networks.retain(|network| options.keeps_network(&network.name, &attachments));
    let graph = view::graph(reading, &networks, &attachments);
    if look.json {
        return document("graph", &graph);
    }
    Ok(match format {
        "svg" => draw::svg(&graph),
        "dot" => draw::dot(&graph),
        "mermaid" => draw::mermaid(&graph),
        _ => draw::text(&graph),
    })
}
