//! The host's own name servers: `/etc/resolv.conf`, read again whenever it is another file or has another content.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;

use crate::verbs::resolver;

/// Where resolv.conf(5) is.
const PATH: &str = "/etc/resolv.conf";
/// As many as the C library asks (`MAXNS`).
const MOST: usize = 3;

/// What makes a file another one: device, inode, size, time of the last change.
type Version = (u64, u64, u64, i64, i64);

/// The name servers, as last read.
#[derive(Debug)]
pub(super) struct HostServers {
    version: Option<Version>,
    servers: Rc<[IpAddr]>,
}

impl Default for HostServers {
    fn default() -> Self {
        Self { version: None, servers: Rc::from([]) }
    }
}

impl HostServers {
    /// The name servers as they are now, and whether they are others than at the last call.
    ///
    /// One stat(2) a call: it follows symbolic links, and so sees what a watch on the directory would miss.
    pub(super) fn now(&mut self) -> (Rc<[IpAddr]>, bool) {
        self.read(Path::new(PATH))
    }

    fn read(&mut self, path: &Path) -> (Rc<[IpAddr]>, bool) {
        let version =
            std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()));
        if version == self.version {
            return (Rc::clone(&self.servers), false);
        }
        self.version = version;
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let named = resolver::parse(&text).nameservers;
        let servers: Rc<[IpAddr]> =
            named.iter().filter_map(|server| server.parse().ok()).take(MOST).collect();
        let changed = servers != self.servers;
        self.servers = servers;
        (Rc::clone(&self.servers), changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_read_again() {
        let base = tempfile::tempdir().unwrap();
        let (link, path, new) =
            (base.path().join("link"), base.path().join("resolv.conf"), base.path().join("new"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut host = HostServers::default();
        assert_eq!(host.read(&link), (Rc::from([]), false));
        let write = |path: &Path, last: u8| {
            std::fs::write(path, format!("# 9.9.9.9\nnameserver 192.0.2.{last}\nnameserver fe80::1%eth0\n"))
                .unwrap();
        };
        let one = |last: u8| -> Rc<[IpAddr]> { Rc::from([IpAddr::from([192, 0, 2, last])]) };
        write(&path, 1);
        assert_eq!(host.read(&link), (one(1), true));
        assert_eq!(host.read(&link), (one(1), false));
        // By rename, with a content of the same length.
        write(&new, 2);
        std::fs::rename(&new, &path).unwrap();
        assert_eq!(host.read(&link), (one(2), true));
        // In place.
        std::fs::write(&path, "nameserver 192.0.2.33\nnameserver ::1\nnameserver ::2\nnameserver ::3\n")
            .unwrap();
        assert_eq!(host.read(&link).0.len(), MOST);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(host.read(&link), (Rc::from([]), true));
    }
}
