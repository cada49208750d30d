//! What belongs to one attachment stays that one's, whatever becomes of others: a DEL that is tried again after somebody
//! was killed half-way, an ADD that fails, a namespace that is called otherwise, looks like another, or cannot be seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lab::backends::{choose, on_each_backend};
use lab::cli::linkspan;
use lab::outcome::{address, host_end};
use lab::plugin::v4;
use lab::talk::{tcp, tcp_server};
use lab::{Chain, Lab, Outside, Plugin, inspect};
use serde_json::{Value, json};

/// A network with one address to give, on a host with an outside.
fn narrow(backend: &str) -> Option<(Lab, Outside, Plugin)> {
    let mut lab = Lab::new()?;
    let backend = choose(&mut lab, backend)?;
    let outside = lab.outside();
    let range = json!({"type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.5", "rangeEnd": "10.9.0.5"});
    let network = lab.plugin(json!({"backend": backend, "ipam": range}));
    Some((lab, outside, network))
}

/// As a DEL that was killed before its last step has left the record of an attachment whose address and port are free.
fn leave_claimed(id: &str, record: &[u8]) {
    let path = format!("/run/linkspan/doomed/{id}:eth0");
    fs::write(&path, record).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
}

fn record(id: &str) -> Vec<u8> {
    fs::read(format!("/run/linkspan/ready/{id}:eth0")).unwrap()
}

fn a_del_that_is_tried_again_leaves_what_another_has_got(backend: &str) {
    let Some((lab, outside, network)) = narrow(backend) else { return };
    let (first, second) = (lab.container("first"), lab.container("second"));
    let old = network.on(&first).publish(&["8080:80"]);
    old.add().ok();
    let record = record(&first.id);
    old.del().ok();
    leave_claimed(&first.id, &record);
    let new = network.on(&second).publish(&["8080:80"]);
    let result = new.add().ok();
    assert_eq!(address(&result, 4), "10.9.0.5");
    let _server = tcp_server(&second, "0.0.0.0:80", "second");
    // Its runtime tries again; then somebody else's DEL meets what is left.
    old.del().ok();
    new.prev(&result).check().ok();
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "second");
    leave_claimed(&first.id, &record);
    network.id("nobody").on(&first).del().ok();
    new.prev(&result).check().ok();
    assert!(
        !fs::exists(format!("/run/linkspan/doomed/{}:eth0", first.id)).unwrap(),
        "it is taken away at last"
    );
}

on_each_backend!(
    a_del_that_is_tried_again_leaves_what_another_has_got,
    an_add_that_was_killed_leaves_another_s_way_out,
);

/// A record that DEL claims is marked before anything that it holds is let go.
#[test]
fn a_del_marks_what_it_has_claimed() {
    let Some((lab, _outside, network)) = narrow("nftables") else { return };
    let container = lab.container("marked");
    let plugin = network.on(&container);
    plugin.add().ok();
    let refused = ["strace", "-qq", "-o", "/dev/null", "-P", "10.9.0.5", "-e", "inject=unlinkat:error=EIO"];
    assert!(!plugin.wrapped(&refused).del().succeeded());
    let doomed = format!("/run/linkspan/doomed/{}:eth0", container.id);
    assert_eq!(fs::metadata(&doomed).unwrap().permissions().mode() & 0o777, 0o400);
    plugin.del().ok();
    assert!(!fs::exists(&doomed).unwrap());
}

#[test]
fn an_add_that_fails_leaves_another_s_way_out() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let (first, second) = (lab.container("first"), lab.container("second"));
    // The second network has the address too, and does not know of the first.
    let a = lab.plugin(json!({"name": "a", "bridge": "br7", "ipam": v4(7)})).on(&first);
    let b = lab.plugin(json!({"name": "b", "bridge": "br7", "ipam": v4(7)})).on(&second);
    let result = a.add().ok();
    let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
    let seen = || tcp(&first, "192.0.2.2:80").peer.ip().to_string();
    assert_eq!(seen(), "192.0.2.1", "masqueraded");
    b.add().refused(111);
    a.prev(&result).check().ok();
    assert_eq!(seen(), "192.0.2.1", "masqueraded still");
}

/// An ADD that was killed before it could find out that its address is another's.
fn an_add_that_was_killed_leaves_another_s_way_out(backend: &str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(backend) = choose(&mut lab, backend) else { return };
    let outside = lab.outside();
    let (first, second, third) = (lab.container("first"), lab.container("second"), lab.container("third"));
    let at = |address: &str| {
        let addresses = json!({"type": "static", "addresses": [{"address": address}]});
        lab.plugin(json!({"backend": backend, "bridge": "br7", "isDefaultGateway": true, "ipam": addresses}))
    };
    let gateway = json!({"ipam": {"addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]}});
    let running = at("10.9.0.5/24").with(gateway).on(&first);
    let result = running.add().ok();
    let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
    let seen = || tcp(&first, "192.0.2.2:80").peer.ip().to_string();
    assert_eq!(seen(), "192.0.2.1", "masqueraded");
    let killed = at("10.9.0.6/24").on(&second);
    killed.add().ok();
    let dead = String::from_utf8(record(&second.id)).unwrap().replace("10.9.0.6", "10.9.0.5");
    killed.del().ok();
    let pending = format!("/run/linkspan/pending/{}:eth0", second.id);
    let undone = || {
        assert!(!fs::exists(&pending).unwrap(), "it is undone");
        assert_eq!(fs::read_dir("/run/linkspan/doomed").unwrap().count(), 0, "and gone");
        running.prev(&result).check().ok();
        assert_eq!(seen(), "192.0.2.1", "masqueraded still");
    };
    // Its DEL, and the next ADD of anybody.
    fs::write(&pending, &dead).unwrap();
    killed.del().ok();
    undone();
    fs::write(&pending, &dead).unwrap();
    at("10.9.0.7/24").on(&third).add().ok();
    undone();
}

/// The programs of iptables, for a `PATH`: some that do this first.
fn programs(lab: &Lab, name: &str, first: &str) -> String {
    let directory = lab.work.path().join(name);
    fs::create_dir(&directory).unwrap();
    for program in ["iptables", "ip6tables"] {
        for program in ["", "-save", "-restore"].map(|end| format!("{program}{end}")) {
            let path = directory.join(&program);
            lab::programs::put(&path, &format!("#!/bin/sh\n{first}\nexec /usr/sbin/{program} \"$@\"\n"));
        }
    }
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap())
}

/// A DEL that has failed once is tried again, and takes its time over what is on the host: whoever needs that waits.
#[test]
fn a_del_that_is_tried_again_is_waited_for() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here, or not chosen by alternatives");
    }
    let begun = lab.work.path().join("begun");
    let failing = programs(&lab, "failing", "exit 4");
    let slow = programs(&lab, "slow", &format!("echo >{}; sleep 0.7", begun.display()));
    let again = |plugin: &Plugin| {
        assert!(!plugin.env("PATH", &failing).del().succeeded());
        let running = plugin.env("PATH", &slow).start("DEL");
        assert!(lab::eventually(std::time::Duration::from_secs(20), || begun.exists()));
        fs::remove_file(&begun).unwrap();
        running
    };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let by = |n: u8, backend: &str| lab.plugin(json!({"name": backend, "backend": backend, "ipam": v4(n)}));
    let first = by(1, "iptables").on(&a).publish(&["8080:80"]);
    first.add().ok();
    let running = again(&first);
    // Another's: the port is its own once it is free.
    let second = by(2, "nftables").on(&b).publish(&["8080:80"]);
    let result = second.add().ok();
    running.finish().ok();
    second.prev(&result).check().ok();
    second.del().ok();
    // Its own: what the old one lets go is not the new one's.
    let chain = chained(&lab).publish(&["8080:80"]);
    let mut plugins = chain.plugins(&a);
    let portmap = plugins.pop().unwrap().with(json!({"backend": "iptables"}));
    let portmap = portmap.prev(&plugins.pop().unwrap().add().ok());
    portmap.add().ok();
    let running = again(&portmap);
    let result = portmap.add().ok();
    running.finish().ok();
    portmap.prev(&result).check().ok();
}

/// A link with the name of an attachment's host end that is not marked as linkspan's.
#[test]
fn a_stranger_s_link_stays() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("plain");
    let plugin = lab.plugin(json!({"ipam": v4(7)})).on(&container);
    let name = host_end(&plugin.add().ok());
    let record = record(&container.id);
    plugin.del().ok();
    lab.ip(&format!("link add {name} type veth peer name other"));
    let index = || inspect::link(&lab.host, &name).map(|link| link["ifindex"].clone());
    let made = index();
    assert!(made.is_some());
    assert!(plugin.add().refused(101).contains(&name));
    assert_eq!(index(), made, "after the ADD that it is in the way of");
    plugin.del().ok();
    assert_eq!(index(), made, "after its DEL");
    fs::write(format!("/run/linkspan/pending/{}:eth0", container.id), record).unwrap();
    plugin.del().ok();
    assert_eq!(index(), made, "after the DEL of one that was killed");
    lab.ip(&format!("link del {name}"));
    plugin.add().ok();
}

/// The name of a host end is a hash of the attachment's, of 48 bits: two may have the same.
#[test]
fn two_with_one_hash_do_not_take_each_other_s_link() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.container("one"), lab.container("two"));
    let network = lab.plugin(json!({"ipam": v4(7), "ingressRate": 80_000_000, "ingressBurst": 800_000,
        "egressRate": 80_000_000, "egressBurst": 800_000}));
    let first = network.on(&one).id("c21233603");
    let second = network.on(&two).id("c26332024");
    let own = second.add().ok();
    let dead = record("c26332024");
    second.del().ok();
    let result = first.add().ok();
    assert_eq!(host_end(&own), host_end(&result), "the two are a case of it");
    let said = second.add().refused(101);
    assert!(said.contains("c21233603:eth0") && said.contains("same hash"), "{said}");
    first.prev(&result).check().ok();
    // As a runtime does after an ADD that failed, and after one that it killed.
    second.del().ok();
    first.prev(&result).check().ok();
    fs::write("/run/linkspan/pending/c26332024:eth0", dead).unwrap();
    second.del().ok();
    first.prev(&result).check().ok();
    first.del().ok();
    let result = second.add().ok();
    second.prev(&result).check().ok();
}

#[test]
fn a_namespace_is_the_same_by_any_path() {
    let Some((lab, _outside, network)) = narrow("nftables") else { return };
    let (one, other) = (lab.container("one"), lab.container("other"));
    let plugin = network.on(&one);
    let result = plugin.add().ok();
    let by_another_path = one.path.replacen("/run/", "/run/../run/", 1);
    assert_ne!(by_another_path, one.path);
    plugin.env("CNI_NETNS", &by_another_path).add().refused(103);
    plugin.prev(&result).check().ok();
    // An interface that somebody made in another namespace is no reason to take this one away.
    other.ip("link add eth0 type veth peer name other0");
    plugin.env("CNI_NETNS", &other.path).add().refused(101);
    plugin.prev(&result).check().ok();
    // Nor is a namespace without one: the container lives where it is.
    other.ip("link del eth0");
    plugin.env("CNI_NETNS", &other.path).add().refused(103);
    plugin.prev(&result).check().ok();
    // Once it is gone, the attachment is to be had.
    lab.ip(&format!("link del {}", host_end(&result)));
    plugin.env("CNI_NETNS", &other.path).add().ok();
}

/// The kernel gives a namespace's inode number to the next one: its own number for it tells them apart.
#[test]
fn a_namespace_with_the_inode_of_a_dead_one_is_another() {
    let Some((lab, _outside, network)) = narrow("nftables") else { return };
    let container = lab.container("reborn");
    let result = network.on(&container).add().ok();
    let ready = format!("/run/linkspan/ready/{}:eth0", container.id);
    let mut record: Value = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
    let mut told = 0;
    for step in record["plan"].as_array_mut().unwrap() {
        if let Some(cookie) = step.pointer_mut("/sandbox/cookie") {
            *cookie = json!(cookie.as_u64().unwrap() + 1_000_000);
            told += 1;
        }
    }
    if told == 0 {
        lab::skip!("this kernel has no SO_NETNS_COOKIE");
    }
    fs::write(&ready, record.to_string()).unwrap();
    lab.ip(&format!("link del {}", host_end(&result)));
    linkspan("reconcile").ok();
    assert!(inspect::link(&container, "eth0").is_none(), "it was put into a namespace of somebody else's");
    network.on(&container).del().ok();
    network.on(&container).id("heir").add().ok();
}

/// `bridge` and `portmap` of ours, as a runtime calls them.
fn chained(lab: &Lab) -> Chain {
    let bin = lab::chain::Bin::ours(lab);
    bin.chain(json!({"name": "web", "plugins": [
        {"type": "bridge", "bridge": "br7", "isDefaultGateway": true, "ipam": v4(7)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]}))
}

#[test]
fn a_container_that_cannot_be_seen_keeps_its_ports() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let chain = chained(&lab).publish(&["8080:80"]);
    let (hidden, other) = (lab.container("hidden"), lab.container("other"));
    chain.add(&hidden).ok();
    let _server = tcp_server(&hidden, "0.0.0.0:80", "hidden");
    // As a runtime with a mount namespace of its own has it: the namespace lives, and its path is not here.
    hidden.unbind();
    let said = chain.add(&other).refused(102);
    assert!(said.contains(&hidden.id), "{said}");
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "hidden");
}

/// A bridge that somebody was killed over: made, and never brought up.
#[test]
fn a_bridge_that_was_never_finished_is_finished() {
    let Some(lab) = Lab::new() else { return };
    lab.host.must(&["ip", "link", "add", "name", "lks-web", "type", "bridge"]);
    lab.ip("link set lks-web group 1818981232");
    let container = lab.container("late");
    lab.plugin(json!({"ipam": v4(7)})).on(&container).publish(&["8080:80"]).add().ok();
    for key in ["accept_ra", "accept_dad"] {
        assert_eq!(lab.host.sysctl(&format!("net.ipv6.conf.lks-web.{key}")), "0", "{key}");
    }
    assert_eq!(lab.host.sysctl("net.ipv4.conf.lks-web.route_localnet"), "1");
    let pinned = inspect::link(&lab.host, "lks-web").unwrap()["address"].clone();
    let network: Value =
        serde_json::from_slice(&fs::read("/run/linkspan/networks/web.json").unwrap()).unwrap();
    assert_eq!(pinned, network["mac"]);
}

#[test]
fn what_a_network_wants_anew_its_bridge_gets() {
    let Some(lab) = Lab::new() else { return };
    let (first, second) = (lab.container("first"), lab.container("second"));
    let network = lab.plugin(json!({"ipam": v4(7)}));
    network.with(json!({"snat": false})).on(&first).add().ok();
    let key = "net.ipv4.conf.lks-web.route_localnet";
    assert_eq!(lab.host.sysctl(key), "0");
    network.on(&second).publish(&["8080:80"]).add().ok();
    assert_eq!(lab.host.sysctl(key), "1");
    let _server = tcp_server(&second, "0.0.0.0:80", "second");
    assert_eq!(tcp(&lab.host, "127.0.0.1:8080").tag, "second");
}

/// An ADD that is refused for its subnet leaves the network as it was recorded.
#[test]
fn a_subnet_that_clashes_is_refused_before_anything_is_written() {
    let Some(lab) = Lab::new() else { return };
    let (first, second) = (lab.container("first"), lab.container("second"));
    let network = lab.plugin(json!({"bridge": "br7", "ipam": v4(7)}));
    network.on(&first).add().ok();
    let record = || fs::read_to_string("/run/linkspan/networks/web.json").unwrap();
    let before = record();
    network.with(json!({"ipam": v4(8)})).on(&second).add().refused(7);
    assert_eq!(record(), before);
}

/// The kernel lists a table of legacy iptables, and the program is not here: nobody can have asked it for anything.
#[test]
fn a_detached_interface_needs_no_program_that_is_not_there() {
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("legacy") {
        lab::skip!("iptables-legacy is not here");
    }
    lab.host.must(&["iptables-legacy", "-t", "filter", "-S"]);
    let bin = lab::chain::Bin::ours(&lab);
    let chain = bin.chain(json!({"name": "web", "plugins": [
        {"type": "ptp", "ipam": v4(7)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]}));
    let chain = chain.publish(&["8080:80"]);
    let container = lab.container("lone");
    let result = chain.add(&container).ok();
    lab.host.must(&["mount", "--bind", "/dev/null", "/usr/sbin/xtables-legacy-multi"]);
    chain.del(&container, &result);
    let left = fs::read_dir("/run/linkspan/doomed").map_or(0, Iterator::count);
    assert_eq!(left, 0);
}
