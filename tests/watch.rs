//! What an operator sees: numbers for monitoring, `linkspan status`, `linkspan events`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::agent::{Agent, status};
use lab::damage::linkspan;
use lab::plugin::{binary, dual_stack};
use lab::talk::{pour, sink_server};
use lab::{Lab, eventually};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// Debian's own, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";
const SOCKET: &str = "/run/linkspan/metrics.sock";

/// One request, and the whole answer.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn page() -> String {
    // An agent that has just begun may be about to listen.
    let mut found = None;
    eventually(LIMIT, || {
        found = UnixStream::connect(SOCKET).ok();
        found.is_some()
    });
    let stream = found.expect("somebody listens");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let answer = ask(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    body.to_owned()
}

/// The value of one line: name and labels as they are printed.
fn value(page: &str, line: &str) -> f64 {
    let found = page.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in:\n{page}")).parse().unwrap()
}

#[test]
fn the_numbers_are_right() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": dual_stack(1), "countPorts": true}));
    network.on(&a).add().ok();
    let _agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 1));
    // What was there before the agent is counted as there, not as done.
    let first = page();
    assert_eq!(value(&first, "linkspan_attachments{network=\"web\"}"), 1.0);
    assert_eq!(value(&first, "linkspan_verbs_total{verb=\"add\",outcome=\"done\"}"), 0.0);
    let second = network.on(&b).publish(&["8080:80"]);
    let result = second.add().ok();
    let _server = sink_server(&b, "[::]:80");
    assert!(eventually(LIMIT, || page().contains("linkspan_port_receive_bytes_total{")), "it is counted");
    pour(&lab.host, "127.0.0.1:8080", 1 << 20, LIMIT).unwrap();
    assert!(eventually(LIMIT, || status()["attachments"] == 2));
    let page2 = page();
    let leases = |page: &str, state: &str| {
        value(
            page,
            &format!("linkspan_leases{{network=\"web\",range=\"10.88.1.1-10.88.1.254\",state=\"{state}\"}}"),
        )
    };
    assert_eq!((leases(&page2, "used"), leases(&page2, "free")), (2.0, 251.0));
    assert_eq!(value(&page2, "linkspan_verbs_total{verb=\"add\",outcome=\"done\"}"), 1.0);
    assert_eq!(value(&page2, "linkspan_verb_seconds_count{verb=\"add\"}"), 1.0);
    let took = value(&page2, "linkspan_verb_seconds_sum{verb=\"add\"}");
    assert!(took > 0.0 && took < 30.0, "{took}");
    let labels = format!("{{network=\"web\",container=\"{}\",interface=\"eth0\"}}", b.id);
    let received = value(&page2, &format!("linkspan_container_receive_bytes_total{labels}"));
    assert!((1_048_576.0..2_000_000.0).contains(&received), "{received} of 1 MiB and headers");
    let sent = value(&page2, &format!("linkspan_container_transmit_bytes_total{labels}"));
    assert!(sent > 0.0 && sent < received / 4.0, "acknowledgements: {sent}");
    // The port that it came through has counted the same, and what went back.
    let of_port = |page: &str, what: &str, host: &str| {
        let id = &b.id;
        let labels = format!("network=\"web\",container=\"{id}\",interface=\"eth0\",protocol=\"tcp\"");
        value(page, &format!("linkspan_port_{what}_total{{{labels},host=\"{host}\",port=\"8080\"}}"))
    };
    let through = of_port(&page2, "receive_bytes", "0.0.0.0");
    assert!((1_048_576.0..2_000_000.0).contains(&through), "{through} of 1 MiB and headers");
    let back = of_port(&page2, "transmit_bytes", "0.0.0.0");
    assert!(back > 0.0 && back < through / 4.0, "acknowledgements: {back}");
    assert!(of_port(&page2, "receive_packets", "0.0.0.0") > 5.0);
    assert_eq!(of_port(&page2, "receive_bytes", "::"), 0.0, "nobody came by IPv6");
    // An ADD that begins and fails, a DEL, a repair.
    let full = lab.plugin(json!({"name": "full", "ipam": {"type": "host-local", "subnet": "10.99.0.0/30"}}));
    let c = lab.container("c");
    full.on(&a).ifname("eth1").add().ok();
    full.on(&c).add().refused(100);
    second.prev(&result).del().ok();
    lab.host.must(&["nft", "flush", "ruleset"]);
    let line =
        |verb: &str, outcome: &str| format!("linkspan_verbs_total{{verb=\"{verb}\",outcome=\"{outcome}\"}}");
    assert!(
        eventually(LIMIT, || {
            let page = page();
            value(&page, &line("add", "failed")) == 1.0
                && value(&page, &line("del", "done")) == 1.0
                && value(&page, "linkspan_verb_seconds_count{verb=\"del\"}") == 1.0
                && value(&page, "linkspan_repairs_total") == 1.0
        }),
        "{}",
        page()
    );
    assert!(value(&page(), "linkspan_repaired_objects_total") >= 2.0);
    // Every metric says what it is, once, and every line is one.
    let page = page();
    for line in page.lines() {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        let name = name.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        assert_eq!(page.matches(&format!("# TYPE {family} ")).count(), 1, "{line}");
        assert!(name.starts_with("linkspan_"), "{line}");
    }
}

/// The page is what Prometheus reads: by the parser of its own client for Python, with the types that we say.
#[test]
fn the_page_is_read_by_a_parser_of_prometheus() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let parser = "import sys, prometheus_client.parser as p\n\
                  for f in p.text_string_to_metric_families(sys.stdin.read()):\n \
                  print(f.name, f.type, len(f.samples), len({(s.name, tuple(sorted(s.labels.items()))) for s in f.samples}), bool(f.documentation))";
    if !lab.host.exec(&[PYTHON, "-c", "import prometheus_client.parser"]).ok {
        lab::skip!("python3-prometheus-client is not here");
    }
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": dual_stack(1), "dns": {"enabled": true}, "countPorts": true}));
    network.on(&a).publish(&["8080:80", "8100-8109:8100-8109", "8053:53/udp"]).add().ok();
    let _stray = lab::agent::Stray;
    network.on(&b).add().ok();
    assert!(eventually(LIMIT, || page().contains("port=\"8100-8109\"")), "{}", page());
    let path = lab.work.path().join("page");
    std::fs::write(&path, page()).unwrap();
    let read = lab.host.must(&["sh", "-c", &format!("{PYTHON} -c '{parser}' < {}", path.display())]);
    let families: Vec<Vec<&str>> = read.lines().map(|line| line.split(' ').collect()).collect();
    assert!(families.len() > 20, "{read}");
    for family in &families {
        assert!(matches!(family[1], "counter" | "gauge" | "histogram"), "{family:?}");
        assert_eq!(family[2], family[3], "no sample is there twice: {family:?}");
        assert_eq!(family[4], "True", "each says what it is: {family:?}");
    }
    // The parser takes `_total` off a counter's name.
    let samples = |name: &str| {
        let found = families.iter().find(|family| family[0] == name);
        found.unwrap_or_else(|| panic!("no {name} in {read}"))[2].parse::<usize>().unwrap()
    };
    assert_eq!(samples("linkspan_attachments"), 1);
    assert_eq!(samples("linkspan_port_receive_bytes"), 6, "three mappings, two families");
    assert_eq!(samples("linkspan_container_receive_bytes"), 2);
    assert_eq!(samples("linkspan_leases"), 4, "used and free, of two families");
}

/// What comes through a range, and by UDP, is counted; what is published no more is not; another agent begins anew.
#[test]
fn bytes_of_ports_follow_what_is_published() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": dual_stack(1), "countPorts": true}));
    let first = network.on(&a).publish(&["8100-8109:8100-8109", "8053:53/udp", "192.0.2.1:8080:80"]);
    let result = first.add().ok();
    let agent = Agent::start();
    let _servers = [
        lab::talk::tcp_server(&a, "[::]:8105", "a"),
        lab::talk::udp_server(&a, "0.0.0.0:53", "a"),
        lab::talk::tcp_server(&a, "[::]:80", "a"),
    ];
    let packets = |what: &str, protocol: &str, host: &str, port: &str| {
        let labels =
            format!("network=\"web\",container=\"{}\",interface=\"eth0\",protocol=\"{protocol}\"", a.id);
        let line = format!("linkspan_port_{what}_packets_total{{{labels},host=\"{host}\",port=\"{port}\"}}");
        value(&page(), &line)
    };
    assert!(eventually(LIMIT, || page().contains("port=\"8053\"")), "{}", page());
    assert_eq!(lab::talk::tcp(&outside, "192.0.2.1:8105").tag, "a");
    assert_eq!(lab::talk::tcp(&outside, "[2001:db8::1]:8105").tag, "a");
    lab::talk::udp(&outside, "192.0.2.1:8053");
    assert_eq!(lab::talk::tcp(&lab.host, "192.0.2.1:8080").tag, "a");
    for (protocol, host, port) in [
        ("tcp", "0.0.0.0", "8100-8109"),
        ("tcp", "::", "8100-8109"),
        ("udp", "0.0.0.0", "8053"),
        ("tcp", "192.0.2.1", "8080"),
    ] {
        for what in ["receive", "transmit"] {
            let count = packets(what, protocol, host, port);
            assert!((1.0..20.0).contains(&count), "{what} {protocol} {host} {port}: {count}");
        }
    }
    let status = linkspan(&lab, &["status"]).stdout;
    assert!(
        status.contains("  port tcp 0.0.0.0:8100-8109 of ") && status.contains(": received "),
        "{status}"
    );
    // A flush of others leaves the numbers; another attachment does as well.
    let before = packets("receive", "udp", "0.0.0.0", "8053");
    lab.host.must(&["nft", "flush", "ruleset"]);
    let second = network.on(&b).publish(&["8081:80"]);
    let other = second.add().ok();
    assert!(eventually(LIMIT, || page().contains("port=\"8081\"")), "{}", page());
    assert_eq!(packets("receive", "udp", "0.0.0.0", "8053"), before);
    first.prev(&result).del().ok();
    assert!(eventually(LIMIT, || !page().contains("port=\"8053\"")), "{}", page());
    agent.kill();
    let _agent = Agent::start();
    assert!(
        eventually(LIMIT, || UnixStream::connect(SOCKET).is_ok()),
        "in the place of the killed one's socket"
    );
    assert!(eventually(LIMIT, || page().contains("port=\"8081\"")), "what a killed agent left is taken over");
    second.prev(&other).del().ok();
    let tables = || lab.host.must(&["nft", "list", "tables"]);
    assert!(eventually(LIMIT, || !tables().contains("linkspan-bytes")), "nothing is published: {}", tables());
    // Where nobody asks for it, no packet is looked at.
    network
        .with(json!({"name": "plain", "ipam": dual_stack(2), "countPorts": null}))
        .on(&b)
        .publish(&["8081:80"])
        .add()
        .ok();
    assert!(eventually(LIMIT, || page().contains("linkspan_attachments{network=\"plain\"} 1")));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!tables().contains("linkspan-bytes"), "{}", tables());
}

#[test]
fn a_loopback_address_serves_them_too_and_nonsense_is_refused() {
    if lab::is_reference() {
        lab::skip!("the reference has no agent");
    }
    let Some(_lab) = Lab::new() else { return };
    let _agent =
        Agent::start_as(Command::new(binary()).args(["agent", "--metrics", "127.0.0.1:9464"]), Stdio::null());
    assert!(eventually(LIMIT, || TcpStream::connect("127.0.0.1:9464").is_ok()));
    let get = |request: &str| ask(TcpStream::connect("127.0.0.1:9464").unwrap(), request);
    assert!(get("GET /metrics HTTP/1.0\r\n\r\n").contains("linkspan_build_info{version="));
    assert!(get("GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get("POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 405 "));
    // Some say nothing, some too much: others are served meanwhile.
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect("127.0.0.1:9464").unwrap()).collect();
    let mut endless = TcpStream::connect("127.0.0.1:9464").unwrap();
    let _ = endless.write_all(&[b'x'; 100_000]);
    drop(silent);
    drop(endless);
    assert!(get("GET /metrics HTTP/1.0\r\n\r\n").contains("linkspan_repairs_total 0"));
    let said = Command::new(binary()).args(["agent", "--metrics", "0.0.0.0:9464"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
}

#[test]
fn status_is_for_people() {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(lab) = Lab::new() else { return };
    assert!(linkspan(&lab, &["status"]).stdout.starts_with("nothing is attached\n"));
    let a = lab.container("a");
    lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).add().ok();
    let said = linkspan(&lab, &["status"]);
    assert!(said.ok, "{}", said.stderr);
    for line in [
        "network web: bridge lks-web, nftables, 1 attached",
        "  addresses 10.88.1.1-10.88.1.254: 1 used, 252 free",
        &format!("container {}:eth0 on web: received ", a.id),
        "agent: none",
    ] {
        assert!(said.stdout.contains(line), "{line}: {}", said.stdout);
    }
    let agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 1));
    let said = linkspan(&lab, &["status"]);
    assert!(said.stdout.contains(&format!("agent: process {}", agent.child.id())), "{}", said.stdout);
    assert!(said.stdout.contains("  repair: looks "), "{}", said.stdout);
}

#[test]
fn events_are_followed() {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(lab) = Lab::new() else { return };
    let said = linkspan(&lab, &["events"]);
    assert!(!said.ok && said.stderr.contains("linkspan agent"), "{}", said.stderr);
    let agent = Agent::start();
    let mut follower =
        Command::new(binary()).arg("events").stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap());
    let (send, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let _ = send.send(event);
        }
    });
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    let early = network.on(&lab.container("early"));
    // It follows from when it is heard: until then something comes and goes; what goes at once may not be told of at all.
    let follows = || {
        early.add().ok();
        let told = heard.recv_timeout(Duration::from_secs(2)).is_ok();
        early.del().ok();
        told
    };
    assert!(eventually(LIMIT, follows));
    let hear = || loop {
        let event: Value = heard.recv_timeout(LIMIT).expect("something happens");
        if event["attachment"] != "container-early:eth0" {
            return event;
        }
    };
    let a = lab.container("a");
    let plugin = network.on(&a);
    let result = plugin.add().ok();
    let key = format!("{}:eth0", a.id);
    let next = |name: &str| {
        let event = hear();
        assert_eq!(event["event"], name, "{event}");
        assert!(event["time"].as_f64() > Some(1e9), "{event}");
        event
    };
    let event = next("attached");
    assert_eq!((&event["attachment"], &event["network"]), (&json!(key), &json!("web")));
    lab.ip("link set lks-web down");
    assert_eq!(next("repaired")["object"], "bridge lks-web");
    plugin.prev(&result).del().ok();
    // The address of the gateway may have been put back beside.
    let mut event = hear();
    while event["event"] == "repaired" {
        event = hear();
    }
    assert_eq!((&event["event"], &event["attachment"]), (&json!("detached"), &json!(key)));
    agent.kill();
    assert!(eventually(LIMIT, || follower.try_wait().unwrap().is_some()), "it ends with the agent");
}
