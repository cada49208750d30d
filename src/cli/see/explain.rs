//! `linkspan explain`: the way of a packet, and where it ends.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::explain::live::{self, Order};
use crate::explain::{self, Certainty, Explanation, Fate, Leg, Named, Question, Target};
use crate::view::{self, Attachment, Reading, Wants};

use super::super::Session;
use super::super::error::Error;
use super::parties::Parties;
use super::probe::{self, Probed};
use super::{Options, document, read};

/// The exit codes for a packet that does not arrive, and for one that may not.
const DIES: i32 = 3;
const MAY_DIE: i32 = 4;
/// That for a probe which went another way than was said.
const OTHERWISE: i32 = 5;
/// How long an answer is waited for, and a packet from outside, in seconds.
const ANSWER: u64 = 2;
const PACKET: u64 = 30;

pub(in crate::cli) fn describe() -> Command {
    Command::new("explain")
        .about("the way of a packet, hop by hop: where it ends, by whose rule, what would mend it")
        .arg(Arg::new("FROM").required(true).help("who sends: a container, an address, 'host' or 'outside'"))
        .arg(
            Arg::new("TO")
                .required(true)
                .value_name("TO[:PORT][/PROTOCOL]")
                .help("to whom: a port alone is tcp, none is an echo request (icmp)"),
        )
        .arg(
            Arg::new("ipv6")
                .long("ipv6")
                .short('6')
                .action(ArgAction::SetTrue)
                .help("by IPv6, where both ends have both"),
        )
        .arg(
            Arg::new("in")
                .long("in")
                .value_name("INTERFACE")
                .help("where a packet from outside comes in, if not by the way that leads there"),
        )
        .arg(
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("send such a packet too (outside: wait for one); tell what the kernel did"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .value_name("SECONDS")
                .requires("live")
                .value_parser(value_parser!(u64).range(1..=600))
                .help("how long to wait for the answer (2), or for a packet from outside (30)"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("for programs: docs/json.md"))
        .after_help(
            "Without --live nothing is sent and nothing is changed. Exit codes: 0 it arrives, 3 it does not,\n\
             4 it may not, 5 --live saw otherwise, 1 it cannot be told.\n\nExamples:\n  linkspan explain shop store:5432\n  \
             linkspan explain outside shop:80\n  linkspan explain shop 192.0.2.1:53/udp --live",
        )
}

pub(in crate::cli) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let word = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let target = Target::read(&word("TO")).map_err(Error::Usage)?;
    let reading = read(Wants::LEAST)?;
    let attachments = view::attachments(&reading);
    let ipv6 = matches.get_flag("ipv6").then_some(true);
    let parties = Parties::of(&Named::read(&word("FROM")), &target, ipv6, &attachments)?;
    let question = Question {
        from: parties.from,
        to: parties.to,
        transport: target.transport,
        port: target.port,
        ipv6,
        input: matches.get_one::<String>("in").cloned(),
        note: parties.note,
    };
    let explanation = explain::explain(&reading, &attachments, &question)?;
    let look = session.look(&Options::of(matches));
    let probed = match matches.get_flag("live") {
        true => Some(observed(session, matches, (&reading, &attachments), &question, &explanation)?),
        false => None,
    };
    let page = if look.json {
        document("explain", &probe::Whole { explanation: &explanation, probed: probed.as_ref() })?
    } else {
        let mut page = text(&explanation, look.colour);
        if let Some(probed) = &probed {
            page.push_str(&probe::text(probed, look.colour));
        }
        page
    };
    session.stdout.write_all(page.as_bytes())?;
    session.stdout.flush()?;
    if probed.is_some_and(|probed| probed.agreement.agrees == Some(false)) {
        return Err(Error::Told(OTHERWISE));
    }
    match explanation.verdict {
        Fate::Arrives => Ok(()),
        Fate::Dies => Err(Error::Told(DIES)),
        Fate::MayDie => Err(Error::Told(MAY_DIE)),
    }
}

/// Sends the packet, or waits for it.
fn observed(
    session: &mut Session<'_>,
    matches: &ArgMatches,
    (reading, attachments): (&Reading, &[Attachment]),
    question: &Question,
    explanation: &Explanation,
) -> Result<Probed, Error> {
    let asked = matches.get_one::<u64>("wait").copied();
    let wait = |usual: u64| Duration::from_secs(asked.unwrap_or(usual));
    let Some(mut order) = Order::of(reading, attachments, question, explanation, wait(ANSWER)) else {
        return Ok(Probed::nothing());
    };
    if order.awaited {
        order.wait = wait(PACKET);
        let who = order.awaited_from.map_or_else(|| "outside".to_owned(), |from| from.to_string());
        let (kind, to, seconds) = (question.transport, order.to, order.wait.as_secs());
        let goal = if to.port() == 0 { to.ip().to_string() } else { to.to_string() };
        let words = format!("waiting up to {seconds} seconds for a packet from {who}: {kind} {goal}");
        writeln!(session.stderr, "linkspan: {words}")?;
    }
    let seen = live::observe(&order)?;
    let agreement = live::compare(explanation, &order, &seen);
    Ok(Probed { live: Some(seen), agreement })
}

fn text(explanation: &Explanation, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let goal = match explanation.port {
        Some(port) => std::net::SocketAddr::new(explanation.destination, port).to_string(),
        None => explanation.destination.to_string(),
    };
    let (from, to, protocol) = (&explanation.from, &explanation.to, explanation.protocol);
    let mut text = format!("{from} ({}) to {to}: {protocol} {goal}\n", explanation.source);
    let width = explanation.hops.iter().map(|hop| hop.place.chars().count()).max().unwrap_or(0);
    let mut leg = Leg::There;
    for hop in &explanation.hops {
        if hop.leg != leg {
            leg = hop.leg;
            text.push_str("and the answer back:\n");
        }
        let line = format!("{:>3}  {:<width$}  {}", hop.number, hop.place, hop.what);
        text.push_str(&if hop.ends { paint("31", &line) } else { line });
        text.push('\n');
    }
    text.push('\n');
    let first = explanation.findings.first();
    let at = explanation.dies_at.unwrap_or_default();
    text.push_str(&match (explanation.verdict, first) {
        (Fate::Arrives, _) => paint("32", "it arrives, and the answer comes back"),
        (Fate::Dies, Some(finding)) => paint("31", &format!("it dies at {at}: {}", finding.what)),
        (_, Some(finding)) => paint("33", &format!("it may die at {at}: {}", finding.what)),
        (_, None) => paint("31", &format!("it dies at {at}")),
    });
    text.push('\n');
    if explanation.verdict != Fate::Arrives
        && let Some(mend) = first.and_then(|finding| finding.mend.as_ref())
    {
        text.push_str(&format!("mend: {mend}\n"));
    }
    let doubts = explanation.findings.iter().filter(|finding| {
        finding.certainty == Certainty::Perhaps
            && (explanation.verdict == Fate::Arrives || Some(*finding) != first)
    });
    for doubt in doubts {
        text.push_str(&format!("perhaps: {}\n", doubt.what));
        if let Some(mend) = &doubt.mend {
            text.push_str(&format!("  mend: {mend}\n"));
        }
    }
    for unknown in &explanation.unknown {
        text.push_str(&format!("not known: {unknown}\n"));
    }
    text
}
