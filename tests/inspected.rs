//! `inspect` of networks whose rules are in iptables, rule by rule beside what the kernel has; `events` with filters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lab::Lab;
use lab::agent::Agent;
use lab::backends::choose;
use lab::cli::{document, linkspan};
use lab::plugin::{binary, dual_stack, v4};
use lab::talk::PATIENCE;
use serde_json::{Value, json};

/// The comparisons that do not agree.
fn differing(found: &Value) -> Vec<String> {
    let rows = found["comparisons"].as_array().unwrap().iter().filter(|row| row["same"] == false);
    rows.map(|row| row["what"].as_str().unwrap().to_owned()).collect()
}

fn rules_of_iptables(backend: &'static str) {
    if lab::is_reference() {
        return lab::skipped("the reference has no commands");
    }
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    let a = lab.container("a");
    let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
    network.on(&a).publish(&["8080:80"]).add().ok();
    let container = || document("inspect container-a --json", "inspectContainer")["containers"][0].clone();
    let whole = container();
    assert_eq!(differing(&whole), [""; 0], "{whole:#}");
    let rows = whole["comparisons"].as_array().unwrap();
    for (family, address) in [("iptables -t nat", "10.88.1."), ("ip6tables -t nat", "fd00:")] {
        let ours = |row: &&Value| {
            let what = row["what"].as_str().unwrap();
            what.starts_with(family) && what.contains("8080") && what.contains(address)
        };
        assert!(rows.iter().any(|row| ours(&row)), "a port of {family} in {whole:#}");
    }
    let text = linkspan("inspect web");
    assert!(text.ok().contains("iptables -t nat POSTROUTING"), "{}", text.stdout);
    assert!(!text.stdout.contains("\n!"), "{}", text.stdout);

    // With other rules for the network, those that it has now are the recorded ones: for who came before them too.
    let b = lab.container("b");
    lab.plugin(json!({"backend": kind, "isolation": "none", "ipam": v4(1)})).on(&b).add().ok();
    let text = linkspan("inspect web");
    assert!(!text.ok().contains("\n!"), "{}", text.stdout);
    assert_eq!(differing(&container()), [""; 0]);

    // Every rule of ours goes, and is named.
    for family in ["iptables", "ip6tables"] {
        lab.host.must(&[family, "-t", "nat", "-F"]);
    }
    let flushed = differing(&container());
    assert!(
        flushed.iter().any(|what| what.starts_with("iptables -t nat") && what.contains("8080")),
        "{flushed:?}"
    );
    assert!(flushed.iter().any(|what| what.starts_with("ip6tables -t nat")), "{flushed:?}");
    let text = linkspan("inspect web");
    let marked = text.ok().lines().filter(|line| line.starts_with('!')).collect::<Vec<_>>();
    assert!(
        marked.iter().any(|line| line.contains("POSTROUTING") && line.contains("missing")),
        "{}",
        text.stdout
    );
}

#[test]
fn rules_of_iptables_nft_stand_beside_the_kernels() {
    rules_of_iptables("iptables-nft");
}

#[test]
fn rules_of_legacy_iptables_stand_beside_the_kernels() {
    rules_of_iptables("iptables-legacy");
}

/// What a follower has heard so far, as `attached container-a:eth0`.
type Heard = Arc<Mutex<Vec<String>>>;

/// Follows with a filter until the agent ends.
fn follow(filter: &str) -> Heard {
    let words = format!("events {filter}");
    let mut child =
        Command::new(binary()).args(words.split_whitespace()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heard = Heard::default();
    let told = Arc::clone(&heard);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap();
            let words = ["event", "attachment"].map(|key| event[key].as_str().unwrap_or("-").to_owned());
            told.lock().unwrap().push(words.join(" "));
        }
        child.wait().unwrap();
    });
    heard
}

#[test]
fn events_are_filtered_by_network_container_and_label() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let web = lab.plugin(json!({"ipam": dual_stack(1)}));
    let back = lab.plugin(json!({"name": "back", "ipam": v4(2)}));
    let agent = Agent::start();
    let followers = ["", "--network back", "--container shop-0", "--label TIER=front"].map(follow);
    // They follow from when they are heard: until then something comes and goes that all would be told of.
    let early = back.on(&lab.container("early")).args("IgnoreUnknown=1;K8S_POD_NAME=shop-0;TIER=front");
    // What goes at once may not be told of at all.
    let all_hear = || followers.iter().all(|heard| !heard.lock().unwrap().is_empty());
    let follow = || {
        early.add().ok();
        let heard = lab::eventually(Duration::from_secs(2), all_hear);
        early.del().ok();
        heard
    };
    assert!(lab::eventually(PATIENCE, follow), "{followers:?}");
    let of_others = |at: usize| -> Vec<String> {
        let heard = followers[at].lock().unwrap();
        heard.iter().filter(|line| !line.contains("container-early")).cloned().collect()
    };
    let counts = |wanted: [usize; 4]| {
        let heard = || [0, 1, 2, 3].map(|at| of_others(at).len());
        assert!(lab::eventually(PATIENCE, || heard() == wanted), "{followers:?}");
    };
    let (shop, plain, store) = (lab.container("shop"), lab.container("plain"), lab.container("store"));
    let named = web.on(&shop).args("IgnoreUnknown=1;K8S_POD_NAME=shop-0;TIER=front");
    named.add().ok();
    web.on(&plain).add().ok();
    back.on(&store).add().ok();
    counts([3, 1, 1, 1]);
    // A record that is gone is remembered.
    named.del().ok();
    back.on(&store).del().ok();
    web.on(&plain).del().ok();
    counts([6, 2, 2, 2]);
    drop(agent);
    let of = |id: &str| vec![format!("attached {id}:eth0"), format!("detached {id}:eth0")];
    let heard = [0, 1, 2, 3].map(of_others);
    assert_eq!(heard[1], of("container-store"), "by network");
    assert_eq!(heard[2], of("container-shop"), "by name");
    assert_eq!(heard[3], of("container-shop"), "by label, which only the record has");
}
