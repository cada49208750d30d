//! The namespace that a plan is about.

use serde::{Deserialize, Serialize};

/// A network namespace by path and by identity: the path alone may come to mean another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// `CNI_NETNS`, verbatim.
    pub path: String,
    /// Device number of its inode on nsfs.
    pub device: u64,
    /// Inode number on nsfs, which the kernel gives to another namespace once this one is gone.
    pub inode: u64,
    /// The kernel's number for it, never given again until the next boot (`SO_NETNS_COOKIE`, since Linux 5.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

impl Sandbox {
    /// Whether both are one namespace, by whichever paths.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let told_apart = self.cookie.zip(other.cookie).is_some_and(|(own, others)| own != others);
        (self.device, self.inode) == (other.device, other.inode) && !told_apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_by_what_no_other_has() {
        let known = Sandbox { path: "/run/netns/a".into(), device: 4, inode: 7, cookie: Some(1) };
        let same = |other: Sandbox| known.is_same_as(&other);
        assert!(same(Sandbox { path: "/var/run/netns/a".into(), ..known.clone() }));
        assert!(same(Sandbox { cookie: None, ..known.clone() }), "an older release recorded none");
        assert!(!same(Sandbox { cookie: Some(2), ..known.clone() }), "the inode is another's by now");
        assert!(!same(Sandbox { inode: 8, cookie: None, ..known.clone() }));
    }
}
