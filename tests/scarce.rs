//! A host on which something is missing or refused while a verb works: nothing is handed on that is still there, and what
//! could not be taken away keeps its record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::backends::{choose, on_each_backend};
use lab::faces::{self, Whose};
use lab::outcome::address;
use lab::plugin::{dual_stack, v4};
use lab::programs::{with_failing_iptables, with_programs};
use lab::snapshot::Snapshot;
use lab::talk::{tcp_answers, tcp_server};
use lab::{Lab, Plugin, inspect};
use serde_json::json;

fn is_recorded(id: &str) -> bool {
    ["ready", "doomed"].iter().any(|stage| fs::exists(format!("/run/linkspan/{stage}/{id}:eth0")).unwrap())
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

/// What fails of one attachment, and of one family, is that attachment's, and that family's.
#[test]
fn an_attachment_that_cannot_go_keeps_no_other() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, "iptables-nft") else { return };
    let (a, b, d) = (lab.container("a"), lab.container("b"), lab.container("d"));
    let plain = lab.plugin(json!({"backend": kind, "ipam": v4(1)}));
    let dual = plain.with(json!({"name": "dual", "ipam": dual_stack(2)}));
    let all = [
        plain.on(&a).publish(&["8080:80"]),
        plain.on(&b).publish(&["8081:80"]),
        dual.on(&d).publish(&["8082:80"]),
    ];
    for plugin in &all {
        plugin.add().ok();
        let said = with_failing_iptables(&lab, plugin).del().refused(110);
        assert!(said.contains("exit status: 4"), "{said}");
    }
    let broken = ["ip6tables", "ip6tables-save", "ip6tables-restore"].map(str::to_owned);
    with_programs(&lab, &plain, &broken, 4).gc(&[]).ok();
    assert_eq!([&a, &b, &d].map(|of| is_recorded(&of.id)), [false, false, true]);
    let left = lab.host.must(&["iptables-save"]);
    assert!(!left.contains("a:eth0") && !left.contains("b:eth0"), "{left}");
    with_programs(&lab, &dual, &broken, 4).gc(&[]).refused(110);
    dual.gc(&[]).ok();
    assert!(!is_recorded(&d.id));
}

/// What publishes nothing has rules too, and they go though the host calls another variant iptables by now.
#[test]
fn rules_of_another_variant_go_without_ports() {
    let Some(mut lab) = Lab::new() else { return };
    for (before, after) in [("nft", "legacy"), ("legacy", "nft")] {
        if !lab.iptables(before) {
            lab::skip!("both variants of iptables are not here");
        }
        let container = lab.container(before);
        let plugin = lab.plugin(json!({"name": before, "backend": "iptables", "ipam": v4(1)})).on(&container);
        plugin.add().ok();
        let save = format!("iptables-{before}-save");
        let owner = format!("{}:eth0", container.id);
        let rules = |lab: &Lab| lab.host.must(&[save.as_str()]).matches(&owner).count();
        assert!(rules(&lab) > 0);
        assert!(lab.iptables(after));
        plugin.del().ok();
        assert_eq!(rules(&lab), 0, "{before} to {after}");
    }
}

/// A program that says that it is done, and has done nothing, leaves no port to the next container with the address.
#[test]
fn a_program_that_does_nothing_is_not_believed() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, "iptables-nft") else { return };
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"backend": kind, "ipam": v4(1)})).on(&container).publish(&["8080:80"]);
    let rules = || lab.host.must(&["iptables-save"]).matches("c1:eth0").count();
    let lying = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        with_programs(&lab, &plugin, &names, 0)
    };
    plugin.add().ok();
    let said = lying(&["iptables-restore", "iptables-nft-restore"]).del().refused(110);
    assert!(said.contains("is there still"), "{said}");
    assert!(is_recorded(&container.id) && rules() > 0);
    // Another program of the same host may do it.
    lying(&["iptables-restore"]).del().ok();
    assert!(!is_recorded(&container.id));
    assert_eq!(rules(), 0);
}

/// What a network that nobody is attached to has on a firewall that does not answer is no reason to refuse another's
/// container, on another firewall.
#[test]
fn an_idle_network_that_cannot_be_retired_keeps_nobody_from_its_bridge() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, "iptables-nft") else { return };
    let container = lab.container("c1");
    let network = |name: &str, backend: &str| {
        let keys = json!({"name": name, "bridge": "br0", "backend": backend, "ipam": v4(1)});
        lab.plugin(keys).on(&container)
    };
    let (old, new) = (network("old", kind), network("new", "nftables"));
    old.add().ok();
    old.del().ok();
    let is_there = || lab.host.must(&["iptables-save"]).contains("network old");
    assert!(is_there());
    let added = with_failing_iptables(&lab, &new).add();
    let result = added.ok();
    assert!(added.stderr.contains("network old") && added.stderr.contains("reconcile"), "{}", added.stderr);
    new.prev(&result).check().ok();
    with_failing_iptables(&lab, &new).gc(&[(&container.id, "eth0")]).refused(110);
    assert!(is_there());
    new.gc(&[(&container.id, "eth0")]).ok();
    assert!(!is_there());
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
    let said = plugin.status().refused(50);
    assert!(said.contains("somebody else has made ports4_any"), "{said}");
    let said = plugin.add().refused(111);
    assert!(!said.contains("not undone"), "{said}");
    assert!(!is_recorded(&container.id));
    plugin.del().ok();
    plugin.gc(&[]).ok();
    lab.host.must(&["nft", "delete table inet linkspan"]);
    plugin.status().ok();
    plugin.add().ok();
    plugin.status().ok();
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
