//! Versions of the specification.

use std::fmt;
use std::str::FromStr;

use super::error::Error;

/// A version of the CNI specification that linkspan speaks, in order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, which a configuration without `cniVersion` means.
    V0_1_0,
    /// 0.2.0, the last with `ip4` and `ip6`.
    V0_2_0,
    /// 0.3.0: interfaces and lists of addresses.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` for DEL.
    V0_4_0,
    /// 1.0.0: no more `ips[].version`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, `mtu` of interfaces, attributes of routes.
    V1_1_0,
}

impl Version {
    /// Every version that linkspan speaks, oldest first.
    pub const SUPPORTED: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// What an absent or empty `cniVersion` means.
    pub const ABSENT: Self = Self::V0_1_0;

    /// The newest, spoken where the caller's is not known.
    pub const LATEST: Self = Self::V1_1_0;

    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The supported versions as text, for errors and the about text.
    pub fn list() -> String {
        Self::SUPPORTED.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Reads a version; the empty text is [`Version::ABSENT`], as in Go's `ConfigDecoder`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::ABSENT);
        }
        Self::SUPPORTED
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Error::Version { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_reads_back_and_they_are_in_order() {
        for version in Version::SUPPORTED {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
        assert!(Version::SUPPORTED.is_sorted());
        assert_eq!("".parse::<Version>().unwrap(), Version::V0_1_0);
    }

    #[test]
    fn other_versions_are_refused_with_the_list_of_those_spoken() {
        for text in ["1.2.0", "1.0", "v1.0.0", " 1.0.0", "latest"] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(error.to_string().contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
