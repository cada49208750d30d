//! With the agent at work, what somebody took away is there again a moment later.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::agent::{Agent, status};
use lab::damage::{Damage, Scene, to_iptables, to_links, to_nftables};
use lab::download::Download;
use lab::outcome::{address, host_end};
use lab::plugin::dual_stack;
use lab::talk::tcp_server;
use lab::{Lab, Snapshot, eventually, inspect};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::json;

/// How long a repair may take on a busy machine. It is some 30 ms on an idle one.
const LIMIT: Duration = Duration::from_secs(30);

/// The scene with an agent, which has had its first look.
fn watched(lab: &Lab, backend: &str) -> (Scene, Agent) {
    let mut scene = Scene::new(lab, backend);
    let agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 2));
    scene.whole = Snapshot::take(lab);
    (scene, agent)
}

fn heals(lab: &Lab, scene: &Scene, damages: Vec<Damage>) {
    for damage in damages {
        damage.strike_at_the_agent(lab);
        let healed = eventually(LIMIT, || Snapshot::take(lab).differs(&scene.whole).is_none());
        let left = Snapshot::take(lab).differs(&scene.whole).unwrap_or_default();
        assert!(healed, "{}: {left}", damage.name);
        scene.assert_serves(lab);
    }
    for (plugin, result) in [&scene.web, &scene.other] {
        plugin.prev(result).check().ok();
    }
}

fn damages(backend: &str, variant: &str, of: fn(&Scene) -> Vec<Damage>) {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(mut lab) = Lab::new() else { return };
    if !variant.is_empty() && !lab.iptables(variant) {
        lab::skip!("iptables-{variant} is not here");
    }
    let (scene, agent) = watched(&lab, backend);
    // nft 1.0.6 prints the flags of a sleeping table as broken JSON.
    let damages = of(&scene).into_iter().filter(|damage| damage.said != "dormant").collect();
    heals(&lab, &scene, damages);
    drop(agent);
    scene.end(&lab);
}

#[test]
fn nftables_heals() {
    damages("nftables", "", to_nftables);
}

#[test]
fn links_heal() {
    damages("nftables", "", to_links);
}

#[test]
fn iptables_over_nftables_heals() {
    damages("iptables", "nft", |_| to_iptables());
}

#[test]
fn legacy_iptables_heals() {
    damages("iptables", "legacy", |_| to_iptables());
}

/// Connections through published ports, from outside, and out of a container through the masquerade, live through
/// every flush.
#[test]
fn downloads_survive_a_flush() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).publish(&["8080:82"]).add().ok();
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 1));
    let downloads = [
        Download::begin(&a, "[::]:82", &outside, "192.0.2.1:8080"),
        Download::begin(&outside, "[::]:83", &a, "192.0.2.2:83"),
    ];
    let six = Download::begin(&outside, "[::]:84", &a, "[2001:db8::2]:84");
    for flush in [
        "nft flush ruleset",
        "nft delete table inet linkspan",
        "ip link del lks-web",
        "ip link set lks-web down",
    ] {
        for _ in 0..3 {
            downloads.iter().for_each(|download| download.goes_on("before"));
            // On a busy machine a connection may go on before everything is back.
            let is_back = || lab.host.exec(&["nft", "list", "table", "inet", "linkspan"]).ok;
            assert!(eventually(LIMIT, || is_back() && inspect::link(&lab.host, "lks-web").is_some()));
            lab.host.must(&["sh", "-c", flush]);
            downloads.iter().chain([&six]).for_each(|download| download.goes_on(flush));
        }
    }
    downloads.into_iter().chain([six]).for_each(Download::finish);
}

/// Whoever flushes without end is mended again and again, but not without end.
#[test]
fn a_siege_is_not_joined() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let (scene, agent) = watched(&lab, "nftables");
    let begun = Instant::now();
    let mut flushes = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        lab.host.must(&["nft", "flush", "ruleset"]);
        flushes += 1;
    }
    let runs = status()["services"]["repair"]["runs"].as_u64().unwrap();
    let seconds = begun.elapsed().as_secs() + 1;
    assert!(runs >= 1 && runs <= 10 + 2 * seconds, "{runs} repairs for {flushes} flushes in {seconds} s");
    assert!(eventually(LIMIT, || Snapshot::take(&lab).differs(&scene.whole).is_none()), "peace heals");
    // Nothing is done while nothing happens, the agent's own work included.
    let done = || status()["services"]["repair"].clone();
    let settles = || {
        let before = done();
        std::thread::sleep(Duration::from_millis(1500));
        done() == before
    };
    assert!(eventually(LIMIT, settles), "{}", done());
    drop(agent);
    scene.end(&lab);
}

/// ADD and DEL are no damage: they cause no look at the host.
#[test]
fn ordinary_work_is_not_suspected() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let (scene, agent) = watched(&lab, "nftables");
    assert!(eventually(LIMIT, || status()["services"]["repair"]["looks"] == 1), "the first look");
    let network = lab.plugin(json!({"ipam": dual_stack(1), "macspoofchk": true}));
    let looks = || status()["services"]["repair"]["looks"].as_u64().unwrap();
    // A machine that is busy with other things may let so much time pass within an ADD that it is looked at after all;
    // where ordinary work causes looks, it does so every time.
    let quiet = (0..20).any(|round| {
        let before = looks();
        for n in 0..2 {
            let container = lab.container(&format!("c{round}{n}"));
            let plugin = network.on(&container).publish(&["8090:80"]);
            plugin.prev(&plugin.add().ok()).del().ok();
        }
        std::thread::sleep(Duration::from_millis(500));
        looks() == before
    });
    let now = status()["services"]["repair"].clone();
    assert!(quiet && now["objects"] == 0, "{now}");
    drop(agent);
    scene.end(&lab);
}

/// What was damaged while there was no agent is mended when it comes.
#[test]
fn damage_from_before_is_mended() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let scene = Scene::new(&lab, "nftables");
    lab.host.must(&["nft", "flush", "ruleset"]);
    lab.ip("link del lks-web");
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || scene.is_reachable()));
    scene.assert_serves(&lab);
}

/// What a container left that died without DEL goes after `gcAfter`; the living stay, whatever their path means.
#[test]
fn the_dead_are_collected_after_their_grace() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": dual_stack(1), "gcAfter": 2}));
    let for_ever = lab.plugin(json!({"name": "kept", "ipam": dual_stack(2), "gcAfter": 0}));
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let dead = network.on(&a).publish(&["8080:80"]).add().ok();
    let kept = for_ever.on(&b).add().ok();
    network.on(&c).add().ok();
    let _server = tcp_server(&c, "[::]:80", "c");
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 3));
    c.unbind();
    let begun = Instant::now();
    let ids: Vec<String> = [a, b]
        .into_iter()
        .map(|container| {
            container.unbind();
            container.id.clone()
        })
        .collect();
    let ends = [host_end(&dead), host_end(&kept)];
    let links = || ends.iter().filter(|end| inspect::link(&lab.host, end).is_some()).count();
    assert!(eventually(LIMIT, || links() == 0), "their links die with them");
    assert!(eventually(LIMIT, || status()["attachments"] == 2), "one is collected");
    assert!(begun.elapsed() >= Duration::from_secs(2), "not before its time: {:?}", begun.elapsed());
    let traces = [ids[0].as_str(), &address(&dead, 4)];
    assert!(eventually(LIMIT, || traces.iter().all(|trace| !Snapshot::take(&lab).mentions(trace))));
    Snapshot::take(&lab).assert_without(&traces);
    assert!(Snapshot::take(&lab).mentions(&ids[1]), "gcAfter 0 keeps it for ever");
    assert_eq!(status()["services"]["repair"]["collected"], 1);
}

/// A look at the host that cannot begin is a failure, which is counted, told, and made up for.
#[test]
fn a_repair_that_cannot_begin_is_a_failure() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let (scene, agent) = watched(&lab, "nftables");
    let failures = || status()["services"]["repair"]["failures"].as_u64().unwrap();
    assert_eq!(failures(), 0);
    // It can have no thread.
    let pid = agent.child.id().to_string();
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-o", "/run/trace", "-e", "inject=clone,clone3:error=EAGAIN", "-p", &pid]);
    let mut strace = command.spawn().unwrap();
    let is_traced =
        || !fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("TracerPid:\t0\n");
    assert!(eventually(LIMIT, is_traced));
    lab.host.must(&["nft", "delete", "table", "inet", "linkspan"]);
    assert!(eventually(LIMIT, || failures() > 0), "it is not counted");
    signal::kill(Pid::from_raw(strace.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    strace.wait().unwrap();
    assert!(eventually(LIMIT, || Snapshot::take(&lab).differs(&scene.whole).is_none()), "it is tried again");
}
