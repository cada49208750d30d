//! `linkspan doctor`: on a healthy host nothing is found, on either backend; what is damaged or left over is found by its
//! word with its severity, and mended where that is safe. What others make of a host is in `doctor_host.rs`, and runtimes in
//! `doctor_runtimes.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};

use lab::backends::{choose, on_each_backend};
use lab::cli::{document, linkspan, linkspan_with, shell};
use lab::damage::{Scene, to_links, to_nftables};
use lab::fitness::{bare, configured, cover, finds, fixed, found, host, includes, lacks, web, write};
use lab::inspect;
use lab::outcome::{address, host_end};
use lab::plugin::binary;
use lab::programs;
use serde_json::{Value, json};

fn a_healthy_host_has_no_finding(backend: &'static str) {
    let Some(mut lab) = bare() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    configured();
    finds(&[]);
    let scene = Scene::new(&lab, kind);
    finds(&[]);
    let said = linkspan("doctor");
    assert!(said.ok().contains("no faults, no warnings"), "{}", said.stdout);
    scene.assert_whole(&lab, "a look changes nothing");
    let said = linkspan("doctor --fix --yes");
    assert!(said.ok().contains("there is nothing that --fix mends"), "{}", said.stdout);
    scene.assert_whole(&lab, "nothing was mended");
    scene.end(&lab);
    finds(&[]);
}

fn flushed_rules_are_found_and_put_back(backend: &'static str) {
    let Some(mut lab) = bare() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    configured();
    let scene = Scene::new(&lab, kind);
    let flush = match backend {
        "nftables" => "nft flush ruleset",
        _ => "for t in nat filter; do iptables -t $t -F && iptables -t $t -X || exit; done",
    };
    lab.host.must(&["sh", "-c", flush]);
    // The other family's are there.
    finds(&[("rules-missing", "fault")]);
    let dry = linkspan("doctor --fix --dry-run");
    dry.failed(4, "1 fault");
    assert!(
        dry.stdout.contains("nothing was changed") && dry.stdout.contains("linkspan reconcile"),
        "{}",
        dry.stdout
    );
    finds(&[("rules-missing", "fault")]);
    fixed();
    scene.assert_whole(&lab, backend);
    scene.end(&lab);
}

on_each_backend!(a_healthy_host_has_no_finding, flushed_rules_are_found_and_put_back);

#[test]
fn every_damage_is_found_and_mended() {
    let Some(lab) = host() else { return };
    let scene = Scene::new(&lab, "nftables");
    let mut damages = to_links(&scene);
    damages.extend(to_nftables(&scene).into_iter().skip(1).step_by(4));
    for damage in damages {
        damage.strike(&lab);
        let said = linkspan("doctor");
        said.failed(4, "linkspan doctor --fix");
        assert!(said.stdout.contains(&damage.said), "{}: {}", damage.name, said.stdout);
        let said = linkspan("doctor --fix --yes");
        assert_eq!(said.code, 0, "{}: {}{}", damage.name, said.stdout, said.stderr);
        scene.assert_whole(&lab, &damage.name);
    }
}

#[test]
fn settings_that_records_call_for() {
    let Some(lab) = host() else { return };
    let scene = Scene::new(&lab, "nftables");
    lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    assert!(finds(&[("forwarding-off", "fault")]).contains("ip_forward"));
    fixed();
    lab.host.set_sysctl("net.ipv4.conf.lks-web.route_localnet", "0");
    finds(&[("localnet-off", "fault")]);
    fixed();
    lab.ip("link set lks-web down");
    finds(&[("bridge-drift", "fault")]);
    fixed();
    lab.ip(&format!("link set {} nomaster", host_end(&scene.web.1)));
    finds(&[("attachment-drift", "fault")]);
    fixed();
    lab.host.set_sysctl("net.ipv4.conf.uplink.forwarding", "0");
    assert!(finds(&[("forwarding-off", "fault")]).contains("sysctl -w net/ipv4/conf/uplink/forwarding=1"));
    lab.host.must(&["sysctl", "-qw", "net/ipv4/conf/uplink/forwarding=1"]);
    finds(&[]);
}

#[test]
fn settings_of_the_host() {
    let Some(lab) = host() else { return };
    let _outside = lab.outside();
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).publish(&["40000:80"]).add().ok();
    assert!(finds(&[("ephemeral-port", "remark")]).contains("ip_local_reserved_ports=40000"));
    lab.host.set_sysctl("net.ipv4.ip_local_reserved_ports", "40000");
    finds(&[]);

    lab.ip("link add second type veth peer name far");
    lab.ip("address add 198.51.100.1/24 dev second");
    lab.ip("link set second up");
    lab.ip("route add default via 198.51.100.2 metric 100");
    lacks("reverse-path");
    lab.host.set_sysctl("net.ipv4.conf.second.rp_filter", "1");
    assert!(finds(&[("reverse-path", "warning")]).contains("net.ipv4.conf.second.rp_filter=2"));
    lab.ip("link del second");

    lab.ip("-6 route replace default via 2001:db8::2 proto ra");
    lab.host.set_sysctl("net.ipv6.conf.uplink.accept_ra", "1");
    finds(&[("router-advertisements", "warning")]);
    lab.host.set_sysctl("net.ipv6.conf.uplink.accept_ra", "2");
    finds(&[]);

    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_count", "85000\n");
    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_max", "100000\n");
    assert!(finds(&[("conntrack-full", "warning")]).contains("nf_conntrack_max=200000"));
    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_count", "99999\n");
    finds(&[("conntrack-full", "fault")]);
}

#[test]
fn what_the_dead_left() {
    let Some(lab) = host() else { return };
    let plugin = web(&lab);
    let keep = lab.container("keep");
    plugin.on(&keep).add().ok();
    let dead = lab.container("dead");
    plugin.on(&dead).publish(&["8080:80"]).add().ok();
    dead.unbind();
    drop(dead);
    assert!(
        lab::eventually(std::time::Duration::from_secs(60), || found("doctor --json")
            .iter()
            .any(|f| f.0 == "dead-attachment")),
        "the namespace dies"
    );
    finds(&[("dead-attachment", "warning")]);
    linkspan("doctor").failed(3, "1 warning");
    fixed();

    let half = lab.container("half");
    plugin.on(&half).add().ok();
    fs::create_dir_all("/run/linkspan/pending").unwrap();
    let moved = |from: &str, to: &str, id: &str| {
        fs::create_dir_all(format!("/run/linkspan/{to}")).unwrap();
        fs::rename(format!("/run/linkspan/{from}/{id}:eth0"), format!("/run/linkspan/{to}/{id}:eth0"))
            .unwrap();
    };
    moved("ready", "pending", "container-half");
    finds(&[("half-made", "warning")]);
    fixed();
    plugin.on(&half).add().ok();
    moved("ready", "doomed", "container-half");
    finds(&[("del-unfinished", "warning")]);
    fixed();
    assert!(inspect::link(&half, "eth0").is_none());
    assert!(inspect::link(&keep, "eth0").is_some(), "the living stay");
}

#[test]
fn what_belongs_to_nobody() {
    let Some(lab) = host() else { return };
    let plugin = web(&lab);
    let keep = lab.container("keep");
    let kept = plugin.on(&keep).publish(&["8080:80"]).add().ok();
    let lost = lab.container("lost");
    let result = plugin.on(&lost).publish(&["8081:80"]).add().ok();
    fs::remove_file("/run/linkspan/ready/container-lost:eth0").unwrap();
    lab.ip("link add lksffffffffffff type veth peer name lksfffffffffff0");
    lab.ip("link set lksffffffffffff group 1818981232");
    let text = finds(&[("orphan", "warning")]);
    assert!(text.contains(&address(&result, 4)) && text.contains("more"), "{text}");
    fixed();
    assert!(inspect::link(&lab.host, &host_end(&result)).is_none());
    assert!(!lab.host.must(&["nft", "list", "ruleset"]).contains(&address(&result, 4)));
    plugin.on(&keep).prev(&kept).check().ok();

    write("/run/linkspan/ready/torn:eth0", "{");
    includes("unreadable-record", "fault");
    fs::remove_file("/run/linkspan/ready/torn:eth0").unwrap();
    let path = "/run/linkspan/ready/container-keep:eth0";
    let record = fs::read_to_string(path).unwrap();
    let at = |time: u64| {
        let mut value: Value = serde_json::from_str(&record).unwrap();
        value["created"] = time.into();
        fs::write(path, value.to_string()).unwrap();
    };
    at(1);
    finds(&[("before-boot", "warning")]);
    at(9_999_999_999);
    finds(&[("clock-behind", "remark")]);
    fs::write(path, &record).unwrap();
    finds(&[]);
}

#[test]
fn what_libcni_remembers() {
    let Some(lab) = host() else { return };
    let (blue, red) = (lab.container("blue"), lab.container("red"));
    linkspan("add web blue").ok();
    linkspan("add web red").ok();
    finds(&[]);
    let all = document("ps --json", "ps")["attachments"].as_array().unwrap().clone();
    let of_red = all.iter().find(|a| a["sandbox"] == "/run/netns/red").unwrap();
    let id = of_red["container"].as_str().unwrap();
    fs::remove_file(format!("/run/linkspan/ready/{id}:eth0")).unwrap();
    assert!(includes("stale-result", "warning").contains("linkspan del web /run/netns/red"));
    linkspan("del web red").ok();
    fixed();
    blue.unbind();
    drop(blue);
    includes("stale-result", "warning");
    fixed();
    assert_eq!(fs::read_dir("/var/lib/cni/results").unwrap().count(), 0);
    write("/var/lib/cni/results/web-x-eth0", "{");
    finds(&[("unreadable-result", "warning")]);
    drop(red);
}

#[test]
fn an_agent_that_is_needed() {
    let Some(lab) = host() else { return };
    let _stray = lab::agent::Stray;
    let (a, plugin) = (lab.container("a"), web(&lab).with(json!({"holdPorts": true})));
    let agent = lab::agent::Agent::start();
    plugin.on(&a).publish(&["8080:80"]).add().ok();
    finds(&[]);
    let healthy = ("ok".to_owned(), String::new());
    assert_eq!(health("web"), healthy);
    agent.kill();
    finds(&[("agent-missing", "fault")]);
    let (health_without, problem) = health("web");
    assert_eq!(health_without, "warning");
    assert!(problem.contains("not held") && problem.contains("doctor --fix"), "{problem}");
    let agent = lab::agent::Agent::start();
    finds(&[]);
    assert_eq!(health("web"), healthy);
    agent.kill();
    // The one that is woken is on demand, and ends with its work.
    fixed();
    plugin.on(&a).del().ok();
    let gone =
        lab::eventually(std::time::Duration::from_secs(30), || !Path::new(lab::agent::SOCKET).exists());
    assert!(gone, "the agent ends");
    let agent = lab::agent::Agent::start();
    agent.kill();
    finds(&[("agent-socket", "remark")]);
    fixed();
    assert!(!Path::new(lab::agent::SOCKET).exists());
}

/// What `ls` says of a network: its health, and the first of its problems.
fn health(network: &str) -> (String, String) {
    let found = document(&format!("ls --json --network {network}"), "ls");
    let network = &found["networks"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&network["health"]), text(&network["problems"][0]))
}

#[test]
fn command_lines_and_who_may() {
    let Some(lab) = host() else { return };
    linkspan("doctor --jsno").failed(2, "did you mean '--json'?");
    linkspan("doktor").failed(2, "did you mean 'doctor'?");
    linkspan("doctor --fxi").failed(2, "did you mean '--fix'?");
    linkspan("doctor web").failed(2, "has no use for 'web'");
    linkspan("doctor --yes").failed(2, "--fix");
    linkspan("doctor --fix --yes --dry-run").failed(2, "do not go together");
    linkspan("doctor --fix").failed(2, "add --yes to have it done");
    linkspan("doctor --fix --json").failed(2, "--yes");
    linkspan_with("doctor", &[("NETCONFPATH", "/proc/self/mem")]).failed(1, "cannot read /proc/self/mem");
    let quiet = shell(
        "\"$L\" doctor | true; echo ${PIPESTATUS[0]} 1>&2; \"$L\" doctor --json | head -c 1 > /dev/null",
    );
    assert_eq!(quiet.stderr.trim(), "0", "{}", quiet.stderr);

    let program = lab.work.path().join("linkspan");
    programs::copy(binary(), &program);
    lab.host.must(&["chmod", "-R", "a+rX", lab.work.path().to_str().unwrap()]);
    let nobody = |extra: &str| {
        shell(&format!(
            "{extra} setpriv --reuid 65534 --regid 65534 --clear-groups {} doctor",
            program.display()
        ))
    };
    let said = nobody("LINKSPAN_STATE_DIR=/nowhere CNI_PATH=/nowhere NETCONFPATH=/nowhere");
    assert!(said.stdout.contains("remark not-looked-at") && said.ok, "{}{}", said.stdout, said.stderr);
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).add().ok();
    assert!(nobody("").stderr.contains("run this as root"));
}

#[test]
fn json_says_what_was_fixed_and_a_terminal_is_asked() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    let result = plugin.on(&a).add().ok();
    let end = host_end(&result);
    lab.ip(&format!("link set {end} nomaster"));
    let document = document("doctor --fix --yes --json", "doctor");
    assert_eq!(document["doctor"]["faults"], 0);
    assert!(document["doctor"]["fixed"][0]["what"].as_str().unwrap().contains("reconcile"));
    if !shell("command -v script").ok {
        lab::skip!("script(1) is not here");
    }
    // The answer is typed once the question is there.
    let ask = |word: &str| {
        let typescript = lab.work.path().join(word).display().to_string();
        shell(&format!(
            "(for n in $(seq 400); do grep -qs y/N {typescript} && break; sleep 0.1; done; echo {word}) | \
             script -qfec \"$L doctor --fix\" {typescript}"
        ))
    };
    lab.ip(&format!("link set {end} nomaster"));
    let said = ask("n");
    assert!(
        said.stdout.contains("do it? [y/N]") && said.stdout.contains("nothing was changed"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("\x1b[31mfault\x1b[0m"), "colour at a terminal: {}", said.stdout);
    finds(&[("attachment-drift", "fault")]);
    assert!(ask("y").stdout.contains("done: "));
    finds(&[]);
}

#[test]
fn the_page_has_every_word_and_its_example_is_true() {
    let Some(lab) = host() else { return };
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).unwrap();
    for word in linkspan::doctor::Word::ALL {
        assert!(page.contains(&format!("| `{word}` |")), "{word} has no row");
    }
    let scene = Scene::new(&lab, "nftables");
    lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    lab.ip("route add 10.88.2.0/25 via 192.0.2.2");
    let said = linkspan("doctor");
    let mut shown = String::new();
    let mut skipping = false;
    for line in said.stdout.lines() {
        // What a kernel lacks is its own.
        skipping =
            if line.starts_with("remark kernel-feature") { true } else { skipping && line.starts_with(' ') };
        if !skipping {
            let line = match line {
                _ if line.contains(" faults, ") => "2 faults, no warnings, no remarks",
                // And its version.
                _ if line.starts_with("talks to Linux ") => {
                    "talks to Linux 6.1.0-18-amd64, systemd 252.39-1~deb12u1"
                }
                other => other,
            };
            shown.push_str(&format!("{line}\n"));
        }
    }
    let wanted = format!("$ linkspan doctor\n{shown}{}```", said.stderr);
    assert!(page.contains(&wanted), "docs/doctor.md should show:\n{wanted}");
    drop(scene);
}
