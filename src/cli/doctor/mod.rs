//! `linkspan doctor`: what is wrong with this host, and what of it can be mended at once.

mod given;
mod mending;
mod page;

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::apply::Reach;
use crate::doctor::{self, Findings, Pick, Remedy, Severity, Sight, Version};
use crate::store::State;

use super::Session;
use super::error::Error;

/// Exit code where the worst finding is a warning.
const WARNINGS: i32 = 3;
/// Exit code where there is a fault.
const FAULTS: i32 = 4;
/// How often what mending brings to light is mended too: a DEL leaves what a sweep then takes.
const ROUNDS: usize = 3;

/// What `--lost` is for.
const LOST: &str = "with --fix: records are lost, so take what has none in any network";

pub(super) fn describe() -> Command {
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("doctor")
        .about("is this host fit for containers? What is wrong, why, and what mends it")
        .arg(flag("json", "for programs: docs/json.md"))
        .arg(flag("fix", "mend what can be mended without harm, after showing it"))
        .arg(flag("yes", "with --fix: do not ask").short('y').requires("fix"))
        .arg(flag("dry-run", "with --fix: only say what would be done").requires("fix").conflicts_with("yes"))
        .arg(flag("lost", LOST).requires("fix"))
        .after_help(
            "Exit codes: 0 nothing wrong (remarks aside), 1 it could not be found out, 2 a wrong command line,\n\
             3 warnings, 4 faults. docs/doctor.md explains every finding.\n\nExamples:\n  linkspan doctor\n  \
             linkspan doctor --fix --dry-run\n  linkspan doctor --json | jq -r '.doctor.findings[].word'",
        )
}

/// What one examination came to.
struct Examined {
    findings: Findings,
    picks: Vec<Pick>,
    versions: Vec<Version>,
}

pub(super) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let (is_json, is_dry, yes) =
        (matches.get_flag("json"), matches.get_flag("dry-run"), matches.get_flag("yes"));
    if matches.get_flag("fix") && !is_dry && !yes && (is_json || !io::stdin().is_terminal()) {
        let advice =
            "'--fix' asks at a terminal, and cannot here: add --yes to have it done, or --dry-run to see it";
        return Err(Error::Usage(advice.to_owned()));
    }
    let mut examined = examine(session)?;
    let mut done = Vec::new();
    if matches.get_flag("fix") {
        let lost = matches.get_flag("lost");
        let remedies = within_reach(&examined.findings, lost);
        if !is_json {
            page::print(session, &examined)?;
            let is_beyond = examined.findings.remedies().len() > remedies.len();
            announce(session, &remedies, is_dry, is_beyond)?;
        }
        if !is_dry && !remedies.is_empty() && (yes || agreed(session)?) {
            done = mend(session, remedies, lost)?;
            examined = examine(session)?;
            if !is_json {
                page::done(session, &done)?;
                page::print(session, &examined)?;
            }
        }
    } else if !is_json {
        page::print(session, &examined)?;
    }
    if is_json {
        page::json(session, &examined, &done)?;
    }
    verdict(&examined.findings)
}

fn examine(session: &Session<'_>) -> Result<Examined, Error> {
    let given = given::collect(session)?;
    let sight = Sight::take(&State::default_root(), &given)?;
    let versions = doctor::versions(&sight);
    Ok(Examined { findings: doctor::examine(&sight, &versions), picks: doctor::picks(&sight), versions })
}

/// What is to be done: where records are `lost` all, and else what nobody else may have a record of.
fn within_reach(findings: &Findings, lost: bool) -> Vec<Remedy> {
    let mut remedies: Vec<Remedy> = Vec::new();
    for remedy in findings.remedies() {
        let remedy = match remedy {
            Remedy::Sweep(_) if lost => Remedy::Sweep(Reach::Lost),
            Remedy::Sweep(Reach::Lost) => continue,
            other => other,
        };
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    remedies
}

/// Says what `--fix` will do before it is done; `is_beyond` says that there is more, which `--lost` has to ask for.
fn announce(
    session: &mut Session<'_>,
    remedies: &[Remedy],
    is_dry: bool,
    is_beyond: bool,
) -> Result<(), Error> {
    if is_beyond {
        writeln!(
            session.stdout,
            "left alone without --lost: what has no record, since another state directory may have it"
        )?;
    }
    if remedies.is_empty() {
        return Ok(writeln!(session.stdout, "there is nothing that --fix mends")?);
    }
    writeln!(session.stdout, "--fix would, in this order:")?;
    for remedy in remedies {
        writeln!(session.stdout, "  {remedy}")?;
    }
    if is_dry {
        writeln!(session.stdout, "nothing was changed")?;
    }
    Ok(session.stdout.flush()?)
}

/// Whether it is to be done, by a word at a terminal.
fn agreed(session: &mut Session<'_>) -> Result<bool, Error> {
    write!(session.stdout, "do it? [y/N] ")?;
    session.stdout.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !agreed {
        writeln!(session.stdout, "nothing was changed")?;
    }
    Ok(agreed)
}

/// Mends, looks again, and mends what that has brought to light.
fn mend(
    session: &mut Session<'_>,
    mut remedies: Vec<Remedy>,
    lost: bool,
) -> Result<Vec<mending::Done>, Error> {
    let mut done: Vec<mending::Done> = Vec::new();
    for _ in 0..ROUNDS {
        remedies.retain(|remedy| !done.iter().any(|one| one.remedy == *remedy && one.failure.is_some()));
        if remedies.is_empty() {
            break;
        }
        for remedy in remedies {
            done.push(mending::apply(session, remedy));
        }
        remedies = within_reach(&examine(session)?.findings, lost);
    }
    Ok(done)
}

/// The exit code, and a word on it.
fn verdict(findings: &Findings) -> Result<(), Error> {
    let (faults, warnings) = (findings.count(Severity::Fault), findings.count(Severity::Warning));
    let code = match (faults, warnings) {
        (0, 0) => return Ok(()),
        (0, _) => WARNINGS,
        _ => FAULTS,
    };
    let advice = match findings.mendable() {
        0 => "each says what mends it".to_owned(),
        1 => "'linkspan doctor --fix' mends one of them".to_owned(),
        many => format!("'linkspan doctor --fix' mends {many} of them"),
    };
    let words = format!("{}, {}: {advice}", page::count(faults, "fault"), page::count(warnings, "warning"));
    Err(Error::Unwell { words, code })
}
