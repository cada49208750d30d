//! The result of an ADD, in no version in particular.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::config::Dns;
use crate::model::{MacAddress, PortMapping, Route};

/// What an ADD made, or a `prevResult` or IPAM plugin says.
///
/// [`CniResult::to_json`] says it in a version of the specification, [`CniResult::parse`] reads it from any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CniResult {
    /// `interfaces`.
    pub interfaces: Vec<Interface>,
    /// `ips`.
    pub ips: Vec<Ip>,
    /// `routes`.
    pub routes: Vec<Route>,
    /// `dns`.
    pub dns: Dns,
    /// Keys that are not of the specification, passed through.
    pub extra: Map<String, Value>,
}

/// One entry of `interfaces`. An empty text stands for an absent key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interface {
    /// `name`.
    pub name: String,
    /// `mac`, in whatever form another plugin wrote it.
    pub mac: String,
    /// `mtu` (1.0.0 and newer).
    pub mtu: Option<u32>,
    /// `sandbox`: `CNI_NETNS` verbatim for what is inside the container, empty for what is on the host.
    pub sandbox: String,
    /// `socketPath` (1.0.0 and newer), of other plugins only.
    pub socket_path: String,
    /// `pciID` (1.0.0 and newer), of other plugins only.
    pub pci_id: String,
    /// Keys that are not of the specification, passed through.
    pub extra: Map<String, Value>,
}

/// One entry of `ips`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ip {
    /// `address`, with its prefix length.
    pub address: IpNetwork,
    /// `gateway`.
    pub gateway: Option<IpAddr>,
    /// `interface`: an index into [`CniResult::interfaces`]; an IPAM plugin gives none. One that leads nowhere, as another
    /// plugin may write, is among `extra`.
    pub interface: Option<usize>,
    /// Keys that are not of the specification, passed through.
    pub extra: Map<String, Value>,
}

impl CniResult {
    /// The addresses of the container's interface of a name. One that no interface is named for counts, as in the
    /// reference: the plugin that gave it made but one.
    pub fn addresses_on(&self, name: &str) -> Vec<IpAddr> {
        let is_on = |ip: &&Ip| {
            let interface = ip.interface.and_then(|index| self.interfaces.get(index));
            interface.is_none_or(|interface| interface.name == name && !interface.sandbox.is_empty())
        };
        self.ips.iter().filter(is_on).map(|ip| ip.address.ip()).collect()
    }

    /// All addresses, whatever interface has them.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.ips.iter().map(|ip| ip.address.ip()).collect()
    }

    /// Tells which host ports were chosen, under the key `linkspan`, in the words of the capability `portMappings`.
    /// Runtimes that do not know the key pass over it.
    pub fn tell_ports(&mut self, chosen: &[PortMapping]) {
        if !chosen.is_empty() {
            let mappings: Vec<Value> = chosen.iter().map(mapping_value).collect();
            self.extra.insert("linkspan".into(), json!({ "portMappings": mappings }));
        }
    }
}

fn mapping_value(mapping: &PortMapping) -> Value {
    let mut entry = json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol.name(),
    });
    if mapping.count > 1 {
        entry["range"] = mapping.count.into();
    }
    if let Some(ip) = mapping.host_ip {
        entry["hostIP"] = ip.to_string().into();
    }
    entry
}

impl Interface {
    /// An interface on the host, or with `sandbox` in a container.
    pub fn new(name: impl Into<String>, mac: MacAddress, sandbox: impl Into<String>) -> Self {
        Self { name: name.into(), mac: mac.to_string(), sandbox: sandbox.into(), ..Self::default() }
    }
}

impl Ip {
    /// An address of the interface at an index.
    pub fn new(address: IpNetwork, gateway: Option<IpAddr>, interface: Option<usize>) -> Self {
        Self { address, gateway, interface, extra: Map::new() }
    }
}

#[cfg(test)]
mod tests;
