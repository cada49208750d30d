//! Who an attachment is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One interface of one container: what the specification identifies an attachment by, and which plugin's part of
/// it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`, the interface's name inside the container.
    pub interface: String,
    /// Whose part: each plugin of a chain keeps a record of its own.
    #[serde(default, skip_serializing_if = "Part::is_interface")]
    pub part: Part,
}

/// The part of an attachment that one plugin of a chain makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The interface, with all that the plugin which makes it adds.
    #[default]
    Interface,
    /// Published ports, by the face `portmap`.
    Portmap,
    /// Walls, by the face `firewall`.
    Firewall,
    /// Settings, by the face `tuning`.
    Tuning,
    /// Rate limits, by the face `bandwidth`.
    Bandwidth,
    /// Routing by source, by the face `sbr`.
    Sbr,
    /// Names, by the face `dnsname`.
    Dnsname,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 7] = [
        Self::Interface,
        Self::Portmap,
        Self::Firewall,
        Self::Tuning,
        Self::Bandwidth,
        Self::Sbr,
        Self::Dnsname,
    ];

    /// The word in a key's text; empty for the interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Interface => "",
            Self::Portmap => "portmap",
            Self::Firewall => "firewall",
            Self::Tuning => "tuning",
            Self::Bandwidth => "bandwidth",
            Self::Sbr => "sbr",
            Self::Dnsname => "dnsname",
        }
    }

    /// Whether it is the part of the plugin that makes the interface.
    pub fn is_interface(&self) -> bool {
        *self == Self::Interface
    }
}

impl AttachmentKey {
    /// A key from its two parts, which the caller has validated.
    pub fn new(container_id: impl Into<String>, interface: impl Into<String>) -> Self {
        Self { container_id: container_id.into(), interface: interface.into(), part: Part::Interface }
    }

    /// The same attachment, another plugin's part of it.
    #[must_use]
    pub fn of_part(&self, part: Part) -> Self {
        Self { part, ..self.clone() }
    }

    /// The attachment itself, as the runtime knows it.
    #[must_use]
    pub fn attachment(&self) -> Self {
        self.of_part(Part::Interface)
    }

    /// Whether both are of one interface of one container.
    pub fn is_of(&self, other: &Self) -> bool {
        self.container_id == other.container_id && self.interface == other.interface
    }

    /// The key that [`fmt::Display`] printed, read back. `None` where there is no `:`, or a part that is not known, or
    /// the text begins with a dot, as no container's ID does: so does a record that is about to take another's place.
    pub fn parse(text: &str) -> Option<Self> {
        let (container_id, rest) = text.split_once(':').filter(|_| !text.starts_with('.'))?;
        let (interface, word) = rest.split_once(':').unwrap_or((rest, ""));
        let part = Part::ALL.into_iter().find(|part| part.word() == word)?;
        Some(Self::new(container_id, interface).of_part(part))
    }
}

/// `ID:IFNAME`, or `ID:IFNAME:PART`, unambiguous because the specification allows `:` in neither. It names the
/// record's file, the owner of a claimed port and the comment of a firewall element.
impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container_id, self.interface)?;
        if self.part.is_interface() { Ok(()) } else { write!(f, ":{}", self.part.word()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_what_it_prints() {
        for part in Part::ALL {
            let key = AttachmentKey::new("a.b-c", "eth0").of_part(part);
            assert_eq!(AttachmentKey::parse(&key.to_string()), Some(key));
        }
        assert_eq!(AttachmentKey::parse("a:eth0:bridge"), None);
        assert_eq!(AttachmentKey::parse("a"), None);
        assert_eq!(AttachmentKey::parse(".new-a:eth0"), None);
    }

    #[test]
    fn a_record_without_a_part_is_the_interface() {
        let key: AttachmentKey = serde_json::from_str(r#"{"container_id":"a","interface":"eth0"}"#).unwrap();
        assert_eq!(key, AttachmentKey::new("a", "eth0"));
    }
}
