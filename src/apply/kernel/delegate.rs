//! Delegation to an IPAM plugin, by the specification's rules: found on `CNI_PATH`, run with our own environment and
//! the whole configuration, its standard error passed on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cni::{CniError, is_no_ipam};
use crate::model::{AttachmentKey, LeaseSource};
use crate::plan::Leases;
use crate::sys::process::{self, Run};

use super::Cause;

/// How long an IPAM plugin may take: DHCP gives up by itself after about a minute.
const LIMIT: Duration = Duration::from_secs(120);

/// One call of an IPAM plugin.
#[derive(Debug, Clone, Copy)]
pub struct Delegation<'a> {
    /// The plugin's type.
    pub plugin: &'a str,
    /// `CNI_PATH`.
    pub path: &'a str,
    /// The configuration, as JSON text.
    pub config: &'a str,
    /// The attachment; `None` for GC and STATUS.
    pub key: Option<&'a AttachmentKey>,
    /// `CNI_NETNS`.
    pub netns: &'a str,
    /// `CNI_ARGS`.
    pub args: &'a str,
}

impl Delegation<'_> {
    /// Runs the plugin with a `CNI_COMMAND` and gives what it printed.
    ///
    /// # Errors
    /// [`Cause::Delegated`] where it is not found, cannot be run, or failed: then with its own error.
    pub fn run(&self, verb: &str) -> Result<Vec<u8>, Cause> {
        let failed =
            |error, reason: String| Cause::Delegated { plugin: self.plugin.to_owned(), error, reason };
        let program = self.program()?;
        let environment = self.environment(verb);
        let outcome = process::run(&Run {
            program: &program,
            arguments: &[],
            environment: Some(&environment),
            input: self.config.as_bytes(),
            limit: LIMIT,
        })
        .map_err(|error| failed(None, error.to_string()))?;
        if outcome.status.success() {
            return Ok(outcome.output);
        }
        Err(match CniError::from_json(&outcome.output) {
            Some(error) => {
                let reason = error.to_string();
                failed(Some(error), reason)
            }
            None => failed(None, format!("it ended with {} and printed no error", outcome.status)),
        })
    }

    /// The plugin's program, the first of its name in the directories of `CNI_PATH`.
    ///
    /// # Errors
    /// [`Cause::Delegated`] where there is none.
    pub fn program(&self) -> Result<PathBuf, Cause> {
        let directories: Vec<PathBuf> =
            self.path.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        process::find(self.plugin, &directories).ok_or_else(|| Cause::Delegated {
            plugin: self.plugin.to_owned(),
            error: None,
            reason: format!(
                "failed to find plugin {:?} in path [{}]",
                self.plugin,
                self.path.replace(':', " ")
            ),
        })
    }

    /// Our own environment with the variables of the protocol set for this call.
    fn environment(&self, verb: &str) -> Vec<(OsString, OsString)> {
        let of_key = |part: fn(&AttachmentKey) -> &String| self.key.map(part).cloned().unwrap_or_default();
        let ours = [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", of_key(|key| &key.container_id)),
            ("CNI_IFNAME", of_key(|key| &key.interface)),
            ("CNI_NETNS", self.netns.to_owned()),
            ("CNI_ARGS", self.args.to_owned()),
            ("CNI_PATH", self.path.to_owned()),
        ];
        process::environment_with(&ours)
    }
}

/// Whether a plugin's program on `CNI_PATH` is this very binary under another name, which then need not be run.
pub fn is_own_program(plugin: &str, path: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let delegation = Delegation { plugin, path, config: "", key: None, netns: "", args: "" };
    let identity = |path: &std::path::Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let found = delegation.program().ok().and_then(|program| identity(&program));
    found.is_some() && found == identity(std::path::Path::new("/proc/self/exe"))
}

/// Tells the plugin that gave the addresses of an attachment that they are free again.
pub(super) fn release(step: &Leases) -> Result<(), Cause> {
    let LeaseSource::Delegated { plugin, config, path, args, netns } = &step.source else { return Ok(()) };
    // An earlier release took itself for one, and wrote it down before it had any address.
    if is_no_ipam(plugin) {
        return Ok(());
    }
    let delegation = Delegation { plugin, path, config, key: Some(&step.owner), netns, args };
    delegation.run("DEL").map(drop)
}
