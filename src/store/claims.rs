//! Claims of published ports: one owner for each (protocol, host address, port).
//!
//! A claim is a symbolic link, whose target is the owner's text: symlink(2) is atomic and exclusive, and readlink(2)
//! reads it in one call.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::state::{State, key_name};
use super::{Result, StoreError};
use crate::model::{AttachmentKey, Protocol, Publication};

/// A claim as it is found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address and port; the unspecified address stands for all of its family.
    pub host: SocketAddr,
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
        let mut made = Vec::new();
        let mut directories = Vec::new();
        for publication in publications {
            if let Err(error) = self.claim_one(publication, &owner, &mut made, &mut directories) {
                for publication in made {
                    // What cannot be undone is found by `claims_of_unknown`.
                    let _ = self.unclaim(publication);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Releases what the attachment holds of these publications. Fine where it holds none of them.
    ///
    /// # Errors
    /// The first [`StoreError::Io`], after all were tried.
    pub fn release(&self, publications: &[Publication], owner: &AttachmentKey) -> Result<()> {
        let owner = key_name(owner)?;
        let mut outcome = Ok(());
        for publication in publications {
            let released = match self.target(&link(publication)) {
                Ok(Some(holder)) if holder == owner => self.unclaim(publication),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            outcome = outcome.and(released);
        }
        outcome
    }

    /// Who holds a publication, or one that collides with it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn owner(&self, publication: &Publication) -> Result<Option<String>> {
        if let Some(owner) = self.target(&link(publication))? {
            return Ok(Some(owner));
        }
        self.collision(publication, None)
    }

    /// All claims of owners that `exists` does not know: what a killed ADD left. For GC, under the main lock:
    /// directories of ports that nobody holds are removed on the way.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn claims_of_unknown(&self, exists: impl Fn(&AttachmentKey) -> bool) -> Result<Vec<Claim>> {
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
        for directory in self.dir.names("ports")? {
            let Some((protocol, port)) = parse_directory(&directory) else { continue };
            for name in self.dir.names(&format!("ports/{directory}"))? {
                let Some(address) = parse_address(&name) else { continue };
                if let Some(owner) = self.target(&format!("ports/{directory}/{name}"))? {
                    claims.push(Claim { protocol, host: SocketAddr::new(address, port), owner });
                }
            }
        }
        Ok(claims)
    }

    /// Removes a claim that [`State::claims_of_unknown`] found. Fine where it is gone.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn drop_claim(&self, claim: &Claim) -> Result<()> {
        self.unclaim(&Publication { protocol: claim.protocol, host: claim.host, target: claim.host })
    }

    fn claim_one<'a>(
        &self,
        publication: &'a Publication,
        owner: &str,
        made: &mut Vec<&'a Publication>,
        ours: &mut Vec<String>,
    ) -> Result<()> {
        let (directory, link) = (directory(publication), link(publication));
        let failed = |error| self.dir.error("create", &link, error);
        if !ours.contains(&directory) {
            let make = || self.dir.in_parent(&directory, |fd| mkdirat(fd, directory.as_str(), Mode::S_IRWXU));
            match make() {
                // Nobody else has a claim on this port: no need to look.
                Ok(()) => ours.push(directory.clone()),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        match symlinkat(owner, &self.dir, link.as_str()) {
            Ok(()) => made.push(publication),
            Err(Errno::EEXIST) => match self.target(&link)? {
                Some(holder) if holder != owner => {
                    return Err(StoreError::Claimed { publication: *publication, owner: holder });
                }
                _ => {}
            },
            Err(error) => return Err(failed(error)),
        }
        if ours.contains(&directory) {
            return Ok(());
        }
        match self.collision(publication, Some(owner))? {
            Some(owner) => Err(StoreError::Claimed { publication: *publication, owner }),
            None => Ok(()),
        }
    }

    /// Another's claim on the same port whose address covers this one, or is covered by it.
    fn collision(&self, publication: &Publication, except: Option<&str>) -> Result<Option<String>> {
        let directory = directory(publication);
        for name in self.dir.names(&directory)? {
            let Some(address) = parse_address(&name) else { continue };
            let other =
                Publication { host: SocketAddr::new(address, publication.host.port()), ..*publication };
            if other.collides(publication)
                && let Some(owner) = self.target(&format!("{directory}/{name}"))?
                && except != Some(owner.as_str())
            {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    fn target(&self, link: &str) -> Result<Option<String>> {
        match readlinkat(&self.dir, link) {
            Ok(text) => Ok(Some(text.to_string_lossy().into_owned())),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(self.dir.error("read", link, error)),
        }
    }

    fn unclaim(&self, publication: &Publication) -> Result<()> {
        self.dir.unlink(&link(publication))?;
        self.remove_if_empty(&directory(publication))
    }

    fn remove_if_empty(&self, directory: &str) -> Result<()> {
        match unlinkat(&self.dir, directory, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::ENOENT | Errno::EEXIST | Errno::ENOTDIR) => Ok(()),
            Err(error) => Err(self.dir.error("remove", directory, error)),
        }
    }
}

fn directory(publication: &Publication) -> String {
    format!("ports/{}-{}", publication.protocol, publication.host.port())
}

fn link(publication: &Publication) -> String {
    let address = publication.host.ip();
    let family = if address.is_ipv4() { 4 } else { 6 };
    format!("{}/{family}-{address}", directory(publication))
}

fn parse_directory(name: &str) -> Option<(Protocol, u16)> {
    let (protocol, port) = name.split_once('-')?;
    Some((Protocol::from_name(protocol)?, port.parse().ok()?))
}

fn parse_address(name: &str) -> Option<IpAddr> {
    name.split_once('-')?.1.parse().ok()
}
