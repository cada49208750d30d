//! Lease files: the layout of the reference's host-local, read and written by both, and cheap however many there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};

use lab::outcome::{address, addresses};
use lab::plugin::{REFERENCE, dual_stack};
use lab::traced::counted;
use lab::{Container, Lab, Plugin};
use serde_json::{Value, json};

/// Debian's host-local in its own right, on a data directory.
fn host_local(lab: &Lab, directory: &Path, container: &Container) -> Option<Plugin> {
    let binary = format!("{REFERENCE}/host-local");
    if !Path::new(&binary).exists() {
        return None;
    }
    let mut ipam = dual_stack(1);
    ipam["dataDir"] = json!(directory);
    Some(lab.plugin(json!({"cniVersion": "1.0.0", "ipam": ipam})).of(binary).on(container))
}

fn sharing(lab: &Lab, directory: &Path) -> Plugin {
    let mut ipam = dual_stack(1);
    ipam["dataDir"] = json!(directory);
    lab.plugin(json!({"ipam": ipam}))
}

/// The lease files of a network: name and body, without `lock` and `last_reserved_ip`.
fn leases(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // What starts with a dot is nobody's address; the reference passes over it too.
        if name != "lock" && !name.starts_with('.') && !name.starts_with("last_reserved_ip.") {
            found.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

fn data_dir(lab: &Lab) -> PathBuf {
    let directory = PathBuf::from(format!("/run/data-{}", lab.next()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn the_layout_is_the_references() {
    let Some(lab) = Lab::new() else { return };
    let directory = data_dir(&lab);
    let a = lab.container("a");
    let plugin = sharing(&lab, &directory).on(&a);
    let result = plugin.add().ok();
    let network = directory.join("web");
    let body = format!("{}\r\neth0", a.id);
    assert_eq!(
        leases(&network),
        [("10.88.1.2".to_owned(), body.clone()), ("fd00:88:1::2".to_owned(), body)],
        "one file an address"
    );
    assert_eq!(fs::read_to_string(network.join("last_reserved_ip.0")).unwrap().trim(), "10.88.1.2");
    assert_eq!(fs::read_to_string(network.join("last_reserved_ip.1")).unwrap().trim(), "fd00:88:1::2");
    plugin.prev(&result).del().ok();
    assert!(leases(&network).is_empty());
}

#[test]
fn by_default_leases_end_with_the_host() {
    if lab::is_reference() {
        lab::skip!("the reference keeps them in /var/lib");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).add().ok();
    let kept = lab::Snapshot::with(&lab, &["/var/lib"]);
    assert!(kept.lines().all(|line| !line.starts_with("file /var/lib/")), "something survives a reboot");
    assert!(kept.lines().any(|line| line.starts_with("file /run/linkspan/") && line.contains("10.88.1.2")));
}

#[test]
fn host_local_and_linkspan_do_not_give_an_address_twice() {
    let Some(lab) = Lab::new() else { return };
    let directory = data_dir(&lab);
    let containers: Vec<_> = (0..6).map(|n| lab.container(&format!("c{n}"))).collect();
    let ours = sharing(&lab, &directory);
    let mut given = Vec::new();
    for (n, container) in containers.iter().enumerate() {
        let result = if n % 2 == 0 {
            ours.on(container).add().ok()
        } else {
            let Some(theirs) = host_local(&lab, &directory, container) else {
                lab::skip!("{REFERENCE}/host-local is not installed");
            };
            theirs.add().ok()
        };
        given.extend(addresses(&result));
    }
    let count = given.len();
    given.sort();
    given.dedup();
    assert_eq!((given.len(), count), (12, 12), "{given:?}");
    // Each frees what it gave, and finds what the other freed.
    host_local(&lab, &directory, &containers[1]).unwrap().del().ok();
    ours.on(&containers[0]).del().ok();
    let left: Vec<String> = leases(&directory.join("web")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left.len(), 8, "{left:?}");
    let late = lab.container("late");
    let wanted = host_local(&lab, &directory, &late).unwrap().args("IgnoreUnknown=1;IP=10.88.1.2");
    assert_eq!(address(&wanted.add().ok(), 4), "10.88.1.2", "host-local is given what linkspan gave back");
    let later = lab.container("later");
    let wanted = ours.on(&later).args("IgnoreUnknown=1;IP=10.88.1.3");
    assert_eq!(address(&wanted.add().ok(), 4), "10.88.1.3", "and the other way round");
}

/// What a crash of the reference leaves: empty files, and torn ones.
#[test]
fn empty_and_torn_leases_are_taken_back() {
    if lab::is_reference() {
        lab::skip!("the reference keeps them for ever");
    }
    let Some(lab) = Lab::new() else { return };
    let directory = data_dir(&lab);
    let network = directory.join("web");
    fs::create_dir_all(&network).unwrap();
    fs::write(network.join("10.88.1.2"), "").unwrap();
    fs::write(network.join("10.88.1.4"), "\r\n").unwrap();
    let mut ipam = json!({"type": "host-local", "dataDir": directory, "ranges": [[
        {"subnet": "10.88.1.0/24", "rangeStart": "10.88.1.2", "rangeEnd": "10.88.1.4"}]]});
    let containers: Vec<_> = (0..3).map(|n| lab.container(&format!("c{n}"))).collect();
    let plugin = lab.plugin(json!({"ipam": ipam}));
    for (n, container) in containers.iter().enumerate() {
        // Also where each address has a file.
        if n == 1 {
            fs::write(network.join("10.88.1.3"), "").unwrap();
        }
        plugin.status().ok();
        plugin.on(container).add().ok();
    }
    assert_eq!(leases(&network).len(), 3);
    plugin.status().refused(50);
    ipam["routes"] = json!([]);
    lab.plugin(json!({"ipam": ipam})).on(&lab.container("more")).add().refused(100);
}

/// The oldest files of the reference hold the container's ID alone.
#[test]
fn leases_without_an_interface_are_understood() {
    let Some(lab) = Lab::new() else { return };
    let directory = data_dir(&lab);
    let network = directory.join("web");
    fs::create_dir_all(&network).unwrap();
    let a = lab.container("a");
    fs::write(network.join("10.88.1.2"), "somebody-else").unwrap();
    fs::write(network.join("10.88.1.200"), &a.id).unwrap();
    let plugin = sharing(&lab, &directory).on(&a);
    let b = lab.container("b");
    let result = sharing(&lab, &directory).on(&b).add().ok();
    assert_ne!(address(&result, 4), "10.88.1.2", "it is somebody's");
    plugin.del().ok();
    let names: Vec<String> = leases(&network).into_iter().map(|(name, _)| name).collect();
    assert!(!names.contains(&"10.88.1.200".to_owned()), "DEL frees what names the container: {names:?}");
    assert!(names.contains(&"10.88.1.2".to_owned()), "and nothing else");
}

/// What names a file, reads it or lists a directory.
const FILES: &str = "%file,read,getdents64";

/// The system calls of an ADD that name or list files, on a network that was used before.
fn calls(plugin: &Plugin, container: &Container) -> usize {
    let run = || {
        let (added, calls) = counted(&plugin.on(container), FILES, Plugin::add);
        let result: Value = added.ok();
        plugin.on(container).prev(&result).del().ok();
        calls
    };
    run();
    run()
}

/// An ADD with 60,000 leases in the directory makes hardly more system calls than one with none: nothing is read for each.
#[test]
fn sixty_thousand_leases_cost_nothing() {
    if lab::is_reference() {
        lab::skip!("the reference reads them all");
    }
    let Some(lab) = Lab::new() else { return };
    let directory = data_dir(&lab);
    let network = |name: &str| {
        let ipam = json!({"type": "host-local", "subnet": "10.64.0.0/15", "dataDir": directory});
        lab.plugin(
            json!({"name": name, "bridge": format!("br-{name}"), "ipam": ipam, "isDefaultGateway": false}),
        )
    };
    let full = directory.join("full");
    fs::create_dir_all(&full).unwrap();
    let first = u32::from(std::net::Ipv4Addr::new(10, 64, 0, 2));
    for n in 0..60_000 {
        let ip = std::net::Ipv4Addr::from(first + n);
        fs::write(full.join(ip.to_string()), format!("other-{n}\r\neth0")).unwrap();
    }
    fs::write(full.join("last_reserved_ip.0"), std::net::Ipv4Addr::from(first + 59_999).to_string()).unwrap();
    let a = lab.container("a");
    let none = calls(&network("none"), &a);
    let many = calls(&network("full"), &a);
    assert!(many <= none + 20, "{many} with 60,000 leases, {none} with none");
    assert_eq!(leases(&full).len(), 60_000);
    // DEL without a record looks whose each one is, once.
    let (stranger, calls) = counted(&network("full").id("stranger").ifname("eth0"), FILES, Plugin::del);
    stranger.ok();
    assert!(calls < 6 * 60_000, "{calls}");
}
