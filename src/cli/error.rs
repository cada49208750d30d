//! What can go wrong between a person's words and a plugin's answer.

use std::io;
use std::path::PathBuf;

use super::exec::{Refusal, Verb};
use super::words;
use crate::cni::CniError;
use crate::sys::SysError;
use crate::verbs::VerbError;
use crate::view::ViewError;

/// Why a command failed, as a sentence that says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line cannot be understood; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The agent could not start, or had to end.
    #[error(transparent)]
    Agent(#[from] crate::agent::AgentError),
    /// Names in a directory of plugins are another's.
    #[error("nothing was changed: not linkspan's: {}\n{advice}", names.join(", "))]
    Strangers {
        /// The paths.
        names: Vec<String>,
        /// What to do.
        advice: &'static str,
    },
    /// An environment variable cannot be used.
    #[error("the environment variable {variable} is not usable: {reason}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A container ID, interface or network name that the specification does not allow.
    #[error("{what} {value:?} is not allowed: {rule}")]
    Name {
        /// Which name.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// A file or directory that cannot be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), as_root(source))]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is not the JSON it should be.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where in it.
        source: serde_json::Error,
    },
    /// A network configuration that libcni would refuse.
    #[error("{} is no usable network configuration: {reason}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No configured network has this name.
    #[error("no network {name:?} in {}{}", directory.display(), alternatives(known, suggestion.as_deref(), broken))]
    UnknownNetwork {
        /// What was asked for.
        name: String,
        /// The configuration directory.
        directory: PathBuf,
        /// The networks there.
        known: Vec<String>,
        /// The one that was probably meant.
        suggestion: Option<String>,
        /// Files that could not be read as networks.
        broken: Vec<Error>,
    },
    /// A plugin that is in no directory of the search path.
    #[error("the plugin {kind:?} is in none of {searched}: install it there, or set CNI_PATH to where it is")]
    PluginNotFound {
        /// The `type` of the configuration.
        kind: String,
        /// The directories.
        searched: String,
    },
    /// A plugin that could not be started, or not be waited for.
    #[error("the plugin {kind} did not run: {source}")]
    Run {
        /// Its `type`.
        kind: String,
        /// Why: the program's path, and the system's reason.
        source: SysError,
    },
    /// A plugin that answered with an error.
    #[error("the plugin {kind} failed {verb}: {refusal}")]
    Plugin {
        /// Its `type`.
        kind: String,
        /// What it was asked to do.
        verb: Verb,
        /// What it said.
        refusal: Refusal,
    },
    /// A plugin whose result is no JSON object.
    #[error("the plugin {kind} said that {verb} succeeded, but its result is no JSON object: {source}")]
    Answer {
        /// Its `type`.
        kind: String,
        /// What it was asked to do.
        verb: Verb,
        /// Where its answer ends to be JSON.
        source: serde_json::Error,
    },
    /// A verb that the network's `cniVersion` does not have.
    #[error("network {network:?} has cniVersion {version}, and {verb} came with {needed}: raise it in {}", path.display())]
    Version {
        /// The network.
        network: String,
        /// Its version.
        version: String,
        /// The verb.
        verb: Verb,
        /// The first version that has the verb.
        needed: &'static str,
        /// The configuration's file.
        path: PathBuf,
    },
    /// The namespace to attach is not there.
    #[error(
        "there is no network namespace at {path}: create one first, for instance with 'ip netns add NAME'"
    )]
    NoNamespace {
        /// Its path.
        path: String,
    },
    /// A second ADD of the same interface of the same container.
    #[error(
        "{interface} of container {container_id} is attached to network {network:?} already, as {} says: \
         run 'linkspan del {network} {netns}' first, or set CNI_IFNAME for one more interface",
        path.display()
    )]
    Attached {
        /// The network that holds it.
        network: String,
        /// The container.
        container_id: String,
        /// The interface.
        interface: String,
        /// The namespace.
        netns: String,
        /// The cache's file.
        path: PathBuf,
    },
    /// CHECK of an attachment that nothing is known about.
    #[error("nothing is attached: there is no {}; 'linkspan add {network} {netns}' makes it", path.display())]
    NotAttached {
        /// The network.
        network: String,
        /// The namespace.
        netns: String,
        /// The cache's file that is missing.
        path: PathBuf,
    },
    /// A result that cannot be given to plugins of the configuration's present version.
    #[error(
        "{} holds a result of cniVersion {found:?}, which plugins of {wanted} cannot read: \
         delete the attachment and add it again",
        path.display()
    )]
    OldResult {
        /// The cache's file.
        path: PathBuf,
        /// The result's version.
        found: String,
        /// The configuration's version.
        wanted: String,
    },
    /// GC cannot know which attachments are alive.
    #[error("nothing was deleted, because {} may be an attachment of {network:?} and cannot be read ({source}): mend or remove it", path.display())]
    UnknownAttachment {
        /// The network.
        network: String,
        /// The cache's file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// ADD failed and what it had made was taken back.
    #[error("{source}\n{}", taken_back(left))]
    RolledBack {
        /// What made ADD fail.
        source: Box<Error>,
        /// What made DEL fail.
        left: Vec<Error>,
    },
    /// Plugins that cannot take containers.
    #[error("{unready} of {asked} plugins of network {network:?} cannot take containers now")]
    NotReady {
        /// The network.
        network: String,
        /// How many.
        unready: usize,
        /// Of how many.
        asked: usize,
    },
    /// There is no agent to follow.
    #[error("no agent can be asked{}: start one with 'linkspan agent'", because(source))]
    NoAgent {
        /// The system's reason.
        source: io::Error,
    },
    /// Several failures of a walk that goes on after the first.
    #[error("{}", lines(.0))]
    Several(Vec<Error>),
    /// The host could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A verb of the protocol failed.
    #[error("{}", words::told(&.0.msg, &.0.details))]
    Verb(CniError),
    /// No network, or no container, of this name.
    #[error("there is no {what} '{name}'{hint}")]
    Nothing {
        /// What was looked for: `network`.
        what: &'static str,
        /// The name.
        name: String,
        /// What was probably meant, or where to look.
        hint: String,
    },
    /// The beginning of more than one container's ID.
    #[error("'{prefix}' may be {}: say more of it", candidates.join(", "))]
    Ambiguous {
        /// What was typed.
        prefix: String,
        /// The containers that it may be.
        candidates: Vec<String>,
    },
    /// What was looked at is not as it should be; each finding has been told.
    #[error("{0}")]
    Found(String),
    /// A way could not be told.
    #[error(transparent)]
    Explain(#[from] crate::explain::ExplainError),
    /// No probe could be observed.
    #[error(transparent)]
    Live(#[from] crate::explain::live::LiveError),
    /// The answer has been given, and this exit code goes with it.
    #[error("the answer has been given")]
    Told(i32),
    /// What `doctor` found; each finding has been told.
    #[error("{words}")]
    Unwell {
        /// How many there are, in words.
        words: String,
        /// The exit code for the worst of them.
        code: i32,
    },
    /// A value that could not be written as JSON.
    #[error("cannot write the answer as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl From<VerbError> for Error {
    fn from(error: VerbError) -> Self {
        Self::Verb(error.into())
    }
}

impl Error {
    /// The process's exit code: 2 where the command line is at fault, those of `doctor` and `explain` for what they found, else 1.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => 2,
            Self::Told(code) | Self::Unwell { code, .. } => *code,
            _ => 1,
        }
    }

    /// No error, the only one, or all of them.
    pub(super) fn of(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// What helps whoever may not.
fn as_root(source: &io::Error) -> &'static str {
    let is_root = nix::unistd::geteuid().is_root();
    if source.kind() == io::ErrorKind::PermissionDenied && !is_root {
        "; run this as root, for instance with sudo"
    } else {
        ""
    }
}

/// That there is no socket says no more than that there is no agent.
fn because(source: &io::Error) -> String {
    if source.kind() == io::ErrorKind::NotFound { String::new() } else { format!(" ({source})") }
}

fn lines(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn taken_back(left: &[Error]) -> String {
    if left.is_empty() {
        return "What had been made was taken back.".to_owned();
    }
    format!("Taking back what had been made failed too:\n{}", lines(left))
}

fn alternatives(known: &[String], suggestion: Option<&str>, broken: &[Error]) -> String {
    let mut text = match (suggestion, known) {
        (Some(name), _) => format!(": did you mean {name:?}? Available: {}", known.join(", ")),
        (None, []) => ", nor any other: put a .conflist there, or set NETCONFPATH".to_owned(),
        (None, _) => format!(": available are {}", known.join(", ")),
    };
    for error in broken {
        text.push_str(&format!("\n{error}"));
    }
    text
}
