//! Everything that is looked at, read once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::apply::{Kernel, Look};
use crate::model::AttachmentKey;
use crate::plan::{Plan, Step};
use crate::store::{Stage, State};
use crate::view::{self, Attachment, Lease, Reading, ViewError, Wants};

use super::marker::is_linkspan;
use super::runtimes;

/// A plugin of a configuration.
#[derive(Debug, Clone)]
pub struct ListPlugin {
    /// Its `type`.
    pub kind: String,
    /// Its keys.
    pub raw: Map<String, Value>,
    /// Why linkspan would refuse an ADD with it, where the plugin is linkspan.
    pub refusal: Option<String>,
    /// Keys that linkspan does not know, each with the one that was probably meant.
    pub slips: Vec<(String, &'static str)>,
}

/// A network configuration on disk, as libcni reads it.
#[derive(Debug, Clone)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// The network's name.
    pub name: String,
    /// Its version, as it counts.
    pub version: String,
    /// The same for a libcni before 1.2, which does not know `cniVersions`.
    pub plain: String,
    /// Whether that is newer than any that libcni knows.
    pub too_new: bool,
    /// Whether it has GC and STATUS.
    pub has_gc: bool,
    /// Its plugins.
    pub plugins: Vec<ListPlugin>,
}

/// An attachment as libcni remembers it.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The attachment.
    pub key: AttachmentKey,
    /// The network.
    pub network: String,
    /// The path of the namespace; empty where libcni was too old to write it.
    pub netns: String,
    /// The types of the plugins that it was made by.
    pub kinds: Vec<String>,
}

/// What the command line knows already: configurations, and what libcni keeps.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The directory of configurations.
    pub configurations: PathBuf,
    /// The configurations, in libcni's order.
    pub lists: Vec<List>,
    /// Files that are none, and why.
    pub broken: Vec<String>,
    /// The names of other plugins that linkspan's binary answers to.
    pub names: Vec<&'static str>,
    /// The directories that runtimes look for plugins in.
    pub directories: Vec<PathBuf>,
    /// What libcni remembers.
    pub remembered: Vec<Remembered>,
    /// What of it cannot be read, and why.
    pub unreadable: Vec<String>,
}

/// The host, looked at.
#[derive(Debug)]
pub struct Sight<'a> {
    /// What the command line knows.
    pub given: &'a Given,
    /// Records and kernel.
    pub reading: Reading,
    /// The attachments.
    pub attachments: Vec<Attachment>,
    /// The leases.
    pub leases: Vec<Lease>,
    /// What differs from the records; `None` where there are none.
    pub(super) look: Option<Look>,
    /// Where plugins are looked for: where the command line says, and where a runtime of this host is told to look.
    pub(super) directories: Vec<PathBuf>,
    /// Which types of plugins are linkspan, of those that were asked for.
    own: RefCell<HashMap<String, bool>>,
    /// Where podman alone looks.
    pub(super) of_podman: Vec<PathBuf>,
    /// Whether what has no record may be another state directory's, so that it is taken away only where somebody says
    /// that records are lost.
    pub(super) elsewhere: bool,
}

impl<'a> Sight<'a> {
    /// Looks at the host whose state directory is `root`, which need not exist.
    ///
    /// # Errors
    /// Where the state directory belongs to somebody else, or links cannot be listed.
    pub fn take(root: &Path, given: &'a Given) -> Result<Self, ViewError> {
        let reading =
            Reading::take(root, Wants { leases: true, claims: true, firewall: true, ..Wants::LEAST })?;
        let attachments = view::attachments(&reading);
        let leases = view::leases(&reading, &attachments);
        let state = State::open_existing(root)?;
        let is_any = !view::orphans(&reading, &[]).is_empty();
        // A directory that is not there has no record of any network.
        let mut elsewhere = is_any && state.is_none();
        let look = state.map(|state| {
            let ready = reading.records.attachments.iter().filter(|found| found.stage == Stage::Ready);
            let attached: Vec<(AttachmentKey, Plan)> =
                ready.map(|found| (found.record.key.clone(), found.record.plan.clone())).collect();
            let mut kernel = Kernel::new(Rc::new(state));
            let look = kernel.look(&reading.records.networks, &attached);
            if is_any {
                let known =
                    reading.records.attachments.iter().map(|found| found.record.key.clone()).collect();
                // What cannot be asked is said where it is swept.
                elsewhere = kernel.keeps_orphans(&known).unwrap_or_default();
            }
            // Its sockets close with the process, which waits for the kernel anyway.
            std::mem::forget(kernel);
            look
        });
        let mut directories = given.directories.clone();
        for directory in runtimes::directories_of_others() {
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        let mut of_podman = runtimes::directories_of_podman();
        of_podman.retain(|directory| !directories.contains(directory));
        let own = RefCell::default();
        Ok(Self { given, reading, attachments, leases, look, directories, own, of_podman, elsewhere })
    }

    /// All steps of all records.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.reading.records.attachments.iter().flat_map(|found| &found.record.plan.steps)
    }

    /// Whether a plugin's type is linkspan, under its own name or one that it stands for in the plugins' directories.
    pub(super) fn is_ours(&self, kind: &str) -> bool {
        // Asked for many times, and what others are is read whole.
        let known = self.own.borrow().get(kind).copied();
        known.unwrap_or_else(|| {
            let is_own = |path: PathBuf| is_linkspan(&path).unwrap_or_default();
            let is_ours = kind == OWN || self.program(kind).is_some_and(is_own);
            self.own.borrow_mut().insert(kind.to_owned(), is_ours);
            is_ours
        })
    }

    /// The program of a plugin's type, where any runtime would find it.
    pub(super) fn program(&self, kind: &str) -> Option<PathBuf> {
        let find = |directories: &[PathBuf]| crate::sys::process::find(kind, directories);
        find(&self.directories).or_else(|| find(&self.of_podman))
    }

    /// Plugins of configurations that are linkspan.
    pub(super) fn own_plugins(&self) -> impl Iterator<Item = (&List, &ListPlugin)> {
        let all =
            self.given.lists.iter().flat_map(|list| list.plugins.iter().map(move |plugin| (list, plugin)));
        all.filter(|(_, plugin)| self.is_ours(&plugin.kind))
    }
}

/// The name that linkspan has in a directory of plugins; all others are links to it.
pub(super) const OWN: &str = "linkspan";
