//! How macvlan devices of one lower device speak to each other.

use serde::{Deserialize, Serialize};

/// The mode of a macvlan device (`enum macvlan_mode`, `linux/if_link.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// They speak to each other directly.
    #[default]
    Bridge,
    /// They do not.
    Private,
    /// They speak through the switch outside, which has to send frames back.
    Vepa,
    /// One device alone, which is the lower one under another name.
    Passthru,
}

impl MacvlanMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Bridge, Self::Private, Self::Vepa, Self::Passthru];

    /// The word of configurations.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        }
    }

    /// The kernel's number.
    pub const fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}
