//! Containers that mean harm: what they do is theirs alone to bear, and the agent stays small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use lab::agent::{Agent, status};
use lab::dns::{Upstream, dig, private_etc, question};
use lab::outcome::{address, gateway};
use lab::plugin::v4;
use lab::talk::PATIENCE;
use lab::{Container, Lab};

/// KiB that the agent may hold in RAM of its own, whatever happens.
const MEMORY: u64 = 15 * 1024;

struct Scene {
    lab: Lab,
    agent: Agent,
    evil: Container,
    good: Container,
    gw: String,
    target: String,
}

fn scene() -> Option<Scene> {
    let mut lab = Lab::new()?;
    private_etc(&mut lab, &["127.0.0.2"]);
    let agent = Agent::start();
    let web = lab.plugin(json!({"dns": {"enabled": true}, "ipam": v4(1)}));
    let (evil, good) = (lab.container("evil"), lab.container("good"));
    let result = web.on(&evil).add().ok();
    let target = address(&web.on(&good).args("IgnoreUnknown=1;K8S_POD_NAME=good").add().ok(), 4);
    let gw = gateway(&result, 4);
    Some(Scene { lab, agent, evil, good, gw, target })
}

impl Scene {
    /// The well-behaved container is served, by both transports.
    fn all_is_well(&self) {
        // Where many are sent at once, a datagram may be lost: clients ask again.
        for question in ["+tries=4 +time=3 good A", "+tcp good A"] {
            assert_eq!(
                dig(&self.good, &self.gw, question).data,
                std::slice::from_ref(&self.target),
                "{question}"
            );
        }
        let (own, _) = self.agent.resident();
        assert!(own < MEMORY, "{own} KiB");
    }
}

#[test]
fn streams_that_say_little_keep_nobody_out() {
    let Some(scene) = scene() else { return };
    let to = format!("{}:53", scene.gw);
    let connect = || scene.evil.in_ns(|| TcpStream::connect(&to)).unwrap();
    // More than one client may have, each saying a byte now and then.
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for byte in [0_u8, 30, 1] {
        for stream in &mut slow {
            let _ = stream.write_all(&[byte]);
        }
        scene.all_is_well();
    }
    let mut refused = 0;
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut byte = [0];
        // An end or a reset: it was closed. Nothing yet: it is one of the few that are listened to.
        refused += usize::from(
            !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert!(refused >= 84, "{refused} of 100 were turned away");
    // The others lose their patience's worth.
    let ended = lab::eventually(PATIENCE, || {
        slow.iter_mut().all(|stream| {
            let mut byte = [0];
            !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        })
    });
    assert!(ended, "a question that does not end is not waited for");
    drop(slow);
    // Lengths that promise more than a question has, and questions that are none.
    for bytes in
        [&[0xff, 0xff, 0, 0][..], &[0, 0], &[0, 3, 1, 2, 3], &[0, 12, 1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        let mut stream = connect();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        assert!(
            !matches!(stream.read_to_end(&mut rest), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "{bytes:?}"
        );
    }
    scene.all_is_well();
    // Several questions in one stream, all written before an answer is read.
    let mut stream = connect();
    let one = question(9, "good");
    for _ in 0..50 {
        stream.write_all(&u16::try_from(one.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&one).unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..50 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..2], [0, 9]);
    }
}

#[test]
fn a_flood_of_names_harms_nobody_and_costs_little_memory() {
    let Some(scene) = scene() else { return };
    let up = Upstream::start(&scene.lab, "127.0.0.2", "203.0.113.7", &[]);
    let to = format!("{}:53", scene.gw);
    let evil = scene.evil.in_ns(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    evil.connect(&to).unwrap();
    let junk = vec![0x41; 60_000];
    let begun = Instant::now();
    let mut sent = 0_u32;
    while begun.elapsed() < Duration::from_secs(4) {
        for n in 0..200_u16 {
            let name = format!("x{sent}-{n}.example.org");
            let _ = evil.send(&question(n, &name));
            let _ = evil.send(&question(n, "good"));
            let _ = evil.send(&junk[..usize::from(n) * 40]);
        }
        sent += 1;
        let answer = dig(&scene.good, &scene.gw, "+tries=4 +time=3 good A");
        assert_eq!(answer.data, std::slice::from_ref(&scene.target), "{}", answer.text);
    }
    let _ = evil.send(&junk);
    scene.all_is_well();
    assert_eq!(dig(&scene.good, &scene.gw, "calm.example.org A").data, ["203.0.113.7"]);
    let names = status()["services"]["names"].clone();
    assert!(names["queries"]["refused"].as_u64() > Some(0), "{names}");
    // A server that is silent holds the questions: those of one client, not of all.
    up.freeze(true);
    // Its share of a second is spent.
    std::thread::sleep(Duration::from_millis(1200));
    let are_held = || {
        for n in 0..5000_u16 {
            let _ = evil.send(&question(n, &format!("held{n}.example.org")));
        }
        let held = status()["services"]["names"]["outside"].as_u64().unwrap();
        assert!(held <= 128, "{held} questions are outside");
        held > 0
    };
    assert!(lab::eventually(PATIENCE, are_held));
    scene.all_is_well();
    up.freeze(false);
    assert_eq!(dig(&scene.good, &scene.gw, "calmer.example.org A").data, ["203.0.113.7"]);
}

/// A thousand attachments, as records: what the agent holds of them.
#[test]
fn a_thousand_attachments_are_little_to_know() {
    let Some(scene) = scene() else { return };
    let Scene { agent, gw, good, .. } = scene;
    agent.kill();
    let text = std::fs::read_to_string("/run/linkspan/ready/container-good:eth0").unwrap();
    let model: Value = serde_json::from_str(&text).unwrap();
    for n in 0..1000_u32 {
        let id = format!("{n:064x}");
        let (third, fourth) = (4 + n / 200, 2 + n % 200);
        let text =
            text.replace(&scene.target, &format!("10.88.{third}.{fourth}")).replace("container-good", &id);
        let mut record: Value = serde_json::from_str(&text).unwrap();
        record["naming"]["names"] = json!([format!("name-{n}"), format!("alias-{n}"), "everyone"]);
        std::fs::write(format!("/run/linkspan/ready/{id}:eth0"), record.to_string()).unwrap();
    }
    assert!(model["naming"].is_object());
    let agent = Agent::start();
    assert_eq!(status()["services"]["names"]["attachments"], 1002);
    assert_eq!(dig(&good, &gw, "name-777 A").data, ["10.88.7.179"]);
    assert_eq!(dig(&good, &gw, "everyone A").data.len(), 1000);
    let (own, whole) = agent.resident();
    println!("1002 attachments: {own} KiB of its own, {whole} KiB with its program");
    assert!(own < MEMORY, "{own} KiB");
}
