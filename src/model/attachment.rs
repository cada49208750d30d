//! Who an attachment is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One interface of one container: what the specification identifies an attachment by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`, the interface's name inside the container.
    pub interface: String,
}

impl AttachmentKey {
    /// A key from its two parts, which the caller has validated.
    pub fn new(container_id: impl Into<String>, interface: impl Into<String>) -> Self {
        Self { container_id: container_id.into(), interface: interface.into() }
    }

    /// The key that [`fmt::Display`] printed, read back. `None` where there is no `:`.
    pub fn parse(text: &str) -> Option<Self> {
        let (container_id, interface) = text.rsplit_once(':')?;
        Some(Self::new(container_id, interface))
    }
}

/// `ID:IFNAME`, unambiguous because the specification allows `:` in neither. It names the record's file, the owner
/// of a claimed port and the comment of a firewall element.
impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container_id, self.interface)
    }
}
