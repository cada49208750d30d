//! Records of attachments, as values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;
use crate::model::{AttachmentKey, Naming};

/// The version of the record that this program writes.
pub const RECORD_VERSION: u32 = 1;

/// What is known of an attachment: enough to undo it with nothing else at hand, and to answer CHECK.
///
/// `P` is the plan, which its own room defines; callers that do not need it read it as plain JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<P = Value> {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u32,
    /// The attachment.
    pub key: AttachmentKey,
    /// Its network's name.
    pub network: String,
    /// When its ADD began, in seconds since 1970.
    pub created: u64,
    /// The same in microseconds, where the ADD says so.
    #[serde(default)]
    pub begun: u64,
    /// What the container is called, where its network has a name service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming: Option<Naming>,
    /// What the runtime said of the container: the pairs of `CNI_ARGS` that name it (`K8S_POD_NAME`), and the labels in
    /// `args.cni.labels`. Nothing follows from them but what is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The steps of its plan.
    pub plan: P,
}

/// Where an attachment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its ADD has begun; `alive` says whether that still runs. Where not, the attachment is to be undone.
    Pending {
        /// Whether the writer still holds the record.
        alive: bool,
    },
    /// Its ADD is complete.
    Ready,
    /// Its DEL has begun.
    Doomed,
}

/// An attachment's record and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<P = Value> {
    /// Where it stands.
    pub stage: Stage,
    /// Its record.
    pub record: Record<P>,
}

/// What came of [`super::State::doom`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// The record is in `doomed` now, or was already.
    Doomed,
    /// Its ADD is still running: wait for it, or fail.
    Alive,
    /// There is no record.
    Unknown,
}

/// A record that does not read as one: torn by something else than linkspan, or written by a later version.
#[derive(Debug)]
pub struct Broken {
    /// The attachment that the file's name tells.
    pub key: Option<AttachmentKey>,
    /// Where the file lies.
    pub stage: Stage,
    /// The file.
    pub path: PathBuf,
    /// What is wrong: [`StoreError::Broken`] or [`StoreError::Io`].
    pub error: StoreError,
}

/// Records, and those that cannot be read, which never hide the others.
#[derive(Debug)]
pub struct Listed<P = Value> {
    /// Those that can be read.
    pub found: Vec<Found<P>>,
    /// Those that cannot.
    pub broken: Vec<Broken>,
}

impl<P> Record<P> {
    /// The record of an attachment whose ADD began at a time, of which nothing is told but its plan.
    pub fn new(key: &AttachmentKey, network: &str, begun: SystemTime, plan: P) -> Self {
        let since = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: RECORD_VERSION,
            key: key.clone(),
            network: network.to_owned(),
            created: since.as_secs(),
            begun: u64::try_from(since.as_micros()).unwrap_or_default(),
            naming: None,
            labels: BTreeMap::new(),
            plan,
        }
    }
}

impl<P> Default for Listed<P> {
    fn default() -> Self {
        Self { found: Vec::new(), broken: Vec::new() }
    }
}

impl<P> Listed<P> {
    /// Takes up others.
    pub(super) fn extend(&mut self, others: Self) {
        self.found.extend(others.found);
        self.broken.extend(others.broken);
    }
}

impl Stage {
    /// The directory of this stage.
    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Ready => "ready",
            Self::Doomed => "doomed",
        }
    }
}
