//! Reading a step from its record.
//!
//! What serde derives for a tagged enum keeps the whole object aside until it has found the tag; of a thousand records
//! that is a third of the time. The tag is written first, so the rest can be read as what it says.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::step::Step;

/// The key that says which step it is.
const TAG: &str = "step";

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Tagged)
    }
}

struct Tagged;

impl<'de> Visitor<'de> for Tagged {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the key '{TAG}'")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
        let mut before: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key != TAG {
                before.push((key, map.next_value()?));
                continue;
            }
            let kind: String = map.next_value()?;
            if before.is_empty() {
                return of(&kind, MapAccessDeserializer::new(map));
            }
            // Somebody has sorted the keys.
            while let Some(entry) = map.next_entry()? {
                before.push(entry);
            }
            return of(&kind, MapDeserializer::new(before.into_iter()))
                .map_err(|e: serde_json::Error| A::Error::custom(e));
        }
        Err(A::Error::missing_field(TAG))
    }
}

/// The kinds by their words, each once. A step that is missing here does not compile: see `word`.
macro_rules! kinds {
    ($($word:literal => $variant:ident,)*) => {
        const KINDS: &[&str] = &[$($word),*];

        /// The step of a kind.
        fn of<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Step, D::Error> {
            Ok(match kind {
                $($word => Step::$variant(Deserialize::deserialize(rest)?),)*
                other => return Err(D::Error::unknown_variant(other, KINDS)),
            })
        }

        /// The word of a step; there so that the list is whole.
        #[allow(dead_code, reason = "the compiler reads it")]
        const fn word(step: &Step) -> &'static str {
            match step {
                $(Step::$variant(_) => $word,)*
            }
        }
    };
}

kinds! {
    "upon" => Upon,
    "leases" => Leases,
    "claims" => Claims,
    "forwarding" => Forwarding,
    "localnet" => Localnet,
    "bridge" => Bridge,
    "link" => Link,
    "routed" => Routed,
    "macvlan" => Macvlan,
    "interface" => Interface,
    "port" => Port,
    "shape" => Shape,
    "zone" => Zone,
    "firewall" => Firewall,
    "settings" => Settings,
    "sources" => Sources,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Forwarding, Localnet};

    #[test]
    fn the_tag_may_stand_first_or_anywhere() {
        let localnet = Step::Localnet(Localnet { interface: "lks-web".into() });
        let forwarding = Step::Forwarding(Forwarding { ipv4: true, ipv6: false });
        for (text, step) in [
            (r#"{"step":"localnet","interface":"lks-web"}"#, &localnet),
            (r#"{"interface":"lks-web","step":"localnet"}"#, &localnet),
            (r#"{"ipv4":true,"step":"forwarding","ipv6":false}"#, &forwarding),
        ] {
            assert_eq!(serde_json::from_str::<Step>(text).unwrap(), *step, "{text}");
        }
        let value = serde_json::to_value(&forwarding).unwrap();
        assert_eq!(serde_json::from_value::<Step>(value).unwrap(), forwarding);
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for (text, part) in [
            (r#"{"interface":"x"}"#, "missing field `step`"),
            (r#"{"step":"leap"}"#, "unknown variant `leap`"),
            (r#"{"step":"localnet"}"#, "missing field `interface`"),
            (r#"{"step":7}"#, "expected a string"),
            ("[]", "object with the key 'step'"),
        ] {
            let said = serde_json::from_str::<Step>(text).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
