//! `linkspan install`, `uninstall` and `names`: the binary in a directory of plugins, under the names of the reference
//! plugins that it can stand for.
//!
//! Each name is a symbolic link to `linkspan` in the same directory. A new version then takes all names with one
//! rename, and the directory may be mounted elsewhere meanwhile, as it is for those who install from a container.
//! Every change is a rename, since a program that runs cannot be written to (`ETXTBSY`).

pub(super) mod arguments;
mod left;
mod place;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::plugins::Face;
use place::Place;
pub use report::{Holder, NameReport, names_report};

/// Where runtimes look for plugins.
pub(super) const DIRECTORY: &str = "/opt/cni/bin";

/// The name that all others are links to.
const OWN: &str = "linkspan";

/// Reference plugins that linkspan does not stand for.
pub const LEFT_TO_THE_REFERENCE: [&str; 6] = ["dhcp", "dummy", "host-device", "ipvlan", "vlan", "vrf"];

/// What to install, and what may be done to what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The directory of plugins.
    pub directory: PathBuf,
    /// The reference plugins' names to take, each one of [`Face::REFERENCE`].
    pub names: Vec<&'static str>,
    /// Whether another's program of such a name is kept aside.
    pub backup: bool,
    /// Whether it is replaced for good.
    pub force: bool,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// Puts this binary into a directory of plugins, and takes names there. Says what it does, line by line.
///
/// # Errors
/// Where a name is another's and nothing says what to do with it: nothing is changed then. Where a file cannot be
/// written; what was done before has been said.
pub(super) fn install(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    let place = Place::new(&options.directory).dry(options.dry_run);
    let strangers = place.strangers(&options.names)?;
    if !strangers.is_empty() && !options.backup && !options.force {
        let advice = "--backup keeps it aside, and 'linkspan uninstall' brings it back; --force replaces it";
        return Err(Error::Strangers { names: strangers, advice });
    }
    let out = &mut Unheard(out);
    announce(options.dry_run, out)?;
    place.make_directory()?;
    writeln!(out, "{}", place.put_binary(options.force)?)?;
    for name in &options.names {
        writeln!(out, "{}", place.take(name, options.backup)?)?;
    }
    let kept: Vec<&str> = LEFT_TO_THE_REFERENCE.into_iter().collect();
    writeln!(out, "left to the reference plugins: {}", kept.join(", "))?;
    let free: Vec<&str> =
        Face::REFERENCE.iter().map(|face| face.name()).filter(|name| !options.names.contains(name)).collect();
    if options.names.is_empty() {
        writeln!(out, "not taken: {}; --names or --all takes them", free.join(", "))?;
    }
    conclude(options.dry_run, out)
}

/// What is said while files change: that nobody reads it any more is no reason to stop half-way.
struct Unheard<'a>(&'a mut dyn Write);

impl Write for Unheard<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Before the words of a dry run, which are those of the real one.
fn announce(is_dry: bool, out: &mut dyn Write) -> Result<(), Error> {
    if is_dry { Ok(writeln!(out, "without --dry-run this would be done:")?) } else { Ok(()) }
}

fn conclude(is_dry: bool, out: &mut dyn Write) -> Result<(), Error> {
    if is_dry { Ok(writeln!(out, "nothing was changed")?) } else { Ok(()) }
}

/// Takes away what [`install`] and `make install` made, and nothing else: our links, with another's program back in its
/// place where one was kept aside, then the binary and, where it is gone, the links to it where commands are. Says which
/// networks still have attachments, and which configurations call what is gone; `elsewhere` are the other directories that
/// plugins are looked for in.
///
/// # Errors
/// Where a file cannot be removed, or the configurations in `networks` cannot be read.
pub(super) fn uninstall(
    directory: &Path,
    networks: &Path,
    elsewhere: &[PathBuf],
    is_dry: bool,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let place = Place::new(directory).dry(is_dry);
    let out = &mut Unheard(out);
    announce(is_dry, out)?;
    let mut gone = Vec::new();
    for face in Face::REFERENCE {
        if let Some(is_back) = place.give_back(face.name())? {
            let became = if is_back { "what was there before is back" } else { "removed" };
            writeln!(out, "{}: {became}", face.name())?;
            gone.extend((!is_back).then(|| face.name()));
        }
    }
    let (line, is_gone) = place.remove_binary()?;
    writeln!(out, "{line}")?;
    if is_gone {
        gone.push(OWN);
        for line in place.remove_commands()? {
            writeln!(out, "{line}")?;
        }
    }
    for line in left::attachments() {
        writeln!(out, "{line}")?;
    }
    let elsewhere: Vec<PathBuf> =
        elsewhere.iter().filter(|other| !place::same_file(other, directory)).cloned().collect();
    for line in left::configurations(networks, &gone, &elsewhere)? {
        writeln!(out, "{line}")?;
    }
    conclude(is_dry, out)
}

/// Which names in a directory of plugins are ours, as a table.
///
/// # Errors
/// Where the directory cannot be read.
pub(super) fn names(directory: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let failed = |source| Error::File { action: "look into", path: directory.to_owned(), source };
    let report = names_report(directory).map_err(failed)?;
    writeln!(out, "{}:", directory.display())?;
    for line in report {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
