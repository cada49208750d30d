//! The systemd unit: systemd understands it, and the agent lives within what it is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use lab::agent::Agent;
use lab::dns::{Upstream, dig, private_etc};
use lab::outcome::gateway;
use lab::plugin::{binary, v4};
use lab::space::run_bounded;
use lab::{Lab, skip};

const ANALYZE: &str = "/usr/bin/systemd-analyze";

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/systemd").join(name)
}

/// The values of a key, in the order written.
fn values(key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(unit("linkspan-agent.service")).unwrap();
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    text.lines().filter_map(value).collect()
}

#[test]
fn systemd_understands_the_units() {
    if !Path::new(ANALYZE).exists() {
        skip!("systemd-analyze is not installed");
    }
    let Some(_lab) = Lab::new() else { return };
    std::fs::create_dir_all("/opt/cni/bin").unwrap();
    std::fs::copy(binary(), "/opt/cni/bin/linkspan").unwrap();
    let mut command = Command::new(ANALYZE);
    command
        .args(["verify", "--man=no"])
        .arg(unit("linkspan-agent.service"))
        .arg(unit("linkspan-agent.socket"));
    let said = run_bounded(&mut command, None, Duration::from_secs(30));
    assert!(said.ok && said.stdout.is_empty() && said.stderr.is_empty(), "{}{}", said.stdout, said.stderr);
    // What is unknown to it would be passed over: that it complains shows that it has looked.
    let wrong = Path::new("/run/wrong.service");
    std::fs::write(wrong, "[Service]\nExecStart=/bin/true\nProtectSistem=strict\n").unwrap();
    let said = run_bounded(
        Command::new(ANALYZE).args(["verify", "--man=no"]).arg(wrong),
        None,
        Duration::from_secs(30),
    );
    assert!(said.stderr.contains("ProtectSistem"), "{}", said.stderr);
}

/// The unit is as confined as the documentation says, by systemd's own measure.
#[test]
fn the_unit_is_confined() {
    if !Path::new(ANALYZE).exists() {
        skip!("systemd-analyze is not installed");
    }
    let score = |unit: &Path, threshold: &str| {
        let mut command = Command::new(ANALYZE);
        command.args(["security", "--no-pager", "--offline=true", threshold]).arg(unit);
        run_bounded(&mut command, None, Duration::from_secs(30))
    };
    let service = unit("linkspan-agent.service");
    let said = score(&service, "--threshold=21");
    if said.stderr.contains("unrecognized option") {
        skip!("systemd-analyze knows no --offline");
    }
    assert!(said.ok && said.stdout.contains("Overall exposure level"), "{}{}", said.stdout, said.stderr);
    assert!(!score(&service, "--threshold=5").ok, "a threshold is kept to");
}

/// With the unit's capabilities and no more, under a watch of every system call, the agent does all that it does.
#[test]
fn the_agent_lives_within_its_unit() {
    if !Path::new(ANALYZE).exists() {
        skip!("systemd-analyze is not installed");
    }
    let Some(mut lab) = Lab::new() else { return };
    private_etc(&mut lab, &["127.0.0.2"]);
    let up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &[]);
    let capabilities = values("CapabilityBoundingSet").join(" ").to_lowercase();
    let kept: String = capabilities
        .split_whitespace()
        .map(|name| format!(",+{}", name.trim_start_matches("cap_")))
        .collect();
    let trace = lab.work.path().join("trace");
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{kept}")).args([
        "--inh-caps=-all",
        "--no-new-privs",
        "strace",
        "-f",
        "-qq",
    ]);
    command.arg("-o").arg(&trace).arg(binary()).arg("agent");
    let agent = Agent::start_as(&mut command, Stdio::null());

    let web = lab.plugin(json!({"dns": {"enabled": true}, "ipam": v4(1)}));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let gw = gateway(&web.on(&a).add().ok(), 4);
    web.on(&b).add().ok();
    assert_eq!(dig(&a, &gw, "container-b A").data.len(), 1);
    assert_eq!(dig(&a, &gw, "+tcp www.example.org A").data, ["203.0.113.7"]);
    assert_eq!(dig(&a, &gw, "www2.example.org A").data, ["203.0.113.7"]);
    drop(up);
    assert_eq!(dig(&a, &gw, "www3.example.org A").status, "SERVFAIL");
    web.on(&b).del().ok();
    let pid = lab::agent::pid().unwrap();
    for signal in [nix::sys::signal::Signal::SIGHUP, nix::sys::signal::Signal::SIGTERM] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(lab::agent::gone(pid, Duration::from_secs(60)));
    drop(agent);

    let mut used: BTreeSet<String> = BTreeSet::new();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let call = line.split_once(' ').map(|(_, rest)| rest.trim_start()).unwrap_or_default();
        let name = call.split('(').next().unwrap_or_default();
        if call.contains('(')
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            used.insert(name.to_owned());
        }
    }
    // musl's epoll_wait is epoll_pwait.
    let waits = ["epoll_wait", "epoll_pwait"].iter().any(|name| used.contains(*name));
    assert!(used.contains("recvmmsg") && waits, "{used:?}");
    let mut allowed = BTreeSet::new();
    for value in values("SystemCallFilter") {
        match value.strip_prefix('~') {
            Some(sets) => sets.split_whitespace().flat_map(calls).for_each(|name| {
                let _ = allowed.remove(&name);
            }),
            None => allowed.extend(value.split_whitespace().flat_map(calls)),
        }
    }
    // What systemd itself does on the way to the agent, it allows.
    let refused: Vec<&String> =
        used.iter().filter(|name| !allowed.contains(*name) && *name != "execve").collect();
    assert!(refused.is_empty(), "the filter refuses {refused:?}");
}

/// The system calls of a set, those of the sets in it included.
fn calls(set: &str) -> Vec<String> {
    if !set.starts_with('@') {
        return vec![set.to_owned()];
    }
    let said =
        run_bounded(Command::new(ANALYZE).args(["syscall-filter", set]), None, Duration::from_secs(60));
    assert!(said.ok, "{set}: {}", said.stderr);
    said.stdout
        .lines()
        .filter(|line| line.starts_with(' '))
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .flat_map(calls)
        .collect()
}
