//! Whose the names in a directory of plugins are.

use std::fmt;
use std::io;
use std::path::Path;

use super::place::{Entry, Place};
use super::{LEFT_TO_THE_REFERENCE, OWN};
use crate::plugins::Face;

/// A plugin's name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReport {
    /// The name.
    pub name: &'static str,
    /// Whose it is.
    pub holder: Holder,
}

/// Whose a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// linkspan's.
    Ours {
        /// Whether another's program is kept aside, to come back.
        kept_aside: bool,
    },
    /// Another program's; where it is a symbolic link, what it says.
    Another(Option<String>),
    /// Nobody's: a runtime that asks for it finds nothing.
    Nobody,
    /// One that linkspan does not stand for.
    Reference {
        /// Whether it is there.
        present: bool,
    },
}

/// Whose each name is that a reference plugin has, and `linkspan`.
///
/// # Errors
/// Where the directory cannot be read.
pub fn names_report(directory: &Path) -> io::Result<Vec<NameReport>> {
    let place = Place::new(directory);
    let mut report = Vec::new();
    for name in [OWN].into_iter().chain(Face::REFERENCE.iter().map(|face| face.name())) {
        let holder = match place.look(name)? {
            Entry::Ours => Holder::Ours { kept_aside: place.has_backup(name) },
            Entry::Absent => Holder::Nobody,
            Entry::Another(target) => Holder::Another(target),
        };
        report.push(NameReport { name, holder });
    }
    for name in LEFT_TO_THE_REFERENCE {
        let present = place.look(name)? != Entry::Absent;
        report.push(NameReport { name, holder: Holder::Reference { present } });
    }
    Ok(report)
}

impl fmt::Display for NameReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} ", self.name)?;
        match &self.holder {
            Holder::Ours { kept_aside: false } => f.write_str("linkspan"),
            Holder::Ours { kept_aside: true } => f.write_str("linkspan (another program is kept aside)"),
            Holder::Another(None) => f.write_str("another program"),
            Holder::Another(Some(target)) => write!(f, "another program, {target}"),
            Holder::Nobody => f.write_str("not there"),
            Holder::Reference { present: true } => {
                f.write_str("the reference plugin's, which linkspan leaves it to")
            }
            Holder::Reference { present: false } => {
                f.write_str("not there; linkspan leaves it to the reference plugin")
            }
        }
    }
}
