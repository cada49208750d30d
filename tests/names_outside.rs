//! What the name service asks outside: the host's name servers, whichever they are, and nothing that is local.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use lab::agent::{Agent, status};
use lab::dns::{Failing, Upstream, dig, name_servers, private_etc};
use lab::outcome::gateway;
use lab::plugin::v4;
use lab::{Container, Lab};

/// A host with an agent, and a container on a network with names.
fn scene(servers: &[&str], keys: Value) -> Option<(Lab, Agent, Container, String)> {
    let mut lab = Lab::new()?;
    private_etc(&mut lab, servers);
    let agent = Agent::start();
    let a = lab.container("a");
    let web = lab.plugin(json!({"name": "web", "dns": {"enabled": true}, "ipam": v4(1)})).with(keys);
    let added = web.on(&a).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
    assert_eq!(added.stderr, "");
    let gw = gateway(&added.ok(), 4);
    Some((lab, agent, a, gw))
}

#[test]
fn all_else_is_asked_of_the_hosts_name_servers_and_local_names_never_leave() {
    let Some((lab, _agent, a, gw)) = scene(&["127.0.0.2"], json!({})) else { return };
    let up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &["--txt-record=text.example.org,hello"]);
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.7"]);
    assert_eq!(dig(&a, &gw, "+tcp tcp.example.org A").data, ["203.0.113.7"]);
    assert_eq!(dig(&a, &gw, "+noedns old.example.org A").data, ["203.0.113.7"]);
    assert_eq!(dig(&a, &gw, "+cookie cookie.example.org A").data, ["203.0.113.7"]);
    assert_eq!(dig(&a, &gw, "text.example.org TXT").data, ["\"hello\""]);
    for local in [
        "front A",
        "front MX",
        "absent A",
        "absent.web AAAA",
        "front.web TXT",
        "web NS",
        "-x 10.88.1.2",
        "-x 10.88.1.99",
    ] {
        dig(&a, &gw, local);
        dig(&a, &gw, &format!("+tcp {local}"));
    }
    let log = up.log();
    for name in ["front", "absent", "10.88.1", "88.10.in-addr"] {
        assert!(!log.contains(name), "{name} was asked outside:\n{log}");
    }
    // A server that nobody listens at.
    drop(up);
    assert_eq!(dig(&a, &gw, "other.example.org A").status, "SERVFAIL");
    assert_eq!(dig(&a, &gw, "front A").data.len(), 1);
}

#[test]
fn an_internal_network_asks_nothing_outside() {
    let Some((lab, _agent, a, gw)) = scene(&["127.0.0.2"], json!({"internal": true})) else { return };
    let up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &[]);
    for question in ["www.example.org A", "+tcp www.example.org A", "org DS", "-x 203.0.113.7"] {
        assert_eq!(dig(&a, &gw, question).status, "NXDOMAIN", "{question}");
    }
    assert_eq!(dig(&a, &gw, "front A").data.len(), 1);
    let log = up.log();
    assert!(!log.contains("www.example.org") && !log.contains("203.0.113.7.in-addr"), "{log}");
}

#[test]
fn a_server_that_fails_is_not_the_last_word() {
    let servers = ["127.0.0.2", "127.0.0.3"];
    for code in [2, 5] {
        let Some((lab, _agent, a, gw)) = scene(&servers, json!({})) else { return };
        let failing = Failing::start(&lab, "127.0.0.2", code);
        let second = Upstream::start(&lab, "127.0.0.3", "203.0.113.3", &[]);
        assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.3"], "code {code}");
        assert!(failing.asked() > 0 && second.asked("www.example.org") > 0);
        drop(second);
        assert_eq!(dig(&a, &gw, "other.example.org A").status, "SERVFAIL", "all have failed");
        let before = status()["services"]["names"]["queries"]["failed"].as_u64().unwrap();
        assert_eq!(before, 1);
    }
}

#[test]
fn a_server_that_is_silent_costs_less_than_a_clients_patience() {
    let servers = ["127.0.0.2", "127.0.0.3"];
    let Some((lab, _agent, a, gw)) = scene(&servers, json!({})) else { return };
    let first = Upstream::start(&lab, "127.0.0.2", "203.0.113.2", &[]);
    let second = Upstream::start(&lab, "127.0.0.3", "203.0.113.3", &[]);
    first.freeze(true);
    assert_eq!(dig(&a, &gw, "one.example.org A").data, ["203.0.113.3"]);
    second.freeze(true);
    let begun = Instant::now();
    assert_eq!(dig(&a, &gw, "two.example.org A").status, "SERVFAIL", "an answer, not silence");
    assert!(begun.elapsed() > Duration::from_secs(1), "they had their time");
    first.freeze(false);
    second.freeze(false);
    assert_eq!(dig(&a, &gw, "three.example.org A").data.len(), 1);
}

#[test]
fn resolv_conf_is_read_again_when_it_is_replaced() {
    let Some((lab, _agent, a, gw)) = scene(&["127.0.0.2"], json!({})) else { return };
    let _first = Upstream::start(&lab, "127.0.0.2", "203.0.113.2", &[]);
    let _second = Upstream::start(&lab, "127.0.0.3", "203.0.113.3", &[]);
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.2"]);
    name_servers(&["127.0.0.3"]);
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.3"], "what was kept is of another server");
    // Who names the agent itself would ask in a circle.
    name_servers(&[&gw]);
    assert_eq!(dig(&a, &gw, "www.example.org A").status, "SERVFAIL");
    std::fs::remove_file("/etc/resolv.conf").unwrap();
    assert_eq!(dig(&a, &gw, "www.example.org A").status, "SERVFAIL");
    std::fs::write("/run/real", "nameserver 127.0.0.2\n").unwrap();
    std::os::unix::fs::symlink("/run/real", "/etc/resolv.conf").unwrap();
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.2"]);
    std::fs::write("/run/real.new", "nameserver 127.0.0.3\n").unwrap();
    std::fs::rename("/run/real.new", "/run/real").unwrap();
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.3"], "behind a symbolic link as well");
}

#[test]
fn a_network_may_have_name_servers_of_its_own() {
    let keys = json!({"dns": {"enabled": true, "nameservers": ["127.0.0.3"], "domain": "corp.example"}});
    let Some((lab, _agent, a, gw)) = scene(&["127.0.0.2"], keys) else { return };
    let _host = Upstream::start(&lab, "127.0.0.2", "203.0.113.2", &[]);
    let _own = Upstream::start(&lab, "127.0.0.3", "203.0.113.3", &[]);
    assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.3"]);
    assert_eq!(dig(&a, &gw, "front.corp.example A").data.len(), 1, "names stand under the domain");
    assert_eq!(dig(&a, &gw, "absent.corp.example A").status, "NXDOMAIN");
}

#[test]
fn an_answer_is_kept_for_a_while_and_a_long_one_comes_by_stream() {
    let Some((lab, _agent, a, gw)) = scene(&["127.0.0.2"], json!({})) else { return };
    let long: Vec<String> =
        (0..20).map(|n| format!("--txt-record=long.example.org,{n:02}{}", "x".repeat(200))).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &long);
    for _ in 0..3 {
        assert_eq!(dig(&a, &gw, "kept.example.org A").data, ["203.0.113.7"]);
        assert_eq!(dig(&a, &gw, "KEPT.example.org A").data, ["203.0.113.7"]);
    }
    assert_eq!(up.asked("kept.example.org"), 1, "{}", up.log());
    let counted = status()["services"]["names"]["queries"].clone();
    assert_eq!((counted["cached"].as_u64(), counted["forwarded"].as_u64()), (Some(5), Some(1)));

    // dig comes again by TCP by itself, and does not where it is told to ignore that.
    let cut = dig(&a, &gw, "+ignore long.example.org TXT");
    assert!(cut.text.contains(" tc ") && cut.data.len() < 20, "{}", cut.text);
    for _ in 0..2 {
        let whole = dig(&a, &gw, "long.example.org TXT");
        assert_eq!(whole.data.len(), 20, "{}", whole.text);
        assert!(whole.text.contains("(TCP)") || whole.text.contains("retrying in TCP"), "{}", whole.text);
        assert!(dig(&a, &gw, "+ignore long.example.org TXT").text.contains(" tc "), "also where it is kept");
    }
}
