//! The command lines of `install`, `uninstall` and `names`.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::{DIRECTORY, LEFT_TO_THE_REFERENCE, Options};
use crate::cli::error::Error;
use crate::plugins::Face;

/// What one of these command lines asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Order {
    /// `install`.
    Install(Options),
    /// `uninstall`, of this directory.
    Uninstall(PathBuf),
    /// `names`, in this directory.
    Names(PathBuf),
    /// `--help`.
    Help,
}

/// Reads a command line that starts with one of the three words; `None` for every other.
///
/// # Errors
/// [`Error::Usage`] with what is wrong with it.
pub(in crate::cli) fn parse(args: &[OsString]) -> Option<Result<Order, Error>> {
    let (verb, rest) = args.split_first()?;
    let verb = verb.to_str().filter(|verb| matches!(*verb, "install" | "uninstall" | "names"))?;
    Some(read(verb, rest))
}

fn read(verb: &str, rest: &[OsString]) -> Result<Order, Error> {
    let mut parser = Parser::from_args(rest.iter().cloned());
    let mut options = Options { directory: DIRECTORY.into(), ..Options::default() };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Order::Help),
            Arg::Long("dir") => options.directory = parser.value()?.into(),
            Arg::Long("names") if verb == "install" => options.names = names(&parser.value()?.string()?)?,
            Arg::Long("all") if verb == "install" => {
                options.names = Face::REFERENCE.iter().map(|face| face.name()).collect();
            }
            Arg::Long("backup") if verb == "install" => options.backup = true,
            Arg::Long("force") if verb == "install" => options.force = true,
            Arg::Value(word) => {
                let word = word.string()?;
                return Err(Error::Usage(format!("'{verb}' has no use for '{word}'")));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.backup && options.force {
        return Err(Error::Usage(
            "--backup keeps what is there, --force does not: give one of the two".to_owned(),
        ));
    }
    Ok(match verb {
        "install" => Order::Install(options),
        "uninstall" => Order::Uninstall(options.directory),
        _ => Order::Names(options.directory),
    })
}

/// The names of a list with commas.
fn names(text: &str) -> Result<Vec<&'static str>, Error> {
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

    fn parsed(line: &str) -> Option<Result<Order, Error>> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words)
    }

    fn refused(line: &str) -> String {
        let error = parsed(line).unwrap().unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn names_are_those_that_the_binary_answers_to() {
        let options = |line| match parsed(line).unwrap().unwrap() {
            Order::Install(options) => options,
            other => panic!("{other:?}"),
        };
        assert_eq!(options("install").directory, PathBuf::from("/opt/cni/bin"));
        assert_eq!(options("install --names bridge,portmap,bridge").names, ["bridge", "portmap"]);
        assert_eq!(options("install --all --backup --dir /x").names.len(), Face::REFERENCE.len());
        assert!(options("install --all --backup").backup);
        assert_eq!(parsed("uninstall --dir /x").unwrap().unwrap(), Order::Uninstall("/x".into()));
        assert_eq!(parsed("names").unwrap().unwrap(), Order::Names("/opt/cni/bin".into()));
        assert!(parsed("add web a").is_none() && parsed("").is_none());
        assert!(refused("install --names vlan").contains("stays the reference plugin's"));
        assert!(refused("install --names brigde").contains("no name that linkspan answers to"));
        assert!(refused("install bridge").contains("no use for 'bridge'"));
        assert!(refused("uninstall --all").contains("--all"));
        assert!(refused("install --backup --force").contains("one of the two"));
    }
}
