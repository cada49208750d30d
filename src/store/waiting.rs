//! Who waits for published ports that another interface of the same container has.
//!
//! A link `wait-HASH` in the directory of the claim, whose target is the one who waits. It is none of a claim's names, so
//! that nobody is kept out by it. The directory does not go with the claim then, which tells whoever lets that go.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::Result;
use super::claims::{RANGES, directory};
use super::record::{RECORD_VERSION, Record};
use super::state::{State, key_name};
use crate::model::{AttachmentKey, Publication, names};

/// What the names of such links begin with.
const PREFIX: &str = "wait-";

impl State {
    /// Notes that an attachment waits for ports. Under the main lock.
    ///
    /// # Errors
    /// [`super::StoreError::Io`].
    pub fn wait_for(&self, publications: &[Publication], who: &AttachmentKey) -> Result<()> {
        let who = key_name(who)?;
        for directory in directories(publications) {
            let link = link(&directory, &who);
            let make = |path: &str| self.dir.in_parent(path, |fd| mkdirat(fd, path, Mode::S_IRWXU));
            match make(&directory) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.dir.error("create", &directory, error)),
            }
            match symlinkat(who.as_str(), &self.dir, link.as_str()) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.dir.error("create", &link, error)),
            }
        }
        Ok(())
    }

    /// The attachment waits no more for these, but for others `still`, whose links are never away. Fine where it did not.
    ///
    /// # Errors
    /// [`super::StoreError::Io`].
    pub fn stop_waiting(
        &self,
        publications: &[Publication],
        still: &[Publication],
        who: &AttachmentKey,
    ) -> Result<()> {
        let who = key_name(who)?;
        for directory in directories(publications).difference(&directories(still)) {
            self.dir.unlink(&link(directory, &who))?;
            self.remove_if_empty(directory)?;
        }
        Ok(())
    }

    /// Puts the record of a complete attachment in the place of the one that is there. Under the main lock.
    ///
    /// # Errors
    /// [`super::StoreError::Io`]; the old record stays.
    pub fn rewrite_ready<P: serde::Serialize>(&self, record: &Record<P>) -> Result<()> {
        debug_assert_eq!(record.version, RECORD_VERSION, "a record of ours");
        let path = format!("ready/{}", key_name(&record.key)?);
        let content = super::records::encode(&self.dir, &path, record)?;
        self.dir.replace(&path, &content, |_| Ok(()))
    }

    /// Removes what one that was killed may have left, who was about to rewrite the record of a complete attachment. It has
    /// left `ready` by now, so that nobody else is.
    ///
    /// # Errors
    /// [`super::StoreError::Io`].
    pub fn forget_rewrite(&self, key: &AttachmentKey) -> Result<()> {
        self.dir.unlink_remains(&format!("ready/{}", key_name(key)?))
    }

    /// Who waits in these directories.
    pub(super) fn waiters(&self, directories: &HashSet<String>) -> Result<Vec<AttachmentKey>> {
        let mut waiters = Vec::new();
        for directory in directories {
            for name in self.dir.names(directory)?.iter().filter(|name| name.starts_with(PREFIX)) {
                let who = self.target(&format!("{directory}/{name}"))?;
                waiters.extend(who.and_then(|who| AttachmentKey::parse(&who)));
            }
        }
        waiters.sort_unstable();
        waiters.dedup();
        Ok(waiters)
    }

    /// Removes the links of those that have no record any more.
    pub(super) fn drop_waiters_of_unknown(&self, exists: impl Fn(&AttachmentKey) -> bool) -> Result<()> {
        let ports = self.dir.names("ports")?.into_iter().map(|name| format!("ports/{name}"));
        for directory in ports.chain([RANGES.to_owned()]) {
            for name in self.dir.names(&directory)?.iter().filter(|name| name.starts_with(PREFIX)) {
                let link = format!("{directory}/{name}");
                let who = self.target(&link)?.and_then(|who| AttachmentKey::parse(&who));
                if !who.is_some_and(|who| exists(&who)) {
                    self.dir.unlink(&link)?;
                }
            }
            self.remove_if_empty(&directory)?;
        }
        Ok(())
    }
}

fn directories(publications: &[Publication]) -> HashSet<String> {
    publications.iter().map(directory).collect()
}

/// An ID may be as long as a file's name: it is told by the target.
fn link(directory: &str, who: &str) -> String {
    format!("{directory}/{PREFIX}{:016x}", names::hash(who.as_bytes()))
}
