//! A result as each version of the specification writes it.

use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value, json};

use super::config::Dns;
use super::error::Error;
use super::result::{CniResult, Interface, Ip};
use super::version::Version;
use crate::model::Route;

/// JSON with four spaces of indentation, as Go's reference prints it; no newline at the end.
pub(super) fn indented(document: &Value) -> String {
    let mut bytes = Vec::with_capacity(1024);
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    match document.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_else(|_| document.to_string()),
        // A vector takes every write and a value has only string keys, so this does not happen.
        Err(_) => document.to_string(),
    }
}

impl CniResult {
    /// The document for standard output, in the version of the configuration.
    ///
    /// # Errors
    /// [`Error::NoAddress`] up to 0.2.0, whose results are nothing but addresses.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        self.to_value(version).map(|document| indented(&document))
    }

    /// The same as a value, for the `prevResult` of a delegated plugin.
    ///
    /// # Errors
    /// As [`CniResult::to_json`].
    pub fn to_value(&self, version: Version) -> Result<Value, Error> {
        let mut document = Map::new();
        document.insert("cniVersion".into(), version.as_str().into());
        if version <= Version::V0_2_0 {
            self.write_families(version, &mut document)?;
        } else {
            self.write_lists(version, &mut document);
        }
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            document.insert("dns".into(), dns_value(&self.dns));
        }
        for (key, value) in &self.extra {
            document.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(Value::Object(document))
    }

    /// 0.3.0 and newer. Empty lists are left out.
    fn write_lists(&self, version: Version, document: &mut Map<String, Value>) {
        let interfaces: Vec<Value> =
            self.interfaces.iter().map(|interface| interface_value(interface, version)).collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip_value(ip, version)).collect();
        let routes: Vec<Value> = self.routes.iter().map(|route| route_value(route, version)).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                document.insert(key.into(), Value::Array(list));
            }
        }
    }

    /// Up to 0.2.0: the first address of each family, and the family's routes inside it.
    fn write_families(&self, version: Version, document: &mut Map<String, Value>) -> Result<(), Error> {
        for (key, is_ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == is_ipv4) else { continue };
            let mut entry = Map::new();
            entry.insert("ip".into(), ip.address.to_string().into());
            insert_gateway(&mut entry, ip);
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|route| route.dst.is_ipv4() == is_ipv4)
                .map(|route| route_value(route, version))
                .collect();
            if !routes.is_empty() {
                entry.insert("routes".into(), Value::Array(routes));
            }
            document.insert(key.into(), Value::Object(entry));
        }
        if self.ips.is_empty() { Err(Error::NoAddress { version }) } else { Ok(()) }
    }
}

fn interface_value(interface: &Interface, version: Version) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), interface.name.as_str().into());
    let put_text = |entry: &mut Map<String, Value>, key: &str, text: &str| {
        if !text.is_empty() {
            entry.insert(key.into(), text.into());
        }
    };
    put_text(&mut entry, "mac", &interface.mac);
    if let Some(mtu) = interface.mtu.filter(|_| version >= Version::V1_0_0) {
        entry.insert("mtu".into(), mtu.into());
    }
    put_text(&mut entry, "sandbox", &interface.sandbox);
    if version >= Version::V1_0_0 {
        put_text(&mut entry, "socketPath", &interface.socket_path);
        put_text(&mut entry, "pciID", &interface.pci_id);
    }
    with_extra(entry, &interface.extra)
}

fn ip_value(ip: &Ip, version: Version) -> Value {
    let mut entry = Map::new();
    if version < Version::V1_0_0 {
        entry.insert("version".into(), if ip.address.is_ipv4() { "4" } else { "6" }.into());
    }
    if let Some(interface) = ip.interface {
        entry.insert("interface".into(), interface.into());
    }
    entry.insert("address".into(), ip.address.to_string().into());
    insert_gateway(&mut entry, ip);
    with_extra(entry, &ip.extra)
}

fn insert_gateway(entry: &mut Map<String, Value>, ip: &Ip) {
    if let Some(gateway) = ip.gateway {
        entry.insert("gateway".into(), gateway.to_string().into());
    }
}

fn route_value(route: &Route, version: Version) -> Value {
    let mut entry = Map::new();
    entry.insert("dst".into(), route.dst.to_string().into());
    if let Some(gw) = route.gw {
        entry.insert("gw".into(), gw.to_string().into());
    }
    if version >= Version::V1_1_0 {
        let attributes = [
            ("mtu", route.mtu),
            ("advmss", route.advmss),
            ("priority", route.priority),
            ("table", route.table),
            ("scope", route.scope.map(u32::from)),
        ];
        for (key, value) in attributes {
            if let Some(value) = value {
                entry.insert(key.into(), value.into());
            }
        }
    }
    Value::Object(entry)
}

fn dns_value(dns: &Dns) -> Value {
    let mut entry = Map::new();
    for (key, list) in [("nameservers", &dns.nameservers), ("search", &dns.search), ("options", &dns.options)]
    {
        if !list.is_empty() {
            entry.insert(key.into(), json!(list));
        }
        if key == "nameservers" && !dns.domain.is_empty() {
            entry.insert("domain".into(), dns.domain.as_str().into());
        }
    }
    Value::Object(entry)
}

fn with_extra(mut entry: Map<String, Value>, extra: &Map<String, Value>) -> Value {
    for (key, value) in extra {
        entry.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Value::Object(entry)
}
