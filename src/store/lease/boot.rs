//! Leases that outlived a boot.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Result;
use super::LeaseDirectory;

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
        if self.boot_on_file()?.as_deref() == Some(boot_id) {
            return Ok(Vec::new());
        }
        let _guard = self.lock()?;
        if self.boot_on_file()?.as_deref() == Some(boot_id) {
            return Ok(Vec::new());
        }
        let boot = boot_time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut removed = Vec::new();
        for address in self.held()? {
            let name = address.to_string();
            let Some(stat) = self.dir.stat(&name)? else { continue };
            if u64::try_from(stat.st_mtime).unwrap_or(0) < boot && self.dir.unlink(&name)? {
                removed.push(address);
            }
        }
        self.dir.replace(BOOT_FILE, boot_id.as_bytes(), |_| Ok(()))?;
        Ok(removed)
    }

    fn boot_on_file(&self) -> Result<Option<String>> {
        Ok(self.dir.read(BOOT_FILE)?.map(|content| String::from_utf8_lossy(&content).trim().to_owned()))
    }
}
