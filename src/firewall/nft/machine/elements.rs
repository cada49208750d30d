//! Sets and maps of anybody's, as the kernel dumps them, and looking something up in them.

use crate::model::attributes::{find, iterate};

use super::super::uapi::{data, element, set};
use super::packet::Bytes;
use super::{Verdict, be32, read_verdict};

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignElement {
    /// Its key, where an interval begins; `None` for the one that stands for everything else.
    key: Option<Vec<u8>>,
    /// Where its interval ends, field by field, in a set of concatenations.
    last: Option<Vec<u8>>,
    /// Whether it is the end of an interval, and itself not in it.
    is_end: bool,
    pub(super) verdict: Verdict,
    /// What a map has for it.
    pub(super) value: Option<Vec<u8>>,
}

/// A set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignSet {
    intervals: bool,
    /// Bytes of its key; 0 where that is not known.
    key_length: usize,
    /// Bytes of each field of a key, padded as registers are.
    fields: Vec<usize>,
    elements: Vec<ForeignElement>,
}

/// What a lookup comes to.
pub(super) enum Found<'a> {
    Element(&'a ForeignElement),
    Nothing,
    /// Not all of the key is known, and what is known fits.
    Perhaps,
}

impl ForeignSet {
    /// Reads what the kernel says of a set ([`super::super::about_set`]) and the replies to a dump of its elements.
    pub fn parse<T: AsRef<[u8]>>(about: Option<&[u8]>, replies: &[T]) -> Self {
        let elements: Vec<ForeignElement> =
            replies.iter().flat_map(|reply| parse_foreign_elements(reply.as_ref())).collect();
        let Some(about) = about else { return Self { elements, ..Self::default() } };
        let flags = find(about, set::FLAGS).and_then(be32).unwrap_or(0);
        let length = find(about, set::KEY_LEN).and_then(be32).unwrap_or(0) as usize;
        let concatenation = find(about, set::DESCRIPTION)
            .and_then(|found| find(found, set::CONCATENATION))
            .unwrap_or_default();
        let fields = iterate(concatenation)
            .filter_map(|(_, field)| find(field, set::FIELD_LEN).and_then(be32))
            .map(|bytes| (bytes as usize).next_multiple_of(4))
            .collect();
        Self { intervals: flags & set::INTERVAL != 0, key_length: length, fields, elements }
    }

    /// How long its keys are.
    pub(super) fn key_length(&self) -> usize {
        let longest = || self.elements.iter().find_map(|element| element.key.as_ref()).map_or(0, Vec::len);
        if self.key_length == 0 { longest() } else { self.key_length }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Looks a key up.
    pub(super) fn find(&self, key: &Bytes) -> Found<'_> {
        let whole: Option<Vec<u8>> = key.iter().copied().collect();
        let found = match &whole {
            Some(key) if self.intervals && self.fields.is_empty() && !self.has_ends() => self.interval(key),
            Some(key) => self.elements.iter().find(|element| !element.is_end && self.covers(element, key)),
            None if self.elements.iter().any(|element| self.may_cover(element, key)) => {
                return Found::Perhaps;
            }
            None => None,
        };
        let catch_all = || self.elements.iter().find(|element| element.key.is_none());
        found.or_else(catch_all).map_or(Found::Nothing, Found::Element)
    }

    fn has_ends(&self) -> bool {
        self.elements.iter().any(|element| element.last.is_some())
    }

    /// The interval that a key is in: that which the last border at or before it opens.
    fn interval(&self, key: &[u8]) -> Option<&ForeignElement> {
        let before = self.elements.iter().filter(|e| e.key.as_deref().is_some_and(|border| border <= key));
        // Where one interval ends and the next begins at the same border, the beginning counts.
        before.max_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end))).filter(|element| !element.is_end)
    }

    fn covers(&self, element: &ForeignElement, key: &[u8]) -> bool {
        match (&element.key, &element.last) {
            (None, _) => false,
            (Some(first), None) => first == key,
            (Some(first), Some(last)) => {
                let whole = [key.len()];
                let fields = if self.fields.is_empty() { &whole[..] } else { &self.fields };
                let mut at = 0;
                fields.iter().all(|length| {
                    let part = |bytes: &[u8]| bytes.get(at..at + length).map(<[u8]>::to_vec);
                    let (first, key, last) = (part(first), part(key), part(last));
                    at += length;
                    first <= key && key <= last
                })
            }
        }
    }

    /// Whether what is known of a key speaks against an element. Of intervals nothing does.
    fn may_cover(&self, element: &ForeignElement, key: &Bytes) -> bool {
        let Some(own) = &element.key else { return true };
        if self.intervals && element.last.is_none() {
            return true;
        }
        let last = element.last.as_ref().unwrap_or(own);
        let mut decided = false;
        // Within a field, bytes after the first that differs between the ends of an interval decide nothing.
        own.iter().zip(last).zip(key).enumerate().all(|(at, ((first, last), byte))| {
            if self.starts_field(at) {
                decided = false;
            }
            let fits = decided || byte.is_none_or(|byte| (*first..=*last).contains(&byte));
            decided |= first != last || byte.is_none();
            fits
        })
    }

    fn starts_field(&self, at: usize) -> bool {
        let mut start = 0;
        at == 0
            || self.fields.iter().any(|length| {
                start += length;
                start == at
            })
    }
}

/// Reads one reply to a dump of a set's elements.
pub fn parse_foreign_elements(attributes: &[u8]) -> Vec<ForeignElement> {
    const FLAGS: u16 = 3;
    /// `NFT_SET_ELEM_INTERVAL_END`.
    const END: u32 = 1;
    let list = find(attributes, element::ELEMENTS).unwrap_or_default();
    let read = |entry: &[u8]| {
        let bytes = |kind| find(entry, kind).and_then(|key| find(key, data::VALUE)).map(<[u8]>::to_vec);
        let found = find(entry, element::DATA);
        ForeignElement {
            key: bytes(element::KEY),
            last: bytes(element::KEY_END),
            is_end: find(entry, FLAGS).and_then(be32).unwrap_or(0) & END != 0,
            verdict: found.and_then(|f| find(f, data::VERDICT)).map_or(Verdict::None, read_verdict),
            value: found.and_then(|f| find(f, data::VALUE)).map(<[u8]>::to_vec),
        }
    };
    iterate(list).map(|(_, entry)| read(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(key: &[u8], last: Option<&[u8]>, is_end: bool) -> ForeignElement {
        let (key, last) = (Some(key.to_vec()), last.map(<[u8]>::to_vec));
        ForeignElement { key, last, is_end, verdict: Verdict::None, value: None }
    }

    fn has(set: &ForeignSet, key: &[Option<u8>]) -> &'static str {
        match set.find(&key.to_vec()) {
            Found::Element(_) => "yes",
            Found::Nothing => "no",
            Found::Perhaps => "perhaps",
        }
    }

    #[test]
    fn an_interval_ends_before_its_end() {
        let elements =
            vec![element(&[30], None, true), element(&[20], None, false), element(&[10], None, false)];
        let mut set = ForeignSet { intervals: true, key_length: 1, fields: Vec::new(), elements };
        set.elements.push(element(&[20], None, true));
        let found: Vec<&str> = [9, 10, 19, 20, 29, 30, 200].map(|key| has(&set, &[Some(key)])).into();
        assert_eq!(found, ["no", "yes", "yes", "yes", "yes", "no", "no"]);
        set.elements.push(element(&[100], None, false));
        assert_eq!(has(&set, &[Some(255)]), "yes", "an interval without an end has none");
    }

    #[test]
    fn fields_of_a_concatenation_are_intervals_of_their_own() {
        let elements = vec![element(&[6, 0, 0, 0, 10, 0, 0, 0], Some(&[6, 0, 0, 0, 20, 0, 0, 0]), false)];
        let set = ForeignSet { intervals: true, key_length: 8, fields: vec![4, 4], elements };
        let key = |a: Option<u8>, b: Option<u8>| {
            [a, Some(0), Some(0), Some(0), b, Some(0), Some(0), Some(0)].to_vec()
        };
        assert_eq!(has(&set, &key(Some(6), Some(15))), "yes");
        assert_eq!(has(&set, &key(Some(6), Some(21))), "no");
        assert_eq!(has(&set, &key(Some(17), Some(15))), "no");
        assert_eq!(has(&set, &key(Some(6), None)), "perhaps");
        assert_eq!(has(&set, &key(Some(17), None)), "no", "what is known speaks against it");
        assert_eq!(has(&set, &key(None, Some(15))), "perhaps");
    }
}
