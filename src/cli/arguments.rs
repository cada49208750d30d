//! The command line.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use super::error::Error;
use super::suggest;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing: say what this is.
    Introduce,
    Help,
    Version,
    /// `status` without a network: whose the plugins' names are.
    Names,
    Add(Target),
    Check(Target),
    Del(Target),
    Gc {
        network: String,
        dry_run: bool,
    },
    Status {
        network: String,
    },
}

/// A network and the namespace as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) network: String,
    pub(super) netns: String,
}

const VERBS: [&str; 8] = ["add", "check", "del", "gc", "status", "install", "uninstall", "names"];
const OPTIONS: [&str; 3] = ["help", "version", "dry-run"];

/// Reads the arguments that follow the program's name.
pub(super) fn parse(args: Vec<OsString>) -> Result<Command, Error> {
    let mut parser = Parser::from_args(args);
    let mut words: Vec<String> = Vec::new();
    let mut dry_run = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("dry-run") => dry_run = true,
            Arg::Value(word) => words.push(word.string()?),
            Arg::Long(name) => {
                let hint = suggestion(name, OPTIONS, "--");
                return Err(Error::Usage(format!("there is no option '--{name}'{hint}")));
            }
            other @ Arg::Short(_) => return Err(other.unexpected().into()),
        }
    }
    let command = command(words)?;
    match command {
        Command::Gc { network, .. } => Ok(Command::Gc { network, dry_run }),
        _ if dry_run => Err(Error::Usage("only 'gc' has --dry-run".to_owned())),
        other => Ok(other),
    }
}

fn command(words: Vec<String>) -> Result<Command, Error> {
    let mut words = words.into_iter();
    let Some(verb) = words.next() else { return Ok(Command::Introduce) };
    let needs_namespace = match verb.as_str() {
        "help" => return Ok(Command::Help),
        "version" => return Ok(Command::Version),
        "add" | "check" | "del" => true,
        "gc" | "status" => false,
        _ => {
            let hint = suggestion(&verb, VERBS, "");
            return Err(Error::Usage(format!("there is no command '{verb}'{hint}")));
        }
    };
    let missing = |what: &str| {
        let rest = if needs_namespace { "NETWORK NETNS" } else { "NETWORK" };
        Error::Usage(format!("'{verb}' needs {what}: linkspan {verb} {rest}"))
    };
    let network = match words.next() {
        Some(network) => network,
        None if verb == "status" => return Ok(Command::Names),
        None => return Err(missing("the name of a network")),
    };
    let netns = words.next();
    if let Some(word) = words.next() {
        return Err(Error::Usage(format!("'{verb}' has no use for '{word}'")));
    }
    // cnitool wants a namespace for these two as well, so one is let pass.
    match verb.as_str() {
        "gc" => return Ok(Command::Gc { network, dry_run: false }),
        "status" => return Ok(Command::Status { network }),
        _ => {}
    }
    let netns = netns.ok_or_else(|| missing("a network namespace"))?;
    let target = Target { network, netns };
    Ok(match verb.as_str() {
        "add" => Command::Add(target),
        "check" => Command::Check(target),
        _ => Command::Del(target),
    })
}

fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, dashes: &str) -> String {
    suggest::nearest(word, candidates)
        .map(|found| format!(": did you mean '{dashes}{found}'?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Error> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    fn refused(line: &str) -> String {
        let error = parsed(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn commands_are_those_of_cnitool() {
        let target = Target { network: "web".into(), netns: "/run/netns/a".into() };
        assert_eq!(parsed("add web /run/netns/a").unwrap(), Command::Add(target.clone()));
        assert_eq!(parsed("check web /run/netns/a").unwrap(), Command::Check(target.clone()));
        assert_eq!(parsed("del web /run/netns/a").unwrap(), Command::Del(target));
        assert_eq!(parsed("gc web").unwrap(), Command::Gc { network: "web".into(), dry_run: false });
        assert_eq!(
            parsed("gc web a --dry-run").unwrap(),
            Command::Gc { network: "web".into(), dry_run: true }
        );
        assert_eq!(parsed("status web a").unwrap(), Command::Status { network: "web".into() });
        assert_eq!(parsed("").unwrap(), Command::Introduce);
        assert_eq!(parsed("add --help").unwrap(), Command::Help);
        assert_eq!(parsed("-V").unwrap(), Command::Version);
    }

    #[test]
    fn a_mistake_is_answered_with_what_was_meant() {
        assert!(refused("dle web a").contains("did you mean 'del'?"));
        assert!(refused("frobnicate").contains("no command 'frobnicate'"));
        assert!(refused("add").contains("linkspan add NETWORK NETNS"));
        assert!(refused("add web").contains("a network namespace"));
        assert_eq!(parsed("status").unwrap(), Command::Names);
        assert!(refused("gc").contains("linkspan gc NETWORK"));
        assert!(refused("gc web a b").contains("no use for 'b'"));
        assert!(refused("gc web --dryrun").contains("'--dry-run'"));
        assert!(refused("add web a --dry-run").contains("only 'gc'"));
        assert!(refused("-x").contains("-x"));
    }
}
