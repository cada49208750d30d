//! What the specification allows as names, and the names that cnitool gives.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha512};

use super::error::Error;
use crate::model::names::INTERFACE_NAME_MAX;

const RULE: &str = "letters, digits, '_', '.' and '-', the first a letter or digit";
const INTERFACE_RULE: &str = "1 to 15 bytes, not '.' or '..', no '/', ':' or space";

/// Whether a network name or container ID is one that the specification allows.
pub(super) fn valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed)
}

/// Refuses what the specification does not allow as a container ID.
pub(super) fn check_container_id(value: &str) -> Result<(), Error> {
    if valid(value) {
        return Ok(());
    }
    Err(Error::Name { what: "the container ID", value: value.to_owned(), rule: RULE })
}

/// Refuses what the kernel does not allow as the name of an interface.
pub(super) fn check_interface(value: &str) -> Result<(), Error> {
    let odd = |c: char| matches!(c, '/' | ':') || c.is_whitespace();
    if (1..=INTERFACE_NAME_MAX).contains(&value.len()) && !matches!(value, "." | "..") && !value.contains(odd)
    {
        return Ok(());
    }
    Err(Error::Name { what: "the interface name", value: value.to_owned(), rule: INTERFACE_RULE })
}

/// The container ID that cnitool gives a namespace: `cnitool-` and twenty digits of its path's SHA-512.
pub(super) fn container_id(netns: &str) -> String {
    let digits: String = Sha512::digest(netns).iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("cnitool-{digits}")
}

/// A namespace's path from what was typed: a path, made absolute without following links, or a name of `ip netns`.
///
/// A name is what has no `/` and is no file of the directory that the command runs in.
pub(super) fn namespace(typed: &str, current: &Path) -> PathBuf {
    let path = if typed.contains('/') || current.join(typed).exists() {
        current.join(typed)
    } else {
        Path::new("/run/netns").join(typed)
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_the_one_of_cnitool() {
        // printf /var/run/netns/testing | sha512sum
        assert_eq!(container_id("/var/run/netns/testing"), "cnitool-77383ca0a0715733ca6f");
    }

    #[test]
    fn names_follow_the_specification() {
        for name in ["web", "0a", "a_b.c-d"] {
            assert!(valid(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a/b", "ä"] {
            assert!(!valid(name), "{name}");
            assert!(check_container_id(name).is_err());
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
        assert!(check_interface("eth0").is_ok());
    }

    #[test]
    fn a_namespace_is_a_path_or_a_name() {
        let here = Path::new("/tmp/nowhere");
        assert_eq!(namespace("blue", here), Path::new("/run/netns/blue"));
        assert_eq!(namespace("./blue", here), Path::new("/tmp/nowhere/blue"));
        assert_eq!(namespace("/var/run/../run//netns/blue/", here), Path::new("/var/run/netns/blue"));
    }
}
