//! Taking and giving back addresses.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ipnetwork::IpNetwork;
use nix::fcntl::OFlag;

use super::super::files::Nameless;
use super::super::{Result, StoreError};
use super::LeaseDirectory;
use crate::cni::RequestedAddress;
use crate::ipam::{self, Pool};
use crate::model::{AttachmentKey, Lease, RangeSet, names};

/// One allocation under way: what it has taken, to be given back if it fails.
pub(in crate::store) struct Taking<'a> {
    directory: &'a LeaseDirectory,
    /// The lease file's content, written once; each lease is a hard link to it.
    content: Option<Nameless>,
    body: String,
    taken: Vec<IpAddr>,
    /// Whether an address was found taken: from then on it is looked before it is linked, which is cheaper.
    collided: bool,
    /// How many names were tried.
    pub(in crate::store) probes: u32,
    /// How often the directory was listed.
    pub(in crate::store) listings: u32,
}

impl LeaseDirectory {
    /// Takes one address of each range set for an attachment, requested ones where there are any, or none at all.
    ///
    /// No directory is read unless a pool is nearly full.
    ///
    /// # Errors
    /// [`StoreError::Request`], [`StoreError::AddressTaken`], [`StoreError::Exhausted`], [`StoreError::Io`],
    /// [`StoreError::LockTimeout`] in a shared directory.
    pub fn allocate(
        &self,
        range_sets: &[RangeSet],
        requested: &[RequestedAddress],
        key: &AttachmentKey,
    ) -> Result<Vec<Lease>> {
        Taking::new(self, key).allocate(range_sets, requested)
    }

    /// Takes these very addresses again, for an attachment that has them: where its lease files were lost.
    ///
    /// # Errors
    /// [`StoreError::AddressTaken`] with the first that another holds; what was taken before it stays.
    pub fn hold(&self, leases: &[Lease], key: &AttachmentKey) -> Result<()> {
        let _guard = self.lock()?;
        let mut taking = Taking::new(self, key);
        let outcome = leases.iter().try_for_each(|lease| taking.take_requested(lease.address.ip()));
        if let Some(content) = taking.content.take() {
            self.dir.abandon(content);
        }
        outcome
    }

    /// Gives addresses back. A lease file that is not this attachment's is left alone; one that is gone is fine.
    ///
    /// # Errors
    /// The first [`StoreError`], after all were tried.
    pub fn release(&self, leases: &[Lease], key: &AttachmentKey) -> Result<()> {
        let _guard = self.lock()?;
        let mut outcome = Ok(());
        for lease in leases {
            outcome = outcome.and(self.release_one(lease.address.ip(), key));
        }
        outcome
    }

    fn release_one(&self, address: IpAddr, key: &AttachmentKey) -> Result<()> {
        match self.owner(address)? {
            Some(owner) if owner.is(key) => self.dir.unlink(&address.to_string()).map(drop),
            _ => Ok(()),
        }
    }
}

impl<'a> Taking<'a> {
    pub(in crate::store) fn new(directory: &'a LeaseDirectory, key: &AttachmentKey) -> Self {
        Self {
            directory,
            content: None,
            body: format!("{}\r\n{}", key.container_id, key.interface),
            taken: Vec::new(),
            collided: false,
            probes: 0,
            listings: 0,
        }
    }

    pub(in crate::store) fn allocate(
        &mut self,
        range_sets: &[RangeSet],
        requested: &[RequestedAddress],
    ) -> Result<Vec<Lease>> {
        let wanted = ipam::assign(range_sets, requested)?;
        let _guard = self.directory.lock()?;
        let mut leases = Vec::with_capacity(range_sets.len());
        let mut outcome = Ok(());
        for (index, (set, wanted)) in range_sets.iter().zip(wanted).enumerate() {
            let address = match wanted {
                Some(address) => self.take_requested(address).map(|()| address),
                None => self.take_next(index, set),
            };
            match address {
                Ok(address) => leases.extend(lease(set, address)),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if let Some(content) = self.content.take() {
            self.directory.dir.abandon(content);
        }
        if outcome.is_err() {
            for address in self.taken.drain(..) {
                // The first error is the one to tell; GC finds what is left.
                let _ = self.directory.dir.unlink(&address.to_string());
            }
        }
        outcome.map(|()| leases)
    }

    fn take_next(&mut self, index: usize, set: &RangeSet) -> Result<IpAddr> {
        let directory = self.directory;
        let marker = format!("last_reserved_ip.{index}");
        let file = directory.dir.open_file(&marker, OFlag::O_RDWR | OFlag::O_CREAT)?;
        let mut text = [0; 64];
        let length = file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let last = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok());
        let mut address = self.choose(set, last)?;
        if address.is_none() && directory.reclaim_empty()? > 0 {
            address = self.choose(set, last)?;
        }
        let Some(address) = address else { return Err(directory.exhaustion(index, set)) };
        if let Some(file) = file {
            // A hint for the next search, not worth a failed ADD. Longer than before or shorter: never empty.
            let now = address.to_string();
            let _ = file.write_all_at(now.as_bytes(), 0);
            if now.len() < length {
                let _ = file.set_len(now.len() as u64);
            }
        }
        Ok(address)
    }

    fn choose(&mut self, set: &RangeSet, last: Option<IpAddr>) -> Result<Option<IpAddr>> {
        let directory = self.directory;
        let seed = names::hash(self.body.as_bytes());
        let mut listings = 0;
        let chosen = ipam::choose(
            set,
            last,
            seed,
            |address| self.take(address),
            || {
                listings += 1;
                directory.held()
            },
        );
        self.listings += listings;
        chosen
    }

    fn take_requested(&mut self, address: IpAddr) -> Result<()> {
        if self.take(address)? {
            return Ok(());
        }
        match self.directory.owner(address)? {
            // Left by an ADD of the same attachment that was killed.
            Some(owner) if owner.text() == self.body => {
                self.taken.push(address);
                Ok(())
            }
            Some(owner) => Err(StoreError::AddressTaken { address, owner: owner.to_string() }),
            None => Err(StoreError::AddressTaken { address, owner: "nobody any more".to_owned() }),
        }
    }

    /// Makes the lease file of an address, whole; false where another has it.
    fn take(&mut self, address: IpAddr) -> Result<bool> {
        self.probes += 1;
        let name = address.to_string();
        if self.collided && !self.directory.is_free(&name)? {
            return Ok(false);
        }
        if self.link(&name)? || (self.directory.is_free(&name)? && self.link(&name)?) {
            self.taken.push(address);
            return Ok(true);
        }
        self.collided = true;
        Ok(false)
    }

    fn link(&mut self, name: &str) -> Result<bool> {
        let dir = &self.directory.dir;
        let content = match self.content.take() {
            Some(content) => content,
            None => dir.write_nameless(name, self.body.as_bytes())?,
        };
        let linked = dir.link(&content, name);
        self.content = Some(content);
        linked
    }
}

impl LeaseDirectory {
    /// Whether a name is free. An empty file is no lease but what a killed host-local left between making and
    /// writing it, since whoever writes holds the lock that we hold: it is removed.
    fn is_free(&self, name: &str) -> Result<bool> {
        match self.dir.stat(name)? {
            None => Ok(true),
            Some(stat) if stat.st_size == 0 => self.dir.unlink(name).map(|_| true),
            // Two bytes can be no more than the separator of a torn write: only so short a file is worth reading.
            Some(stat) if stat.st_size <= 2 && self.names_nobody(name)? => {
                self.dir.unlink(name).map(|_| true)
            }
            Some(_) => Ok(false),
        }
    }

    fn names_nobody(&self, name: &str) -> Result<bool> {
        Ok(self.dir.read(name)?.is_some_and(|content| content.iter().all(u8::is_ascii_whitespace)))
    }

    /// Removes all empty lease files. Only where nothing else is left to give.
    fn reclaim_empty(&self) -> Result<usize> {
        let mut reclaimed = 0;
        for address in self.held()? {
            reclaimed += usize::from(self.is_free(&address.to_string())?);
        }
        Ok(reclaimed)
    }

    /// Says of the first range set that has no free address that it is exhausted. One listing, no file is read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn exhausted(&self, range_sets: &[RangeSet]) -> Result<Option<StoreError>> {
        let held = self.held()?;
        let is_full = |(_, set): &(usize, &RangeSet)| {
            let pool = Pool::new(set);
            let taken = held.iter().filter(|address| pool.contains(**address)).count();
            u128::try_from(taken).unwrap_or(u128::MAX) >= ipam::capacity(set)
        };
        Ok(range_sets.iter().enumerate().find(is_full).map(|(index, set)| self.exhaustion(index, set)))
    }

    fn exhaustion(&self, index: usize, set: &RangeSet) -> StoreError {
        exhaustion(index, set, self.path())
    }

    /// The address that a range set gave last, where that was written down.
    pub(super) fn last_given(&self, set: usize) -> Option<IpAddr> {
        let text = self.dir.read(&format!("last_reserved_ip.{set}")).ok().flatten()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// The addresses that have a lease file. One listing, no file is read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn held(&self) -> Result<HashSet<IpAddr>> {
        Ok(self.dir.names(".")?.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// A range set has no free address.
pub(super) fn exhaustion(index: usize, set: &RangeSet, directory: &Path) -> StoreError {
    let mut ranges = String::new();
    for range in set {
        let separator = if ranges.is_empty() { "" } else { ", " };
        let _ = write!(ranges, "{separator}{}-{}", range.start, range.end);
    }
    StoreError::Exhausted { index, ranges, capacity: ipam::capacity(set), directory: directory.to_owned() }
}

/// A lease as the range that holds the address gives it.
pub(super) fn lease(set: &RangeSet, address: IpAddr) -> Option<Lease> {
    let range = set.iter().find(|range| Pool::new(std::slice::from_ref(range)).contains(address))?;
    let address = IpNetwork::new(address, range.subnet.prefix()).ok()?;
    Some(Lease { address, gateway: range.gateway })
}
