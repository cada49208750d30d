//! Checking and mending: `check`, `del`, `gc`, of one container, of all, or of a network by hand.

pub(super) mod dry;
pub(super) mod recorded;

use std::collections::{HashMap, HashSet};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;

use crate::cni::{CniResult, Version};
use crate::explain::live;
use crate::model::AttachmentKey;
use crate::verbs::{self, Collect};
use crate::view::{self, Attachment, Condition, Reading, Wants};

use super::Session;
use super::by_hand::{self, Target};
use super::error::Error;
use super::progress::{Progress, Ticker};
use super::request::attachment;
use super::see::{self, Options, find, options};

pub(super) fn describe_check() -> Command {
    let command = Command::new("check")
        .about("is a container, or are all, still as ADD made them?")
        .override_usage(
            "linkspan check --all\n       linkspan check CONTAINER\n       linkspan check NETWORK NETNS",
        )
        .arg(words_argument(
            "a container; or a network and a namespace, for CHECK of its whole list of plugins",
        ))
        .arg(
            Arg::new("all")
                .long("all")
                .short('a')
                .action(ArgAction::SetTrue)
                .help("every attachment of this host"),
        );
    options::with_output(options::with_filters(command)).after_help(
        "Differences are printed, and the exit code is 1 where there are any.\n\nExamples:\n  \
         linkspan check --all --network web\n  linkspan check 4f1c\n  linkspan check web blue",
    )
}

pub(super) fn describe_del() -> Command {
    Command::new("del")
        .about("detach a container, or a namespace from a network")
        .override_usage("linkspan del CONTAINER [--dry-run]\n       linkspan del NETWORK NETNS [--dry-run]")
        .arg(words_argument("a container, from its record; or a network and a namespace, as a runtime does"))
        .arg(dry_run())
        .after_help("Examples:\n  linkspan del 4f1c --dry-run\n  linkspan del web blue")
}

pub(super) fn describe_gc() -> Command {
    Command::new("gc")
        .about("delete what belongs to no living container")
        .arg(Arg::new("NETWORK").required(true).help("the name in a configuration"))
        // cnitool wants a namespace, so one is let pass.
        .arg(Arg::new("NETNS").hide(true))
        .arg(dry_run())
        .after_help(
            "Read docs/cli.md before the first time: what is not in libcni's cache counts as dead.\n\n\
             Examples:\n  linkspan gc web --dry-run\n  linkspan gc web",
        )
}

fn words_argument(help: &'static str) -> Arg {
    Arg::new("WHAT").num_args(0..).help(help)
}

fn dry_run() -> Arg {
    Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("only say in words what would be done")
}

/// What the words of `check` and `del` mean.
enum Meant {
    Container(String),
    Target(Target),
    Nothing,
}

fn meant(verb: &str, matches: &ArgMatches) -> Result<Meant, Error> {
    let words: Vec<&String> = matches.get_many::<String>("WHAT").into_iter().flatten().collect();
    match words.as_slice() {
        [] => Ok(Meant::Nothing),
        [container] => Ok(Meant::Container((*container).clone())),
        [network, netns] => Ok(Meant::Target(Target::new(network, netns))),
        [_, _, extra, ..] => Err(Error::Usage(format!("'{verb}' has no use for '{extra}'"))),
    }
}

pub(super) fn check(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let options = Options::of(matches);
    let all = matches.get_flag("all");
    match meant("check", matches)? {
        Meant::Target(target) if !all => by_hand::check(session, &target),
        Meant::Container(name) if !all => {
            let reading = see::read_once(Wants::LEAST)?;
            let attachments = view::attachments(&reading);
            let chosen = find::one(&name, &attachments)?.into_iter().cloned().collect();
            check_recorded(session, chosen, &options)
        }
        Meant::Nothing if all => {
            let reading = see::read_once(Wants::LEAST)?;
            let attachments = view::attachments(&reading);
            options.require_known(&reading, &attachments)?;
            check_recorded(session, options.select(attachments), &options)
        }
        Meant::Nothing => {
            Err(Error::Usage("'check' needs to know what: --all, CONTAINER, or NETWORK NETNS".to_owned()))
        }
        _ => Err(Error::Usage("'--all' goes with no container".to_owned())),
    }
}

/// What was found of one attachment.
#[derive(Serialize)]
struct Checked {
    container: String,
    interface: String,
    network: String,
    drift: Vec<String>,
}

/// CHECK of recorded attachments, each from its record and the result that libcni remembers of it.
fn check_recorded(
    session: &mut Session<'_>,
    chosen: Vec<Attachment>,
    options: &Options,
) -> Result<(), Error> {
    let results = remembered(session)?;
    let count = chosen.len();
    let mut checked = Vec::with_capacity(count);
    if let Some(mut cx) = recorded::context()? {
        let mut progress = Progress::new(session.stderr, session.terminal.stderr);
        // One being attached or detached at this moment is neither right nor wrong.
        for (done, a) in chosen.into_iter().filter(|a| a.state != Condition::Attaching).enumerate() {
            progress.at("checked", done, count);
            let key = AttachmentKey::new(&a.container, &a.interface);
            let drift = recorded::drift(&mut cx, &key, results.get(&key));
            checked.push(Checked {
                container: a.container,
                interface: a.interface,
                network: a.network,
                drift,
            });
        }
    }
    let differing = checked.iter().filter(|one| !one.drift.is_empty()).count();
    if options.json {
        session.stdout.write_all(see::document("checks", &checked)?.as_bytes())?;
    } else {
        for one in checked.iter().filter(|one| !one.drift.is_empty()) {
            writeln!(session.stdout, "{}:{} of {}:", one.container, one.interface, one.network)?;
            for drift in &one.drift {
                writeln!(session.stdout, "  {drift}")?;
            }
        }
        writeln!(session.stdout, "{} checked, {} as made", checked.len(), checked.len() - differing)?;
    }
    if differing == 0 {
        return Ok(());
    }
    Err(Error::Found(format!(
        "{differing} of {} attachments differ: 'linkspan inspect CONTAINER' shows one; {}",
        checked.len(),
        mends()?
    )))
}

/// What puts back what differs: reconciliation on the host, as far as there is something of its there, and the
/// container's own start inside it.
fn mends() -> Result<String, Error> {
    let Some(mut cx) = recorded::context()? else { return Ok("start the containers anew".to_owned()) };
    let found = verbs::reconcile(&mut cx, false, Collect::None)?;
    let mut mends = Vec::new();
    if !found.drifts.is_empty() || !found.failures.is_empty() {
        mends.push("'linkspan reconcile' puts back what is on the host, and a restart of the container what is inside it");
    }
    if !found.dead.is_empty() || !found.collected.is_empty() {
        mends.push("'linkspan reconcile --collect' deletes what containers left that are gone");
    }
    if mends.is_empty() {
        mends.push("nothing on the host differs from the records, so 'linkspan reconcile' puts nothing back: restart the container");
    }
    Ok(mends.join("; "))
}

/// The results of whole chains, as libcni's cache has them: later plugins may have changed what ours made.
fn remembered(session: &Session<'_>) -> Result<HashMap<AttachmentKey, CniResult>, Error> {
    let known = session.place.cache.all()?.unwrap_or_default();
    let parsed = known.entries.into_iter().filter_map(|entry| {
        let result = CniResult::parse(entry.result.as_ref()?, "result", Version::LATEST).ok()?;
        Some((AttachmentKey::new(entry.container_id, entry.if_name), result))
    });
    Ok(parsed.collect())
}

pub(super) fn del(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let is_dry = matches.get_flag("dry-run");
    match meant("del", matches)? {
        Meant::Target(target) if is_dry => {
            let attachment = attachment(&target, session.env)?;
            let key = AttachmentKey::new(attachment.container_id, attachment.interface);
            if !dry::del(session, &key, std::slice::from_ref(&key))? {
                writeln!(
                    session.stdout,
                    "linkspan has no record of {key}: there is nothing of it to take away"
                )?;
            }
            Ok(writeln!(session.stdout, "nothing was changed")?)
        }
        Meant::Target(target) => by_hand::del(session, &target),
        Meant::Container(name) => del_container(session, &name, is_dry),
        Meant::Nothing => {
            Err(Error::Usage("'del' needs to know what: CONTAINER, or NETWORK NETNS".to_owned()))
        }
    }
}

/// Detaches every interface of a container: ours from the record, then what libcni remembers of other plugins.
fn del_container(session: &mut Session<'_>, name: &str, is_dry: bool) -> Result<(), Error> {
    let reading = see::read_once(Wants::LEAST)?;
    let attachments = view::attachments(&reading);
    let keys: Vec<(AttachmentKey, String)> = find::one(name, &attachments)?
        .into_iter()
        .map(|a| (AttachmentKey::new(&a.container, &a.interface), a.network.clone()))
        .collect();
    let leaving: Vec<AttachmentKey> = keys.iter().map(|(key, _)| key.clone()).collect();
    for (key, network) in &keys {
        if is_dry {
            dry::del(session, key, &leaving)?;
            continue;
        }
        if let Some(mut cx) = recorded::context()? {
            let detached = verbs::detach(&mut cx, key);
            recorded::tell(&cx, session.stderr)?;
            detached?;
        }
        writeln!(session.stdout, "detached {key} from {network}")?;
        by_hand::del_remembered(session, key)?;
    }
    if is_dry { Ok(writeln!(session.stdout, "nothing was changed")?) } else { Ok(()) }
}

pub(super) fn gc(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let is_dry = matches.get_flag("dry-run");
    let name = matches.get_one::<String>("NETWORK").map(String::as_str).unwrap_or_default();
    let network = match session.place.network(name) {
        // A file that cannot be read may be its configuration.
        Err(error) if matches!(&error, Error::UnknownNetwork { broken, .. } if broken.is_empty()) => {
            return retire(session, name, is_dry, error);
        }
        known => known?,
    };
    let _ticker = Ticker::new("collecting", session.terminal.stderr);
    let alive = session.place.chain(&network).gc(is_dry, || recorded_alive(name), session.stdout)?;
    for left in live::leftovers(!is_dry)? {
        let verb = if is_dry { "would delete" } else { "deleted" };
        writeln!(session.stdout, "{name}: linkspan {verb} {left}, which a probe left")?;
    }
    let Some(alive) = alive.filter(|_| is_dry) else { return Ok(()) };
    let reading = see::read_once(Wants { flows: false, agent: false, ..Wants::ALL })?;
    for line in would_go(&reading, name, &alive.into_iter().collect()) {
        writeln!(session.stdout, "{name}: linkspan would delete {line}")?;
    }
    Ok(())
}

/// GC of a network whose configuration is gone, from its record; `unknown` where it has none.
fn retire(session: &mut Session<'_>, name: &str, is_dry: bool, unknown: Error) -> Result<(), Error> {
    let Some(mut cx) = recorded::context()? else { return Err(unknown) };
    let Some(attached) = verbs::retire(&mut cx, name, is_dry)? else { return Err(unknown) };
    for key in &attached {
        writeln!(session.stdout, "{name}: kept {key}: 'linkspan del {}' detaches it", key.container_id)?;
    }
    let did = match (attached.is_empty(), is_dry) {
        (false, _) => "kept its firewall rules, which they need",
        (true, false) => "deleted its firewall rules",
        (true, true) => "would delete its firewall rules",
    };
    Ok(writeln!(session.stdout, "{name}: it has no configuration any more, only a record: {did}")?)
}

/// The attachments of a network that linkspan has a record of, and whose containers are there.
fn recorded_alive(network: &str) -> Result<Vec<AttachmentKey>, Error> {
    let all = view::attachments(&see::read_once(Wants::LEAST)?);
    let is_alive =
        |a: &Attachment| !matches!(a.state, Condition::Dead | Condition::HalfMade | Condition::Leaving);
    let alive = all.into_iter().filter(|a| a.network == network && is_alive(a));
    Ok(alive.map(|a| AttachmentKey::new(a.container, a.interface)).collect())
}

/// What linkspan's own GC would take away: attachments that are not among the living, and what nobody owns.
fn would_go(reading: &Reading, network: &str, alive: &HashSet<AttachmentKey>) -> Vec<String> {
    let attachments = view::attachments(reading);
    let leases = view::leases(reading, &attachments);
    let stale = attachments
        .iter()
        .filter(|a| a.network == network && !alive.contains(&AttachmentKey::new(&a.container, &a.interface)));
    let mut lines: Vec<String> = stale
        .map(|a| format!("the attachment {}:{}, which is {}", a.container, a.interface, a.state))
        .collect();
    let orphans = view::orphans(reading, &leases);
    let here = orphans.into_iter().filter(|o| o.network.as_deref().is_none_or(|of| of == network));
    lines.extend(here.map(|orphan| orphan.what));
    lines
}
