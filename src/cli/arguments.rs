//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;

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
    Reconcile(Reconcile),
    Agent {
        on_demand: bool,
        metrics: Option<SocketAddr>,
    },
    /// What there is on the host, of all networks.
    Survey,
    /// What happens from now on.
    Events,
}

/// How `reconcile` goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reconcile {
    /// Only say what differs.
    pub(super) dry_run: bool,
    /// Take the attachments of dead containers away.
    pub(super) collect: bool,
}

/// A network and the namespace as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) network: String,
    pub(super) netns: String,
}

const VERBS: [&str; 8] = ["add", "check", "del", "gc", "status", "reconcile", "events", "agent"];
const OPTIONS: [&str; 6] = ["help", "version", "dry-run", "collect", "on-demand", "metrics"];

/// Reads the arguments that follow the program's name.
pub(super) fn parse(args: Vec<OsString>) -> Result<Command, Error> {
    let mut parser = Parser::from_args(args);
    let mut words: Vec<String> = Vec::new();
    let (mut dry_run, mut collect, mut on_demand) = (false, false, false);
    let mut metrics = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("dry-run") => dry_run = true,
            Arg::Long("collect") => collect = true,
            Arg::Long("on-demand") => on_demand = true,
            Arg::Long("metrics") => metrics = Some(loopback(&parser.value()?.string()?)?),
            Arg::Value(word) => words.push(word.string()?),
            Arg::Long(name) => {
                let hint = suggestion(name, OPTIONS, "--");
                return Err(Error::Usage(format!("there is no option '--{name}'{hint}")));
            }
            other @ Arg::Short(_) => return Err(other.unexpected().into()),
        }
    }
    let command = command(words)?;
    if metrics.is_some() && !matches!(command, Command::Agent { .. }) {
        return Err(Error::Usage("only 'agent' has --metrics".to_owned()));
    }
    match command {
        Command::Reconcile(_) if !on_demand => Ok(Command::Reconcile(Reconcile { dry_run, collect })),
        _ if collect => Err(Error::Usage("only 'reconcile' has --collect".to_owned())),
        Command::Gc { network, .. } if !on_demand => Ok(Command::Gc { network, dry_run }),
        Command::Agent { .. } if !dry_run => Ok(Command::Agent { on_demand, metrics }),
        _ if dry_run => Err(Error::Usage("only 'gc' and 'reconcile' have --dry-run".to_owned())),
        _ if on_demand => Err(Error::Usage("only 'agent' has --on-demand".to_owned())),
        other => Ok(other),
    }
}

fn command(words: Vec<String>) -> Result<Command, Error> {
    let mut words = words.into_iter();
    let Some(verb) = words.next() else { return Ok(Command::Introduce) };
    let needs_namespace = match verb.as_str() {
        "help" => return Ok(Command::Help),
        "version" => return Ok(Command::Version),
        "reconcile" => {
            return match words.next() {
                None => Ok(Command::Reconcile(Reconcile::default())),
                Some(word) => {
                    Err(Error::Usage(format!("'reconcile' has no use for '{word}': it is of the whole host")))
                }
            };
        }
        "agent" => {
            return match words.next() {
                Some(word) => Err(Error::Usage(format!("'agent' has no use for '{word}'"))),
                None => Ok(Command::Agent { on_demand: false, metrics: None }),
            };
        }
        "events" => {
            return match words.next() {
                Some(word) => Err(Error::Usage(format!("'events' has no use for '{word}'"))),
                None => Ok(Command::Events),
            };
        }
        "status" if words.len() == 0 => return Ok(Command::Survey),
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
    let network = words.next().ok_or_else(|| missing("the name of a network"))?;
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

/// An address that nobody outside can reach: the numbers name every container.
fn loopback(text: &str) -> Result<SocketAddr, Error> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    address.ok_or_else(|| {
        Error::Usage(format!(
            "--metrics needs a loopback address and a port, such as 127.0.0.1:9464, not '{text}'"
        ))
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
        let reconcile = Reconcile { dry_run: true, collect: true };
        assert_eq!(parsed("reconcile --dry-run --collect").unwrap(), Command::Reconcile(reconcile));
        assert_eq!(parsed("").unwrap(), Command::Introduce);
        assert_eq!(parsed("add --help").unwrap(), Command::Help);
        assert_eq!(parsed("-V").unwrap(), Command::Version);
        assert_eq!(parsed("agent").unwrap(), Command::Agent { on_demand: false, metrics: None });
        assert_eq!(parsed("agent --on-demand").unwrap(), Command::Agent { on_demand: true, metrics: None });
        let metrics = Some("127.0.0.1:9464".parse().unwrap());
        let agent = Command::Agent { on_demand: false, metrics };
        assert_eq!(parsed("agent --metrics 127.0.0.1:9464").unwrap(), agent);
        assert_eq!(parsed("status").unwrap(), Command::Survey);
        assert_eq!(parsed("events").unwrap(), Command::Events);
    }

    #[test]
    fn a_mistake_is_answered_with_what_was_meant() {
        assert!(refused("dle web a").contains("did you mean 'del'?"));
        assert!(refused("frobnicate").contains("no command 'frobnicate'"));
        assert!(refused("add").contains("linkspan add NETWORK NETNS"));
        assert!(refused("add web").contains("a network namespace"));
        assert!(refused("gc").contains("linkspan gc NETWORK"));
        assert!(refused("agent --metrics 0.0.0.0:9464").contains("loopback"));
        assert!(refused("status --metrics 127.0.0.1:9464").contains("only 'agent'"));
        assert!(refused("gc web a b").contains("no use for 'b'"));
        assert!(refused("gc web --dryrun").contains("'--dry-run'"));
        assert!(refused("add web a --dry-run").contains("only 'gc'"));
        assert!(refused("gc web --collect").contains("only 'reconcile'"));
        assert!(refused("reconcile web").contains("the whole host"));
        assert!(refused("agent --dry-run").contains("only 'gc'"));
        assert!(refused("gc web --on-demand").contains("only 'agent'"));
        assert!(refused("agent web").contains("no use for 'web'"));
        assert!(refused("-x").contains("-x"));
    }
}
