//! The command lines of `install`, `uninstall` and `names`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{DIRECTORY, LEFT_TO_THE_REFERENCE, Options};
use crate::cli::Session;
use crate::cli::error::Error;
use crate::cli::exec::SearchPath;
use crate::doctor;
use crate::plugins::Face;

pub(in crate::cli) fn describe_install() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("install")
        .about("put this binary into a directory of plugins, and take names there")
        .arg(directory())
        .arg(Arg::new("names").long("names").value_name("A,B").help("take these names: bridge,portmap ..."))
        .arg(flag("all").help("take every name that linkspan answers to"))
        .arg(flag("backup").help("keep another's program of such a name aside; uninstall brings it back"))
        .arg(flag("force").conflicts_with("backup").help("replace another's program for good"))
        .arg(dry_run())
        .after_help(
            "Examples:\n  linkspan install\n  linkspan install --all --backup\n  \
             linkspan install --dir /usr/lib/cni --names bridge,host-local,portmap --backup",
        )
}

pub(in crate::cli) fn describe_uninstall() -> Command {
    Command::new("uninstall")
        .about("take away what install made, with what was there before in its place")
        .arg(directory())
        .arg(dry_run())
        .after_help("Examples:\n  linkspan uninstall\n  linkspan uninstall --dir /usr/lib/cni")
}

pub(in crate::cli) fn describe_names() -> Command {
    Command::new("names")
        .about("which plugin names in a directory are linkspan's")
        .arg(directory())
        .after_help("Example:\n  linkspan names --dir /usr/lib/cni")
}

fn dry_run() -> Arg {
    Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("only say what would be done")
}

fn directory() -> Arg {
    Arg::new("dir").long("dir").value_name("DIR").default_value(DIRECTORY).help("the directory of plugins")
}

fn directory_of(matches: &ArgMatches) -> PathBuf {
    matches.get_one::<String>("dir").map_or_else(|| DIRECTORY.into(), PathBuf::from)
}

pub(in crate::cli) fn install(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    super::install(&options(matches)?, session.stdout)
}

pub(in crate::cli) fn uninstall(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let (directory, is_dry) = (directory_of(matches), matches.get_flag("dry-run"));
    let mut searched = SearchPath::of_runtimes((session.env)("CNI_PATH"));
    searched.extend(doctor::plugin_directories());
    super::uninstall(&directory, &session.place.networks, &searched, is_dry, session.stdout)
}

pub(in crate::cli) fn names(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    super::names(&directory_of(matches), session.stdout)
}

fn options(matches: &ArgMatches) -> Result<Options, Error> {
    let names = if matches.get_flag("all") {
        Face::REFERENCE.iter().map(|face| face.name()).collect()
    } else {
        read_names(matches.get_one::<String>("names").map(String::as_str).unwrap_or_default())?
    };
    Ok(Options {
        directory: directory_of(matches),
        names,
        backup: matches.get_flag("backup"),
        force: matches.get_flag("force"),
        dry_run: matches.get_flag("dry-run"),
    })
}

/// The names of a list with commas.
fn read_names(text: &str) -> Result<Vec<&'static str>, Error> {
    let mut names = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let face = Face::REFERENCE.into_iter().find(|face| face.name() == word).ok_or_else(|| {
            let all: Vec<&str> = Face::REFERENCE.iter().map(|face| face.name()).collect();
            Error::Usage(if LEFT_TO_THE_REFERENCE.contains(&word) {
                format!("linkspan does not stand for '{word}': it stays the reference plugin's")
            } else {
                format!("'{word}' is no name that linkspan answers to: {}", all.join(", "))
            })
        })?;
        if !names.contains(&face.name()) {
            names.push(face.name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        let words = line.split_whitespace();
        let matches = describe_install().try_get_matches_from(words).map_err(|error| error.to_string())?;
        options(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_those_that_the_binary_answers_to() {
        assert_eq!(parsed("install").unwrap().directory, PathBuf::from("/opt/cni/bin"));
        assert_eq!(parsed("install --names bridge,portmap,bridge").unwrap().names, ["bridge", "portmap"]);
        let all = parsed("install --all --backup --dir /x").unwrap();
        assert_eq!((all.names.len(), all.backup), (Face::REFERENCE.len(), true));
        assert_eq!(all.directory, PathBuf::from("/x"));
        for (line, reason) in [
            ("install --names vlan", "stays the reference plugin's"),
            ("install --names brigde", "no name that linkspan answers to"),
            ("install bridge", "unexpected argument 'bridge'"),
            ("install --backup --force", "cannot be used with"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(reason), "{line}: {said}");
        }
    }
}
