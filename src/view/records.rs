//! What linkspan has written down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::{AttachmentKey, LeaseSource, Network};
use crate::plan::Plan;
use crate::store::{Claim, DatedLease, Found, State};

use super::{ViewError, Wants, service};

/// The state directory, read.
#[derive(Debug, Default)]
pub struct Records {
    /// Where it is.
    pub root: PathBuf,
    /// The networks, by name.
    pub networks: Vec<Network>,
    /// The attachments, the oldest first.
    pub attachments: Vec<Found<Plan>>,
    /// The claims of host ports, where they were asked for.
    pub claims: Vec<Claim>,
    /// The lease files, where they were asked for.
    pub leases: Vec<LeaseFile>,
    /// Files that are no record, and why: they hide nothing else.
    pub unreadable: Vec<String>,
    /// Whether some attachment needs the agent, and it is not there; no where that was not asked for.
    pub agent_missing: bool,
}

/// A lease file and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFile {
    /// Its network, which is the directory's name.
    pub network: String,
    /// Its directory.
    pub directory: PathBuf,
    /// What it says.
    pub dated: DatedLease,
}

/// By when the ADD began; records without microseconds by their second.
fn age(found: &Found<Plan>) -> (u64, u64, &AttachmentKey) {
    (found.record.created, found.record.begun, &found.record.key)
}

impl Records {
    /// Reads the state directory; one that does not exist is empty.
    ///
    /// # Errors
    /// [`ViewError::NotAllowed`] where it belongs to root and we do not; [`ViewError::Store`].
    pub fn read(root: &Path, wants: Wants) -> Result<Self, ViewError> {
        let mut records = Self { root: root.to_owned(), ..Self::default() };
        let Some(state) = State::open_existing(root)? else { return Ok(records) };
        let (mut networks, broken) = state.networks()?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        records.networks = networks;
        records.unreadable.extend(broken.iter().map(ToString::to_string));
        let all = state.all_by_two::<Plan>()?;
        records.attachments = all.found;
        records.attachments.sort_by(|a, b| age(a).cmp(&age(b)));
        records.unreadable.extend(all.broken.iter().map(|broken| broken.error.to_string()));
        records.agent_missing = wants.agent && service::is_agent_missing(root, &records.attachments);
        if wants.claims {
            records.claims = state.claims()?;
        }
        if wants.leases {
            records.read_leases(&state)?;
        }
        Ok(records)
    }

    /// Every lease directory that anybody mentions: those of our own, those of networks, those of attachments.
    fn read_leases(&mut self, state: &State) -> Result<(), ViewError> {
        let mut directories: BTreeSet<PathBuf> = state.own_lease_directories()?.into_iter().collect();
        directories
            .extend(self.networks.iter().filter_map(|network| network.leases.clone()).map(PathBuf::from));
        for found in &self.attachments {
            if let Some(LeaseSource::Files { directory }) =
                found.record.plan.leases().map(|step| &step.source)
            {
                directories.insert(directory.into());
            }
        }
        for path in directories {
            let Some(directory) = state.existing_lease_directory(&path)? else { continue };
            let network = self.network_of(&path);
            for dated in directory.dated_leases()? {
                self.leases.push(LeaseFile { network: network.clone(), directory: path.clone(), dated });
            }
        }
        Ok(())
    }

    fn network_of(&self, directory: &Path) -> String {
        let recorded = self.networks.iter().find(|n| n.leases.as_deref().map(Path::new) == Some(directory));
        let file_name = || directory.file_name().map(|name| name.to_string_lossy().into_owned());
        recorded.map(|network| network.name.clone()).or_else(file_name).unwrap_or_default()
    }

    /// The record of a network.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }
}
