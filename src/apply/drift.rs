//! What `probe` finds.

use std::fmt;

use crate::model::Publication;

/// One way in which the host differs from what a step wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The object: `route 10.0.0.0/8 in container`.
    pub object: String,
    /// What the step wants.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Drift {
    /// A drift from its three parts.
    pub fn new(object: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { object: object.into(), expected: expected.into(), found: found.into() }
    }

    /// An object that is not there.
    pub fn missing(object: impl Into<String>) -> Self {
        Self::new(object, "present", "missing")
    }

    /// A host port that somebody waits for, and nobody has.
    pub fn unpublished(publication: &Publication) -> Self {
        Self::missing(format!("publication of host port {publication}, which is free"))
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.object, self.expected, self.found)
    }
}
