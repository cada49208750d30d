//! A host on which something is missing or refused while a verb works: nothing is handed on that is still there, and what
//! could not be taken away keeps its record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lab::backends::{choose, on_each_backend};
use lab::faces::{self, Whose};
use lab::outcome::address;
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::talk::{tcp_answers, tcp_server};
use lab::{Lab, Plugin, inspect};
use serde_json::json;

fn is_recorded(id: &str) -> bool {
    ["ready", "doomed"].iter().any(|stage| fs::exists(format!("/run/linkspan/{stage}/{id}:eth0")).unwrap())
}

/// The plugin, with programs of iptables that fail.
fn with_failing_iptables(lab: &Lab, plugin: &Plugin) -> Plugin {
    let directory = lab.work.path().join("failing");
    fs::create_dir_all(&directory).unwrap();
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore", "-nft", "-nft-save", "-nft-restore"] {
            let path = directory.join(format!("{family}{suffix}"));
            fs::write(&path, "#!/bin/sh\nexit 4\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    plugin.env("PATH", &format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()))
}

fn a_del_without_its_programs_says_so(backend: &str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    if kind == "nftables" {
        return;
    }
    let save = format!("iptables-{}-save", backend.trim_start_matches("iptables-"));
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"backend": kind, "ipam": v4(1)})).on(&container).publish(&["8080:80"]);
    let rules = || lab.host.must(&[save.as_str()]).matches("c1:eth0").count();
    plugin.add().ok();
    assert!(rules() > 0);
    let failing = with_failing_iptables(&lab, &plugin);
    failing.del().refused(110);
    assert!(is_recorded(&container.id), "its rules are there still, and so its address stays taken");
    assert!(rules() > 0);
    failing.gc(&[]).refused(110);
    plugin.del().ok();
    assert!(!is_recorded(&container.id));
    assert_eq!(rules(), 0);
    // Nothing of it is in the kernel any more: the programs are not needed to find that out.
    plugin.add().ok();
    for table in ["nat", "raw", "filter"] {
        let tool = save.trim_end_matches("-save");
        lab.host.must(&[tool, "-t", table, "-F"]);
        lab.host.must(&[tool, "-t", table, "-X"]);
    }
    failing.del().ok();
    assert!(!is_recorded(&container.id));
}

fn without(capability: &str, plugin: &Plugin) -> Plugin {
    plugin.wrapped(&["setpriv", &format!("--bounding-set=-{capability}")])
}

#[test]
fn a_namespace_that_cannot_be_entered_is_not_gone() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let container = lab.container("c1");
    let conf = json!({"name": "lan", "master": "uplink", "ipam": v4(1)});
    let macvlan = faces::plugin(&lab, Whose::Ours, "macvlan", conf).on(&container);
    macvlan.add().ok();
    let powerless = without("sys_admin", &macvlan);
    assert!(powerless.del().refused(999).contains("Operation not permitted"));
    assert!(inspect::link(&container, "eth0").is_some());
    assert!(is_recorded(&container.id));
    macvlan.del().ok();
    assert!(inspect::link(&container, "eth0").is_none());
    // Without a record, what the reference would have left is not taken for gone either.
    let said = powerless.del().refused(999);
    assert!(said.contains("CAP_SYS_ADMIN"), "{said}");
    // An ADD is told what to do in place of that the path is wrong.
    let plain = lab.plugin(json!({"ipam": v4(2)})).on(&container);
    let said = without("sys_admin", &plain).add().refused(110);
    assert!(said.contains("CAP_SYS_ADMIN"), "{said}");
    let said = plain.wrapped(&["prlimit", "--nofile=4"]).add();
    assert!(!said.succeeded() && !said.words().contains("CNI_NETNS"), "{}", said.words());
}

fn lost_records_leave_no_port_to_the_next(backend: &str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    let outside = lab.outside();
    let (first, second) = (lab.container("c1"), lab.container("c2"));
    let network = lab.plugin(json!({"backend": kind, "ipam": v4(1)}));
    let old = network.on(&first).publish(&["8080:80"]);
    let given = address(&old.add().ok(), 4);
    for entry in fs::read_dir("/run/linkspan").unwrap() {
        let path = entry.unwrap().path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    // Somebody else's stays.
    let third = lab.container("c3");
    let other = network.on(&third).publish(&["8090:80"]).args(&format!("IP={}", next(&given)));
    let kept = other.add().ok();
    old.del().ok();
    other.prev(&kept).check().ok();
    assert_eq!(address(&network.on(&second).args(&format!("IP={given}")).add().ok(), 4), given);
    let _server = tcp_server(&second, "0.0.0.0:80", "second");
    assert!(!tcp_answers(&outside, "192.0.2.1:8080"), "another container's port led to the next one");
    old.del().ok();
}

/// The address after this one.
fn next(address: &str) -> String {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    std::net::Ipv4Addr::from(u32::from(address) + 1).to_string()
}

on_each_backend!(a_del_without_its_programs_says_so, lost_records_leave_no_port_to_the_next);

#[test]
fn an_add_whose_record_cannot_become_ready_takes_all_back() {
    let Some(mut lab) = Lab::new() else { return };
    let (first, second) = (lab.container("c1"), lab.container("c2"));
    let network = lab.plugin(json!({"ipam": v4(1)}));
    network.on(&first).publish(&["8080:80"]).add().ok();
    let before = Snapshot::take(&lab);
    lab.freeze("/run/linkspan/ready");
    let plugin = network.on(&second).publish(&["8081:80"]);
    plugin.add().refused(5);
    assert!(inspect::link(&second, "eth0").is_none());
    assert!(!fs::exists("/run/linkspan/ports/tcp-8081").unwrap() || free("/run/linkspan/ports/tcp-8081"));
    Snapshot::take(&lab).assert_same(&before, "the ADD failed at its last step");
}

fn free(directory: &str) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_host_without_room_for_files_begins_no_add_that_it_cannot_end() {
    let Some(mut lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"ipam": v4(1)})).on(&container).publish(&["8080:80"]);
    let mut attached = 0;
    fs::create_dir_all("/run/linkspan").unwrap();
    for inodes in 2..24 {
        lab.cover_small("/run/linkspan", &format!("nr_inodes={inodes}"));
        if plugin.add().succeeded() {
            attached += 1;
        }
        // Nothing has made room meanwhile.
        plugin.del().ok();
        assert!(inspect::link(&container, "eth0").is_none(), "{inodes} inodes");
        assert!(!is_recorded(&container.id), "{inodes} inodes");
    }
    assert!(attached > 0);
}

#[test]
fn a_map_of_another_type_keeps_no_record() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let plugin =
        lab.plugin(json!({"backend": "nftables", "ipam": v4(1)})).on(&container).publish(&["8080:80"]);
    lab.host.must(&["nft", "add table inet linkspan"]);
    lab.host.must(&["nft", "add map inet linkspan ports4_any { type inet_service : ipv4_addr ; }"]);
    let said = plugin.add().refused(111);
    assert!(!said.contains("not undone"), "{said}");
    assert!(!is_recorded(&container.id));
    plugin.del().ok();
    plugin.gc(&[]).ok();
}

#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"ipam": v4(1)})).on(&container);
    let limited = plugin.wrapped(&["prlimit", "--fsize=0"]);
    assert!(limited.add().refused(5).contains("File too large"));
    plugin.add().ok();
    limited.del().ok();
}

#[test]
fn an_add_whose_result_nobody_reads_is_taken_back() {
    let Some(lab) = Lab::new() else { return };
    let (container, other) = (lab.container("c1"), lab.container("c2"));
    let network = lab.plugin(json!({"ipam": v4(1)}));
    network.on(&other).add().ok();
    let before = Snapshot::take(&lab);
    let plugin = network.on(&container).publish(&["8080:80"]);
    let unread = plugin.wrapped(&["sh", "-c", "exec \"$0\" >/dev/full"]);
    let said = unread.add();
    assert_eq!(said.status.code(), Some(1));
    assert!(
        said.stderr.contains("No space left on device") && said.stderr.contains("taken back"),
        "{}",
        said.stderr
    );
    assert!(inspect::link(&container, "eth0").is_none());
    assert!(!is_recorded(&container.id));
    Snapshot::take(&lab).assert_same(&before, "the runtime knows of a failed ADD");
    // Of another verb it is said what it had to say.
    let said = unread.without("CNI_NETNS").add();
    assert!(said.stderr.contains("CNI_NETNS") && said.stderr.contains("it was to say"), "{}", said.stderr);
}

#[test]
fn a_fifo_among_the_records_is_waited_for_by_nobody() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"ipam": v4(1)})).on(&container);
    plugin.add().ok();
    for stage in ["pending", "ready", "doomed"] {
        lab.host.must(&["mkfifo", "-m", "600", &format!("/run/linkspan/{stage}/odd:eth0")]);
        let within = plugin.wrapped(&["timeout", "10"]);
        within.del().ok();
        within.add().ok();
        let odd = within.id("odd").del();
        assert_ne!(odd.status.code(), Some(124), "DEL of {stage}/odd waits");
        let _ = fs::remove_file(format!("/run/linkspan/{stage}/odd:eth0"));
    }
}

#[test]
fn status_says_what_keeps_an_add_from_working() {
    let Some(mut lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let network = lab.plugin(json!({"backend": "nftables", "ipam": dual_stack(1)}));
    network.status().ok();
    assert!(without("sys_admin", &network).status().refused(50).contains("CAP_SYS_ADMIN"));
    lab.host.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    assert!(network.status().refused(50).contains("net.ipv6.conf.default.disable_ipv6=0"));
    let said = network.on(&container).add().refused(110);
    assert!(said.contains("disable_ipv6=0") && !said.contains("run as root"), "{said}");
    lab.host.set_sysctl("net/ipv6/conf/default/disable_ipv6", "0");
    lab.ip("link delete lks-web");
    lab.host.must(&["nft", "delete table inet linkspan"]);
    lab.host.must(&["nft", "add table inet linkspan { flags dormant ; }"]);
    assert!(network.status().refused(50).contains("dormant"));
    lab.host.must(&["nft", "delete table inet linkspan"]);
    lab.host.set_sysctl("net/ipv4/ip_forward", "0");
    network.status().ok();
    lab.freeze("/proc/sys");
    assert!(network.status().refused(50).contains("net.ipv4.ip_forward=1"));
}

/// A record that cannot be read, of an attachment whose rules cannot be taken away; and what is no record at all.
#[test]
fn what_cannot_be_taken_away_keeps_nobody_else() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let ruled = lab.plugin(json!({"name": "ruled", "backend": "iptables", "ipam": v4(1)}));
    let ruled = ruled.on(&a).publish(&["8080:80"]);
    let network = lab.plugin(json!({"backend": "nftables", "ipam": v4(2)}));
    let other = with_failing_iptables(&lab, &network);
    ruled.add().ok();
    network.on(&b).add().ok();
    fs::write(format!("/run/linkspan/ready/{}:eth0", a.id), "{").unwrap();
    let said = with_failing_iptables(&lab, &ruled).del().refused(110);
    assert!(said.contains("their records are kept") && !said.contains("taken back"), "{said}");
    other.on(&b).del().ok();
    // An ADD that was killed is undone by the next one.
    other.on(&c).add().ok();
    let name = format!("{}:eth0", c.id);
    fs::rename(format!("/run/linkspan/ready/{name}"), format!("/run/linkspan/pending/{name}")).unwrap();
    other.on(&b).add().ok();
    assert!(is_recorded(&a.id) && !is_recorded(&c.id));
    ruled.del().ok();
    assert!(!is_recorded(&a.id));

    fs::create_dir("/run/linkspan/doomed/odd:eth0").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", "/run/linkspan/doomed/link:eth0").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind("/run/linkspan/doomed/socket:eth0").unwrap();
    network.on(&b).del().ok();
    assert!(!is_recorded(&b.id));
    network.on(&b).add().ok();
    network.gc(&[]).ok();
    assert!(!is_recorded(&b.id));
    network.on(&c).id("odd").del().refused(110);
    network.on(&c).id("link").del().ok();
    assert!(fs::exists("/etc/passwd").unwrap());
}

/// More attachments on their way out than a process may open files.
#[test]
fn many_are_taken_away_with_few_files() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": v4(1)}));
    network.on(&a).add().ok();
    let ready = |id: &str| format!("/run/linkspan/ready/{id}:eth0");
    let record = fs::read_to_string(ready(&a.id)).unwrap();
    let many = || {
        for n in 0..300 {
            let id = format!("dead{n}");
            fs::write(ready(&id), record.replace(&a.id, &id)).unwrap();
            fs::set_permissions(ready(&id), fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    let narrow = network.wrapped(&["prlimit", "--nofile=128"]);
    many();
    narrow.gc(&[(&a.id, "eth0")]).ok();
    assert!(!is_recorded("dead7"));
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);

    network.on(&b).add().ok();
    many();
    for n in 0..300 {
        fs::rename(ready(&format!("dead{n}")), format!("/run/linkspan/doomed/dead{n}:eth0")).unwrap();
    }
    narrow.on(&b).del().ok();
    assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0);
}
