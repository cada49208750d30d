//! GC and STATUS: the verbs of a network without a container.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::cache::{Entry, Known};
use super::chain::Chain;
use super::conflist::Plugin;
use super::error::Error;
use super::exec::{self, Verb};
use super::inject;
use super::version::SpecVersion;
use crate::doctor;
use crate::model::AttachmentKey;
use crate::plugins::Face;

impl Chain<'_> {
    /// GC: deletes the remembered attachments whose namespace is gone, then tells each plugin which are left.
    ///
    /// With `dry_run` it only says so. Gives those that are alive; nothing where nobody was asked. An attachment counts as
    /// alive where its namespace exists or is not known. Of a list whose version has no GC those plugins are asked that
    /// are linkspan, and `recorded` are alive too: what linkspan knows to be.
    ///
    /// # Errors
    /// All failures together; nothing is done where a file of the cache may be an attachment that cannot be read.
    pub(super) fn gc(
        &self,
        dry_run: bool,
        recorded: impl FnOnce() -> Result<Vec<AttachmentKey>, Error>,
        out: &mut dyn Write,
    ) -> Result<Option<Vec<AttachmentKey>>, Error> {
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
        let mut alive: Vec<AttachmentKey> =
            alive.iter().map(|entry| AttachmentKey::new(&entry.container_id, &entry.if_name)).collect();
        let has_gc = self.network.version >= SpecVersion::GC;
        let (asked, unasked): (Vec<&Plugin>, Vec<&Plugin>) =
            self.network.plugins.iter().partition(|plugin| has_gc || self.is_ours(plugin));
        if !unasked.is_empty() {
            let kinds = unasked.iter().map(|plugin| plugin.kind.as_str()).collect::<Vec<_>>().join(", ");
            let version = self.network.version;
            writeln!(out, "{name}: not asked: {kinds}; cniVersion {version} has no GC, 1.1.0 does")?;
        }
        if asked.is_empty() {
            return Error::of(errors).map(|()| None);
        }
        if !has_gc {
            alive.extend(recorded()?);
            alive.sort_unstable();
            alive.dedup();
        }
        if dry_run {
            writeln!(out, "{name}: would have its plugins delete all but the {} kept", alive.len())?;
        } else {
            errors.extend(self.gc_plugins(&asked, &alive, out)?);
        }
        Error::of(errors)?;
        Ok(Some(alive))
    }

    /// Whether a plugin is linkspan, of whatever version, and so is what gives it addresses, if anybody does.
    fn is_ours(&self, plugin: &Plugin) -> bool {
        let is_own = |kind: &str| {
            self.path.find(kind).is_ok_and(|program| doctor::is_linkspan(&program).unwrap_or_default())
        };
        let ipam = plugin.raw.get("ipam").and_then(|ipam| ipam["type"].as_str()).unwrap_or_default();
        // By its own name it is these two itself, whatever there is on the path.
        let has_it =
            Face::of_kind(&plugin.kind) == Some(Face::Linkspan) && matches!(ipam, "host-local" | "static");
        is_own(&plugin.kind) && (ipam.is_empty() || has_it || is_own(ipam))
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

    fn gc_plugins(
        &self,
        plugins: &[&Plugin],
        alive: &[AttachmentKey],
        out: &mut dyn Write,
    ) -> Result<Vec<Error>, Error> {
        let valid: Vec<Value> = alive
            .iter()
            .map(|key| json!({ "containerID": key.container_id, "ifname": key.interface }))
            .collect();
        let mut errors = Vec::new();
        for plugin in plugins {
            let mut configuration = inject::configuration(self.network, plugin, None);
            if self.network.version < SpecVersion::GC {
                configuration.insert("cniVersion".to_owned(), json!(SpecVersion::GC.to_string()));
            }
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

/// A namespace that cannot be looked at, or is not known, may be alive.
fn is_alive(entry: &Entry) -> bool {
    entry.netns.is_empty() || Path::new(&entry.netns).try_exists().unwrap_or(true)
}

fn described(entry: &Entry) -> String {
    let netns = if entry.netns.is_empty() { "of unknown namespace" } else { &entry.netns };
    format!("{} of container {} ({netns})", entry.if_name, entry.container_id)
}
