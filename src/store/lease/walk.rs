//! Reading the lease files that there are.

use std::fmt;
use std::net::IpAddr;

use nix::errno::Errno;

use super::super::{Result, StoreError};
use super::LeaseDirectory;
use crate::model::{AttachmentKey, written};

/// Who holds a lease, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    text: String,
}

/// A lease file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// Its address.
    pub address: IpAddr,
    /// Its owner.
    pub owner: Owner,
}

/// A lease file with its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedLease {
    /// The lease.
    pub lease: HeldLease,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
}

impl Owner {
    fn from_content(content: &[u8]) -> Self {
        Self { text: String::from_utf8_lossy(content).trim().to_owned() }
    }

    /// The container's ID.
    pub fn container_id(&self) -> &str {
        self.text.split("\r\n").next().unwrap_or_default()
    }

    /// The interface; `None` in files of old versions of host-local, which hold for every interface of a container.
    pub fn interface(&self) -> Option<&str> {
        self.text.split_once("\r\n").map(|(_, interface)| interface)
    }

    /// Whether it is an attachment's, as host-local decides it: the ID and interface, or the ID alone.
    pub fn is(&self, key: &AttachmentKey) -> bool {
        self.container_id() == key.container_id && self.interface().is_none_or(|name| name == key.interface)
    }

    /// Whether nothing names an owner: an empty file, of a host-local that was killed or ran out of space.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// `ID:IF`, or `ID` where the file has no interface.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.container_id())?;
        self.interface().map_or(Ok(()), |interface| write!(f, ":{interface}"))
    }
}

/// Whether what has a lease's name is a directory, which host-local passes over too.
pub(super) fn is_directory(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

impl LeaseDirectory {
    /// Who holds an address; `None` where nobody does. A directory of its name is nobody's lease.
    ///
    /// # Errors
    /// [`super::super::StoreError::Io`].
    pub fn owner(&self, address: IpAddr) -> Result<Option<Owner>> {
        match self.dir.read(&written::address(address)) {
            Err(StoreError::Io { source: Errno::EISDIR, .. }) => Ok(None),
            other => Ok(other?.map(|content| Owner::from_content(&content))),
        }
    }

    /// All leases and their owners: every file is read. For GC and CHECK without a record.
    ///
    /// # Errors
    /// [`super::super::StoreError::Io`].
    pub fn leases(&self) -> Result<Vec<HeldLease>> {
        let mut leases = Vec::new();
        for address in self.held()? {
            if let Some(owner) = self.owner(address)? {
                leases.push(HeldLease { address, owner });
            }
        }
        leases.sort_unstable_by_key(|lease| lease.address);
        Ok(leases)
    }

    /// As [`LeaseDirectory::leases`], with the time that each was taken at. For the command line.
    ///
    /// # Errors
    /// [`super::super::StoreError::Io`].
    pub fn dated_leases(&self) -> Result<Vec<DatedLease>> {
        let mut dated = Vec::new();
        for lease in self.leases()? {
            let Some(stat) = self.dir.stat(&written::address(lease.address))? else { continue };
            dated.push(DatedLease { lease, since: u64::try_from(stat.st_mtime).unwrap_or_default() });
        }
        Ok(dated)
    }

    /// Whether another network of the same data directory holds an address too. No file is read.
    ///
    /// # Errors
    /// [`super::super::StoreError::Io`].
    pub fn held_by_sibling(&self, address: IpAddr) -> Result<bool> {
        let (Some(base), Some(own)) = (self.path().parent(), self.path().file_name()) else {
            return Ok(false);
        };
        let failed = |source: std::io::Error| StoreError::Io {
            action: "list",
            path: base.to_owned(),
            source: Errno::from_raw(source.raw_os_error().unwrap_or_default()),
        };
        for entry in std::fs::read_dir(base).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != own && entry.path().join(written::address(address)).exists() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many addresses have a lease file. No file is read. For tests.
    ///
    /// # Errors
    /// [`super::super::StoreError::Io`].
    #[cfg(test)]
    pub(crate) fn count(&self) -> Result<usize> {
        self.held().map(|held| held.len())
    }

    /// Gives back all addresses of an attachment, whichever they are: every file is read, as host-local does on DEL.
    /// For an attachment without a record. Tells the addresses.
    ///
    /// # Errors
    /// [`super::super::StoreError`].
    pub fn release_by_walk(&self, key: &AttachmentKey) -> Result<Vec<IpAddr>> {
        self.release_where(|lease| lease.owner.is(key))
    }

    /// Gives back all addresses whose lease meets a condition: for GC. Tells the addresses.
    ///
    /// # Errors
    /// [`super::super::StoreError`].
    pub fn release_where(&self, condition: impl Fn(&HeldLease) -> bool) -> Result<Vec<IpAddr>> {
        let _guard = self.lock()?;
        let mut released = Vec::new();
        for lease in self.leases()? {
            if condition(&lease) && self.dir.unlink(&written::address(lease.address))? {
                released.push(lease.address);
            }
        }
        Ok(released)
    }
}
