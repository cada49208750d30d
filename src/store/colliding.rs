//! Which claims of published ports collide: they have a port in common, and an address that is the same, or a wildcard of
//! its family.

use std::net::SocketAddr;

use super::Result;
use super::claims::{link, parse_address};
use super::state::State;
use crate::model::{Protocol, Publication};

/// What a claim may collide with, looked up once for many: every claimed range, and, where a range is asked for, the
/// single ports that have a claim.
pub(super) struct Around {
    ranges: Vec<Publication>,
    singles: Vec<(Protocol, u16)>,
}

impl State {
    /// Who holds a publication, or one that collides with it.
    ///
    /// # Errors
    /// [`super::StoreError::Io`].
    pub fn owner(&self, publication: &Publication) -> Result<Option<String>> {
        if let Some(owner) = self.target(&link(publication))? {
            return Ok(Some(owner));
        }
        let around = self.around(std::slice::from_ref(publication))?;
        Ok(self.collisions(publication, &around)?.into_iter().next())
    }

    /// Those of the publications that somebody holds, or that collide with what somebody holds, with each owner: a wildcard
    /// may collide with several.
    ///
    /// # Errors
    /// [`super::StoreError::Io`].
    pub fn owners(&self, publications: &[Publication]) -> Result<Vec<(Publication, String)>> {
        let around = self.around(publications)?;
        let mut owners = Vec::new();
        for publication in publications {
            let mut found = self.collisions(publication, &around)?;
            found.sort_unstable();
            found.dedup();
            owners.extend(found.into_iter().map(|owner| (*publication, owner)));
        }
        Ok(owners)
    }

    pub(super) fn around(&self, publications: &[Publication]) -> Result<Around> {
        let some_range = publications.iter().any(Publication::is_range);
        let singles = if some_range { self.singles()? } else { Vec::new() };
        Ok(Around { ranges: self.ranges()?, singles })
    }

    /// The owner of a claim that collides and is another's than `own`.
    pub(super) fn collision(
        &self,
        publication: &Publication,
        around: &Around,
        own: &str,
    ) -> Result<Option<String>> {
        Ok(self.collisions(publication, around)?.into_iter().find(|owner| owner != own))
    }

    /// The same among the claimed ranges.
    pub(super) fn range_collision(
        &self,
        publication: &Publication,
        around: &Around,
        own: &str,
    ) -> Result<Option<String>> {
        Ok(self.colliding_ranges(publication, around)?.into_iter().find(|owner| owner != own))
    }

    /// The owner of each claim that collides.
    fn collisions(&self, publication: &Publication, around: &Around) -> Result<Vec<String>> {
        let mut owners = self.colliding_ranges(publication, around)?;
        if !publication.is_range() {
            owners.extend(self.colliding_singles(publication, publication.host.port())?);
            return Ok(owners);
        }
        let ports = publication.host.port()..=publication.last_host_port();
        for (protocol, port) in &around.singles {
            if *protocol == publication.protocol && ports.contains(port) {
                owners.extend(self.colliding_singles(publication, *port)?);
            }
        }
        Ok(owners)
    }

    fn colliding_ranges(&self, publication: &Publication, around: &Around) -> Result<Vec<String>> {
        let mut owners = Vec::new();
        for range in around.ranges.iter().filter(|range| range.collides(publication)) {
            owners.extend(self.target(&link(range))?);
        }
        Ok(owners)
    }

    /// Among the claims of one single port.
    fn colliding_singles(&self, publication: &Publication, port: u16) -> Result<Vec<String>> {
        let directory = format!("ports/{}-{port}", publication.protocol);
        let mut owners = Vec::new();
        for name in self.dir.names(&directory)? {
            let Some(address) = parse_address(&name) else { continue };
            let other = Publication { host: SocketAddr::new(address, port), count: 1, ..*publication };
            if other.collides(publication) {
                owners.extend(self.target(&format!("{directory}/{name}"))?);
            }
        }
        Ok(owners)
    }
}
