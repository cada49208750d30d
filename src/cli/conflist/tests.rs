use super::*;
use serde_json::json;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn find(files: &[(&str, &str)], name: &str) -> Result<Network, Error> {
    Directory::read(directory(files).path())?.find(name)
}

fn kinds(network: &Network) -> Vec<&str> {
    network.plugins.iter().map(|plugin| plugin.kind.as_str()).collect()
}

fn read_list(value: &Value) -> Result<Network, Error> {
    list(value.to_string().as_bytes(), Path::new("/x.conflist"))
}

const LIST: &str = r#"{"cniVersion":"1.0.0","name":"web","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;

#[test]
fn lists_come_before_single_files_and_both_by_name() {
    let files = [
        ("00.conf", r#"{"name":"web","type":"macvlan"}"#),
        ("20.conflist", r#"{"name":"web","plugins":[{"type":"ptp"}]}"#),
        ("10.conflist", LIST),
        ("05.txt", "no configuration"),
        ("50.json", r#"{"name":"db","Type":"vlan","cniVersion":"0.3.1"}"#),
    ];
    assert_eq!(kinds(&find(&files, "web").unwrap()), ["bridge", "portmap"]);
    let single = find(&files, "db").unwrap();
    assert_eq!((kinds(&single), single.version.to_string()), (vec!["vlan"], "0.3.1".to_owned()));
    let cached = list(&single.bytes, &single.path).unwrap();
    assert_eq!(cached.plugins[0].raw, single.plugins[0].raw, "the cache keeps a list");
}

#[test]
fn a_single_file_with_plugins_is_refused() {
    let error = find(&[("10.conf", LIST)], "web").unwrap_err().to_string();
    assert!(error.contains("rename it to end in .conflist"), "{error}");
}

#[test]
fn a_mistyped_name_is_answered_with_the_right_one() {
    let error = find(&[("10.conflist", LIST)], "wbe").unwrap_err().to_string();
    assert!(error.contains("did you mean \"web\"? Available: web"), "{error}");
    let error = find(&[], "web").unwrap_err().to_string();
    assert!(error.contains("NETCONFPATH"), "{error}");
}

#[test]
fn a_broken_neighbour_hides_no_network() {
    let files = [("00.conflist", "{"), ("10.conflist", LIST)];
    assert!(find(&files, "web").is_ok());
    let error = find(&files, "other").unwrap_err().to_string();
    assert!(error.contains("00.conflist is not valid JSON"), "{error}");
}

#[test]
fn plugins_beside_a_list_are_added_unless_it_says_no() {
    let files = |only: &str| {
        [
            ("10.conflist", format!(r#"{{"name":"web","plugins":[{{"type":"bridge"}}]{only}}}"#)),
            ("web/20.conf", r#"{"type":"tuning"}"#.to_owned()),
        ]
    };
    let with = |only: &str| {
        let files = files(only);
        let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        kinds(&find(&borrowed, "web").unwrap()).join(" ")
    };
    assert_eq!(with(""), "bridge tuning");
    assert_eq!(with(r#","loadOnlyInlinedPlugins":true"#), "bridge");
}

#[test]
fn the_highest_known_version_of_several_wins() {
    let version = |extra: Value| {
        let mut value = json!({"name": "web", "plugins": [{"type": "bridge"}]});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        read_list(&value).map(|network| network.version.to_string())
    };
    assert_eq!(version(json!({})).unwrap(), "0.1.0");
    assert_eq!(version(json!({"cniVersion": "9.0.0"})).unwrap(), "9.0.0");
    assert_eq!(version(json!({"cniVersions": ["1.0.0", "1.1.0", "2.0.0"]})).unwrap(), "1.1.0");
    assert_eq!(version(json!({"cniVersion": "1.1.0", "cniVersions": ["1.0.0"]})).unwrap(), "1.1.0");
    assert!(version(json!({"cniVersion": "one"})).is_err());
    assert!(version(json!({"cniVersion": 1})).is_err());
}

#[test]
fn what_libcni_refuses_is_refused() {
    for value in [
        json!([]),
        json!({"plugins": [{"type": "bridge"}]}),
        json!({"name": "a b", "plugins": [{"type": "bridge"}]}),
        json!({"name": "web"}),
        json!({"name": "web", "plugins": []}),
        json!({"name": "web", "plugins": {}}),
        json!({"name": "web", "plugins": [{}]}),
        json!({"name": "web", "plugins": [{"type": "../bridge"}]}),
        json!({"name": "web", "disableCheck": 1, "plugins": [{"type": "bridge"}]}),
    ] {
        assert!(read_list(&value).is_err(), "{value}");
    }
    let flags =
        json!({"name": "web", "disableCheck": "True", "disableGC": true, "plugins": [{"type": "bridge"}]});
    let network = read_list(&flags).unwrap();
    assert!(network.disable_check && network.disable_gc);
}

#[test]
fn only_capabilities_that_are_true_are_declared() {
    let plugin = json!({"type": "bridge", "capabilities": {"mac": true, "ips": false}});
    let network = read_list(&json!({"name": "web", "plugins": [plugin]})).unwrap();
    assert_eq!(network.plugins[0].capabilities, ["mac"]);
}

/// The configurations that we ship are ones that every runtime can load.
#[test]
fn the_shipped_configurations_load() {
    let directory = Directory::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap();
    assert!(directory.broken.is_empty(), "{:?}", directory.broken);
    let names: Vec<&str> = directory.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["web", "dual", "kubernetes", "legacy", "walled", "named"]);
    for network in &directory.networks {
        assert_eq!(network.version, SpecVersion::NEWEST, "{}", network.name);
        assert_eq!(kinds(network), ["linkspan"], "{}", network.name);
        assert!(network.plugins[0].capabilities.contains(&"portMappings".to_owned()), "{}", network.name);
    }
}
