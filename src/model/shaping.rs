//! Limits on how fast an attachment sends and receives.

use serde::{Deserialize, Serialize};

/// One direction's token bucket. Both values are above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits a second.
    pub rate: u64,
    /// Bits; under 4 GiB of bytes, which is what the kernel's `tc_tbf_qopt` holds.
    pub burst: u64,
}

/// The limits of an attachment, seen from the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaping {
    /// What the container receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Rate>,
    /// What the container sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rate>,
}

impl Shaping {
    /// Whether there is nothing to limit.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}
