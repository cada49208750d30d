//! Settings of an interface that can be changed while it is there.

use serde::{Deserialize, Serialize};

use super::MacAddress;

/// Settings of an interface, each where it matters. As JSON it is what the reference `tuning` saves of an interface
/// before it changes it (`configToRestore`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkSettings {
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Promiscuous mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// All-multicast mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Packets that the transmit queue holds.
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub tx_queue_len: Option<u32>,
}

impl LinkSettings {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of these settings, those that `other` has an opinion on too.
    #[must_use]
    pub fn only_those_of(&self, other: &Self) -> Self {
        Self {
            mac: self.mac.filter(|_| other.mac.is_some()),
            promisc: self.promisc.filter(|_| other.promisc.is_some()),
            mtu: self.mtu.filter(|_| other.mtu.is_some()),
            allmulti: self.allmulti.filter(|_| other.allmulti.is_some()),
            tx_queue_len: self.tx_queue_len.filter(|_| other.tx_queue_len.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_reads_what_is_written_and_the_other_way_round() {
        let theirs =
            r#"{"mac":"1a:4e:45:41:f3:b0","promisc":false,"mtu":1500,"allmulti":false,"txQLen":1000}"#;
        let settings: LinkSettings = serde_json::from_str(theirs).unwrap();
        assert_eq!(settings.tx_queue_len, Some(1000));
        assert_eq!(serde_json::to_string(&settings).unwrap(), theirs);
        assert_eq!(serde_json::to_string(&LinkSettings::default()).unwrap(), "{}");
        let wanted = LinkSettings { mtu: Some(1400), ..LinkSettings::default() };
        assert_eq!(serde_json::to_string(&settings.only_those_of(&wanted)).unwrap(), r#"{"mtu":1500}"#);
        assert!(LinkSettings::default().is_empty() && !wanted.is_empty());
    }
}
