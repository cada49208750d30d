//! Versions of the specification, as numbers that can be compared. A plugin decides which it speaks; here they only
//! say which verbs a network has.

use std::fmt;

/// `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SpecVersion(u32, u32, u32);

impl SpecVersion {
    /// What a configuration without a version has.
    pub(super) const OLDEST: Self = Self(0, 1, 0);
    /// The first with interfaces, and with addresses as one list.
    pub(super) const INTERFACES: Self = Self(0, 3, 0);
    /// The first with CHECK, and with `prevResult` for DEL.
    pub(super) const CHECK: Self = Self(0, 4, 0);
    /// The first whose addresses do not say their family.
    pub(super) const NO_FAMILY: Self = Self(1, 0, 0);
    /// The first with GC and STATUS.
    pub(super) const GC: Self = Self(1, 1, 0);
    /// The newest that libcni 1.3 knows.
    pub(super) const NEWEST: Self = Self(1, 1, 0);

    /// Reads one to three numbers; the empty text is the oldest version.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::OLDEST);
        }
        let mut numbers = [0; 3];
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > numbers.len() {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(&parts) {
            *number = part.parse().ok()?;
        }
        Some(Self(numbers[0], numbers[1], numbers[2]))
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let of = |text| SpecVersion::parse(text).unwrap();
        assert!(of("0.10.0") > of("0.4.0"));
        assert_eq!(of("1.0"), of("1.0.0"));
        assert_eq!(of(""), SpecVersion::OLDEST);
        for text in ["x", "1.", "1.2.3.4", "-1"] {
            assert_eq!(SpecVersion::parse(text), None, "{text}");
        }
    }
}
