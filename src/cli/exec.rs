//! Finding plugins and running them.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::Error;
use super::words;
use crate::plugins::BY_HAND;
use crate::sys::process::{self, Run};

/// Where plugins are when `CNI_PATH` is not set.
const DEFAULT_DIRECTORY: &str = "/opt/cni/bin";

/// How long a plugin may take: one that asks a DHCP server waits up to a minute for its lease.
const LIMIT: Duration = Duration::from_secs(180);

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Verify.
    Check,
    /// Detach.
    Del,
    /// Delete what no valid attachment owns.
    Gc,
    /// Say whether ADD would work.
    Status,
}

/// As `CNI_COMMAND` spells it.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        })
    }
}

/// What a plugin says when it fails: the specification's error object. Every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Error code.
    pub code: u64,
    /// What failed.
    pub msg: String,
    /// More about it.
    pub details: String,
}

/// `msg: details (code N)`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let msg = if self.msg.is_empty() { "it gave no reason" } else { self.msg.trim_end() };
        f.write_str(&words::told(msg, self.details.trim_end()))?;
        if self.code == 0 { Ok(()) } else { write!(f, " (code {})", self.code) }
    }
}

/// The container's side of a call: what a runtime knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attachment {
    pub(super) container_id: String,
    pub(super) netns: String,
    pub(super) interface: String,
    pub(super) args: Vec<(String, String)>,
    /// Values of capabilities (`CAP_ARGS`).
    pub(super) capabilities: Map<String, Value>,
}

/// The directories that plugins are looked for in.
#[derive(Debug, Clone)]
pub(super) struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// `CNI_PATH` or its default, then the directory of the running binary, so that it works before it is installed.
    pub(super) fn new(cni_path: Option<OsString>, own: Option<PathBuf>) -> Self {
        let cni_path = cni_path.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_DIRECTORY.into());
        let mut directories: Vec<PathBuf> =
            std::env::split_paths(&cni_path).filter(|path| !path.as_os_str().is_empty()).collect();
        directories.extend(own.filter(|own| !directories.contains(own)));
        Self(directories)
    }

    /// The directories of `CNI_PATH` or its default alone: where runtimes look.
    pub(super) fn of_runtimes(cni_path: Option<OsString>) -> Vec<PathBuf> {
        Self::new(cni_path, None).0
    }

    /// The program of a plugin's `type`.
    pub(super) fn find(&self, kind: &str) -> Result<PathBuf, Error> {
        process::find(kind, &self.0)
            .ok_or_else(|| Error::PluginNotFound { kind: kind.to_owned(), searched: self.joined(", ") })
    }

    pub(super) fn joined(&self, separator: &str) -> String {
        self.0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(separator)
    }
}

/// Runs one plugin and gives back what it printed.
///
/// All six variables of the protocol are set, empty where a verb has no use for them, so that none of this
/// process's own reaches the plugin.
pub(super) fn call(
    path: &SearchPath,
    kind: &str,
    verb: Verb,
    attachment: Option<&Attachment>,
    configuration: &Value,
) -> Result<Vec<u8>, Error> {
    let program = path.find(kind)?;
    let of = |field: fn(&Attachment) -> String| attachment.map(field).unwrap_or_default();
    let environment = [
        ("CNI_COMMAND", verb.to_string()),
        ("CNI_CONTAINERID", of(|a| a.container_id.clone())),
        ("CNI_NETNS", of(|a| a.netns.clone())),
        ("CNI_IFNAME", of(|a| a.interface.clone())),
        ("CNI_ARGS", of(|a| pairs(&a.args))),
        ("CNI_PATH", path.joined(":")),
        (BY_HAND, "1".to_owned()),
    ];
    let environment = process::environment_with(&environment);
    let outcome = process::run(&Run {
        program: &program,
        arguments: &[],
        environment: Some(&environment),
        input: configuration.to_string().as_bytes(),
        limit: LIMIT,
    })
    .map_err(|source| Error::Run { kind: kind.to_owned(), source })?;
    if outcome.status.success() {
        return Ok(outcome.output);
    }
    let refusal = refusal(&outcome.output, &outcome.status.to_string());
    Err(Error::Plugin { kind: kind.to_owned(), verb, refusal })
}

fn pairs(args: &[(String, String)]) -> String {
    args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}

fn refusal(stdout: &[u8], status: &str) -> Refusal {
    let said = String::from_utf8_lossy(stdout);
    let details = match (serde_json::from_slice::<Refusal>(stdout), said.trim()) {
        (Ok(refusal), _) => return refusal,
        (Err(_), "") => "what it logged is above".to_owned(),
        (Err(_), text) => format!("its answer is no JSON error: {text}"),
    };
    Refusal { code: 0, msg: format!("it ended with {status} and gave no reason"), details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let said = |stdout: &str| refusal(stdout.as_bytes(), "exit status: 1").to_string();
        assert_eq!(said(r#"{"code":7,"msg":"bad","details":"worse"}"#), "bad: worse (code 7)");
        assert_eq!(
            said(r#"{"code":7,"msg":"bad","details":"a link: bad; try"}"#),
            "a link: bad; try (code 7)"
        );
        assert_eq!(said(r#"{"cniVersion":"1.1.0","code":11,"msg":"later"}"#), "later (code 11)");
        assert_eq!(said("{}"), "it gave no reason");
        assert!(said("").contains("exit status: 1"));
        assert!(said("panic: x").contains("panic: x"));
    }

    #[test]
    fn the_own_directory_comes_last_and_once() {
        let path = SearchPath::new(Some("/a::/b".into()), Some("/own".into()));
        assert_eq!(path.joined(":"), "/a:/b:/own");
        assert_eq!(SearchPath::new(Some("/own:/b".into()), Some("/own".into())).joined(":"), "/own:/b");
        assert_eq!(SearchPath::new(Some("".into()), None).joined(":"), DEFAULT_DIRECTORY);
    }
}
