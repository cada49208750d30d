//! On the nf_tables path nothing forks: neither the plugin, nor the kernel for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::plugin::{Plugin, dual_stack};
use lab::{Lab, Outcome};
use serde_json::json;

const TRACE: &str = "/run/trace";

/// The lines of `strace` of one call that tell of another process.
///
/// The kernel runs modprobe(8) for an ioctl about a link that there is not (`dev_load` in `net/core/dev_ioctl.c`), which
/// no test can see on a kernel without modules: the question itself is what is looked for.
fn others(plugin: &Plugin, run: impl FnOnce(&Plugin) -> Outcome) -> Vec<String> {
    let calls = "trace=execve,execveat,fork,vfork,clone,clone3,ioctl";
    run(&plugin.wrapped(&["strace", "-f", "-qq", "-e", calls, "-o", TRACE])).ok();
    let trace = fs::read_to_string(TRACE).unwrap();
    let (first, rest) = trace.split_once('\n').unwrap();
    assert!(first.contains("execve("), "{first}");
    let tells = |line: &&str| !line.contains("ioctl(") || line.contains("ENODEV");
    rest.lines().filter(tells).map(str::to_owned).collect()
}

#[test]
fn no_verb_runs_another_program() {
    if lab::is_reference() {
        lab::skip!("the reference runs its IPAM plugin and iptables");
    }
    let Some(lab) = Lab::new() else { return };
    let (first, second) = (lab.container("c1"), lab.container("c2"));
    let conf = json!({
        "name": "web", "bridge": "br-web", "ipam": dual_stack(1), "backend": "nftables",
        "ingressRate": 8_000_000, "ingressBurst": 800_000,
    });
    let plugin = lab.plugin(conf);
    let one = plugin.on(&first).publish(&["8080:80", "[::]:8443:443/udp"]);
    let other = plugin.on(&second).publish(&["8081:80"]);
    let nothing: Vec<String> = Vec::new();
    assert_eq!(others(&one, Plugin::add), nothing, "first ADD");
    let result = other.add().ok();
    assert_eq!(others(&other.prev(&result), Plugin::check), nothing, "CHECK");
    assert_eq!(others(&other, Plugin::del), nothing, "DEL");
    assert_eq!(others(&other, Plugin::add), nothing, "ADD");
    assert_eq!(others(&plugin, Plugin::status), nothing, "STATUS");
    assert_eq!(others(&other, Plugin::del), nothing, "DEL");
    assert_eq!(others(&other, Plugin::del), nothing, "DEL of nothing");
    assert_eq!(others(&plugin, |plugin| plugin.gc(&[])), nothing, "GC");
    // The network's record tells of a bridge that is gone.
    lab.ip("link delete br-web");
    assert_eq!(others(&other, Plugin::add), nothing, "ADD without the bridge");
}
