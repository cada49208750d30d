//! Who may come in.

use serde::{Deserialize, Serialize};

/// Who may open connections into the containers of a network (key `ingressPolicy` of the reference `firewall`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressPolicy {
    /// Anyone who can route to them.
    #[default]
    Open,
    /// Containers of other walled networks cannot; those of the same bridge can.
    SameBridge,
    /// Nor can those of the same bridge.
    Isolated,
}
