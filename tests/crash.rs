//! SIGKILL at any instant of ADD or DEL, followed by DEL without prevResult, by the next ADD or by GC, leaves nothing
//! behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Plugin, inspect};
use serde_json::json;

/// How many instants of a run are tried.
const INSTANTS: u32 = 110;

struct Ground {
    lab: Lab,
    network: Plugin,
    /// The state after the network was used once.
    clean: Snapshot,
    /// How long a whole ADD takes, and a whole DEL.
    add: Duration,
    del: Duration,
}

const DIRECTORIES: [&str; 2] = ["/run/linkspan", "/var/lib/cni"];

/// Everything that an attachment may have is asked for, so that there is much to be killed in the middle of.
fn ground(backend: &str) -> Option<Ground> {
    if lab::is_reference() {
        lab::skipped("the reference leaks");
        return None;
    }
    let mut lab = Lab::new()?;
    if backend == "iptables" && !lab.iptables("nft") {
        lab::skipped("iptables-nft is not here");
        return None;
    }
    let network = lab.plugin(json!({"backend": backend, "ipam": dual_stack(1), "macspoofchk": true, "ipspoofchk": true, "mode": "routed",
        "ingressRate": 80_000_000, "ingressBurst": 800_000, "egressRate": 80_000_000, "egressBurst": 800_000}));
    let network = network.publish(&["8080:80", "8080:80/udp", "127.0.0.1:9090:90"]);
    let warm = lab.container("warm");
    let (mut add, mut del) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..5 {
        let added = network.on(&warm).add();
        added.ok();
        let deleted = network.on(&warm).del();
        deleted.ok();
        add = add.max(added.elapsed);
        del = del.max(deleted.elapsed);
    }
    let clean = Snapshot::of(&lab.host, &DIRECTORIES);
    Some(Ground { lab, network, clean, add, del })
}

impl Ground {
    fn quick(&self) -> Snapshot {
        Snapshot::quick(&self.lab.host, &DIRECTORIES)
    }

    /// At each instant: kill `command` there, let `mend` do what a runtime does next, and see that nothing is left.
    ///
    /// The instants are spread over the length of a run, in an order that mixes early and late. A run that ended
    /// before its kill shows that runs are shorter by now: the length follows, and the run does not count.
    fn at_each_instant(&self, command: &str, mend: impl Fn(&Container, &Plugin)) {
        let bare = self.quick();
        let mut killed = 0;
        let mut length = if command == "ADD" { self.add } else { self.del };
        for n in 0..INSTANTS * 4 {
            let instant = length.mul_f64(f64::from((n * 37) % INSTANTS) / f64::from(INSTANTS));
            let container = self.lab.container(&format!("k{n}"));
            let plugin = self.network.on(&container);
            if command == "DEL" {
                plugin.add().ok();
            }
            let in_time = plugin.start(command).kill_after(instant);
            killed += u32::from(in_time);
            if !in_time {
                length = length.mul_f64(0.95);
            }
            mend(&container, &plugin);
            let what = format!("{command} killed after {instant:?} of {length:?} (instant {n})");
            self.quick().assert_same(&bare, &what);
            assert!(inspect::link(&container, "eth0").is_none(), "{what}: eth0 is left");
            if killed >= INSTANTS {
                break;
            }
        }
        assert!(killed >= INSTANTS, "only {killed} runs were killed before their end");
        Snapshot::of(&self.lab.host, &DIRECTORIES).assert_same(&self.clean, "after all instants");
    }
}

#[test]
fn add_killed_then_del() {
    let Some(ground) = ground("nftables") else { return };
    ground.at_each_instant("ADD", |_, plugin| {
        plugin.del().ok();
    });
}

#[test]
fn add_killed_then_del_without_the_namespace() {
    let Some(ground) = ground("nftables") else { return };
    ground.at_each_instant("ADD", |container, plugin| {
        // The runtime killed the sandbox first: only the record knows what there was.
        container.unbind();
        plugin.without("CNI_NETNS").with(json!({"runtimeConfig": null})).del().ok();
    });
}

/// Nobody calls DEL: the next ADD of any container undoes what a dead one left.
#[test]
fn add_killed_then_the_next_add() {
    let Some(ground) = ground("nftables") else { return };
    let next = ground.lab.container("next");
    let next = ground.network.on(&next);
    ground.at_each_instant("ADD", |container, plugin| {
        let done = inspect::link(container, "eth0").is_some()
            && std::path::Path::new(&format!("/run/linkspan/ready/{}:eth0", container.id)).exists();
        if done {
            // It was ready before it could be killed: it is an attachment like any other.
            plugin.del().ok();
        }
        // The same host ports: the dead one's claims must not be in the way.
        next.add().ok();
        next.del().ok();
    });
}

#[test]
fn add_killed_then_the_same_add() {
    let Some(ground) = ground("nftables") else { return };
    ground.at_each_instant("ADD", |container, plugin| {
        let again = plugin.add();
        if !again.succeeded() {
            let ready = format!("/run/linkspan/ready/{}:eth0", container.id);
            assert!(
                std::path::Path::new(&ready).exists(),
                "refused though it was not ready: {}",
                again.stdout
            );
            again.refused(103);
        }
        plugin.del().ok();
    });
}

#[test]
fn del_killed_then_del() {
    let Some(ground) = ground("nftables") else { return };
    ground.at_each_instant("DEL", |_, plugin| {
        plugin.del().ok();
    });
}

#[test]
fn del_killed_then_gc() {
    let Some(ground) = ground("nftables") else { return };
    ground.at_each_instant("DEL", |_, plugin| {
        plugin.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS").gc(&[]).ok();
    });
}

#[test]
fn add_killed_then_del_with_iptables() {
    let Some(ground) = ground("iptables") else { return };
    let bare = Snapshot::of(&ground.lab.host, &DIRECTORIES);
    ground.at_each_instant("ADD", |_, plugin| {
        plugin.del().ok();
    });
    Snapshot::of(&ground.lab.host, &DIRECTORIES).assert_same(&bare, "iptables");
}

/// The very first ADD on a host, killed: the next one finds a half-made bridge and half-made chains.
#[test]
fn the_first_add_of_a_host_killed() {
    if lab::is_reference() {
        lab::skip!("the reference leaks");
    }
    for n in 0..12_u32 {
        let Some(lab) = Lab::new() else { return };
        let outside = lab.outside();
        let network = lab.plugin(json!({"ipam": dual_stack(1)})).publish(&["8080:80"]);
        let (a, b) = (lab.container("a"), lab.container("b"));
        network.on(&a).start("ADD").kill_after(Duration::from_micros(u64::from(n) * 400));
        network.on(&a).del().ok();
        network.on(&b).add().ok();
        let _server = lab::talk::tcp_server(&b, "[::]:80", "b");
        assert_eq!(lab::talk::tcp(&outside, "192.0.2.1:8080").tag, "b", "instant {n}");
        Snapshot::take(&lab).assert_without(&[&a.id]);
    }
}
