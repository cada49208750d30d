//! What is announced is what happens: dry runs over lists of plugins under the names of the reference plugins, of
//! `install`, `uninstall` and `reconcile`; and published ports that are typed by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::fs;
use std::path::Path;

use lab::cli::{Answer, linkspan, linkspan_with};
use lab::outcome::{address, host_end};
use lab::snapshot::Snapshot;
use lab::{Lab, inspect, programs};
use serde_json::{Value, json};

/// Writes a list as `/etc/cni/net.d/10-web.conflist`, and puts all names of plugins into `/opt/cni/bin`.
fn host(plugins: &Value) -> Option<Lab> {
    if lab::is_reference() {
        lab::skipped("the reference has no commands");
        return None;
    }
    let lab = Lab::new()?;
    fs::create_dir_all("/etc/cni/net.d").unwrap();
    let list = json!({"cniVersion": "1.0.0", "name": "web", "plugins": plugins});
    fs::write("/etc/cni/net.d/10-web.conflist", list.to_string()).unwrap();
    Some(lab)
}

fn with_ports(words: &str, ports: &Value) -> Answer {
    let given = json!({"portMappings": ports}).to_string();
    linkspan_with(words, &[("CAP_ARGS", &given), ("CNI_CONTAINERID", "c1")])
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn a_list_of_the_reference_names_is_announced_plugin_by_plugin() {
    let plugins = json!([
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "tuning", "mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
        {"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 8_000_000},
    ]);
    let Some(lab) = host(&plugins) else { return };
    let directory = lab.work.path().join("bin");
    let put = linkspan(&format!("install --dir {} --all", directory.display()));
    put.ok();
    let path = directory.display().to_string();
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]).to_string();
    let given = format!("{{\"portMappings\":{ports}}}");
    // Names are ours where their program is the running one.
    let own = directory.join("linkspan");
    let typed = |words: &str| {
        let line = format!("CNI_PATH={path} CNI_CONTAINERID=c1 CAP_ARGS='{given}' {} {words}", own.display());
        lab::cli::shell(&line)
    };
    let blue = lab.container("blue");
    let before = Snapshot::of(&lab.host, &["/var/lib/cni"]);
    let dry = typed("add web blue --dry-run");
    assert!(dry.ok, "{}", dry.stderr);
    says(
        &dry.stdout,
        &[
            "bridge would, in this order:",
            "the bridge cni0 is there",
            "portmap would:\n  claim the host port tcp 0.0.0.0:8080",
            "translate tcp 0.0.0.0:8080 to 10.1.0.2:80",
            "tuning would:\n  set eth0: MTU 1400",
            "arp_filter to 1 in the container",
            "bandwidth would:\n  limit what the container receives to 8000000 bit/s",
            "nothing was changed",
        ],
    );
    Snapshot::of(&lab.host, &["/var/lib/cni"]).assert_same(&before, "a dry run changes nothing");
    let added = typed("add web blue");
    assert!(added.ok, "{}", added.stderr);
    let result: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!(address(&result, 4), "10.1.0.2");
    assert!(dry.stdout.contains(&host_end(&result)), "{} in {}", host_end(&result), dry.stdout);
    assert_eq!(inspect::link(&blue, "eth0").unwrap()["mtu"], 1400);

    lab.container("green");
    let refused = lab::cli::shell(&format!(
        "CNI_PATH={path} CNI_CONTAINERID=c2 CAP_ARGS='{given}' {} add web green --dry-run",
        own.display()
    ));
    assert!(!refused.ok && refused.stderr.contains("is taken by container c1"), "{}", refused.stderr);

    let gone = typed("del c1 --dry-run");
    says(
        &gone.stdout,
        &[
            "stop translating tcp 0.0.0.0:8080",
            "free the host port tcp 0.0.0.0:8080",
            "free the address 10.1.0.2",
        ],
    );
    assert!(inspect::link(&blue, "eth0").is_some());
    let done = typed("del c1");
    assert!(done.ok && inspect::link(&blue, "eth0").is_none(), "{}", done.stderr);
}

/// What died without a DEL gives way to an ADD, and stays for who only asks.
#[test]
fn a_port_of_a_dead_container_is_taken_by_no_dry_run() {
    for plugins in [
        json!([{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}},
               {"type": "portmap", "capabilities": {"portMappings": true}}]),
        json!([{"type": "linkspan", "capabilities": {"portMappings": true},
                "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}]]}}]),
    ] {
        let Some(lab) = host(&plugins) else { return };
        let directory = lab.work.path().join("bin");
        linkspan(&format!("install --dir {} --all", directory.display())).ok();
        let typed = |id: &str, words: &str| {
            let given = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
            let (path, own) = (directory.display(), directory.join("linkspan"));
            let line =
                format!("CNI_PATH={path} CNI_CONTAINERID={id} CAP_ARGS='{given}' {} {words}", own.display());
            lab::cli::shell(&line)
        };
        let _both = [lab.container("blue"), lab.container("green")];
        let added = typed("c1", "add web blue");
        let result: Value = serde_json::from_str(&added.stdout).unwrap();
        lab.ip(&format!("link del {}", host_end(&result)));
        let before = Snapshot::take(&lab);
        let dry = typed("c2", "add web green --dry-run");
        assert!(dry.ok, "{}", dry.stderr);
        says(&dry.stdout, &["claim the host port tcp 0.0.0.0:8080", "nothing was changed"]);
        Snapshot::take(&lab).assert_same(&before, "a dry run changes nothing");
        let added = typed("c2", "add web green");
        assert!(added.ok, "{}", added.stderr);
    }
}

#[test]
fn another_ones_plugin_is_named_and_its_refusal_is_told_once() {
    let plugins =
        json!([{"type": "linkspan", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}]]}}, {"type": "odd"}]);
    let Some(lab) = host(&plugins) else { return };
    let odd = lab.work.path().join("odd");
    let refusal = r#"{"cniVersion":"1.0.0","code":7,"msg":"odd","details":"it will not"}"#;
    programs::put(&odd, &format!("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho '{refusal}'; exit 1\n"));
    let path = lab.work.path().display().to_string();
    lab.container("blue");
    let variables = [("CNI_PATH", path.as_str()), ("CNI_CONTAINERID", "c1"), ("PATH", "/usr/bin:/bin")];
    let dry = linkspan_with("add web blue --dry-run", &variables);
    says(
        dry.ok(),
        &["linkspan would, in this order:", &format!("run {path}/odd with ADD; what it does is its own")],
    );
    let added = linkspan_with("add web blue", &variables);
    added.failed(
        1,
        "the plugin odd failed ADD: odd: it will not (code 7)\nWhat had been made was taken back.",
    );

    // Where nothing had been made, nothing is said of taking it back, and the reason stands there once.
    fs::write("/run/netns/none", "").unwrap();
    let refused = linkspan_with("add web none", &variables);
    assert_eq!(refused.code, 1);
    assert!(!refused.stderr.contains("taken back"), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
}

#[test]
fn ranges_and_ports_that_are_chosen_are_typed_by_hand() {
    let plugins = json!([{"type": "linkspan", "capabilities": {"portMappings": true},
                          "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}]]}}]);
    let Some(lab) = host(&plugins) else { return };
    lab.container("blue");
    let range = json!([{"hostPort": "8000-8010", "containerPort": "80-90", "protocol": "udp"},
                       {"hostPort": 0, "containerPort": 443, "protocol": "tcp"}]);
    says(with_ports("add web blue --dry-run", &range).ok(), &["claim the host port udp 0.0.0.0:8000-8010"]);
    with_ports("add web blue", &range).ok();
    let lines = linkspan("ports c1");
    let (first, second) = lines.ok().split_once('\n').unwrap();
    assert_eq!(first, "80-90/udp -> 0.0.0.0:8000-8010");
    let chosen = second.trim().strip_prefix("443/tcp -> 0.0.0.0:").unwrap().parse::<u16>().unwrap();
    assert!(chosen > 1024, "{second}");
    assert!(linkspan("ps").stdout.contains("0.0.0.0:8000-8010->80-90/udp"));
    says(linkspan("inspect c1").ok(), &["host port udp 0.0.0.0:8000-8010", "no drift"]);

    lab.container("green");
    let clash = json!([{"hostPort": 8005, "containerPort": 1, "protocol": "udp"}]);
    let given = json!({"portMappings": clash}).to_string();
    let variables = [("CAP_ARGS", given.as_str()), ("CNI_CONTAINERID", "c2")];
    linkspan_with("add web green --dry-run", &variables).failed(1, "is taken by container c1");
    linkspan_with("add web green", &variables).failed(1, "is taken by container c1");
    says(
        linkspan("del c1 --dry-run").ok(),
        &["free the host port udp 0.0.0.0:8000-8010", &format!(":{chosen}")],
    );
    linkspan("del c1").ok();
    with_ports("add web green", &clash).ok();
}

#[test]
fn install_and_uninstall_are_shown_first() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("bin");
    let typed = |words: &str| linkspan(&format!("{words} --dir {}", directory.display()));
    let names = || -> Vec<String> {
        let listed = fs::read_dir(&directory).into_iter().flatten();
        let mut names: Vec<String> =
            listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let dry = typed("install --names bridge --dry-run");
    says(
        dry.ok(),
        &[
            "without --dry-run this would be done:",
            "installed ",
            "bridge: a link to linkspan",
            "nothing was changed",
        ],
    );
    assert!(!Path::new(&directory).exists(), "not even the directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("bridge"), "another's").unwrap();
    typed("install --names bridge --dry-run").failed(1, "--backup");
    let dry = typed("install --names bridge --backup --dry-run");
    says(dry.ok(), &["bridge: a link to linkspan; what was there is bridge.linkspan-backup"]);
    assert_eq!(names(), ["bridge"]);
    let real = typed("install --names bridge --backup");
    assert!(dry.stdout.contains(real.ok()), "the same words:\n{}\n{}", dry.stdout, real.stdout);
    assert_eq!(names(), ["bridge", "bridge.linkspan-backup", "linkspan"]);

    let dry = typed("uninstall --dry-run");
    assert_eq!(names(), ["bridge", "bridge.linkspan-backup", "linkspan"]);
    let real = typed("uninstall");
    assert!(dry.ok().contains(real.ok()), "the same words:\n{}\n{}", dry.stdout, real.stdout);
    assert_eq!(names(), ["bridge"]);
    assert_eq!(fs::read_to_string(directory.join("bridge")).unwrap(), "another's");
}

#[test]
fn reconcile_says_first_what_it_will_put_back() {
    let plugins = json!([{"type": "linkspan", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}]]}}]);
    let Some(lab) = host(&plugins) else { return };
    lab.container("blue");
    with_ports("add web blue", &json!([])).ok();
    lab.ip("link set lks-web down");
    linkspan("check --all").failed(1, "'linkspan reconcile' puts back");
    let dry = linkspan("reconcile --dry-run");
    assert_eq!(dry.ok(), "differs: bridge lks-web: expected up, found down\n");
    assert_eq!(linkspan("reconcile --dry-run").ok(), dry.ok(), "it was only looked at");
    assert_eq!(linkspan("reconcile").ok(), dry.ok().replace("differs", "put back"));
    assert_eq!(linkspan("reconcile --dry-run").ok(), "nothing differs\n");
    assert_eq!(linkspan("check --all").ok(), "1 checked, 1 as made\n");
}
