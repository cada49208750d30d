//! A command line that cannot be understood, answered with a sentence and what was probably meant.

use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::commands;
use super::error::Error;
use super::{about, suggest};

/// Help and version go to standard output; everything else is a mistake.
pub(super) fn answer(error: &clap::Error, command: &str, stdout: &mut dyn Write) -> Result<(), Error> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.to_string();
        return Ok(writeln!(stdout, "{}", text.trim_end())?);
    }
    Err(mistake(error, command))
}

fn mistake(error: &clap::Error, command: &str) -> Error {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    };
    let argument = plain(&named(ContextKind::InvalidArg).unwrap_or_default());
    let value = named(ContextKind::InvalidValue).unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            return about::unknown(&named(ContextKind::InvalidSubcommand).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => unknown_argument(command, &argument),
        ErrorKind::MissingRequiredArgument => {
            format!("'{command}' needs {argument}: {}", usage_line(command))
        }
        ErrorKind::ArgumentConflict => {
            let other = named(ContextKind::PriorArg).unwrap_or_default();
            format!("'{argument}' and '{other}' do not go together")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("'{argument}' needs a value"),
        ErrorKind::InvalidValue => {
            let allowed = named(ContextKind::ValidValue).unwrap_or_default();
            let hint = suggest::hint(&value, allowed.split(' '), "");
            let option = argument.split(' ').next().unwrap_or_default();
            format!("'{value}' is none that {option} knows, which are {}{hint}", allowed.replace(' ', ", "))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(|source| format!(": {source}"));
            format!("'{value}' cannot be used for {argument}{}", reason.unwrap_or_default())
        }
        ErrorKind::TooManyValues => format!("'{command}' has no use for '{value}'"),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    Error::Usage(text)
}

fn unknown_argument(command: &str, argument: &str) -> String {
    let tree = commands::tree();
    let of = tree.find_subcommand(command).unwrap_or(&tree);
    if !argument.starts_with('-') {
        let has = |name: &str| of.get_arguments().any(|arg| arg.get_long() == Some(name));
        let hint = if has("watch") && argument.parse::<f64>().is_ok() {
            format!(": seconds are given as --watch={argument}")
        } else if has("container") {
            format!(": --network {argument} or --container {argument} says what is meant")
        } else {
            String::new()
        };
        return format!("'{command}' has no use for '{argument}'{hint}");
    }
    let mut known: Vec<String> =
        of.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect();
    known.push("help".to_owned());
    let bare = argument.trim_start_matches('-');
    let hint = suggest::hint(bare, known.iter().map(String::as_str), "--");
    let elsewhere = if hint.is_empty() && of.get_name() != "linkspan" {
        format!(" for '{command}'")
    } else {
        String::new()
    };
    format!("there is no option '{argument}'{elsewhere}{hint}")
}

/// `linkspan add NETWORK NETNS`.
fn usage_line(command: &str) -> String {
    let mut tree = commands::tree();
    tree.build();
    let usage = tree.find_subcommand_mut(command).map(|command| command.render_usage().to_string());
    plain(usage.unwrap_or_default().trim_start_matches("Usage: ").trim_start_matches("linkspan-"))
}

/// Words without the angle brackets around values.
fn plain(text: &str) -> String {
    text.replace(['<', '>'], "")
}
