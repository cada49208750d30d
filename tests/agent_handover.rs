//! From one agent to the next: no port is free, no question unanswered, no connection cut in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use lab::agent::{Agent, Stray, gone, has_socket, is_alive, pid, status};
use lab::dns::{Upstream, dig, framed, private_etc};
use lab::outcome::gateway;
use lab::plugin::{binary, v4};
use lab::space::run_bounded;
use lab::talk::{echo_server, echoes};
use lab::witness::watched;
use lab::{Container, Lab, eventually, hold, programs};

const LIMIT: Duration = Duration::from_secs(30);
const HANDOVER: &str = "/run/linkspan/handover.sock";

struct Scene {
    lab: Lab,
    a: Container,
    gw: String,
}

/// A container with a name, and with a held and proxied port 8080, whose ADD has started an agent where there is none.
fn scene() -> Option<Scene> {
    let lab = Lab::new()?;
    let keys = json!({"dns": {"enabled": true}, "ipam": v4(1), "holdPorts": true, "userlandProxy": true});
    let a = lab.container("a");
    let added =
        lab.plugin(keys).on(&a).publish(&["8080:80"]).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
    assert_eq!(added.stderr, "", "nothing is degraded");
    let gw = gateway(&added.ok(), 4);
    Some(Scene { lab, a, gw })
}

#[test]
fn the_next_agent_takes_over_without_a_gap() {
    let Some(Scene { lab, a, gw }) = scene() else { return };
    let _stray = Stray;
    let first = pid().unwrap();
    let _server = echo_server(&a, "0.0.0.0:80");
    let mut held = lab.host.in_ns(|| TcpStream::connect("[::1]:8080")).unwrap();
    held.set_read_timeout(Some(LIMIT)).unwrap();
    echoes(&mut held, b"before");
    let mut agents: Vec<Agent> = Vec::new();
    let noticed = watched(&lab.host, &a, &gw, (8080, "front"), || {
        for round in 0..4_u8 {
            // The one on demand gives way to whoever comes; others have to be asked.
            agents.push(Agent::start_alone(if round == 0 { &[] } else { &["--replace"] }));
            echoes(&mut held, &[round; 1000]);
            if round == 0 {
                assert!(gone(first, LIMIT), "the one before ends");
                continue;
            }
            let before = &mut agents[usize::from(round) - 1];
            assert!(eventually(LIMIT, || before.ended().is_some()), "the one before ends");
            assert!(before.ended().unwrap().success());
        }
    });
    noticed.must_be_nothing();
    assert_eq!(status()["services"]["ports"]["open"], 1, "the connection is the last one's");
    // What was taken over ends where it should: with the client, and with the container.
    held.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(held.read(&mut [0; 8]).unwrap(), 0);
    assert!(eventually(LIMIT, || status()["services"]["ports"]["open"] == 0));
    let web = lab
        .plugin(json!({"dns": {"enabled": true}, "ipam": v4(1), "holdPorts": true, "userlandProxy": true}));
    web.on(&a).publish(&["8080:80"]).del().ok();
    let free = || hold::is_free(&lab.host, "tcp", "[::]:8080");
    assert!(eventually(LIMIT, free), "nobody keeps what nobody holds");
    assert_eq!(status()["services"]["names"]["listening"], json!([]));
    let last = agents.pop().unwrap();
    last.signal(Signal::SIGTERM);
    assert!(eventually(LIMIT, || !has_socket()) && !std::path::Path::new(HANDOVER).exists());
}

/// A question that is asked outside while the next agent comes is answered by the one that took it.
#[test]
fn questions_under_way_are_answered_by_who_took_them() {
    let Some(mut lab) = Lab::new() else { return };
    private_etc(&mut lab, &["127.0.0.2"]);
    let up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &[]);
    let mut agents = vec![Agent::start_alone(&[])];
    let web = lab.plugin(json!({"dns": {"enabled": true}, "ipam": v4(1)}));
    let a = lab.container("a");
    let gw = gateway(&web.on(&a).add().ok(), 4);
    let mut heard = Vec::new();
    // A question is given up after some seconds, which a busy machine may need for the next agent to come.
    let answered = (0..5).any(|round| {
        up.freeze(true);
        std::thread::scope(|scope| {
            let asked = [format!("www{round}.example.org A"), format!("+tcp tcp{round}.example.org A")];
            let asked = asked.map(|question| {
                let (a, gw) = (&a, &gw);
                scope.spawn(move || dig(a, gw, &question))
            });
            assert!(eventually(LIMIT, || status()["services"]["names"]["outside"] == 2));
            agents.push(Agent::start_alone(&["--replace"]));
            assert_eq!(status()["services"]["names"]["outside"], 0);
            assert_eq!(dig(&a, &gw, "container-a A").data.len(), 1, "the next one serves meanwhile");
            up.freeze(false);
            heard = asked.map(|heard| heard.join().unwrap()).to_vec();
        });
        heard.iter().all(|heard| heard.data == ["203.0.113.7"])
    });
    assert!(answered, "{heard:?}");
    let first = &agents[0];
    assert!(gone(i32::try_from(first.child.id()).unwrap(), LIMIT));
}

/// The binary is replaced under an agent that an ADD started: the next ADD brings the new one.
#[test]
fn an_upgrade_in_place_takes_effect_with_the_next_add() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let installed = lab.work.path().join("linkspan");
    let install = || {
        let new = lab.work.path().join("linkspan.new");
        programs::copy(binary(), &new);
        std::fs::rename(&new, &installed).unwrap();
    };
    install();
    let web = lab.plugin(json!({"dns": {"enabled": true}, "ipam": v4(1), "holdPorts": true})).of(&installed);
    let add = |name: &str, port: &str| {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        let added = web.on(&lab.container(name)).args(&args).publish(&[port]).add();
        assert_eq!(added.stderr, "", "nothing is degraded");
        gateway(&added.ok(), 4)
    };
    let asker = lab.container("asker");
    web.on(&asker).add().ok();
    let gw = add("front", "8080:80");
    let old = pid().unwrap();
    add("second", "8081:80");
    assert_eq!(pid(), Some(old), "nothing was replaced");
    install();
    let noticed = watched(&lab.host, &asker, &gw, (8080, "front"), || {
        add("third", "8082:80");
        assert!(gone(old, LIMIT));
    });
    noticed.must_be_nothing();
    let new = pid().unwrap();
    assert!(new != old && is_alive(new));
    let runs = std::fs::read_link(format!("/proc/{new}/exe")).unwrap();
    assert_eq!(runs, installed, "the new one runs what is installed now");
    for name in ["front", "second", "third"] {
        assert_eq!(dig(&asker, &gw, &format!("{name} A")).data.len(), 1, "{name}");
    }
    assert_eq!(status()["services"]["ports"]["held"], 3);
    add("fourth", "8083:80");
    assert_eq!(pid(), Some(new), "once is enough");
}

/// Whoever asks for everything and does not take it has nothing, and the agent goes on as it was.
#[test]
fn what_is_not_taken_stays() {
    let Some(Scene { lab, a, gw }) = scene() else { return };
    let _stray = Stray;
    let agent = pid().unwrap();
    let _server = echo_server(&a, "0.0.0.0:80");
    let mut held = lab.host.in_ns(|| TcpStream::connect("[::1]:8080")).unwrap();
    held.set_read_timeout(Some(LIMIT)).unwrap();
    echoes(&mut held, b"before");
    let question = framed(7, "front");
    let noticed = watched(&lab.host, &a, &gw, (8080, "front"), || {
        for words in [&b"nonsense!!\n"[..], b"hand over\n", b"", b"hand over\n"] {
            // Somebody is in the middle of a question, which began before another one that has its answer.
            let mut asking = a.in_ns(|| TcpStream::connect((gw.as_str(), 53))).unwrap();
            asking.set_read_timeout(Some(LIMIT)).unwrap();
            asking.write_all(&question[..1]).unwrap();
            assert_eq!(dig(&a, &gw, "front A").data.len(), 1);
            let mut stream = UnixStream::connect(HANDOVER).unwrap();
            stream.write_all(words).unwrap();
            if words.starts_with(b"hand") {
                // The descriptor that comes with it is closed with the message.
                let mut heard = [0; 64];
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let length = stream.read(&mut heard).unwrap();
                assert_eq!(&heard[..length], b"parcel\n");
            }
            drop(stream);
            echoes(&mut held, b"after");
            asking.write_all(&question[1..]).unwrap();
            let mut answer = [0; 4];
            asking.read_exact(&mut answer).unwrap();
            assert_eq!(answer[2..], [0, 7], "it is answered all the same");
        }
    });
    noticed.must_be_nothing();
    assert!(eventually(LIMIT, || status()["pid"] == agent));
    assert_eq!(status()["services"]["ports"]["open"], 1);
}

/// An agent under a supervisor is replaced by its supervisor, and says so.
#[test]
fn a_supervised_agent_is_its_supervisor_s() {
    let Some(_lab) = Lab::new() else { return };
    let mut agent = Agent::start();
    let next = run_bounded(Command::new(binary()).args(["agent", "--replace"]), None, LIMIT);
    assert!(!next.ok && next.stderr.contains("systemctl restart linkspan-agent"), "{}", next.stderr);
    let without = run_bounded(Command::new(binary()).arg("agent"), None, LIMIT);
    assert!(!without.ok && without.stderr.contains("--replace"), "{}", without.stderr);
    assert!(agent.ended().is_none());
    assert_eq!(status()["attachments"], 0);
}
