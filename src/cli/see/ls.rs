//! `linkspan ls`: networks.

use clap::{ArgMatches, Command};

use crate::view::{self, Health, Network, Reading, Wants};

use super::super::Session;
use super::super::error::Error;
use super::super::table::{Cell, Table, Tone};
use super::super::words;
use super::{Look, Options, document, options, unrecorded};

pub(in crate::cli) fn describe() -> Command {
    let command = Command::new("ls").about("networks: bridge, subnets, addresses, attachments, health");
    options::with_watch(options::with_output(options::with_filters(command))).after_help(
        "HEALTH is ok, warning (something is to be cleaned up) or failed (containers suffer); what is\nwrong follows \
         the table. With --container or --label: the networks of such containers.\n\nExamples:\n  linkspan ls\n  \
         linkspan ls --json | jq '.networks[] | select(.health != \"ok\")'",
    )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let wants = Wants { firewall: true, leases: true, agent: true, ..Wants::LEAST };
    session.show(&options, wants, |reading, look| page(&options, reading, look))
}

fn page(options: &Options, reading: &Reading, look: Look) -> Result<String, Error> {
    let attachments = view::attachments(reading);
    options.require_known(reading, &attachments)?;
    let leases = view::leases(reading, &attachments);
    let mut networks = view::networks(reading, &attachments, &leases);
    let chosen = options.select(attachments);
    networks.retain(|network| options.keeps_network(&network.name, &chosen));
    if look.json {
        return document("networks", &networks);
    }
    Ok(table(&networks, &reading.records.unreadable, look) + &unrecorded(reading))
}

fn table(networks: &[Network], unreadable: &[String], look: Look) -> String {
    let mut table =
        Table::new(&["NETWORK", "BRIDGE", "SUBNETS", ">USED", ">FREE", ">ATTACHED", "FIREWALL", "HEALTH"]);
    for network in networks {
        let tone = match network.health {
            Health::Ok => Tone::Good,
            Health::Warning => Tone::Doubtful,
            Health::Failed => Tone::Bad,
        };
        table.row(vec![
            network.name.as_str().into(),
            network.bridge.as_str().into(),
            words::list(&network.subnets).into(),
            network.used.to_string().into(),
            words::or_dash(network.free.map(words::many)).into(),
            network.attachments.to_string().into(),
            network.firewall.to_string().into(),
            Cell::toned(network.health.to_string(), tone),
        ]);
    }
    let mut text = table.render(look.colour);
    for network in networks {
        for problem in &network.problems {
            text.push_str(&format!("{}: {problem}\n", network.name));
        }
    }
    for file in unreadable {
        text.push_str(&format!("not readable: {file}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FirewallBackend;

    #[test]
    fn a_network_is_a_row_and_its_problems_follow() {
        let network = Network {
            name: "web".into(),
            bridge: "lks-web".into(),
            subnets: vec!["10.1.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ranges: Vec::new(),
            used: 3,
            free: Some(u64::MAX),
            attachments: 3,
            mtu: None,
            firewall: FirewallBackend::Nftables,
            health: Health::Failed,
            problems: vec!["the bridge lks-web is down".into()],
        };
        let look = Look { json: false, colour: false, whole: false };
        let text = table(&[network], &["/run/x: torn".to_owned()], look);
        let wanted = "\
NETWORK  BRIDGE   SUBNETS                 USED  FREE  ATTACHED  FIREWALL  HEALTH
web      lks-web  10.1.0.0/24, fd00::/64     3  many         3  nftables  failed
web: the bridge lks-web is down
not readable: /run/x: torn
";
        assert_eq!(text, wanted);
    }
}
