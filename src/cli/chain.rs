//! The verbs over a whole list of plugins, as a runtime walks it.

use serde_json::Value;

use super::cache::{Cache, Entry};
use super::conflist::{Network, Plugin};
use super::error::Error;
use super::exec::{self, Attachment, SearchPath, Verb};
use super::inject;
use super::version::SpecVersion;

/// A network with what is needed to call its plugins.
pub(super) struct Chain<'a> {
    pub(super) network: &'a Network,
    pub(super) path: &'a SearchPath,
    pub(super) cache: &'a Cache,
}

impl Chain<'_> {
    /// ADD with each plugin in turn, each given the result of the one before; the last result is remembered.
    ///
    /// # Errors
    /// What can be refused before any effect is; after that, everything that was made is taken back.
    pub(super) fn add(&self, attachment: &Attachment) -> Result<Value, Error> {
        self.refuse_second(attachment)?;
        for plugin in &self.network.plugins {
            self.path.find(&plugin.kind)?;
        }
        let mut result = None;
        for plugin in &self.network.plugins {
            match self.add_one(plugin, attachment, result.as_ref()) {
                Ok(next) => result = Some(next),
                Err(error) => return Err(self.take_back(attachment, result.as_ref(), error)),
            }
        }
        let result = result.unwrap_or_default();
        let entry = Entry::new(&self.network.name, &self.network.bytes, attachment, result.clone());
        match self.cache.put(&entry) {
            Ok(()) => Ok(result),
            Err(error) => Err(self.take_back(attachment, Some(&result), error)),
        }
    }

    /// An ADD for an attachment that is there fails, and taking it back would delete what worked.
    fn refuse_second(&self, attachment: &Attachment) -> Result<(), Error> {
        let known = self.cache.all()?.unwrap_or_default();
        let same =
            |e: &&Entry| e.container_id == attachment.container_id && e.if_name == attachment.interface;
        match known.entries.iter().find(same) {
            None => Ok(()),
            Some(entry) => Err(Error::Attached {
                network: entry.network_name.clone(),
                container_id: entry.container_id.clone(),
                interface: entry.if_name.clone(),
                netns: attachment.netns.clone(),
                path: self.cache.path(&entry.network_name, &entry.container_id, &entry.if_name),
            }),
        }
    }

    fn add_one(
        &self,
        plugin: &Plugin,
        attachment: &Attachment,
        before: Option<&Value>,
    ) -> Result<Value, Error> {
        let said = self.call(plugin, Verb::Add, attachment, before)?;
        let parsed = serde_json::from_slice::<serde_json::Map<String, Value>>(&said);
        let mut result =
            parsed.map_err(|source| Error::Answer { kind: plugin.kind.clone(), verb: Verb::Add, source })?;
        // A result without a version has that of the configuration.
        if result.get("cniVersion").and_then(Value::as_str).is_none_or(str::is_empty) {
            result.insert("cniVersion".to_owned(), self.network.version.to_string().into());
        }
        Ok(Value::Object(result))
    }

    /// DEL of the whole list, as runtimes do after a failed ADD, with the last result there was: a plugin that works
    /// from `prevResult` cleans up nothing without it.
    fn take_back(&self, attachment: &Attachment, result: Option<&Value>, error: Error) -> Error {
        let left = self.del_plugins(attachment, result);
        if result.is_none() && left.is_empty() {
            // The first plugin takes back itself what it made; there is nothing else to tell of.
            return error;
        }
        Error::RolledBack { source: Box::new(error), left }
    }

    /// CHECK with each plugin in turn, each given the remembered result.
    ///
    /// # Errors
    /// The first failure; the version has no CHECK; nothing is attached.
    pub(super) fn check(&self, attachment: &Attachment) -> Result<(), Error> {
        self.require(Verb::Check, SpecVersion::CHECK, "0.4.0")?;
        let name = &self.network.name;
        let path = self.cache.path(name, &attachment.container_id, &attachment.interface);
        let Some(entry) = self.cache.get(name, attachment)? else {
            return Err(Error::NotAttached { network: name.clone(), netns: attachment.netns.clone(), path });
        };
        let result = entry.result.unwrap_or_default();
        let Some(result) = inject::as_version(&result, self.network.version) else {
            let found = result.get("cniVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
            return Err(Error::OldResult { path, found, wanted: self.network.version.to_string() });
        };
        for plugin in &self.network.plugins {
            self.call(plugin, Verb::Check, attachment, Some(&result))?;
        }
        Ok(())
    }

    /// DEL with each plugin, the last first, then the attachment is forgotten. Goes on after a failure, so that as
    /// much as can be is cleaned up; the attachment is then still remembered, and DEL can be tried again.
    ///
    /// # Errors
    /// All failures together.
    pub(super) fn del(&self, attachment: &Attachment, known: Option<&Entry>) -> Result<(), Error> {
        let result = known.and_then(|entry| entry.result.as_ref());
        Error::of(self.del_plugins(attachment, result))?;
        self.cache.remove(&self.network.name, attachment)
    }

    fn del_plugins(&self, attachment: &Attachment, result: Option<&Value>) -> Vec<Error> {
        let result = result
            .filter(|_| self.network.version >= SpecVersion::CHECK)
            .and_then(|result| inject::as_version(result, self.network.version));
        let backwards = self.network.plugins.iter().rev();
        backwards
            .filter_map(|plugin| self.call(plugin, Verb::Del, attachment, result.as_ref()).err())
            .collect()
    }

    fn call(
        &self,
        plugin: &Plugin,
        verb: Verb,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<Vec<u8>, Error> {
        let configuration = inject::with_result(self.network, plugin, attachment, result);
        exec::call(self.path, &plugin.kind, verb, Some(attachment), &configuration)
    }

    /// Refuses a verb that the network's version does not have.
    pub(super) fn require(&self, verb: Verb, first: SpecVersion, needed: &'static str) -> Result<(), Error> {
        if self.network.version >= first {
            return Ok(());
        }
        Err(Error::Version {
            network: self.network.name.clone(),
            version: self.network.version.to_string(),
            verb,
            needed,
            path: self.network.path.clone(),
        })
    }
}
