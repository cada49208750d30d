//! What the program says of itself: the introduction, the overview of commands, the version.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command};

use super::Session;
use super::commands::{self, Group, SUBCOMMANDS};
use super::error::Error;
use super::suggest;

const INTRODUCTION: &str = "\
linkspan gives containers their network: a CNI plugin, run by container runtimes.
To have them use it, copy it to /opt/cni/bin and a configuration to /etc/cni/net.d.
To see what it has made:
    linkspan ls
    linkspan ps
To try a configuration without a runtime:
    ip netns add blue
    linkspan add NETWORK blue
'linkspan --help' lists the commands.
";

const EXAMPLES: &str = "
Examples:
  linkspan ps --network web            containers of one network
  linkspan inspect 4f1c                one container, record and kernel side by side

'linkspan COMMAND --help' says more. Most take --json (docs/json.md) and --watch.
";

/// What counts for every command: the environment, and the exit codes.
pub(super) const GROUND: &str = "\
Environment: NETCONFPATH, CNI_PATH, LINKSPAN_STATE_DIR, LINKSPAN_CACHE_DIR, NO_COLOR (docs/cli.md).
Exit codes: 0 done, 1 failed or found wrong, 2 wrong command line; doctor, explain: 3, 4, 5.";

/// The help of the program: every command in a line.
pub(super) fn overview() -> String {
    let mut text = "linkspan: container networks on this host: seen, checked, mended.\nUsage: linkspan COMMAND [OPTIONS]\n"
        .to_owned();
    for group in Group::ALL {
        let _ = write!(text, "\n{}:\n", group.title());
        for subcommand in SUBCOMMANDS.iter().filter(|subcommand| subcommand.group == group) {
            let command = (subcommand.describe)();
            // Whoever reads this has found them.
            if ["help", "version"].contains(&command.get_name()) {
                continue;
            }
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<12} {about}", command.get_name());
        }
    }
    text.push_str(EXAMPLES);
    text.push_str(GROUND);
    text
}

/// What is said to nobody in particular.
pub(super) fn introduce(session: &mut Session<'_>) -> Result<(), Error> {
    Ok(session.stdout.write_all(INTRODUCTION.as_bytes())?)
}

pub(super) fn describe_help() -> Command {
    Command::new("help")
        .about("this overview, or more of one command")
        .arg(Arg::new("COMMAND").help("the command"))
}

pub(super) fn help(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let Some(name) = matches.get_one::<String>("COMMAND") else {
        return Ok(session.stdout.write_all(overview().as_bytes())?);
    };
    let mut tree = commands::tree();
    tree.build();
    match tree.find_subcommand_mut(name) {
        Some(command) => Ok(writeln!(session.stdout, "{}", command.render_help().to_string().trim_end())?),
        None => Err(unknown(name)),
    }
}

/// There is no such command.
pub(super) fn unknown(name: &str) -> Error {
    let names: Vec<String> = SUBCOMMANDS.iter().map(|s| (s.describe)().get_name().to_owned()).collect();
    let hint = suggest::hint(name, names.iter().map(String::as_str), "");
    Error::Usage(format!("there is no command '{name}'{hint}"))
}

pub(super) fn describe_version() -> Command {
    Command::new("version").about("the version")
}

pub(super) fn version(session: &mut Session<'_>, _: &ArgMatches) -> Result<(), Error> {
    Ok(writeln!(session.stdout, "linkspan {}", env!("CARGO_PKG_VERSION"))?)
}
