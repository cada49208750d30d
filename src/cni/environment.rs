//! The environment variables of a call (specification, "Parameters").

use std::ffi::OsString;
use std::fmt;

use super::arguments::Arguments;
use super::error::{Error, VariableProblem};
use super::version::Version;
use crate::model::names::INTERFACE_NAME_MAX;

/// The longest container ID: it is half of a file name and of a firewall element's comment.
pub const CONTAINER_ID_MAX: usize = 200;

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Say whether it is as ADD left it.
    Check,
    /// Remove what no valid attachment owns.
    Gc,
    /// Say whether an ADD could succeed.
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// The word in `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The version of the specification that brought the command.
    pub const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }

    /// Whether the call is about one attachment.
    const fn has_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The variables of one call, validated as far as its command needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC, STATUS and VERSION, which have none.
    pub container_id: String,
    /// `CNI_NETNS`, verbatim; there for ADD and CHECK, and for DEL where the runtime still knows it.
    pub netns: Option<String>,
    /// `CNI_IFNAME`; empty for GC, STATUS and VERSION.
    pub interface: String,
    /// `CNI_PATH`, directories separated by `:`.
    pub path: String,
    /// `CNI_ARGS` as it came. [`super::NetworkConfig::parse`] reads it, since not every face may (the reference's
    /// loopback is called with `none`).
    pub args: String,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub netns_override: bool,
}

impl Environment {
    /// Reads the variables through `lookup` (usually [`std::env::var_os`]).
    ///
    /// # Errors
    /// [`Error::Environment`] with every variable that is missing or malformed for the command. Where `CNI_COMMAND`
    /// itself is wrong, nothing else is judged. A caller that wants to print the about text instead looks at
    /// `CNI_COMMAND` first.
    pub fn from_lookup<T: Into<OsString>>(lookup: impl Fn(&str) -> Option<T>) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let mut read = |name: &'static str| read_variable(name, &lookup, &mut problems);
        let word = read("CNI_COMMAND");
        let container_id = read("CNI_CONTAINERID");
        let netns = read("CNI_NETNS");
        let interface = read("CNI_IFNAME");
        let path = read("CNI_PATH");
        let args = read("CNI_ARGS");
        let netns_override = read("CNI_NETNS_OVERRIDE");
        let Some(command) = Command::ALL.into_iter().find(|command| command.as_str() == word) else {
            let expected = "one of ADD, DEL, CHECK, GC, STATUS, VERSION (in capitals)".to_owned();
            let problem = VariableProblem { name: "CNI_COMMAND", value: non_empty(word), expected };
            return Err(Error::Environment { problems: vec![problem] });
        };
        let mut environment = Self {
            command,
            container_id,
            netns: non_empty(netns),
            interface,
            path,
            args,
            netns_override: netns_override == "1" || netns_override.eq_ignore_ascii_case("true"),
        };
        if command == Command::Version {
            return Ok(environment);
        }
        environment.judge(&mut problems);
        if !problems.is_empty() {
            // Alone, CNI_ARGS is left to whoever reads the configuration; in company it completes the list.
            if let Err(Error::Environment { problems: more }) = Arguments::parse(&environment.args) {
                problems.extend(more);
            }
            return Err(Error::Environment { problems });
        }
        if !command.has_attachment() {
            environment.container_id.clear();
            environment.interface.clear();
        }
        Ok(environment)
    }

    fn judge(&self, problems: &mut Vec<VariableProblem>) {
        let mut require = |name: &'static str, value: &str, fault: Option<String>| {
            if problems.iter().any(|problem| problem.name == name) {
                return;
            }
            if value.is_empty() {
                let expected = format!("{} needs it", self.command);
                problems.push(VariableProblem { name, value: None, expected });
            } else if let Some(expected) = fault {
                problems.push(VariableProblem { name, value: Some(value.to_owned()), expected });
            }
        };
        if self.command.has_attachment() {
            require("CNI_CONTAINERID", &self.container_id, container_id_fault(&self.container_id));
        }
        if matches!(self.command, Command::Add | Command::Check) {
            require("CNI_NETNS", self.netns.as_deref().unwrap_or_default(), None);
        }
        if self.command.has_attachment() {
            let is_new = matches!(self.command, Command::Add);
            let fault = if is_new { interface_name_fault } else { known_interface_fault };
            require("CNI_IFNAME", &self.interface, fault(&self.interface));
        }
        require("CNI_PATH", &self.path, None);
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A variable's text, empty where it is missing; one that is not UTF-8 becomes a problem.
fn read_variable<T: Into<OsString>>(
    name: &'static str,
    lookup: &impl Fn(&str) -> Option<T>,
    problems: &mut Vec<VariableProblem>,
) -> String {
    let value: OsString = lookup(name).map(Into::into).unwrap_or_default();
    value.into_string().unwrap_or_else(|raw| {
        let value = raw.to_string_lossy().into_owned();
        problems.push(VariableProblem {
            name,
            value: Some(value.clone()),
            expected: "must be UTF-8".to_owned(),
        });
        value
    })
}

/// Whether a text is a container ID or network name of the specification: `[A-Za-z0-9][A-Za-z0-9_.-]*`.
pub(super) fn is_identifier(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Why a text cannot be a container ID.
pub(super) fn container_id_fault(text: &str) -> Option<String> {
    if !is_identifier(text) {
        return Some(
            "must start with a letter or digit and hold only letters, digits, '_', '.' and '-'".to_owned(),
        );
    }
    (text.len() > CONTAINER_ID_MAX)
        .then(|| format!("has {} bytes, and at most {CONTAINER_ID_MAX} fit", text.len()))
}

/// Why the kernel would not give an interface this very name: it takes none of this form (`dev_valid_name`,
/// `net/core/dev.c`), or makes another of it, as of one with `%` (`dev_alloc_name`).
pub(super) fn interface_name_fault(text: &str) -> Option<String> {
    let template =
        || text.contains('%').then(|| "must not hold '%', of which the kernel makes a number".to_owned());
    known_interface_fault(text).or_else(template)
}

/// The same for an interface that may be there already: earlier releases, and other plugins, took names with `%`.
pub(super) fn known_interface_fault(text: &str) -> Option<String> {
    if text.is_empty() || text == "." || text == ".." {
        return Some("must be the name of an interface".to_owned());
    }
    if text.len() > INTERFACE_NAME_MAX {
        return Some(format!("has {} bytes, and at most {INTERFACE_NAME_MAX} fit", text.len()));
    }
    let forbidden = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    text.contains(forbidden).then(|| "must not hold '/', ':' or white space".to_owned())
}

#[cfg(test)]
mod tests;
