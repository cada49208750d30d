//! `linkspan graph`: a picture.

use clap::{ArgMatches, Command};

use super::super::Session;
use super::super::error::Error;

pub(in crate::cli) fn describe() -> Command {
    Command::new("graph").about("draw uplinks, bridges, containers, ports and walls")
}

pub(in crate::cli) fn run(_: &mut Session<'_>, _: &ArgMatches) -> Result<(), Error> {
    Ok(())
}
