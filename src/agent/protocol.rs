//! What is said on `agent.sock`: one JSON object a line, each answered by one line, in order.
//!
//! ```text
//! {"op":"attach","key":"ID:IF"}   the record is in ready/: serve it     {"ok":true,"degraded":[...]}
//! {"op":"detach","key":"ID:IF"}   the record has left ready/            {"ok":true}
//! {"op":"status"}                                                       {"ok":true,"status":{...}}
//! {"op":"events"}                                                       {"ok":true}, then {"event":...} a line
//! anything else                                                         {"ok":false,"error":"..."}
//! ```
//!
//! `outdated` says that the agent, started by an ADD, runs a program whose file was replaced: whoever asked starts
//! another one in its place.
//!
//! `degraded` lists what does not work, each with `service` and `reason`.
//!
//! Neither `attach` nor `detach` carries anything but the key: the agent reads the record, or finds that there is none.
//! So a message that is lost, late or said twice does no harm, and the agent believes no one but the disk. The answer
//! comes when the change is in effect. Unknown fields are passed over on both sides: a plugin and an agent of different
//! versions understand each other.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest line, in bytes.
pub(super) const LONGEST_LINE: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "op")]
pub(super) enum Request {
    /// An attachment is ready.
    Attach {
        /// `ID:IF`.
        key: String,
    },
    /// An attachment is gone.
    Detach {
        /// `ID:IF`.
        key: String,
    },
    /// What does the agent do?
    Status,
    /// What happens from now on? Each event is a line after the answer, until the asker hangs up.
    Events,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether the request was understood and carried out.
    pub ok: bool,
    /// What does not work for the attachment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degraded>,
    /// Whether the agent is to be replaced by one of the program that is installed now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the agent says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// Something that does not work for an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// The service: `names`.
    pub service: String,
    /// What and why, and what to do.
    pub reason: String,
}

impl std::fmt::Display for Degraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.service, self.reason)
    }
}

impl Reply {
    /// The answer to a request that cannot be carried out.
    pub(super) fn refusal(why: &impl ToString) -> Self {
        Self { error: Some(why.to_string()), ..Self::default() }
    }
}
