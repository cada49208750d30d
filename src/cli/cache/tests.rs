use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

/// What libcni 1.3.0 wrote for the attachment and configuration below.
const OF_LIBCNI: &str = include_str!("libcni.json");

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"web","plugins":[{"type":"fake","capabilities":{"portMappings":true}}]}
"#;

fn attachment() -> Attachment {
    let ports = json!({"portMappings": [{"containerPort": 80, "hostPort": 8080, "protocol": "tcp"}]});
    Attachment {
        container_id: "c1".into(),
        netns: "/run/netns/blue".into(),
        interface: "eth0".into(),
        args: vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), "p".into())],
        capabilities: ports.as_object().unwrap().clone(),
    }
}

fn written() -> Entry {
    let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/blue"}],
                        "ips": [{"address": "10.0.0.2/24", "interface": 0}]});
    Entry::new("web", CONFIG.as_bytes(), &attachment(), result)
}

fn cache() -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().to_owned());
    (directory, cache)
}

#[test]
fn an_entry_is_the_one_that_libcni_writes() {
    let (directory, cache) = cache();
    cache.put(&written()).unwrap();
    let path = directory.path().join("results/web-c1-eth0");
    assert_eq!(fs::read_to_string(&path).unwrap(), OF_LIBCNI.trim_end());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(directory.path().join("results")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn what_libcni_wrote_is_read() {
    let (directory, cache) = cache();
    fs::create_dir(directory.path().join("results")).unwrap();
    fs::write(directory.path().join("results/web-c1-eth0"), OF_LIBCNI).unwrap();
    let entry = cache.get("web", &attachment()).unwrap().unwrap();
    assert_eq!(entry, written());
    assert_eq!(entry.attachment(), attachment());
    assert_eq!(cache.all().unwrap().unwrap().entries, [entry]);
}

#[test]
fn an_entry_of_an_older_libcni_has_no_namespace_or_is_a_bare_result() {
    let (directory, cache) = cache();
    fs::create_dir(directory.path().join("results")).unwrap();
    let path = directory.path().join("results/web-c1-eth0");
    let mut value: Value = serde_json::from_str(OF_LIBCNI).unwrap();
    value.as_object_mut().unwrap().remove("netns");
    value["config"] = Value::Null;
    fs::write(&path, value.to_string()).unwrap();
    let entry = cache.get("web", &attachment()).unwrap().unwrap();
    assert!(entry.netns.is_empty() && entry.config.is_empty());

    fs::write(&path, r#"{"cniVersion":"0.4.0","ips":[]}"#).unwrap();
    let entry = cache.get("web", &attachment()).unwrap().unwrap();
    assert_eq!(entry.result, Some(json!({"cniVersion": "0.4.0", "ips": []})));
    let known = cache.all().unwrap().unwrap();
    assert_eq!((known.entries.len(), known.unreadable.len()), (0, 1), "who it belongs to is not known");
}

#[test]
fn forgetting_is_idempotent_and_nothing_is_known_at_first() {
    let (_directory, cache) = cache();
    assert!(cache.all().unwrap().is_none());
    assert!(cache.get("web", &attachment()).unwrap().is_none());
    cache.remove("web", &attachment()).unwrap();
    cache.put(&written()).unwrap();
    cache.remove("web", &attachment()).unwrap();
    cache.remove("web", &attachment()).unwrap();
    assert!(cache.all().unwrap().unwrap().entries.is_empty());
}
