//! `linkspan events`: what the agent sees, as it happens.

use std::collections::HashMap;
use std::io;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::Session;
use super::error::Error;
use super::see::{self, Options, options};
use crate::agent::client;
use crate::model::AttachmentKey;
use crate::store::State;
use crate::view::{self, Attachment, Wants};

pub(super) fn describe() -> Command {
    let command =
        Command::new("events").about("follow what happens, one JSON object a line; needs the agent");
    options::with_filters(command).after_help(
        "attached, detached, add-failed, dead, collected, repaired, repair-failed, lost (docs/repair.md).\nWith a filter \
         only what is told of containers is shown, and what was lost.\n\nExamples:\n  linkspan events | jq .\n  \
         linkspan events --network web",
    )
}

/// Prints what happens until one of the two sides ends.
///
/// # Errors
/// Where there is no agent.
pub(super) fn run(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let out = &mut *session.stdout;
    let mut sieve = Sieve { options: Options::of(matches), known: HashMap::new() };
    let mut printed = Ok(());
    let followed = client::follow(&State::default_root(), |line| {
        if !sieve.passes(line) {
            return Ok(());
        }
        printed = writeln!(out, "{line}").and_then(|()| out.flush());
        match &printed {
            Ok(()) => Ok(()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    });
    printed?;
    followed.map_err(|source| Error::NoAgent { source })
}

/// What the filters let through. An event names its attachment; what else is known of that is in its record, which is
/// remembered, since `detached` comes when it is gone.
struct Sieve {
    options: Options,
    known: HashMap<String, Attachment>,
}

impl Sieve {
    fn passes(&mut self, line: &str) -> bool {
        if self.options.is_unfiltered() {
            return true;
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else { return true };
        let word = |key: &str| event[key].as_str().unwrap_or_default();
        let Some(key) = event["attachment"].as_str() else { return word("event") == "lost" };
        if word("event") == "attached" || !self.known.contains_key(key) {
            self.learn();
        }
        match (self.known.get(key), AttachmentKey::parse(key)) {
            (Some(attachment), _) => self.options.selects(attachment),
            // Its ADD failed, so it left no record.
            (None, Some(key)) => self.options.selects_unknown(&key.container_id, event["network"].as_str()),
            (None, None) => false,
        }
    }

    /// Reads the records again. Where they cannot be read, what was known has to do.
    fn learn(&mut self) {
        if let Ok(reading) = see::read(Wants::LEAST) {
            let all = view::attachments(&reading).into_iter();
            self.known.extend(all.map(|a| (AttachmentKey::new(&a.container, &a.interface).to_string(), a)));
        }
    }
}
