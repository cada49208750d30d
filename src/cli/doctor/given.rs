//! What the command line knows before the host is looked at: configurations, and what libcni keeps.

use std::path::Path;

use serde_json::{Map, Value};

use crate::cni::{self, Environment, NetworkConfig};
use crate::doctor::{Given, List, ListPlugin, Remembered};
use crate::model::AttachmentKey;
use crate::plugins::Face;

use super::super::cache::Entry;
use super::super::conflist::{self, Directory, Network, Plugin};
use super::super::error::Error;
use super::super::exec::SearchPath;
use super::super::inject;
use super::super::suggest;
use super::super::version::SpecVersion;
use super::super::words;
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
    let plugins = network.plugins.iter().map(|one| plugin(&network, one)).collect();
    List {
        path: network.path,
        name: network.name,
        version: network.version.to_string(),
        plain: plain(&network.bytes).unwrap_or(network.version).to_string(),
        too_new: network.version > SpecVersion::NEWEST,
        has_gc: network.version >= SpecVersion::GC,
        plugins,
    }
}

/// `cniVersion` alone.
fn plain(list: &[u8]) -> Option<SpecVersion> {
    let list: Value = serde_json::from_slice(list).ok()?;
    SpecVersion::parse(list.get("cniVersion").and_then(Value::as_str).unwrap_or_default())
}

fn plugin(network: &Network, plugin: &Plugin) -> ListPlugin {
    let (kind, raw) = (plugin.kind.clone(), plugin.raw.clone());
    let Some(face) = Face::of_kind(&plugin.kind) else {
        return ListPlugin { kind, raw, refusal: None, slips: Vec::new() };
    };
    let slips = if face == Face::Linkspan { slips(&raw) } else { Vec::new() };
    ListPlugin { kind, raw, refusal: refusal(network, plugin, face), slips }
}

/// What an ADD with these keys would be refused for, before it does anything.
fn refusal(network: &Network, plugin: &Plugin, face: Face) -> Option<String> {
    let keys = inject::configuration(network, plugin, None);
    let environment = Environment {
        command: cni::Command::Add,
        container_id: "doctor".to_owned(),
        netns: None,
        interface: "eth0".to_owned(),
        path: String::new(),
        args: String::new(),
        netns_override: false,
    };
    let bytes = serde_json::to_vec(&keys).ok()?;
    let read = NetworkConfig::parse(&bytes, &environment, &face.defaults(), cni::Strictness::Strict);
    let error = cni::CniError::from(read.err()?);
    Some(words::told(&error.msg, &error.details))
}

/// Keys that linkspan does not know, and that are near to one that it does.
fn slips(raw: &Map<String, Value>) -> Vec<(String, &'static str)> {
    let is_known = |key: &str| {
        let mut all = KEYS.iter().chain(&OTHERS);
        all.any(|known| known.eq_ignore_ascii_case(key))
    };
    let unknown = raw.keys().filter(|key| !is_known(key));
    unknown.filter_map(|key| Some((key.clone(), suggest::nearest(key, KEYS)?))).collect()
}

/// The keys of docs/configuration.md that stand beside `type`.
const KEYS: [&str; 52] = [
    "allmulti",
    "backend",
    "bridge",
    "capabilities",
    "conditionsV4",
    "conditionsV6",
    "countPorts",
    "disableContainerInterface",
    "dns",
    "egressBurst",
    "egressRate",
    "enabledad",
    "externalSetMarkChain",
    "firewalldZone",
    "forceAddress",
    "gcAfter",
    "hairpinMode",
    "holdPorts",
    "icc",
    "ingressBurst",
    "ingressPolicy",
    "ingressRate",
    "internal",
    "ipMasq",
    "ipMasqBackend",
    "ipam",
    "ipspoofchk",
    "iptablesAdminChainName",
    "isDefaultGateway",
    "isGateway",
    "isolation",
    "logFile",
    "logLevel",
    "mac",
    "macspoofchk",
    "markMasqBit",
    "masqAll",
    "mode",
    "mtu",
    "outboundAddress4",
    "outboundAddress6",
    "portIsolation",
    "preserveDefaultVlan",
    "promisc",
    "promiscMode",
    "snat",
    "sysctl",
    "trustedInterfaces",
    "txQLen",
    "userlandProxy",
    "vlan",
    "vlanTrunk",
];

/// Those of the specification, of libcni and of runtimes, and what plugins have whose configurations are often copied.
const OTHERS: [&str; 12] = [
    "args",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "labels",
    "master",
    "name",
    "plugins",
    "prevResult",
    "runtimeConfig",
    "type",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_keys_and_this_list_are_the_same() {
        let page = include_str!("../../../docs/configuration.md");
        for key in KEYS {
            assert!(page.contains(&format!("`{key}`")), "{key} is not in docs/configuration.md");
        }
        let found = |text: &str| {
            let Value::Object(raw) = serde_json::from_str(text).unwrap() else { panic!("an object") };
            slips(&raw)
        };
        assert_eq!(
            found(r#"{"isolaton": "strict", "ipmask": true, "x-owner": 1, "IPMASQ": true, "args": {}}"#),
            [("isolaton".to_owned(), "isolation"), ("ipmask".to_owned(), "ipMasq")]
        );
    }
}
