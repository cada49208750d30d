//! The reference's host-local and linkspan in one directory.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

const HOST_LOCAL: &str = "/usr/lib/cni/host-local";

/// Runs host-local; its output on success.
fn host_local(command: &str, id: &str, data_dir: &Path) -> Option<Value> {
    let config = json!({
        "cniVersion": "0.4.0", "name": "web", "type": "host-local",
        "ipam": {"type": "host-local", "dataDir": data_dir,
                 "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]}
    });
    let mut child = Command::new(HOST_LOCAL)
        .env_clear()
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", id), ("CNI_IFNAME", "eth0")])
        .envs([("CNI_NETNS", "/none"), ("CNI_PATH", "/usr/lib/cni")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

fn absent() -> bool {
    let absent = !Path::new(HOST_LOCAL).exists();
    if absent {
        println!("skipped: {HOST_LOCAL} is not installed");
    }
    absent
}

fn sets() -> [RangeSet; 2] {
    [set("10.1.0.0/24"), set("fd00:0:0:1::/64")]
}

#[test]
fn each_reads_and_releases_what_the_other_wrote() {
    if absent() {
        return;
    }
    let (base, state) = state();
    let data = base.path().join("data");
    let leases = state.lease_directory(&state.lease_path("web", Some(&data)).unwrap()).unwrap();
    leases.sweep_boot("boot", std::time::SystemTime::UNIX_EPOCH).unwrap();

    let theirs = host_local("ADD", "theirs", &data).unwrap();
    let mine = leases.allocate(&sets(), &[], &key("mine"), unwritten).unwrap();
    assert_eq!(theirs["ips"][1]["address"], "fd00:0:0:1::2/64");
    assert_eq!(mine[0].address.to_string(), "10.1.0.3/24", "round robin goes on from theirs");
    assert_eq!(mine[1].address.to_string(), "fd00:0:0:1::3/64");
    let third = host_local("ADD", "third", &data).unwrap();
    assert_eq!(third["ips"][0]["address"], "10.1.0.4/24", "and theirs from ours");

    assert!(host_local("CHECK", "mine", &data).is_some());
    assert!(host_local("CHECK", "nobody", &data).is_none());
    assert!(host_local("ADD", "mine", &data).is_none(), "they see our lease as a duplicate");
    assert!(host_local("DEL", "mine", &data).is_some());
    assert_eq!(leases.owner(mine[0].address.ip()).unwrap(), None);
    assert_eq!(leases.release_by_walk(&key("theirs")).unwrap().len(), 2);
    assert_eq!(leases.release_by_walk(&key("third")).unwrap().len(), 2);
    assert_eq!(leases.count().unwrap(), 0);
}

#[test]
fn both_allocate_at_once_without_a_clash() {
    if absent() {
        return;
    }
    let (base, state) = state();
    let data = base.path().join("data");
    let path = state.lease_path("web", Some(&data)).unwrap();
    let address = |text: &str| text.parse::<IpNetwork>().unwrap();
    let given: Vec<IpNetwork> = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for worker in 0..3 {
            let (state, path, data) = (&state, &path, &data);
            workers.push(scope.spawn(move || {
                let leases = state.lease_directory(path).unwrap();
                let ids = (0..40).map(|n| key(&format!("ours-{worker}-{n}")));
                ids.flat_map(|id| leases.allocate(&sets(), &[], &id, unwritten).unwrap())
                    .map(|lease| lease.address)
                    .collect::<Vec<_>>()
            }));
            workers.push(scope.spawn(move || {
                (0..12)
                    .filter_map(|n| host_local("ADD", &format!("theirs-{worker}-{n}"), data))
                    .flat_map(|result| {
                        [0, 1].map(|at| address(result["ips"][at]["address"].as_str().unwrap()))
                    })
                    .collect()
            }));
        }
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(given.len(), 2 * (3 * 40 + 3 * 12));
    assert_eq!(given.iter().collect::<HashSet<_>>().len(), given.len());
    let leases = state.lease_directory(&path).unwrap();
    assert_eq!(leases.count().unwrap(), given.len());
    for lease in leases.leases().unwrap() {
        assert_eq!(lease.owner.interface(), Some("eth0"));
    }
}
