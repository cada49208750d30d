//! What the command line knows before the host is looked at: configurations, and what libcni keeps.

use std::path::Path;

use crate::doctor::{Given, List, ListPlugin, Remembered};
use crate::model::AttachmentKey;
use crate::plugins::Face;

use super::super::cache::Entry;
use super::super::conflist::{self, Directory, Network, Plugin};
use super::super::error::Error;
use super::super::exec::SearchPath;
use super::super::version::SpecVersion;
use super::Session;

/// Reads configurations and cache. What of them cannot be read is part of the answer.
pub(super) fn collect(session: &Session<'_>) -> Result<Given, Error> {
    let (networks, broken) = Directory::read(&session.place.networks)?.parts();
    let known = session.place.cache.all()?.unwrap_or_default();
    Ok(Given {
        configurations: session.place.networks.clone(),
        lists: networks.into_iter().map(list).collect(),
        broken: broken.iter().map(ToString::to_string).collect(),
        names: Face::REFERENCE.iter().map(|face| face.name()).collect(),
        directories: SearchPath::of_runtimes((session.env)("CNI_PATH")),
        remembered: known.entries.iter().map(remembered).collect(),
        unreadable: known.unreadable.iter().map(|(_, error)| error.to_string()).collect(),
    })
}

fn list(network: Network) -> List {
    List {
        path: network.path,
        name: network.name,
        version: network.version.to_string(),
        too_new: network.version > SpecVersion::NEWEST,
        has_gc: network.version >= SpecVersion::GC,
        plugins: network.plugins.into_iter().map(plugin).collect(),
    }
}

fn plugin(plugin: Plugin) -> ListPlugin {
    ListPlugin { kind: plugin.kind, raw: plugin.raw }
}

fn remembered(entry: &Entry) -> Remembered {
    let plugins =
        conflist::list(&entry.config, Path::new("")).map(|network| network.plugins).unwrap_or_default();
    Remembered {
        key: AttachmentKey::new(&entry.container_id, &entry.if_name),
        network: entry.network_name.clone(),
        netns: entry.netns.clone(),
        kinds: plugins.into_iter().map(|plugin| plugin.kind).collect(),
    }
}
