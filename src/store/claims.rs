//! Claims of published ports: one owner for each (protocol, host address, port).
//!
//! A claim is a symbolic link, whose target is the owner's text: symlink(2) is atomic and exclusive, and readlink(2)
//! reads it in one call. What one may collide with: see [`super::colliding`]. A single port is `ports/tcp-8080/4-0.0.0.0`, a range of ports
//! `ranges/tcp-8000-8010-4-0.0.0.0`: a range costs one link, and a port on a host without ranges one look for the
//! directory that is not there. Who waits for a port has a link in the same directory: see [`super::waiting`].

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::colliding::Around;
use super::state::{State, key_name};
use super::{Result, StoreError};
use crate::model::{AttachmentKey, Protocol, Publication};

/// The directory of the claims of ranges.
pub(super) const RANGES: &str = "ranges";

/// A claim as it is found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address and (first) port; the unspecified address stands for all of its family.
    pub host: SocketAddr,
    /// How many consecutive ports.
    pub count: u16,
    /// Who holds it, as text: `ID:IF`.
    pub owner: String,
}

impl State {
    /// Claims all publications for an attachment, or none. What it holds already is fine. Under the main lock.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] with the first that another has, where a wildcard covers every address of its family;
    /// [`StoreError::Io`].
    pub fn claim(&self, publications: &[Publication], owner: &AttachmentKey) -> Result<()> {
        let owner = key_name(owner)?;
        let around = self.around(publications)?;
        let mut made = Vec::new();
        // Directories that this call has made: nobody else can have a claim in them.
        let mut directories = HashSet::new();
        for publication in publications {
            let claimed = match publication.is_range() {
                true => self.claim_range(publication, &owner, &around, &mut made),
                false => self.claim_one(publication, &owner, &around, (&mut made, &mut directories)),
            };
            if let Err(error) = claimed {
                for publication in made {
                    // What cannot be undone is found by `claims_of_unknown`.
                    let _ = self.unclaim(publication);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Releases what the attachment holds of these publications. Fine where it holds none of them. Gives who waits for
    /// some of it: looked for only where a directory is not empty when all of these are gone from it, or where something
    /// was gone already, perhaps by one that has told nobody.
    ///
    /// # Errors
    /// The first [`StoreError::Io`], after all were tried: beside those who wait for what was released all the same.
    pub fn release(
        &self,
        publications: &[Publication],
        owner: &AttachmentKey,
    ) -> (Vec<AttachmentKey>, Result<()>) {
        let owner = match key_name(owner) {
            Ok(owner) => owner,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut outcome = Ok(());
        let mut shared = HashSet::new();
        for publication in publications {
            let released = match self.target(&link(publication)) {
                Ok(Some(holder)) if holder == owner => self.unclaim(publication).map(|alone| {
                    let directory = directory(publication);
                    if alone {
                        shared.remove(&directory)
                    } else {
                        shared.insert(directory)
                    };
                }),
                Ok(Some(_)) => Ok(()),
                Ok(None) => {
                    shared.insert(directory(publication));
                    Ok(())
                }
                Err(error) => Err(error),
            };
            outcome = outcome.and(released);
        }
        match self.waiters(&shared) {
            Ok(waiters) => (waiters, outcome),
            Err(error) => (Vec::new(), outcome.and(Err(error))),
        }
    }

    /// Every port that has a claim on some address, as protocol, first port and count.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn claimed_ports(&self) -> Result<Vec<(Protocol, u16, u16)>> {
        let mut ports: Vec<_> =
            self.ranges()?.iter().map(|range| (range.protocol, range.host.port(), range.count)).collect();
        ports.extend(self.singles()?.into_iter().map(|(protocol, port)| (protocol, port, 1)));
        Ok(ports)
    }

    /// All claims of owners that `exists` does not know: what a killed ADD left. For GC, under the main lock:
    /// directories of ports that nobody holds are removed on the way.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn claims_of_unknown(&self, exists: impl Fn(&AttachmentKey) -> bool) -> Result<Vec<Claim>> {
        self.drop_waiters_of_unknown(&exists)?;
        for directory in self.dir.names("ports")? {
            self.remove_if_empty(&format!("ports/{directory}"))?;
        }
        let mut claims = self.claims()?;
        claims.retain(|claim| !AttachmentKey::parse(&claim.owner).is_some_and(|key| exists(&key)));
        Ok(claims)
    }

    /// All claims.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn claims(&self) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for range in self.ranges()? {
            if let Some(owner) = self.target(&link(&range))? {
                claims.push(Claim { protocol: range.protocol, host: range.host, count: range.count, owner });
            }
        }
        for directory in self.dir.names("ports")? {
            let Some((protocol, port)) = parse_directory(&directory) else { continue };
            for name in self.dir.names(&format!("ports/{directory}"))? {
                let Some(address) = parse_address(&name) else { continue };
                if let Some(owner) = self.target(&format!("ports/{directory}/{name}"))? {
                    let host = SocketAddr::new(address, port);
                    claims.push(Claim { protocol, host, count: 1, owner });
                }
            }
        }
        Ok(claims)
    }

    /// Removes a claim that [`State::claims_of_unknown`] found. Fine where it is gone. Gives who waits for it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn drop_claim(&self, claim: &Claim) -> Result<Vec<AttachmentKey>> {
        let (host, count) = (claim.host, claim.count);
        let publication = Publication { protocol: claim.protocol, host, target: host, count };
        match self.unclaim(&publication)? {
            true => Ok(Vec::new()),
            false => self.waiters(&HashSet::from([directory(&publication)])),
        }
    }

    /// The claimed ranges, without targets.
    pub(super) fn ranges(&self) -> Result<Vec<Publication>> {
        Ok(self.dir.names(RANGES)?.iter().filter_map(|name| parse_range(name)).collect())
    }

    /// The single ports that have a claim.
    pub(super) fn singles(&self) -> Result<Vec<(Protocol, u16)>> {
        Ok(self.dir.names("ports")?.iter().filter_map(|name| parse_directory(name)).collect())
    }

    fn claim_one<'a>(
        &self,
        publication: &'a Publication,
        owner: &str,
        around: &Around,
        (made, ours): (&mut Vec<&'a Publication>, &mut HashSet<String>),
    ) -> Result<()> {
        let (directory, link) = (directory(publication), link(publication));
        let failed = |error| self.dir.error("create", &link, error);
        let mut alone = ours.contains(&directory);
        if !alone {
            let make = || self.dir.in_parent(&directory, |fd| mkdirat(fd, directory.as_str(), Mode::S_IRWXU));
            match make() {
                Ok(()) => alone = ours.insert(directory),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.link_claim(publication, owner, made)?;
        let taken = match alone {
            true => self.range_collision(publication, around, owner)?,
            false => self.collision(publication, around, owner)?,
        };
        taken.map_or(Ok(()), |owner| Err(StoreError::Claimed { publication: *publication, owner }))
    }

    fn claim_range<'a>(
        &self,
        publication: &'a Publication,
        owner: &str,
        around: &Around,
        made: &mut Vec<&'a Publication>,
    ) -> Result<()> {
        match self.collision(publication, around, owner)? {
            Some(owner) => Err(StoreError::Claimed { publication: *publication, owner }),
            None => self.link_claim(publication, owner, made),
        }
    }

    fn link_claim<'a>(
        &self,
        publication: &'a Publication,
        owner: &str,
        made: &mut Vec<&'a Publication>,
    ) -> Result<()> {
        let link = link(publication);
        match self.dir.in_parent(&link, |fd| symlinkat(owner, fd, link.as_str())) {
            Ok(()) => made.push(publication),
            Err(Errno::EEXIST) => match self.target(&link)? {
                Some(holder) if holder != owner => {
                    return Err(StoreError::Claimed { publication: *publication, owner: holder });
                }
                _ => {}
            },
            Err(error) => return Err(self.dir.error("create", &link, error)),
        }
        Ok(())
    }

    pub(super) fn target(&self, link: &str) -> Result<Option<String>> {
        match readlinkat(&self.dir, link) {
            Ok(text) => Ok(Some(text.to_string_lossy().into_owned())),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(self.dir.error("read", link, error)),
        }
    }

    /// Whether nothing else is left in its directory.
    fn unclaim(&self, publication: &Publication) -> Result<bool> {
        self.dir.unlink(&link(publication))?;
        self.remove_if_empty(&directory(publication))
    }

    /// Whether it is gone, or was.
    pub(super) fn remove_if_empty(&self, directory: &str) -> Result<bool> {
        match unlinkat(&self.dir, directory, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(true),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
            Err(error) => Err(self.dir.error("remove", directory, error)),
        }
    }
}

pub(super) fn directory(publication: &Publication) -> String {
    if publication.is_range() {
        return RANGES.to_owned();
    }
    format!("ports/{}-{}", publication.protocol, publication.host.port())
}

pub(super) fn link(publication: &Publication) -> String {
    let address = publication.host.ip();
    let family = if address.is_ipv4() { 4 } else { 6 };
    if publication.is_range() {
        let (first, last) = (publication.host.port(), publication.last_host_port());
        return format!("{RANGES}/{}-{first}-{last}-{family}-{address}", publication.protocol);
    }
    format!("{}/{family}-{address}", directory(publication))
}

fn parse_directory(name: &str) -> Option<(Protocol, u16)> {
    let (protocol, port) = name.split_once('-')?;
    Some((Protocol::from_name(protocol)?, port.parse().ok()?))
}

pub(super) fn parse_address(name: &str) -> Option<IpAddr> {
    name.split_once('-')?.1.parse().ok()
}

/// The range that a link's name says; its target is not known and stands as the host's side.
fn parse_range(name: &str) -> Option<Publication> {
    let mut words = name.splitn(4, '-');
    let protocol = Protocol::from_name(words.next()?)?;
    let (first, last): (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let host = SocketAddr::new(parse_address(words.next()?)?, first);
    let count = last.checked_sub(first)?.checked_add(1)?;
    Some(Publication { protocol, host, target: host, count })
}
