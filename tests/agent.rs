//! The agent's life: one for each state directory, started by hand, by a supervisor or on demand; its conversation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use lab::agent::{Agent, SOCKET, Stray, gone, has_socket, is_alive, pid, say, status};
use lab::plugin::{binary, v4};
use lab::space::run_bounded;
use lab::{Lab, eventually};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn it_serves_until_it_is_told_to_end() {
    let Some(_lab) = Lab::new() else { return };
    let mut agent = Agent::start();
    assert_eq!(status()["attachments"], 0);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata("/run/linkspan").unwrap().permissions());
    assert_eq!(mode & 0o77, 0, "the socket's directory is open to nobody else");
    agent.signal(Signal::SIGTERM);
    assert!(eventually(LIMIT, || agent.ended().is_some()));
    assert!(agent.ended().unwrap().success());
    assert!(!has_socket(), "the socket goes with it");
}

#[test]
fn what_is_said_is_answered_and_nonsense_harms_nobody() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    for nonsense in ["", "x", "{}", r#"{"op":"dance"}"#, r#"{"op":"attach","key":"none"}"#, "[]"] {
        let reply = say(nonsense);
        assert!(reply["ok"] == false && reply["error"].is_string(), "{nonsense:?}: {reply}");
    }
    // Of an attachment that has no record there is nothing to serve, whatever is said of it.
    assert_eq!(say(r#"{"op":"attach","key":"a:eth0","more":1}"#)["ok"], true);
    assert_eq!(status()["attachments"], 0);
    // A line without end, and many who say nothing.
    let mut endless = UnixStream::connect(SOCKET).unwrap();
    endless.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = endless.write_all(&[b'a'; 10_000]);
    let mut answer = String::new();
    let _ = endless.read_to_string(&mut answer);
    let _silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
    let web = lab.plugin(json!({"ipam": v4(1)}));
    web.on(&lab.container("a")).add().ok();
    assert_eq!(say(r#"{"op":"attach","key":"container-a:eth0"}"#)["ok"], true);
    assert_eq!(status()["attachments"], 1);
}

#[test]
fn records_are_the_truth_with_and_without_a_word() {
    let Some(lab) = Lab::new() else { return };
    let web = lab.plugin(json!({"ipam": v4(1)}));
    let (a, b) = (lab.container("a"), lab.container("b"));
    web.on(&a).add().ok();
    let agent = Agent::start();
    assert_eq!(status()["attachments"], 1, "what was there before it");
    web.on(&b).add().ok();
    assert!(eventually(LIMIT, || status()["attachments"] == 2), "what nobody told it");
    agent.kill();
    web.on(&a).del().ok();
    let agent = Agent::start();
    assert_eq!(status()["attachments"], 1, "what happened while there was none");
    // The directory of the records is taken away and made anew.
    std::fs::rename("/run/linkspan/ready", "/run/linkspan/aside").unwrap();
    assert!(eventually(LIMIT, || status()["attachments"] == 0));
    std::fs::remove_dir("/run/linkspan/ready").unwrap();
    std::fs::rename("/run/linkspan/aside", "/run/linkspan/ready").unwrap();
    assert!(eventually(LIMIT, || status()["attachments"] == 1));
    drop(agent);
}

#[test]
fn there_is_one_at_a_time() {
    let Some(_lab) = Lab::new() else { return };
    let _stray = Stray;
    let mut first = Agent::start();
    let second = run_bounded(Command::new(binary()).arg("agent"), None, LIMIT);
    assert!(!second.ok && second.stderr.contains("another agent"), "{}", second.stderr);
    assert!(second.stderr.contains(&first.child.id().to_string()), "{}", second.stderr);
    // One that is not needed says nothing.
    let third = run_bounded(Command::new(binary()).args(["agent", "--on-demand"]), None, LIMIT);
    assert!(third.ok, "{}", third.stderr);
    assert!(first.ended().is_none());
    assert_eq!(status()["pid"], first.child.id());
}

#[test]
fn one_on_demand_leaves_its_starter_gives_way_and_ends_by_itself() {
    let Some(_lab) = Lab::new() else { return };
    let _stray = Stray;
    let start = || run_bounded(Command::new(binary()).args(["agent", "--on-demand"]), None, LIMIT);
    let started = start();
    assert!(started.ok, "{}", started.stderr);
    assert!(has_socket(), "the starter returns when the socket is there");
    let on_demand = i32::try_from(status()["pid"].as_u64().unwrap()).unwrap();
    assert!(is_alive(on_demand));
    // The one that a supervisor starts takes its place.
    let agent = Agent::start();
    assert!(gone(on_demand, LIMIT));
    assert_eq!(status()["pid"], agent.child.id());
    agent.kill();
    // A killed one leaves its socket, which is nobody's.
    assert!(has_socket());
    assert!(start().ok);
    let again = i32::try_from(status()["pid"].as_u64().unwrap()).unwrap();
    assert_eq!(pid(), Some(again));
    assert!(gone(again, LIMIT * 2), "nobody needs it");
    assert!(!has_socket());
}

/// A supervisor keeps the socket, so that whoever comes while the agent is being restarted waits for the next one.
#[test]
fn a_supervisor_may_keep_the_socket() {
    let Some(_lab) = Lab::new() else { return };
    std::fs::create_dir_all("/run/linkspan").unwrap();
    let listener = UnixListener::bind(SOCKET).unwrap();
    let activate = || {
        // The descriptor becomes number 3 in a shell that then becomes the agent.
        let script =
            format!("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec {} agent", binary().display());
        let passed = Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        Agent::start_as(Command::new("bash").args(["-c", &script]), passed)
    };
    let mut waiting = UnixStream::connect(SOCKET).unwrap();
    waiting.write_all(b"{\"op\":\"status\"}\n").unwrap();
    let mut agent = activate();
    let mut answer = [0; 4096];
    waiting.set_read_timeout(Some(LIMIT)).unwrap();
    let length = waiting.read(&mut answer).unwrap();
    assert!(
        String::from_utf8_lossy(&answer[..length]).contains("\"ok\":true"),
        "who came before it is served"
    );
    agent.signal(Signal::SIGTERM);
    assert!(eventually(LIMIT, || agent.ended().is_some()));
    assert!(has_socket(), "it is not the agent's to remove");
    let _agent = activate();
    assert_eq!(status()["attachments"], 0);
}
