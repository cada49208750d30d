//! Sets of linkspan's names in its own table that somebody else has made.

use crate::model::attributes::{Attributes, find};
use crate::model::nft::NftMessage;

use super::set::{Leads, Set, type_number, width};
use super::uapi::{DUMP, INET, msg, set};

/// Asks for every set of the table `inet linkspan`; [`strange_set`] reads the replies. `ENOENT` where it is not there.
pub fn dump_sets() -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(set::TABLE, super::TABLE);
    NftMessage { kind: msg::GETSET, family: INET, flags: DUMP, attributes: attributes.into_bytes() }
}

/// Reads one reply to [`dump_sets`]: the name, where it is one of linkspan's and the set has other keys or leads elsewhere.
pub fn strange_set(reply: &[u8]) -> Option<&'static str> {
    let name = find(reply, set::NAME)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let mut all = Set::INET.iter().chain(&Set::SHIFTED);
    let own = all.find(|own| own.name().as_bytes() == &name[..end])?;
    let number = |kind| {
        let bytes = find(reply, kind).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    let leads = match own.leads() {
        Leads::Nowhere => 0,
        Leads::To(fields) => type_number(fields),
        Leads::Verdict => set::VERDICT,
    };
    let is_own = number(set::KEY_TYPE) == type_number(own.key())
        && number(set::KEY_LEN) == width(own.key())
        && number(set::DATA_TYPE) == leads
        && (number(set::FLAGS) & set::MAP != 0) == (leads != 0);
    (!is_own).then(|| own.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_as_they_are_made_are_our_own() {
        for own in Set::INET.into_iter().chain(Set::SHIFTED) {
            assert_eq!(strange_set(&own.create(1).attributes), None, "{}", own.name());
        }
    }

    #[test]
    fn another_type_under_a_name_of_ours_is_strange() {
        let with = |name: &str, key: u32, length: u32| {
            let mut reply = Attributes::new();
            reply.put_str(set::NAME, name).put_be32(set::KEY_TYPE, key).put_be32(set::KEY_LEN, length);
            strange_set(reply.as_bytes())
        };
        assert_eq!(with("ports4_any", 13, 4), Some("ports4_any"));
        assert_eq!(with("bridges", 41, 16), None);
        assert_eq!(with("bridges", 7, 4), Some("bridges"));
        assert_eq!(with("mine", 7, 4), None, "an administrator's");
    }
}
