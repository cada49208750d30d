//! The commands: one table, from which the parser, the help, the completions and the man pages come.
//!
//! To add a command, write a file with `describe` (its words, as [`clap`] has them) and `run`, and add one line to
//! [`SUBCOMMANDS`].

use std::ffi::{OsStr, OsString};

use clap::{ArgMatches, Command};

use super::error::Error;
use super::install::arguments as install;
use super::{Session, about, agent, by_hand, doctor, events, generate, mend, reconcile, see, usage};

/// One command.
pub(super) struct Subcommand {
    /// Under which heading the overview has it.
    pub(super) group: Group,
    /// Its words.
    pub(super) describe: fn() -> Command,
    /// What it does.
    pub(super) run: fn(&mut Session<'_>, &ArgMatches) -> Result<(), Error>,
}

/// The headings of the overview, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// What there is.
    See,
    /// What is wrong, and setting it right.
    Mend,
    /// What a runtime does, by hand.
    Attach,
    /// About the program itself.
    Program,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [Self::See, Self::Mend, Self::Attach, Self::Program];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::See => "See what there is",
            Self::Mend => "Check and mend",
            Self::Attach => "Attach by hand, as a runtime does",
            Self::Program => "The program itself",
        }
    }
}

/// Every command, in the order of the overview.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { group: Group::See, describe: see::ls::describe, run: see::ls::run },
    Subcommand { group: Group::See, describe: see::ps::describe, run: see::ps::run },
    Subcommand { group: Group::See, describe: see::ports::describe, run: see::ports::run },
    Subcommand { group: Group::See, describe: see::inspect::describe, run: see::inspect::run },
    Subcommand { group: Group::See, describe: see::ipam::describe, run: see::ipam::run },
    Subcommand { group: Group::See, describe: see::top::describe, run: see::top::run },
    Subcommand { group: Group::See, describe: see::graph::describe, run: see::graph::run },
    Subcommand { group: Group::See, describe: see::explain::describe, run: see::explain::run },
    Subcommand { group: Group::See, describe: events::describe, run: events::run },
    Subcommand { group: Group::Mend, describe: doctor::describe, run: doctor::run },
    Subcommand { group: Group::Mend, describe: mend::describe_check, run: mend::check },
    Subcommand { group: Group::Mend, describe: mend::describe_del, run: mend::del },
    Subcommand { group: Group::Mend, describe: mend::describe_gc, run: mend::gc },
    Subcommand { group: Group::Mend, describe: reconcile::describe, run: reconcile::run },
    Subcommand { group: Group::Attach, describe: by_hand::describe_add, run: by_hand::add },
    Subcommand { group: Group::Attach, describe: by_hand::describe_status, run: by_hand::status },
    Subcommand { group: Group::Program, describe: agent::describe, run: agent::run },
    Subcommand { group: Group::Program, describe: install::describe_install, run: install::install },
    Subcommand { group: Group::Program, describe: install::describe_uninstall, run: install::uninstall },
    Subcommand { group: Group::Program, describe: install::describe_names, run: install::names },
    Subcommand {
        group: Group::Program,
        describe: generate::describe_completions,
        run: generate::completions,
    },
    Subcommand { group: Group::Program, describe: generate::describe_man, run: generate::man },
    Subcommand { group: Group::Program, describe: about::describe_help, run: about::help },
    Subcommand { group: Group::Program, describe: about::describe_version, run: about::version },
];

/// How the help of one command is laid out.
const TEMPLATE: &str = "{about-with-newline}\nUsage: {usage}\n\n{all-args}{after-help}\n";

/// The whole command line as clap knows it.
pub(super) fn tree() -> Command {
    let root = Command::new("linkspan")
        .version(env!("CARGO_PKG_VERSION"))
        .about("container networks on this host: seen, checked, mended")
        .disable_help_subcommand(true)
        .override_help(about::overview())
        .after_help(about::GROUND);
    SUBCOMMANDS.iter().fold(root, |root, subcommand| {
        root.subcommand((subcommand.describe)().help_template(TEMPLATE).disable_help_subcommand(true))
    })
}

/// The command that helps whoever typed this first word.
pub(super) fn help_for(first: Option<&OsStr>) -> String {
    let known = |word: &&OsStr| SUBCOMMANDS.iter().any(|s| *word == (s.describe)().get_name());
    match first.filter(known) {
        Some(word) => format!("linkspan {} --help", word.to_string_lossy()),
        None => "linkspan --help".to_owned(),
    }
}

/// Does what the words after the program's name ask for.
pub(super) fn dispatch(session: &mut Session<'_>, args: Vec<OsString>) -> Result<(), Error> {
    let first = args.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let words = std::iter::once(OsString::from("linkspan")).chain(args);
    let matches = match tree().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return usage::answer(&error, &first, session.stdout),
    };
    let Some((name, matches)) = matches.subcommand() else { return about::introduce(session) };
    let found = SUBCOMMANDS.iter().find(|subcommand| (subcommand.describe)().get_name() == name);
    found.map_or(Ok(()), |subcommand| (subcommand.run)(session, matches))
}
