//! Records of networks: what their first ADD chose, and what was last written to the kernel for them.

use super::state::{State, network_name};
use super::{Result, StoreError};
use crate::model::Network;

impl State {
    /// The record of a network; `None` where it has none.
    ///
    /// # Errors
    /// [`StoreError::Broken`] where the file does not read as one, [`StoreError::Io`].
    pub fn network(&self, name: &str) -> Result<Option<Network>> {
        let file = path(name)?;
        let Some(content) = self.dir.read(&file)? else { return Ok(None) };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|source| StoreError::Broken { path: self.dir.path().join(file), source })
    }

    /// Writes the record of a network, in one piece. Under the main lock.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old record stays.
    pub fn put_network(&self, record: &Network) -> Result<()> {
        let file = path(&record.name)?;
        let content = serde_json::to_vec(record)
            .map_err(|source| StoreError::Encode { path: self.dir.path().join(&file), source })?;
        self.dir.replace(&file, &content, |_| Ok(()))
    }

    /// Whether a network has a record, without reading any.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn has_networks(&self) -> Result<bool> {
        Ok(!self.dir.names("networks")?.is_empty())
    }

    /// All networks that have a record, and the records that cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn networks(&self) -> Result<(Vec<Network>, Vec<StoreError>)> {
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for file in self.dir.names("networks")? {
            let file = format!("networks/{file}");
            let Some(content) = self.dir.read(&file)? else { continue };
            match serde_json::from_slice(&content) {
                Ok(record) => records.push(record),
                Err(source) => {
                    broken.push(StoreError::Broken { path: self.dir.path().join(file), source });
                }
            }
        }
        Ok((records, broken))
    }
}

fn path(network: &str) -> Result<String> {
    Ok(format!("networks/{}.json", network_name(network)?))
}
