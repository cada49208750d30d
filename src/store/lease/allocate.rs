//! Taking and giving back addresses.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::SystemTime;

use ipnetwork::IpNetwork;
use nix::fcntl::OFlag;

use super::super::files::Nameless;
use super::super::{Result, StoreError};
use super::LeaseDirectory;
use super::boot::{boot_second, is_before};
use super::walk::is_directory;
use crate::cni::RequestedAddress;
use crate::ipam::{self, Pool};
use crate::model::{AttachmentKey, Lease, RangeSet, names, written};

/// How often it is chosen again where somebody who does not take the lock takes what was chosen.
const TRIES: u32 = 4;

/// One allocation under way.
pub(in crate::store) struct Taking<'a> {
    directory: &'a LeaseDirectory,
    /// The content of each lease file.
    body: String,
    /// How many names were tried.
    pub(in crate::store) probes: u32,
    /// How often the directory was listed.
    pub(in crate::store) listings: u32,
}

/// An address that was chosen, and what to do to have it.
struct Chosen {
    address: IpAddr,
    /// Where it is written down where the next search is to begin.
    marker: Option<Marker>,
    /// Its lease file is there: an ADD of the same attachment that was killed has left it.
    held: bool,
}

/// The file that says which address a range set gave last.
struct Marker {
    file: File,
    /// How long its text is now.
    length: usize,
    /// What it says.
    last: Option<IpAddr>,
}

/// What there is by a lease's name.
enum Found {
    Nothing,
    /// What a killed host-local left between making and writing it, since whoever writes holds the lock that an ADD holds:
    /// no lease.
    Torn,
    Lease {
        /// In seconds since 1970.
        written: i64,
    },
}

impl LeaseDirectory {
    /// Takes one address of each range set for an attachment, requested ones where there are any, or none at all.
    ///
    /// `announce` gets what will be taken before anything is: to be written down by whoever has to give it back. It is
    /// called again where that had to be chosen anew.
    ///
    /// No directory is read unless a pool is nearly full.
    ///
    /// # Errors
    /// [`StoreError::Request`], [`StoreError::AddressTaken`], [`StoreError::Exhausted`], [`StoreError::Io`],
    /// [`StoreError::LockTimeout`] in a shared directory; and those of `announce`.
    pub fn allocate<E: From<StoreError>>(
        &self,
        range_sets: &[RangeSet],
        requested: &[RequestedAddress],
        key: &AttachmentKey,
        announce: impl FnMut(&[Lease]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<Lease>, E> {
        Taking::new(self, key).allocate(range_sets, requested, announce)
    }

    /// Takes these very addresses again, for an attachment that has them: where its lease files were lost.
    ///
    /// # Errors
    /// [`StoreError::AddressTaken`] with the first that another holds; nothing is taken then.
    pub fn hold(&self, leases: &[Lease], key: &AttachmentKey) -> Result<()> {
        let _guard = self.lock()?;
        let mut taking = Taking::new(self, key);
        for _ in 0..TRIES {
            let chosen: Result<Vec<Chosen>> =
                leases.iter().map(|lease| taking.choose_requested(None, lease.address.ip())).collect();
            if taking.take(chosen?)? {
                return Ok(());
            }
        }
        Err(taking.outrun(leases))
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
            Some(owner) if owner.is(key) => self.dir.unlink(&written::address(address)).map(drop),
            _ => Ok(()),
        }
    }
}

impl<'a> Taking<'a> {
    pub(in crate::store) fn new(directory: &'a LeaseDirectory, key: &AttachmentKey) -> Self {
        Self { directory, body: format!("{}\r\n{}", key.container_id, key.interface), probes: 0, listings: 0 }
    }

    /// See [`LeaseDirectory::allocate`].
    pub(in crate::store) fn allocate<E: From<StoreError>>(
        &mut self,
        range_sets: &[RangeSet],
        requested: &[RequestedAddress],
        mut announce: impl FnMut(&[Lease]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<Lease>, E> {
        let wanted = ipam::assign(range_sets, requested).map_err(StoreError::from)?;
        let _guard = self.directory.lock()?;
        let mut leases = Vec::with_capacity(range_sets.len());
        for _ in 0..TRIES {
            leases.clear();
            let mut chosen: Vec<Chosen> = Vec::with_capacity(range_sets.len());
            for (index, (set, wanted)) in range_sets.iter().zip(&wanted).enumerate() {
                let next = match wanted {
                    Some(address) => self.choose_requested(Some(index), *address)?,
                    None => self.choose_next(index, set, &chosen)?,
                };
                leases.extend(lease(set, next.address));
                chosen.push(next);
            }
            announce(&leases)?;
            if self.take(chosen)? {
                return Ok(leases);
            }
        }
        Err(self.outrun(&leases).into())
    }

    fn choose_next(&mut self, index: usize, set: &RangeSet, before: &[Chosen]) -> Result<Chosen> {
        let directory = self.directory;
        let marker = directory.marker(index)?;
        let last = marker.as_ref().and_then(|marker| marker.last);
        let mut address = self.choose(set, last, before)?;
        if address.is_none() && directory.reclaim_empty()? > 0 {
            address = self.choose(set, last, before)?;
        }
        let Some(address) = address else { return Err(directory.exhaustion(index, set)) };
        Ok(Chosen { address, marker, held: false })
    }

    fn choose(&mut self, set: &RangeSet, last: Option<IpAddr>, before: &[Chosen]) -> Result<Option<IpAddr>> {
        let directory = self.directory;
        let seed = names::hash(self.body.as_bytes());
        let mut listings = 0;
        let free = |address: IpAddr| {
            self.probes += 1;
            let chosen = before.iter().any(|chosen| chosen.address == address);
            // Before it is announced, though making its file would tell it too: what is written down is undone where the
            // writer dies, and with an address that is another's so would be what that one has.
            Ok(!chosen && directory.is_free(&written::address(address))?)
        };
        let list = || {
            listings += 1;
            directory.held()
        };
        let chosen = ipam::choose(set, last, seed, free, list);
        self.listings += listings;
        chosen
    }

    /// An address that is asked for: of a range set, which then has given it last, as with the reference; or of none,
    /// where it was given long ago.
    fn choose_requested(&mut self, set: Option<usize>, address: IpAddr) -> Result<Chosen> {
        self.probes += 1;
        if self.directory.is_free(&written::address(address))? {
            let marker = set.map(|index| self.directory.marker(index)).transpose()?.flatten();
            return Ok(Chosen { address, marker, held: false });
        }
        match self.directory.owner(address)? {
            // Left by an ADD of the same attachment that was killed.
            Some(owner) if owner.text() == self.body => Ok(Chosen { address, marker: None, held: true }),
            Some(owner) => Err(StoreError::AddressTaken { address, owner: owner.to_string() }),
            None => {
                let stat = self.directory.dir.stat(&written::address(address))?;
                let is_directory = stat.is_some_and(|stat| is_directory(&stat));
                let owner =
                    if is_directory { "a directory of that name" } else { "nobody any more" }.to_owned();
                Err(StoreError::AddressTaken { address, owner })
            }
        }
    }

    /// Makes the lease files, each whole; none of them and `false` where another has one of them.
    fn take(&mut self, chosen: Vec<Chosen>) -> Result<bool> {
        let dir = &self.directory.dir;
        // Written once: each lease is a hard link to it.
        let mut content: Option<Nameless> = None;
        let mut linked = Vec::with_capacity(chosen.len());
        let mut outcome = Ok(true);
        for Chosen { address, .. } in chosen.iter().filter(|chosen| !chosen.held) {
            let name = written::address(*address);
            let made =
                match content.take().map_or_else(|| dir.write_nameless(&name, self.body.as_bytes()), Ok) {
                    Ok(nameless) => dir.link(content.insert(nameless), &name),
                    Err(error) => Err(error),
                };
            if !matches!(made, Ok(true)) {
                outcome = made;
                break;
            }
            linked.push(name);
        }
        if let Some(content) = content {
            dir.abandon(content);
        }
        if matches!(outcome, Ok(true)) {
            chosen.into_iter().for_each(Chosen::remember);
        } else {
            for name in linked {
                // The first error is the one to tell; GC finds what is left.
                let _ = dir.unlink(&name);
            }
        }
        outcome
    }

    /// Somebody makes lease files without the lock, and was faster each time.
    fn outrun(&self, leases: &[Lease]) -> StoreError {
        let taken = |lease: &&Lease| {
            !matches!(self.directory.is_free(&written::address(lease.address.ip())), Ok(true))
        };
        let address = leases.iter().find(taken).or(leases.first()).map(|lease| lease.address.ip());
        let address = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        StoreError::AddressTaken {
            address,
            owner: "another program, which takes it without the lock".to_owned(),
        }
    }
}

impl Chosen {
    /// Writes down where the next search begins: a hint, not worth a failed ADD.
    fn remember(self) {
        let Some(Marker { file, length, .. }) = self.marker else { return };
        // Longer than before or shorter: never empty.
        let now = written::address(self.address);
        let _ = file.write_all_at(now.as_bytes(), 0);
        if now.len() < length {
            let _ = file.set_len(now.len() as u64);
        }
    }
}

impl LeaseDirectory {
    fn marker(&self, set: usize) -> Result<Option<Marker>> {
        let file = self.dir.open_file(&marker_name(set), OFlag::O_RDWR | OFlag::O_CREAT)?;
        Ok(file.map(|file| {
            let mut text = [0; 64];
            let length = file.read_at(&mut text, 0).unwrap_or(0);
            let last = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok());
            Marker { file, length, last }
        }))
    }

    /// Whether a name is free. What is torn is removed.
    fn is_free(&self, name: &str) -> Result<bool> {
        match self.found(name)? {
            Found::Nothing => Ok(true),
            Found::Torn => self.dir.unlink(name).map(|_| true),
            Found::Lease { .. } => Ok(false),
        }
    }

    fn found(&self, name: &str) -> Result<Found> {
        Ok(match self.dir.stat(name)? {
            None => Found::Nothing,
            // Taken for good, as to host-local: there is no lease that could be given back.
            Some(stat) if is_directory(&stat) => Found::Lease { written: i64::MAX },
            Some(stat) if stat.st_size == 0 => Found::Torn,
            // Two bytes can be no more than the separator of a torn write: only so short a file is worth reading.
            Some(stat) if stat.st_size <= 2 && self.names_nobody(name)? => Found::Torn,
            Some(stat) => Found::Lease { written: stat.st_mtime },
        })
    }

    fn names_nobody(&self, name: &str) -> Result<bool> {
        Ok(self.dir.read(name)?.is_some_and(|content| content.iter().all(u8::is_ascii_whitespace)))
    }

    /// Removes all empty lease files. Only where nothing else is left to give.
    fn reclaim_empty(&self) -> Result<usize> {
        let mut reclaimed = 0;
        for address in self.held()? {
            reclaimed += usize::from(self.is_free(&written::address(address))?);
        }
        Ok(reclaimed)
    }

    /// Says of the first range set that has no free address that it is exhausted. One listing; files are looked at only
    /// where a set seems full: what is torn is as good as free, and so is in a shared directory a lease of an earlier
    /// boot, as [`LeaseDirectory::sweep_boot`] knows it by `boot` (its ID, and when it began).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn exhausted(
        &self,
        range_sets: &[RangeSet],
        boot: Option<(&str, SystemTime)>,
    ) -> Result<Option<StoreError>> {
        let held = self.held()?;
        for (index, set) in range_sets.iter().enumerate() {
            let pool = Pool::new(set);
            let taken: Vec<IpAddr> = held.iter().copied().filter(|address| pool.contains(*address)).collect();
            let count = u128::try_from(taken.len()).unwrap_or(u128::MAX);
            if count >= ipam::capacity(set) && !self.any_gives_way(&taken, boot)? {
                return Ok(Some(self.exhaustion(index, set)));
            }
        }
        Ok(None)
    }

    /// Whether an ADD would take one of these for its own.
    fn any_gives_way(&self, taken: &[IpAddr], boot: Option<(&str, SystemTime)>) -> Result<bool> {
        let unswept = match boot.filter(|_| self.is_shared()) {
            Some((id, began)) if !self.is_swept(id)? => boot_second(began),
            _ => 0,
        };
        for address in taken {
            match self.found(&written::address(*address))? {
                Found::Lease { written } if !is_before(written, unswept) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    fn exhaustion(&self, index: usize, set: &RangeSet) -> StoreError {
        exhaustion(index, set, self.path())
    }

    /// The address that a range set gave last, where that was written down.
    pub(super) fn last_given(&self, set: usize) -> Option<IpAddr> {
        let text = self.dir.read(&marker_name(set)).ok().flatten()?;
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

fn marker_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
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
