//! What is known of attachments between calls, in libcni's format, so that this command and every runtime built on
//! libcni see the same: `RESULTS/NETWORK-ID-IFNAME`, kind `cniCacheV1` (`libcni/api.go`, `cachedInfo`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::error::Error;
use super::exec::Attachment;

/// The directory of libcni (`CacheDir`).
pub(super) const DEFAULT_DIRECTORY: &str = "/var/lib/cni";

/// The one kind of entry that libcni writes.
const KIND: &str = "cniCacheV1";

/// One attachment as libcni remembers it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Entry {
    kind: String,
    pub(super) container_id: String,
    /// The list that the attachment was made from.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub(super) config: Vec<u8>,
    pub(super) if_name: String,
    pub(super) network_name: String,
    /// Absent in what libcni before 1.2 wrote.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) netns: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cni_args: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) capability_args: Map<String, Value>,
    /// The result of the last plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
}

impl Entry {
    /// An attachment that has just been made.
    pub(super) fn new(network: &str, config: &[u8], attachment: &Attachment, result: Value) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: config.to_vec(),
            if_name: attachment.interface.clone(),
            network_name: network.to_owned(),
            netns: attachment.netns.clone(),
            cni_args: attachment.args.clone(),
            capability_args: attachment.capabilities.clone(),
            result: Some(result),
        }
    }

    /// What DEL is to be called with.
    pub(super) fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            netns: self.netns.clone(),
            interface: self.if_name.clone(),
            args: self.cni_args.clone(),
            capabilities: self.capability_args.clone(),
        }
    }
}

/// The cache's directory.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache below `root`, which need not exist.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where an attachment is remembered.
    pub(super) fn path(&self, network: &str, container_id: &str, interface: &str) -> PathBuf {
        self.results().join(format!("{network}-{container_id}-{interface}"))
    }

    fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// What is remembered of an attachment; of the time before `cniCacheV1` only its result.
    pub(super) fn get(&self, network: &str, attachment: &Attachment) -> Result<Option<Entry>, Error> {
        let path = self.path(network, &attachment.container_id, &attachment.interface);
        let Some(value) = read(&path)? else { return Ok(None) };
        if value.get("kind").and_then(Value::as_str) == Some(KIND) {
            return entry(value, &path).map(Some);
        }
        let whole = Entry::new(network, &[], attachment, value);
        Ok(Some(whole))
    }

    /// Remembers an attachment: the file is there whole or not at all.
    pub(super) fn put(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.path(&entry.network_name, &entry.container_id, &entry.if_name);
        let failed = |source| Error::File { action: "write", path: path.clone(), source };
        let bytes = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.results()).map_err(failed)?;
        // Beside the directory and not in it: libcni takes every file in it for an attachment.
        let draft = self.root.join(format!(".linkspan-result-{}", std::process::id()));
        let written = write(&draft, &bytes).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| {
            // Its absence is as good.
            let _ = fs::remove_file(&draft);
            failed(error)
        })
    }

    /// Forgets an attachment; one that is not known is forgotten already.
    pub(super) fn remove(&self, network: &str, attachment: &Attachment) -> Result<(), Error> {
        let path = self.path(network, &attachment.container_id, &attachment.interface);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// All attachments of all networks by file name, with the files that are none; `None` where nothing was ever
    /// remembered.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn all(&self) -> Result<Option<Known>, Error> {
        let failed = |source| Error::File { action: "read", path: self.results(), source };
        let files = match fs::read_dir(self.results()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut paths =
            files.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        paths.sort();
        let mut known = Known::default();
        for path in paths {
            match read(&path).and_then(|value| value.map(|value| entry(value, &path)).transpose()) {
                Ok(found) => known.entries.extend(found),
                Err(error) => known.unreadable.push((path, error)),
            }
        }
        Ok(Some(known))
    }
}

/// What the cache holds.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) entries: Vec<Entry>,
    pub(super) unreadable: Vec<(PathBuf, Error)>,
}

fn read(path: &Path) -> Result<Option<Value>, Error> {
    let bytes = match fs::read(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { action: "read", path: path.to_owned(), source }),
        Ok(bytes) => bytes,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn entry(value: Value, path: &Path) -> Result<Entry, Error> {
    let entry: Entry =
        serde_json::from_value(value).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    if entry.kind == KIND && !entry.if_name.is_empty() && !entry.network_name.is_empty() {
        return Ok(entry);
    }
    let reason = format!("it is no cache entry of kind {KIND} with a network and an interface");
    Err(Error::Configuration { path: path.to_owned(), reason })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

/// Go writes no bytes at all as `null`.
fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
