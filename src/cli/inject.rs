//! What one plugin of a list gets on its stdin.

use serde_json::{Map, Value, json};

use super::conflist::{Network, Plugin};
use super::exec::Attachment;
use super::version::SpecVersion;

/// A plugin's configuration with the list's name and version in it, and, for the verbs of an attachment, the values
/// of the capabilities that it declares.
pub(super) fn configuration(
    network: &Network,
    plugin: &Plugin,
    attachment: Option<&Attachment>,
) -> Map<String, Value> {
    let mut configuration = plugin.raw.clone();
    configuration.insert("name".to_owned(), json!(network.name));
    configuration.insert("cniVersion".to_owned(), json!(network.version.to_string()));
    let values = attachment.map(|attachment| &attachment.capabilities);
    let runtime: Map<String, Value> = plugin
        .capabilities
        .iter()
        .filter_map(|capability| Some((capability.clone(), values?.get(capability)?.clone())))
        .collect();
    if !runtime.is_empty() {
        configuration.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    configuration
}

/// The same with `prevResult`.
pub(super) fn with_result(
    network: &Network,
    plugin: &Plugin,
    attachment: &Attachment,
    result: Option<&Value>,
) -> Value {
    let mut configuration = configuration(network, plugin, Some(attachment));
    if let Some(result) = result {
        configuration.insert("prevResult".to_owned(), result.clone());
    }
    Value::Object(configuration)
}

/// A result in the version that plugins of a list read `prevResult` in: their configuration's.
///
/// The two differ only where the configuration was changed while the container ran. From 0.3.0 on a result keeps its
/// shape but for the family of an address, which 1.0.0 dropped. `None` where the shapes differ.
pub(super) fn as_version(result: &Value, wanted: SpecVersion) -> Option<Value> {
    let written = result.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    let found = if written.is_empty() { wanted } else { SpecVersion::parse(written)? };
    let mut result = result.as_object()?.clone();
    result.insert("cniVersion".to_owned(), json!(wanted.to_string()));
    if found == wanted {
        return Some(Value::Object(result));
    }
    if found < SpecVersion::INTERFACES || wanted < SpecVersion::INTERFACES {
        return None;
    }
    for ip in result.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
        let six = ip.get("address").and_then(Value::as_str).is_some_and(|address| address.contains(':'));
        if let Some(ip) = ip.as_object_mut() {
            ip.remove("version");
            if wanted < SpecVersion::NO_FAMILY {
                ip.insert("version".to_owned(), json!(if six { "6" } else { "4" }));
            }
        }
    }
    Some(Value::Object(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> SpecVersion {
        SpecVersion::parse(text).unwrap()
    }

    #[test]
    fn a_result_without_a_version_has_that_of_the_configuration() {
        assert_eq!(
            as_version(&json!({"ips": []}), version("0.3.1")),
            Some(json!({"ips": [], "cniVersion": "0.3.1"}))
        );
        assert_eq!(as_version(&json!({"cniVersion": ""}), version("1.1.0")).unwrap()["cniVersion"], "1.1.0");
    }

    #[test]
    fn the_family_of_an_address_comes_and_goes() {
        let new =
            json!({"cniVersion": "1.1.0", "ips": [{"address": "fd00::2/64"}, {"address": "10.0.0.2/8"}]});
        let old = as_version(&new, version("0.4.0")).unwrap();
        assert_eq!(old["ips"][0]["version"], "6");
        assert_eq!(old["ips"][1]["version"], "4");
        assert_eq!(as_version(&old, version("1.1.0")), Some(new));
    }

    #[test]
    fn a_result_of_another_shape_is_not_passed_on() {
        assert_eq!(as_version(&json!({"cniVersion": "0.2.0", "ip4": {}}), version("0.4.0")), None);
    }
}
