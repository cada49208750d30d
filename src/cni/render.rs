//! A result as each version of the specification writes it.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use super::config::Dns;
use super::error::Error;
use super::result::{CniResult, Interface, Ip};
use super::version::Version;
use crate::model::{Route, written};

/// JSON with four spaces of indentation, as Go's reference prints it; no newline at the end.
pub(super) fn indented(document: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(1024);
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    match document.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        // A vector takes every write and a document has only string keys, so this does not happen.
        Err(_) => String::new(),
    }
}

/// What is written, in its order. Not a [`Value`], whose objects are hash tables: an ADD would make ten of them to write
/// each once.
enum Item<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    List(Vec<Self>),
    Object(Object<'a>),
    Given(&'a Value),
}

/// Keys, none of them twice, and what belongs to them.
#[derive(Default)]
struct Object<'a>(Vec<(&'a str, Item<'a>)>);

impl<'a> Object<'a> {
    fn put(&mut self, key: &'a str, item: Item<'a>) {
        self.0.push((key, item));
    }

    /// A text; the empty one is left out.
    fn put_text(&mut self, key: &'a str, text: impl Into<Cow<'a, str>>) {
        let text = text.into();
        if !text.is_empty() {
            self.put(key, Item::Text(text));
        }
    }

    /// A list; the empty one is left out.
    fn put_list(&mut self, key: &'a str, list: impl Iterator<Item = Item<'a>>) {
        let list: Vec<Item<'a>> = list.collect();
        if !list.is_empty() {
            self.put(key, Item::List(list));
        }
    }

    /// A number, where there is one.
    fn put_number(&mut self, key: &'a str, number: Option<impl Into<u64>>) {
        if let Some(number) = number {
            self.put(key, Item::Number(number.into()));
        }
    }

    /// What others have said, where we say nothing.
    fn put_extra(&mut self, extra: &'a serde_json::Map<String, Value>) {
        for (key, value) in extra {
            if self.0.iter().all(|(known, _)| known != key) {
                self.put(key, Item::Given(value));
            }
        }
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, item)| (key, item)))
    }
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::List(list) => serializer.collect_seq(list),
            Self::Object(object) => object.serialize(serializer),
            Self::Given(value) => value.serialize(serializer),
        }
    }
}

impl CniResult {
    /// The document for standard output, in the version of the configuration.
    ///
    /// # Errors
    /// [`Error::NoAddress`] up to 0.2.0, whose results are nothing but addresses.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        self.document(version).map(|document| indented(&document))
    }

    /// The same as a value, for the `prevResult` of a delegated plugin.
    ///
    /// # Errors
    /// As [`CniResult::to_json`].
    pub fn to_value(&self, version: Version) -> Result<Value, Error> {
        self.document(version).map(|document| serde_json::to_value(&document).unwrap_or_default())
    }

    fn document(&self, version: Version) -> Result<Object<'_>, Error> {
        let mut document = Object::default();
        document.put_text("cniVersion", version.as_str());
        if version <= Version::V0_2_0 {
            self.write_families(version, &mut document)?;
        } else {
            self.write_lists(version, &mut document);
        }
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            document.put("dns", dns_item(&self.dns));
        }
        document.put_extra(&self.extra);
        Ok(document)
    }

    /// 0.3.0 and newer. Empty lists are left out.
    fn write_lists<'a>(&'a self, version: Version, document: &mut Object<'a>) {
        document.put_list("interfaces", self.interfaces.iter().map(|it| interface_item(it, version)));
        document.put_list("ips", self.ips.iter().map(|ip| ip_item(ip, version)));
        document.put_list("routes", self.routes.iter().map(|route| route_item(route, version)));
    }

    /// Up to 0.2.0: the first address of each family, and the family's routes inside it.
    fn write_families<'a>(&'a self, version: Version, document: &mut Object<'a>) -> Result<(), Error> {
        for (key, is_ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == is_ipv4) else { continue };
            let mut entry = Object::default();
            entry.put_text("ip", written::network(ip.address));
            put_gateway(&mut entry, ip);
            let routes = self.routes.iter().filter(|route| route.dst.is_ipv4() == is_ipv4);
            entry.put_list("routes", routes.map(|route| route_item(route, version)));
            document.put(key, Item::Object(entry));
        }
        if self.ips.is_empty() { Err(Error::NoAddress { version }) } else { Ok(()) }
    }
}

fn interface_item(interface: &Interface, version: Version) -> Item<'_> {
    let mut entry = Object::default();
    entry.put("name", Item::Text(interface.name.as_str().into()));
    entry.put_text("mac", &interface.mac);
    entry.put_number("mtu", interface.mtu.filter(|_| version >= Version::V1_0_0));
    entry.put_text("sandbox", &interface.sandbox);
    if version >= Version::V1_0_0 {
        entry.put_text("socketPath", &interface.socket_path);
        entry.put_text("pciID", &interface.pci_id);
    }
    entry.put_extra(&interface.extra);
    Item::Object(entry)
}

fn ip_item(ip: &Ip, version: Version) -> Item<'_> {
    let mut entry = Object::default();
    if version < Version::V1_0_0 {
        entry.put_text("version", if ip.address.is_ipv4() { "4" } else { "6" });
    }
    entry.put_number("interface", ip.interface.map(|index| index as u64));
    entry.put_text("address", written::network(ip.address));
    put_gateway(&mut entry, ip);
    entry.put_extra(&ip.extra);
    Item::Object(entry)
}

fn put_gateway(entry: &mut Object<'_>, ip: &Ip) {
    if let Some(gateway) = ip.gateway {
        entry.put_text("gateway", written::address(gateway));
    }
}

fn route_item(route: &Route, version: Version) -> Item<'_> {
    let mut entry = Object::default();
    entry.put_text("dst", written::network(route.dst));
    if let Some(gw) = route.gw {
        entry.put_text("gw", written::address(gw));
    }
    if version >= Version::V1_1_0 {
        entry.put_number("mtu", route.mtu);
        entry.put_number("advmss", route.advmss);
        entry.put_number("priority", route.priority);
        entry.put_number("table", route.table);
        entry.put_number("scope", route.scope);
    }
    Item::Object(entry)
}

fn texts(list: &[String]) -> impl Iterator<Item = Item<'_>> {
    list.iter().map(|text| Item::Text(text.as_str().into()))
}

fn dns_item(dns: &Dns) -> Item<'_> {
    let mut entry = Object::default();
    entry.put_list("nameservers", texts(&dns.nameservers));
    entry.put_text("domain", &dns.domain);
    entry.put_list("search", texts(&dns.search));
    entry.put_list("options", texts(&dns.options));
    Item::Object(entry)
}
