//! GC and STATUS: the verbs of a network without a container.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::cache::{Entry, Known};
use super::chain::Chain;
use super::conflist::Network;
use super::error::Error;
use super::exec::{self, Verb};
use super::inject;
use super::version::SpecVersion;
use crate::model::AttachmentKey;

impl Chain<'_> {
    /// GC: deletes the remembered attachments whose namespace is gone, then tells each plugin which are left.
    ///
    /// With `dry_run` it only says so. Gives those that are alive; nothing where nobody was asked. An attachment counts as alive where its namespace exists or is not known.
    ///
    /// # Errors
    /// All failures together; nothing is done where a file of the cache may be an attachment that cannot be read.
    pub(super) fn gc(&self, dry_run: bool, out: &mut dyn Write) -> Result<Option<Vec<AttachmentKey>>, Error> {
        let name = &self.network.name;
        if self.network.disable_gc {
            writeln!(out, "{name}: disableGC is set in {}: nothing was done", self.network.path.display())?;
            return Ok(None);
        }
        let Some(known) = self.cache.all()? else {
            writeln!(out, "{name}: no attachment was ever recorded: nothing was done")?;
            return Ok(None);
        };
        let entries = self.own(known)?;
        let (alive, stale): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(is_alive);
        let mut errors = Vec::new();
        for entry in &stale {
            if dry_run {
                writeln!(out, "{name}: would delete {}", described(entry))?;
                continue;
            }
            match self.del(&entry.attachment(), Some(entry)) {
                Ok(()) => writeln!(out, "{name}: deleted {}", described(entry))?,
                Err(error) => errors.push(error),
            }
        }
        for entry in &alive {
            writeln!(out, "{name}: kept {}", described(entry))?;
        }
        if self.network.version < SpecVersion::GC {
            let version = self.network.version;
            writeln!(out, "{name}: its plugins were not asked: cniVersion {version} has no GC, 1.1.0 does")?;
        } else if dry_run {
            writeln!(out, "{name}: would have its plugins delete all but the {} kept", alive.len())?;
        } else {
            errors.extend(self.gc_plugins(&alive, out)?);
        }
        Error::of(errors)?;
        Ok(Some(alive.iter().map(|entry| AttachmentKey::new(&entry.container_id, &entry.if_name)).collect()))
    }

    /// The entries of this network. A file that may be one and cannot be read stops everything: its container would
    /// lose its network.
    fn own(&self, known: Known) -> Result<Vec<Entry>, Error> {
        let name = &self.network.name;
        let prefix = format!("{name}-");
        for (path, source) in known.unreadable {
            if path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix)) {
                return Err(Error::UnknownAttachment {
                    network: name.clone(),
                    path,
                    source: Box::new(source),
                });
            }
        }
        Ok(known.entries.into_iter().filter(|entry| entry.network_name == *name).collect())
    }

    fn gc_plugins(&self, alive: &[Entry], out: &mut dyn Write) -> Result<Vec<Error>, Error> {
        let valid: Vec<Value> =
            alive.iter().map(|e| json!({ "containerID": e.container_id, "ifname": e.if_name })).collect();
        let mut errors = Vec::new();
        for plugin in &self.network.plugins {
            let mut configuration = inject::configuration(self.network, plugin, None);
            // The second key is the name that the specification first had (containernetworking/cni issue 1101).
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                configuration.insert(key.to_owned(), Value::Array(valid.clone()));
            }
            match exec::call(self.path, &plugin.kind, Verb::Gc, None, &Value::Object(configuration)) {
                Ok(_) => writeln!(out, "{}: {} cleaned up", self.network.name, plugin.kind)?,
                Err(error) => errors.push(error),
            }
        }
        Ok(errors)
    }

    /// STATUS: asks each plugin and prints a line for each.
    ///
    /// # Errors
    /// How many cannot take containers.
    pub(super) fn status(&self, out: &mut dyn Write) -> Result<(), Error> {
        let name = &self.network.name;
        if self.network.version < SpecVersion::GC {
            let version = self.network.version;
            writeln!(out, "{name}: nobody was asked: cniVersion {version} has no STATUS, 1.1.0 does")?;
            return Ok(());
        }
        let mut unready = 0;
        for plugin in &self.network.plugins {
            let configuration = Value::Object(inject::configuration(self.network, plugin, None));
            match exec::call(self.path, &plugin.kind, Verb::Status, None, &configuration) {
                Ok(_) => writeln!(out, "{}: ready", plugin.kind)?,
                Err(Error::Plugin { refusal, .. }) => {
                    unready += 1;
                    writeln!(out, "{}: not ready: {refusal}", plugin.kind)?;
                }
                Err(error) => {
                    unready += 1;
                    writeln!(out, "{}: not ready: {error}", plugin.kind)?;
                }
            }
        }
        if unready == 0 {
            return Ok(());
        }
        Err(Error::NotReady { network: name.clone(), unready, asked: self.network.plugins.len() })
    }
}

/// Whether the network's version has GC, so that its plugins are asked.
pub(super) fn has_gc(network: &Network) -> bool {
    network.version >= SpecVersion::GC
}

/// A namespace that cannot be looked at, or is not known, may be alive.
fn is_alive(entry: &Entry) -> bool {
    entry.netns.is_empty() || Path::new(&entry.netns).try_exists().unwrap_or(true)
}

fn described(entry: &Entry) -> String {
    let netns = if entry.netns.is_empty() { "of unknown namespace" } else { &entry.netns };
    format!("{} of container {} ({netns})", entry.if_name, entry.container_id)
}
