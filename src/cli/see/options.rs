//! What the commands that show have in common: filters, JSON, watching.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::view::{Attachment, Reading};

use super::super::error::Error;
use super::super::suggest;
use super::find;

/// What was asked for besides the command itself.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Options {
    pub(in crate::cli) json: bool,
    pub(in crate::cli) whole: bool,
    pub(in crate::cli) watch: Option<Duration>,
    pub(in crate::cli) count: Option<u64>,
    networks: Vec<String>,
    containers: Vec<String>,
    labels: Vec<String>,
}

/// `--json`, `--no-trunc`.
pub(in crate::cli) fn with_output(command: Command) -> Command {
    command
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("for programs: docs/json.md"))
        .arg(Arg::new("no-trunc").long("no-trunc").action(ArgAction::SetTrue).help("IDs in full length"))
}

/// `--watch`, `--count`.
pub(in crate::cli) fn with_watch(command: Command) -> Command {
    command
        .arg(
            Arg::new("watch")
                .long("watch")
                .short('w')
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_parser(seconds)
                .help("show it again every 2 seconds, or --watch=SECONDS"),
        )
        .arg(Arg::new("count").long("count").value_name("N").value_parser(rounds).help("end after N rounds"))
}

/// `--network`.
pub(in crate::cli) fn with_network(command: Command) -> Command {
    command.arg(
        Arg::new("network")
            .long("network")
            .short('n')
            .value_name("NAME")
            .action(ArgAction::Append)
            .help("only this network; may be repeated"),
    )
}

/// `--network`, `--container`, `--label`.
pub(in crate::cli) fn with_filters(command: Command) -> Command {
    with_network(command)
        .arg(
            Arg::new("container")
                .long("container")
                .short('c')
                .value_name("ID")
                .action(ArgAction::Append)
                .help("only this container: its name, its ID or the beginning of it"),
        )
        .arg(
            Arg::new("label")
                .long("label")
                .short('l')
                .value_name("KEY[=VALUE]")
                .action(ArgAction::Append)
                .help("only what the runtime labelled so (K8S_POD_NAMESPACE=default)"),
        )
}

fn rounds(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number from 1 on".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "a number of seconds is needed, such as 2 or 0.5")?;
    if (0.05..=86_400.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("from 0.05 seconds to a day".to_owned())
}

impl Options {
    /// What the command line says; options that a command does not have are as not given.
    pub(in crate::cli) fn of(matches: &ArgMatches) -> Self {
        let flag = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
        let list = |name: &str| -> Vec<String> {
            let values = matches.try_get_many::<String>(name).ok().flatten();
            values.into_iter().flatten().cloned().collect()
        };
        Self {
            json: flag("json"),
            whole: flag("no-trunc"),
            watch: matches.try_get_one::<Duration>("watch").ok().flatten().copied(),
            count: matches.try_get_one::<u64>("count").ok().flatten().copied(),
            networks: list("network"),
            containers: list("container"),
            labels: list("label"),
        }
    }

    /// How often a page is shown; `None` for ever.
    pub(super) fn rounds(&self) -> Option<u64> {
        match (self.watch, self.count) {
            (_, Some(count)) => Some(count),
            (None, None) => Some(1),
            (Some(_), None) => None,
        }
    }

    /// Whether every attachment is meant.
    pub(in crate::cli) fn is_unfiltered(&self) -> bool {
        self.networks.is_empty() && self.containers.is_empty() && self.labels.is_empty()
    }

    /// Whether nothing but networks is named, so that what belongs to no container is meant too.
    pub(super) fn names_networks_only(&self) -> bool {
        !self.networks.is_empty() && self.containers.is_empty() && self.labels.is_empty()
    }

    /// Whether a network is meant.
    pub(super) fn has_network(&self, name: &str) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|wanted| wanted == name)
    }

    /// Whether a network is meant, `chosen` being the attachments that are: one none of whose containers is meant is not
    /// meant either.
    pub(super) fn keeps_network(&self, name: &str, chosen: &[Attachment]) -> bool {
        let by_name_alone = self.is_unfiltered() || self.names_networks_only();
        self.has_network(name) && (by_name_alone || chosen.iter().any(|a| a.network == name))
    }

    /// Refuses names that nothing has: a filter that cannot match is a slip.
    pub(in crate::cli) fn require_known(
        &self,
        reading: &Reading,
        attachments: &[Attachment],
    ) -> Result<(), Error> {
        for name in &self.networks {
            let mut known: Vec<&str> = reading.records.networks.iter().map(|n| n.name.as_str()).collect();
            known.extend(reading.records.leases.iter().map(|lease| lease.network.as_str()));
            if !known.contains(&name.as_str()) {
                let hint = suggest::hint(name, known, "");
                let hint = if hint.is_empty() { ": 'linkspan ls' lists them".to_owned() } else { hint };
                return Err(Error::Nothing { what: "network", name: name.clone(), hint });
            }
        }
        for wanted in &self.containers {
            if !attachments.iter().any(|attachment| find::is_meant(wanted, attachment)) {
                return Err(find::no_container(wanted, attachments));
            }
        }
        Ok(())
    }

    /// The attachments that are meant.
    pub(in crate::cli) fn select(&self, attachments: Vec<Attachment>) -> Vec<Attachment> {
        attachments.into_iter().filter(|attachment| self.selects(attachment)).collect()
    }

    /// Whether something is meant of which nothing is known but its container's ID and perhaps its network.
    pub(in crate::cli) fn selects_unknown(&self, container: &str, network: Option<&str>) -> bool {
        let by_network = self.networks.is_empty() || network.is_some_and(|name| self.has_network(name));
        let by_container =
            self.containers.is_empty() || self.containers.iter().any(|c| container.starts_with(&**c));
        by_network && by_container && self.labels.is_empty()
    }

    /// Whether an attachment is meant.
    pub(in crate::cli) fn selects(&self, attachment: &Attachment) -> bool {
        let labelled = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => attachment.labels.get(key).is_some_and(|found| found == value),
            None => attachment.labels.contains_key(wanted),
        };
        self.has_network(&attachment.network)
            && (self.containers.is_empty() || self.containers.iter().any(|c| find::is_meant(c, attachment)))
            && self.labels.iter().all(labelled)
    }
}
