//! What the reference `tuning` keeps of an interface: a file `ID_IF.json` in its data directory.

use std::path::Path;

use super::files::Dir;
use super::{Result, StoreError};
use crate::model::LinkSettings;

/// What was saved; `None` where nothing was, or what is there does not read as settings (the reference passes over
/// such a file as well).
///
/// # Errors
/// [`StoreError::Io`] with the path.
pub fn saved_settings(path: &Path) -> Result<Option<LinkSettings>> {
    let Some((dir, name)) = place(path)? else { return Ok(None) };
    let content = dir.read(name)?;
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}

/// Saves settings for whoever restores them, the reference or ours.
///
/// # Errors
/// [`StoreError::Io`] with the path.
pub fn save_settings(path: &Path, settings: &LinkSettings) -> Result<()> {
    let Some((directory, name)) = split(path) else { return Ok(()) };
    let content = serde_json::to_vec_pretty(settings)
        .map_err(|source| StoreError::Encode { path: path.to_owned(), source })?;
    Dir::open_or_make(directory, 0o700)?.replace(name, &content, |_| Ok(()))
}

/// Removes what was saved; that there is nothing is as good.
///
/// # Errors
/// [`StoreError::Io`] with the path.
pub fn forget_settings(path: &Path) -> Result<()> {
    let Some((dir, name)) = place(path)? else { return Ok(()) };
    dir.unlink_remains(name)?;
    dir.unlink(name).map(drop)
}

/// The directory of a file, open, and the file's name; `None` where the directory does not exist.
fn place(path: &Path) -> Result<Option<(Dir, &str)>> {
    let Some((directory, name)) = split(path) else { return Ok(None) };
    match Dir::open(directory) {
        Ok(dir) => Ok(Some((dir, name))),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(source) => Err(StoreError::Io { action: "open", path: directory.to_owned(), source }),
    }
}

fn split(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}
