//! Published ports that go from one interface of a container to another, where something goes wrong on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::time::Duration;

use lab::cli::{linkspan, shell};
use lab::plugin::v4;
use lab::pool::pooled;
use lab::talk::{Server, tcp, tcp_answers, tcp_server};
use lab::{Container, Lab, Outside, Plugin, eventually};
use serde_json::json;

/// The longest that is waited for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A container on two networks, each of which is given the ports 8080 and 8081; `eth1` waits for them.
struct Pair {
    a: Container,
    _servers: [Server; 2],
    eth0: Plugin,
    eth1: Plugin,
    outside: Outside,
    lab: Lab,
}

impl Pair {
    fn new() -> Option<Self> {
        if lab::is_reference() {
            lab::skipped("the reference hands nothing over");
            return None;
        }
        let lab = Lab::new()?;
        let outside = lab.outside();
        let a = lab.container("a");
        let servers = ["0.0.0.0:80", "0.0.0.0:81"].map(|at| tcp_server(&a, at, "a"));
        let [eth0, eth1] = [1, 2].map(|n| {
            let network = lab.plugin(json!({"name": format!("n{n}"), "ipam": v4(n)}));
            network.on(&a).ifname(&format!("eth{}", n - 1)).publish(&["8080:80", "8081:81"])
        });
        eth0.add().ok();
        let result = eth1.add().ok();
        let eth1 = eth1.prev(&result);
        Some(Self { a, _servers: servers, eth0, eth1, outside, lab })
    }

    /// `plugin` with strace's `rule` on one path.
    fn struck(plugin: &Plugin, path: &str, rule: &str) -> Plugin {
        let inject = format!("inject={rule}");
        plugin.wrapped(&["strace", "-qq", "-o", "/dev/null", "-P", path, "-e", &inject])
    }

    fn answers(&self, port: u16) -> bool {
        tcp_answers(&self.outside, &format!("192.0.2.1:{port}"))
    }

    fn serves(&self) {
        for port in [8080, 8081] {
            assert_eq!(tcp(&self.outside, &format!("192.0.2.1:{port}")).tag, "a", "{port}");
        }
        self.eth1.check().ok();
    }
}

/// GC finds the claims of one whose record could not be read.
#[test]
fn what_gc_frees_is_taken_up() {
    let Some(pair) = Pair::new() else { return };
    fs::write(format!("/run/linkspan/ready/{}:eth0", pair.a.id), "{").unwrap();
    pair.eth0.del().ok();
    assert!(!pair.answers(8080));
    pair.eth0.gc(&[]).ok();
    pair.serves();
}

/// One port that cannot be let go keeps no other.
#[test]
fn what_was_let_go_is_taken_up_whatever_else_fails() {
    let Some(pair) = Pair::new() else { return };
    let struck = Pair::struck(&pair.eth0, "ports/tcp-8081/4-0.0.0.0", "unlinkat:error=EIO");
    assert!(!struck.del().succeeded());
    assert!(pair.answers(8080) && !pair.answers(8081));
    pair.eth0.del().ok();
    pair.serves();
}

#[test]
fn reconcile_says_what_it_could_not_hand_over() {
    let Some(pair) = Pair::new() else { return };
    for port in ["8080", "8081"] {
        let directory = format!("/run/linkspan/ports/tcp-{port}");
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let links = names.filter(|path| path.display().to_string().contains("/wait-"));
        links.for_each(|path| fs::remove_file(path).unwrap());
    }
    pair.eth0.del().ok();
    let record = format!("ready/{}:eth1", pair.a.id);
    let line =
        format!("strace -qq -o /dev/null -P {record} -e inject=renameat:error=ENOSPC \"$L\" reconcile");
    for _ in 0..2 {
        let said = shell(&line);
        assert!(!said.ok && said.stderr.contains("does not get its ports"), "{}{}", said.stdout, said.stderr);
        assert!(!said.stdout.contains("which is free"), "{}", said.stdout);
    }
    assert!(linkspan("reconcile").ok().contains("8080, which is free"));
    pair.serves();
}

/// Whoever hands over is killed with the new record half-way.
#[test]
fn a_record_that_was_half_rewritten_leaves_nothing() {
    let Some(pair) = Pair::new() else { return };
    let half = format!("ready/.new-{}:eth1", pair.a.id);
    let killed = Pair::struck(&pair.eth0, &half, "renameat:error=EIO:signal=KILL");
    assert!(!killed.del().succeeded());
    assert!(fs::exists(format!("/run/linkspan/{half}")).unwrap());
    pair.eth1.del().ok();
    let left: Vec<_> = fs::read_dir("/run/linkspan/ready").unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A DEL meets what a dead container has left to a plugin that hangs.
#[test]
fn the_ports_wait_for_nobody_s_plugin() {
    let Some(pair) = Pair::new() else { return };
    let (directory, network) = pooled(&pair.lab, "while [ ! -e $here/go ]; do sleep 0.1; done");
    let (dead, other) = (pair.lab.container("dead"), pair.lab.container("other"));
    network.on(&dead).add().ok();
    let name = format!("{}:eth0", dead.id);
    fs::create_dir_all("/run/linkspan/doomed").unwrap();
    fs::rename(format!("/run/linkspan/ready/{name}"), format!("/run/linkspan/doomed/{name}")).unwrap();
    let running = pair.eth0.env("CNI_PATH", &directory).start("DEL");
    let begun = eventually(LIMIT, || fs::exists(format!("{directory}/begun")).unwrap());
    assert!(begun && pair.answers(8080) && pair.answers(8081));
    pair.serves();
    let beside = pair.lab.plugin(json!({"name": "n1", "ipam": v4(1)})).on(&other).add();
    beside.ok();
    assert!(beside.elapsed < LIMIT, "{:?}", beside.elapsed);
    fs::write(format!("{directory}/go"), "").unwrap();
    running.finish().ok();
}
