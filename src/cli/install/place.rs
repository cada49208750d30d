//! A directory of plugins.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::OWN;
use crate::cli::error::Error;
use crate::doctor;

/// What the name of a program that is kept aside ends in.
const KEPT: &str = ".linkspan-backup";
/// Where `make install` puts a link for shells, if nobody says another prefix.
const COMMANDS: &str = "/usr/local/bin";
/// The running binary.
const SELF: &str = "/proc/self/exe";

/// A directory of plugins.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// Whether everything is only looked at: the words are the same.
    is_dry: bool,
}

/// What a name in the directory stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing.
    Absent,
    /// linkspan, or a link to it.
    Ours,
    /// Something else; where it is a symbolic link, what it says.
    Another(Option<String>),
}

impl Place {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), is_dry: false }
    }

    /// The same, of which nothing is changed.
    pub(super) fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{KEPT}"))
    }

    pub(super) fn has_backup(&self, name: &str) -> bool {
        fs::symlink_metadata(self.kept(name)).is_ok()
    }

    pub(super) fn make_directory(&self) -> Result<(), Error> {
        if self.is_dry {
            return Ok(());
        }
        fs::create_dir_all(&self.directory).map_err(|source| failed("create", &self.directory, source))
    }

    /// Whose a name is.
    pub(super) fn look(&self, name: &str) -> io::Result<Entry> {
        let path = self.path(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entry::Absent),
            Err(error) => return Err(error),
        };
        if found.is_symlink() {
            let target = fs::read_link(&path)?;
            let ours = target == Path::new(OWN) || same_file(&path, &self.path(OWN));
            let said = target.display().to_string();
            return Ok(if ours { Entry::Ours } else { Entry::Another(Some(said)) });
        }
        let is_own_name = name == OWN;
        let ours = (!is_own_name && same_file(&path, &self.path(OWN)))
            || (is_own_name && doctor::is_linkspan(&path)?);
        Ok(if ours { Entry::Ours } else { Entry::Another(None) })
    }

    /// Those of the names, and `linkspan` itself, that are another's.
    pub(super) fn strangers(&self, names: &[&'static str]) -> Result<Vec<String>, Error> {
        let mut strangers = Vec::new();
        for name in [OWN].iter().chain(names) {
            let path = self.path(name);
            if let Entry::Another(_) = self.look(name).map_err(|source| failed("look at", &path, source))? {
                strangers.push(path.display().to_string());
            }
        }
        Ok(strangers)
    }

    /// Copies the running binary to `linkspan`; says so.
    pub(super) fn put_binary(&self, force: bool) -> Result<String, Error> {
        let path = self.path(OWN);
        let text = path.display().to_string();
        if same_file(&path, Path::new(SELF)) {
            return Ok(format!("{text} is this binary"));
        }
        let found = self.look(OWN).map_err(|source| failed("look at", &path, source))?;
        if !self.is_dry {
            if matches!(found, Entry::Another(_)) && !force {
                self.keep_aside(OWN)?;
            }
            let next = self.directory.join(format!(".{OWN}.new-{}", std::process::id()));
            let written = copy(&next).and_then(|()| fs::rename(&next, &path));
            if let Err(source) = written {
                let _ = fs::remove_file(&next);
                return Err(failed("write", &path, source));
            }
        }
        Ok(if found == Entry::Absent { format!("installed {text}") } else { format!("replaced {text}") })
    }

    /// Makes a name a link to `linkspan`; says what became of what was there.
    pub(super) fn take(&self, name: &str, backup: bool) -> Result<String, Error> {
        let path = self.path(name);
        let found = self.look(name).map_err(|source| failed("look at", &path, source))?;
        if found == Entry::Ours {
            return Ok(format!("{name}: a link to {OWN} already"));
        }
        let stranger = matches!(found, Entry::Another(_));
        if !self.is_dry {
            if stranger && backup {
                self.keep_aside(name)?;
            }
            let next = self.directory.join(format!(".{name}.new-{}", std::process::id()));
            let _ = fs::remove_file(&next);
            symlink(OWN, &next)
                .and_then(|()| fs::rename(&next, &path))
                .map_err(|source| failed("make the link", &path, source))?;
        }
        Ok(match (stranger, backup) {
            (false, _) => format!("{name}: a link to {OWN}"),
            (true, true) => format!("{name}: a link to {OWN}; what was there is {name}{KEPT}"),
            (true, false) => format!("{name}: a link to {OWN}; what was there is gone"),
        })
    }

    /// Gives a name that is ours back to what was kept aside, or takes it away; whether something was kept, `None` where
    /// the name is not ours.
    pub(super) fn give_back(&self, name: &str) -> Result<Option<bool>, Error> {
        let path = self.path(name);
        if self.look(name).map_err(|source| failed("look at", &path, source))? != Entry::Ours {
            return Ok(None);
        }
        self.leave(name).map(Some)
    }

    /// Puts what was kept aside in the place of what is ours, or takes that away; whether something was kept.
    fn leave(&self, name: &str) -> Result<bool, Error> {
        let path = self.path(name);
        let has_backup = self.has_backup(name);
        match (self.is_dry, has_backup) {
            (true, _) => {}
            (false, true) => {
                fs::rename(self.kept(name), &path).map_err(|source| failed("bring back", &path, source))?;
            }
            (false, false) => fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?,
        }
        Ok(has_backup)
    }

    /// Takes the binary away; says so, and whether nobody has its name now.
    pub(super) fn remove_binary(&self) -> Result<(String, bool), Error> {
        let path = self.path(OWN);
        let text = path.display().to_string();
        match self.look(OWN).map_err(|source| failed("look at", &path, source))? {
            Entry::Absent => return Ok((format!("{text} is not there"), true)),
            Entry::Another(_) => return Ok((format!("{text} is another program: left alone"), false)),
            Entry::Ours => {}
        }
        let is_back = self.leave(OWN)?;
        let said = if is_back {
            format!("{text}: what was there before is back")
        } else {
            format!("removed {text}")
        };
        Ok((said, !is_back))
    }

    /// Takes away the links to the binary that `make install` puts where shells look for commands; says so. A link that
    /// leads elsewhere is another's.
    pub(super) fn remove_commands(&self) -> Result<Vec<String>, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        if !directories.iter().any(|directory| directory == Path::new(COMMANDS)) {
            directories.push(COMMANDS.into());
        }
        let mut said = Vec::new();
        for link in directories.iter().map(|directory| directory.join(OWN)) {
            let is_ours = fs::read_link(&link).is_ok_and(|target| target == self.path(OWN));
            let text = format!("removed {}", link.display());
            if !is_ours || said.contains(&text) {
                continue;
            }
            if !self.is_dry {
                fs::remove_file(&link).map_err(|source| failed("remove", &link, source))?;
            }
            said.push(text);
        }
        Ok(said)
    }

    /// Gives what a name stands for a second name, so that at no moment the name is missing. What was kept aside
    /// before is never overwritten.
    fn keep_aside(&self, name: &str) -> Result<(), Error> {
        let (path, kept) = (self.path(name), self.kept(name));
        // A hard link, to a symbolic link itself where it is one: neither follows it.
        match fs::hard_link(&path, &kept) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(failed("keep aside", &kept, error))
            }
            // A file system without hard links: the name is missing for a moment.
            Err(_) => fs::rename(&path, &kept).map_err(|source| failed("keep aside", &path, source)),
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// Whether two paths lead to one file.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// Copies the running binary to a new file, on disk before it gets its name.
fn copy(to: &Path) -> io::Result<()> {
    let _ = fs::remove_file(to);
    let mut source = File::open(SELF)?;
    let mut target = File::options().write(true).create_new(true).mode(0o755).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.flush()?;
    // The mode of creation is cut by the umask.
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    target.sync_all()
}
