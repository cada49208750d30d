//! Who may reach a network, and how it reaches the world.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::INTERFACE_NAME_MAX;

/// How far a network is kept apart from what is outside it (key `isolation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Whoever can route to its containers reaches them.
    #[default]
    None,
    /// Only what is published is reached: from neighbours, and from other networks by an address of the host.
    Default,
    /// Nor is what is published reached from other networks, or theirs from this one.
    Strict,
}

impl Isolation {
    /// Whether there is a wall around the network.
    pub fn is_walled(self) -> bool {
        self != Self::None
    }
}

/// How what a network's containers send leaves the host (key `mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// With an address of the host.
    #[default]
    Nat,
    /// With the container's own address, which neighbours have a route to.
    Routed,
}

/// An interface of the host by name, or all whose names start alike (`wg*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// Reads a name of an interface, with at most one `*`, which ends it. The caller has judged the letters.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        if stem.contains('*') {
            return Err("'*' stands for the rest of a name, and so only at its end: wg*".to_owned());
        }
        // iptables reads a '+' at the end of a name as we read '*'.
        if text.ends_with('+') {
            return Err("a name that ends in '+' is none that iptables could match; write '*'".to_owned());
        }
        if stem.len() > INTERFACE_NAME_MAX {
            return Err(format!("has {} bytes, and at most {INTERFACE_NAME_MAX} fit", stem.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name, where it is one name alone.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(self.0.as_str())
    }

    /// What the names start with, where they are many.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        let one = InterfacePattern::parse("eth1").unwrap();
        assert_eq!((one.exact(), one.prefix()), (Some("eth1"), None));
        let many = InterfacePattern::parse("wg*").unwrap();
        assert_eq!((many.exact(), many.prefix()), (None, Some("wg")));
        assert_eq!(InterfacePattern::parse("*").unwrap().prefix(), Some(""));
        for wrong in ["w*g", "**", "eth+", "a-name-of-16-byt"] {
            assert!(InterfacePattern::parse(wrong).is_err(), "{wrong}");
        }
        assert!(InterfacePattern::parse("fifteen-bytes-x*").is_ok());
    }
}
