//! Calls and an agent that comes, dies and comes again: no call fails for it, and no name is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use lab::agent::{Agent, Stray, gone, has_socket, is_alive, pid, status};
use lab::dns::dig;
use lab::outcome::{Outcome, gateway};
use lab::plugin::{Plugin, binary, v4};
use lab::{Container, Lab, eventually, programs};

const LIMIT: Duration = Duration::from_secs(30);

fn named(lab: &Lab) -> Plugin {
    lab.plugin(json!({"dns": {"enabled": true}, "ipam": v4(1)}))
}

fn add(network: &Plugin, container: &Container, name: &str) -> Outcome {
    network.on(container).args(&format!("IgnoreUnknown=1;K8S_POD_NAME={name}")).add()
}

fn resolves(from: &Container, gw: &str, name: &str) -> bool {
    dig(from, gw, &format!("{name} A")).data.len() == 1
}

#[test]
fn the_first_call_that_needs_an_agent_starts_one_that_ends_with_the_last() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let plain = lab.plugin(json!({"name": "plain", "ipam": v4(2)}));
    plain.on(&lab.container("p")).add().ok();
    assert!(!has_socket(), "a plain attachment needs none");

    let web = named(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    // Both at once: there is one agent all the same.
    let call = |container: &Container, name: &str| {
        web.on(container).args(&format!("IgnoreUnknown=1;K8S_POD_NAME={name}")).start("ADD")
    };
    let both = || [call(&a, "front"), call(&b, "back")].map(lab::plugin::Running::finish);
    let [mut first, mut second] = both();
    for _ in 0..20 {
        if !first.was_hurried() && !second.was_hurried() {
            break;
        }
        // A busy machine: once more, and from the beginning.
        for container in [&a, &b] {
            web.on(container).del().ok();
        }
        assert!(eventually(LIMIT, || pid().is_none_or(|pid| !is_alive(pid))));
        [first, second] = both();
    }
    let gw = gateway(&first.ok(), 4);
    assert_eq!((first.stderr.as_str(), second.stderr.as_str()), ("", ""));
    second.ok();
    let agent = pid().unwrap();
    assert!(resolves(&a, &gw, "back") && resolves(&b, &gw, "front"));
    web.on(&a).del().ok();
    std::thread::sleep(Duration::from_secs(3));
    assert!(resolves(&b, &gw, "back"), "one still needs it");
    web.on(&b).del().ok();
    assert!(gone(agent, LIMIT), "nobody needs it");
    assert!(!has_socket());
    let again = add(&web, &a, "front");
    assert_eq!(again.stderr, "");
    assert!(resolves(&a, &gw, "front") && pid() != Some(agent));
}

#[test]
fn a_killed_agent_is_replaced_and_knows_what_the_one_before_it_knew() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let web = named(&lab);
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let mut agent = Agent::start();
    let gw = gateway(&add(&web, &a, "front").ok(), 4);
    for round in 0..5 {
        agent.kill();
        // Something comes and something goes while there is none.
        if round % 2 == 0 {
            assert_eq!(add(&web, &b, "back").stderr, "", "the call has started one");
        } else {
            web.on(&b).del().ok();
        }
        agent = Agent::start();
        assert!(resolves(&a, &gw, "front"), "round {round}");
        assert_eq!(resolves(&a, &gw, "back"), round % 2 == 0, "round {round}");
    }
    // The binary is replaced under it, as an upgrade does, and then the agent is.
    let installed = lab.work.path().join("linkspan");
    programs::copy(binary(), &installed);
    drop(agent);
    let old = Agent::start_as(Command::new(&installed).arg("agent"), std::process::Stdio::null());
    let new = lab.work.path().join("linkspan.new");
    programs::copy(binary(), &new);
    std::fs::rename(&new, &installed).unwrap();
    assert!(resolves(&a, &gw, "front"), "the old one goes on");
    assert_eq!(add(&web, &c, "third").stderr, "");
    old.kill();
    let _new = Agent::start_as(Command::new(&installed).arg("agent"), std::process::Stdio::null());
    assert!(resolves(&a, &gw, "front") && resolves(&a, &gw, "third"));
}

/// SIGKILL at any moment while containers come and go: every call succeeds, and what is there in the end resolves.
#[test]
fn no_call_fails_whenever_the_agent_is_killed() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let web = named(&lab);
    let watcher = lab.container("watcher");
    let gw = gateway(&add(&web, &watcher, "watcher").ok(), 4);
    let containers: Vec<Container> = (0..24).map(|n| lab.container(&format!("c{n}"))).collect();
    for (n, container) in containers.iter().enumerate() {
        let call = web.on(container).args(&format!("IgnoreUnknown=1;K8S_POD_NAME=n{n}")).start("ADD");
        std::thread::sleep(Duration::from_micros(400 * n as u64));
        if let Some(pid) = pid() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            assert!(gone(pid, LIMIT));
        }
        call.finish().ok();
    }
    // The last one may have been killed after the last call.
    let _agent = Agent::start();
    for n in 0..containers.len() {
        assert!(resolves(&watcher, &gw, &format!("n{n}")), "n{n}");
    }
    assert_eq!(status()["attachments"], containers.len() + 1);
}

#[test]
fn an_agent_that_hangs_delays_calls_and_fails_none() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start();
    let web = named(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let gw = gateway(&add(&web, &a, "front").ok(), 4);
    agent.signal(Signal::SIGSTOP);
    let late = web.on(&b).args("IgnoreUnknown=1;K8S_POD_NAME=back").run("ADD");
    assert!(late.found_agent_late());
    assert!(late.stderr.contains("did not answer within 200 ms"), "{}", late.stderr);
    assert_eq!(late.ok()["dns"]["nameservers"], json!([gw]), "it will answer when it can");
    let late = web.on(&a).run("DEL");
    late.ok();
    assert!(late.stderr.contains("did not answer"), "{}", late.stderr);
    agent.signal(Signal::SIGCONT);
    assert!(eventually(LIMIT, || resolves(&b, &gw, "back")));
    assert!(eventually(LIMIT, || dig(&b, &gw, "front A").status == "NXDOMAIN"));
}

#[test]
fn where_there_can_be_no_agent_the_container_asks_the_hosts_servers() {
    let Some(lab) = Lab::new() else { return };
    std::fs::create_dir_all("/run/linkspan").unwrap();
    // Somebody holds the lock and serves nothing.
    let file = std::fs::File::create("/run/linkspan/agent.lock").unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let web = named(&lab);
    let a = lab.container("a");
    let added = add(&web, &a, "front");
    let result: Value = added.ok();
    assert!(added.stderr.contains("there is no agent"), "{}", added.stderr);
    assert!(added.stderr.contains("another agent"), "{}", added.stderr);
    assert!(result["dns"].is_null(), "{result}");
    web.on(&a).del().ok();
    drop(held);
}

/// Records that nobody can read hide no others.
#[test]
fn a_broken_record_is_passed_over() {
    let Some(lab) = Lab::new() else { return };
    let web = named(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let agent = Agent::start();
    let gw = gateway(&add(&web, &a, "front").ok(), 4);
    add(&web, &b, "back").ok();
    agent.kill();
    std::fs::write("/run/linkspan/ready/container-b:eth0", b"{\"version\":1").unwrap();
    let _agent = Agent::start();
    assert!(resolves(&a, &gw, "front"));
    assert_eq!(status()["attachments"], 1);
}
