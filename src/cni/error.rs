//! What can be wrong with what a runtime hands over, and the error document that it gets back.

use std::fmt;

use serde_json::{Map, Value, json};

use super::environment::Command;
use super::render::indented;
use super::version::Version;

/// The error codes of linkspan: those of the specification up to 99, its own from 100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// `cniVersion` is not spoken, or too old for the command.
    IncompatibleVersion = 1,
    /// A key is known, but cannot be honoured.
    UnsupportedField = 2,
    /// The container is not known, and nothing is left to clean.
    UnknownContainer = 3,
    /// The environment variables.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The input is not JSON, or not an object.
    Decoding = 6,
    /// A key has a wrong value.
    InvalidConfig = 7,
    /// The network namespace cannot be used.
    UnusableNamespace = 8,
    /// A passing condition; the same call may succeed later.
    TryAgainLater = 11,
    /// STATUS: an ADD would fail.
    NotAvailable = 50,
    /// STATUS: an ADD would fail, and running containers have lost connectivity.
    LimitedConnectivity = 51,
    /// No address is left.
    PoolExhausted = 100,
    /// The interface exists already.
    InterfaceExists = 101,
    /// The host port is taken.
    PortTaken = 102,
    /// The attachment exists already.
    DuplicateAttachment = 103,
    /// The bridge has no port left.
    BridgeFull = 104,
    /// The kernel refused a change of links, addresses or routes.
    Netlink = 110,
    /// The firewall could not be changed.
    Firewall = 111,
    /// A delegated plugin failed.
    Delegate = 112,
    /// CHECK found drift.
    Drift = 120,
    /// A mistake of linkspan's own.
    Internal = 999,
}

impl Code {
    /// The number in the error document.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// The error document of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details} (code {code})")]
pub struct CniError {
    /// The code; see [`Code`]. Those of delegated plugins may be any.
    pub code: u32,
    /// What failed, in a few words.
    pub msg: String,
    /// What exactly, why, and what to do next.
    pub details: String,
}

impl CniError {
    /// An error of linkspan's own.
    pub fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code: code.number(), msg: msg.into(), details: details.into() }
    }

    /// The document for standard output. `version` is the configuration's `cniVersion` where that was readable
    /// (see [`super::version_of_error`]), else the newest is named.
    pub fn to_json(&self, version: Option<&str>) -> String {
        let mut document = Map::new();
        document.insert("cniVersion".into(), version.unwrap_or(Version::LATEST.as_str()).into());
        document.insert("code".into(), self.code.into());
        document.insert("msg".into(), self.msg.as_str().into());
        if !self.details.is_empty() {
            document.insert("details".into(), self.details.as_str().into());
        }
        indented(&Value::Object(document))
    }

    /// The error document that another plugin printed; `None` where the text is not one.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = u32::try_from(document.get("code")?.as_u64()?).ok()?;
        Some(Self { code, msg: text("msg"), details: text("details") })
    }
}

/// One environment variable that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableProblem {
    /// The variable's name.
    pub name: &'static str,
    /// What it holds; `None` where it is missing or empty.
    pub value: Option<String>,
    /// What it must be.
    pub expected: String,
}

impl fmt::Display for VariableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => write!(f, "{} is missing: {}", self.name, self.expected),
            Some(value) => write!(f, "{} is {}: {}", self.name, excerpt(&json!(value)), self.expected),
        }
    }
}

/// What is wrong with the input of a call, or with a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Environment variables: all that are wrong.
    #[error("{}", sentences(problems))]
    Environment {
        /// Each variable that is missing or malformed.
        problems: Vec<VariableProblem>,
    },
    /// The input exceeds [`super::MAX_INPUT`].
    #[error("the {document} is longer than {limit} bytes")]
    TooLong {
        /// What was read.
        document: String,
        /// Its limit in bytes.
        limit: usize,
    },
    /// The input holds nothing but white space.
    #[error("the {document} is empty")]
    Empty {
        /// What was read.
        document: String,
    },
    /// The input is not JSON.
    #[error("the {document} {} at line {}, column {}", if source.is_eof() { "is cut off" } else { "is not JSON" },
            source.line(), source.column())]
    Json {
        /// What was read.
        document: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The input is JSON, but no object.
    #[error("the {document} is {found}, not a JSON object (line 1, column 1)")]
    NotAnObject {
        /// What was read.
        document: String,
        /// What it is instead.
        found: &'static str,
    },
    /// A version that linkspan does not speak.
    #[error("cniVersion {found:?} is not supported; linkspan speaks {}", Version::list())]
    Version {
        /// The version as written.
        found: String,
    },
    /// A version that the face does not speak, though others do.
    #[error("cniVersion {found} is not supported by this plugin, which speaks {since} and newer")]
    VersionForFace {
        /// The configuration's version.
        found: Version,
        /// The oldest that is spoken.
        since: Version,
    },
    /// A version in which the command does not exist.
    #[error("{command} needs cniVersion {} or newer, not {found}", command.since())]
    VersionForCommand {
        /// The command.
        command: Command,
        /// The configuration's version.
        found: Version,
    },
    /// A key that is known and well-formed, but cannot be honoured.
    #[error("{key} = {value} cannot be honoured: {reason}")]
    Unsupported {
        /// Path of the key.
        key: String,
        /// Its value, shortened.
        value: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// A key with a wrong value.
    #[error("{key} = {value}: {reason}")]
    Invalid {
        /// Path of the key.
        key: String,
        /// Its value, shortened.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A key with a value of a wrong JSON type.
    #[error("{key} = {value}: {expected}")]
    WrongType {
        /// Path of the key.
        key: String,
        /// Its value, shortened.
        value: String,
        /// The value's type, as JSON (and Go's decoder) names it.
        found: &'static str,
        /// What would be right.
        expected: String,
    },
    /// A key that must be there.
    #[error("{key} is missing: {reason}")]
    Missing {
        /// Path of the key.
        key: String,
        /// What it must be.
        reason: String,
    },
    /// Keys, each well-formed, that contradict each other.
    #[error("{keys} contradict each other: {reason}")]
    Conflict {
        /// The keys with their values.
        keys: String,
        /// Why, and which to change.
        reason: String,
    },
    /// A result without an address cannot be said in this version.
    #[error("a result of cniVersion {version} cannot do without an address; use 0.3.0 or newer")]
    NoAddress {
        /// The version.
        version: Version,
    },
    /// What a delegated plugin printed is not a result.
    #[error("the plugin '{plugin}' printed no usable result")]
    Delegate {
        /// The plugin's type.
        plugin: String,
        /// What is wrong with it.
        #[source]
        source: Box<Error>,
    },
}

impl Error {
    /// A wrong value; `key` is its whole path.
    pub fn invalid(key: impl Into<String>, value: &Value, reason: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), value: excerpt(value), reason: reason.into() }
    }

    /// A value of a wrong type; `key` is its whole path.
    pub fn wrong_type(key: impl Into<String>, value: &Value, expected: impl Into<String>) -> Self {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Self::WrongType { key: key.into(), value: excerpt(value), found, expected: expected.into() }
    }

    /// The code that a runtime sees.
    pub fn code(&self) -> Code {
        match self {
            Self::Environment { .. } => Code::InvalidEnvironment,
            Self::TooLong { .. } | Self::Empty { .. } | Self::Json { .. } | Self::NotAnObject { .. } => {
                Code::Decoding
            }
            Self::Version { .. } | Self::VersionForFace { .. } | Self::VersionForCommand { .. } => {
                Code::IncompatibleVersion
            }
            Self::Unsupported { .. } => Code::UnsupportedField,
            Self::Invalid { .. }
            | Self::WrongType { .. }
            | Self::Missing { .. }
            | Self::Conflict { .. }
            | Self::NoAddress { .. } => Code::InvalidConfig,
            Self::Delegate { .. } => Code::Delegate,
        }
    }

    fn summary(&self) -> String {
        match self {
            Self::Environment { problems } => {
                let names: Vec<&str> = problems.iter().map(|problem| problem.name).collect();
                format!("environment not usable: {}", names.join(", "))
            }
            Self::TooLong { document, .. }
            | Self::Empty { document }
            | Self::Json { document, .. }
            | Self::NotAnObject { document, .. } => format!("cannot decode the {document}"),
            Self::Version { .. } | Self::VersionForFace { .. } | Self::VersionForCommand { .. } => {
                "incompatible cniVersion".to_owned()
            }
            Self::Unsupported { key, .. } => format!("unsupported field {key}"),
            Self::Invalid { key, .. } | Self::WrongType { key, .. } => {
                format!("invalid configuration: {key}")
            }
            Self::Missing { key, .. } => format!("invalid configuration: {key} is missing"),
            Self::Conflict { keys, .. } => format!("invalid configuration: {keys}"),
            Self::NoAddress { .. } => "the result has no address".to_owned(),
            Self::Delegate { plugin, .. } => format!("plugin '{plugin}' failed"),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Environment { .. } => "; the container runtime sets these variables",
            Self::Json { .. } | Self::Empty { .. } | Self::NotAnObject { .. } => {
                "; pass one complete network configuration on standard input"
            }
            _ => "",
        }
    }
}

/// Shows an error's sources behind it, each after a colon.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<&Error> for CniError {
    fn from(error: &Error) -> Self {
        Self::new(error.code(), error.summary(), format!("{}{}", chain(error), error.advice()))
    }
}

impl From<Error> for CniError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// A value as compact JSON, cut where it is long.
pub(super) fn excerpt(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn sentences(problems: &[VariableProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_document_always_has_a_version() {
        let error = CniError::new(Code::PortTaken, "port taken", "tcp 0.0.0.0:80");
        let text = error.to_json(None);
        assert_eq!(
            text,
            "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": 102,\n    \"msg\": \"port taken\",\n    \
             \"details\": \"tcp 0.0.0.0:80\"\n}"
        );
        assert!(error.to_json(Some("0.4.0")).contains("\"cniVersion\": \"0.4.0\""));
        assert_eq!(CniError::from_json(text.as_bytes()), Some(error));
        assert_eq!(CniError::from_json(b"{}"), None);
        assert_eq!(CniError::from_json(b"no"), None);
    }

    #[test]
    fn the_cause_is_in_the_details() {
        let source = serde_json::from_str::<Value>("{\"a\"").unwrap_err();
        let inner = Error::Json { document: "output".into(), source };
        let error = CniError::from(Error::Delegate { plugin: "dhcp".into(), source: Box::new(inner) });
        assert_eq!(error.code, 112);
        assert!(error.details.contains("the output is cut off at line 1, column 4"), "{}", error.details);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let text = excerpt(&json!("é".repeat(500)));
        assert!(text.len() < 260 && text.ends_with("..."), "{text}");
    }
}
