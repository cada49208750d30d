//! `linkspan agent`: what stays.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Session;
use super::error::Error;
use crate::agent;

pub(super) fn describe() -> Command {
    Command::new("agent")
        .about("stay, and answer containers that ask for names, until SIGTERM")
        .arg(
            Arg::new("on-demand")
                .long("on-demand")
                .action(ArgAction::SetTrue)
                .help("return once it is ready, and end when it has no more work: as ADD starts it"),
        )
        .after_help("Example:\n  systemctl enable --now linkspan-agent.socket")
}

pub(super) fn run(_: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    Ok(agent::run(matches.get_flag("on-demand"))?)
}
