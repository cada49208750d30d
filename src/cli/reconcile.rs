//! `linkspan reconcile`: once, what the agent does all the time.

use std::rc::Rc;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::apply::Kernel;
use crate::cni::LogLevel;
use crate::store::State;
use crate::verbs::{self, Collect, Context, Journal, VerbError};

use super::Session;
use super::error::Error;
use super::progress::Ticker;

pub(super) fn describe() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("reconcile")
        .about("put back what somebody took away of all networks")
        .arg(flag("dry-run").help("only say what differs"))
        .arg(flag("collect").help("also delete what containers left that died without DEL"))
        .after_help("Examples:\n  linkspan reconcile --dry-run\n  linkspan reconcile --collect")
}

/// Prints a line for each thing that was found.
///
/// # Errors
/// Where something could not be put back; the rest is, and is said.
pub(super) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let stdout = &mut *session.stdout;
    let Some(state) = State::open_existing(&State::default_root()).map_err(VerbError::from)? else {
        writeln!(stdout, "nothing is attached")?;
        return Ok(());
    };
    let state = Rc::new(state);
    let kernel = Kernel::new(Rc::clone(&state));
    let mut cx = Context { state, kernel, journal: Journal::new(LogLevel::Warning) };
    let dry_run = matches.get_flag("dry-run");
    let collect = if matches.get_flag("collect") { Collect::All } else { Collect::None };
    let ticker = Ticker::new("comparing", session.terminal.stderr);
    let found = verbs::reconcile(&mut cx, !dry_run, collect);
    drop(ticker);
    let found = found?;
    let word = if dry_run { "differs" } else { "put back" };
    for drift in &found.drifts {
        writeln!(stdout, "{word}: {drift}")?;
    }
    for drift in &found.left {
        writeln!(stdout, "left alone: {drift}")?;
    }
    for dead in &found.dead {
        let (key, network) = (&dead.key, &dead.network);
        writeln!(
            stdout,
            "dead: {key} of network {network} died without DEL; --collect deletes what it left"
        )?;
    }
    for key in &found.collected {
        writeln!(stdout, "deleted: {key}")?;
    }
    if found.is_clean() {
        writeln!(stdout, "nothing differs")?;
    }
    // Closing the nf_tables socket after a deletion would wait once more; the end of the process closes it anyway.
    std::mem::forget(cx.kernel);
    match found.failures.as_slice() {
        [] => Ok(()),
        failures => Err(VerbError::Several(failures.to_vec()).into()),
    }
}
