//! Leases that outlived a boot.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Result;
use super::LeaseDirectory;
use super::walk::is_directory;
use crate::model::written;

/// The boot that the leases belong to, as `/proc/sys/kernel/random/boot_id` tells it.
const BOOT_FILE: &str = ".linkspan-boot";

impl LeaseDirectory {
    /// Removes the leases of earlier boots from a directory that survives them; their containers are gone. Does so
    /// once a boot: when `boot_id` is the one on file, that file is all that is read. Tells the addresses.
    ///
    /// A lease is of an earlier boot when its file was last written before `boot_time` (now less the uptime). The
    /// clock may lie: where it is set forwards after boot (no battery-backed clock, then NTP), leases that host-local
    /// wrote before count as old, if linkspan first runs after them; where an earlier boot's clock was ahead, its
    /// leases stay until GC or DEL. Leases of linkspan's own of this boot are never at risk, since the sweep of a
    /// boot comes before the first of them.
    ///
    /// # Errors
    /// [`super::super::StoreError`].
    pub fn sweep_boot(&self, boot_id: &str, boot_time: SystemTime) -> Result<Vec<IpAddr>> {
        if self.is_swept(boot_id)? {
            return Ok(Vec::new());
        }
        let _guard = self.lock()?;
        if self.is_swept(boot_id)? {
            return Ok(Vec::new());
        }
        let boot = boot_second(boot_time);
        let mut removed = Vec::new();
        for address in self.held()? {
            let name = written::address(address);
            let Some(stat) = self.dir.stat(&name)? else { continue };
            if is_before(stat.st_mtime, boot) && !is_directory(&stat) && self.dir.unlink(&name)? {
                removed.push(address);
            }
        }
        self.dir.replace(BOOT_FILE, boot_id.as_bytes(), |_| Ok(()))?;
        Ok(removed)
    }

    /// Whether that has been done in this boot.
    pub(super) fn is_swept(&self, boot_id: &str) -> Result<bool> {
        let on_file = self.dir.read(BOOT_FILE)?;
        Ok(on_file.is_some_and(|content| String::from_utf8_lossy(&content).trim() == boot_id))
    }
}

/// The time that a boot began at, in seconds since 1970.
pub(super) fn boot_second(began: SystemTime) -> u64 {
    began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether what was written at a time (in seconds since 1970) is of before that boot.
pub(super) fn is_before(written: i64, boot: u64) -> bool {
    u64::try_from(written).unwrap_or(0) < boot
}
