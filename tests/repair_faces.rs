//! Repair of what the faces of the reference plugins made, and of rate limits: what is on the host comes back, what is
//! the container's or another plugin's is told of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::agent::{Agent, status};
use lab::damage::linkspan;
use lab::faces::{Whose, bridged, plugin};
use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::talk::{Server, tcp, tcp_server};
use lab::{Container, Lab, Outside, Plugin, Snapshot, eventually, inspect};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// A host with one container, whole, and what is asked of it.
struct Scene {
    _servers: Vec<Server>,
    a: Container,
    outside: Outside,
    whole: Snapshot,
    /// The host's end of the container's link.
    end: String,
    calls: Vec<(Plugin, Value)>,
    /// Whether what the container sends of its own accord finds a way: routing by source takes the one without.
    goes_out: bool,
    lab: Lab,
}

/// What is done to the host, a word that the report of its repair has, and whether the kernel tells of it.
type Damage = (String, String, bool);

fn told(command: &str, said: &str) -> Damage {
    (command.to_owned(), said.to_owned(), true)
}

fn untold(command: &str, said: &str) -> Damage {
    (command.to_owned(), said.to_owned(), false)
}

impl Scene {
    fn new(lab: Lab, outside: Outside, a: Container, end: String, calls: Vec<(Plugin, Value)>) -> Self {
        let servers = vec![tcp_server(&a, "[::]:80", "a"), tcp_server(&outside, "[::]:80", "o")];
        let whole = Snapshot::take(&lab);
        let goes_out = inspect::routes(&a, 4).iter().any(|r| r["dst"] == "default" && r["table"] != "100");
        let scene = Self { _servers: servers, a, outside, whole, end, calls, goes_out, lab };
        scene.assert_serves("at first");
        scene
    }

    #[track_caller]
    fn assert_serves(&self, when: &str) {
        assert_eq!(tcp(&self.outside, "192.0.2.1:8080").tag, "a", "{when}");
        if self.goes_out {
            assert_eq!(tcp(&self.a, "192.0.2.2:80").tag, "o", "{when}");
        }
    }

    /// Each damage is named and mended by the command, and the second look finds nothing.
    fn by_command(&mut self, damages: &[Damage]) {
        let first = linkspan(&self.lab, &["reconcile"]).stdout;
        assert_eq!(first.trim(), "nothing differs", "before any damage");
        for (command, said, _) in damages {
            self.lab.host.must(&["sh", "-c", command]);
            let mended = linkspan(&self.lab, &["reconcile"]);
            let text = format!("{command}: {}{}", mended.stdout, mended.stderr);
            assert!(mended.ok && mended.stdout.contains(said), "{text}");
            if self.is_made_anew(command) {
                self.whole = Snapshot::take(&self.lab);
            }
            Snapshot::take(&self.lab).assert_same(&self.whole, &text);
            self.assert_serves(command);
            self.check();
            let again = linkspan(&self.lab, &["reconcile"]).stdout;
            assert_eq!(again.trim(), "nothing differs", "{command}");
        }
    }

    /// Each damage that the kernel tells of is mended by the agent.
    fn by_agent(&mut self, damages: &[Damage]) {
        let _agent = Agent::start();
        assert!(eventually(LIMIT, || status()["services"]["repair"]["looks"].as_u64() > Some(0)));
        // Tables and records that the agent makes for itself are there from now on.
        self.whole = Snapshot::take(&self.lab);
        for (command, ..) in damages.iter().filter(|(.., is_told)| *is_told) {
            self.lab.host.must(&["sh", "-c", command]);
            if self.is_made_anew(command) {
                let look = || linkspan(&self.lab, &["reconcile", "--dry-run"]).stdout;
                assert!(eventually(LIMIT, || look().trim() == "nothing differs"), "{command}: {}", look());
                self.whole = Snapshot::take(&self.lab);
            }
            let differs = || Snapshot::take(&self.lab).differs(&self.whole);
            let healed = eventually(LIMIT, || differs().is_none());
            assert!(healed, "{command}: {}", differs().unwrap_or_default());
            self.assert_serves(command);
        }
    }

    /// Whether it deletes a device that gets another hardware address, of the kernel's choice: the one that shapes.
    fn is_made_anew(&self, command: &str) -> bool {
        command.starts_with("ip link del ") && !command.ends_with(&self.end)
    }

    fn check(&self) {
        for (plugin, result) in &self.calls {
            plugin.prev(result).check().ok();
        }
    }
}

fn lab() -> Option<Lab> {
    if lab::is_reference() {
        lab::skipped("the reference has no such command");
        return None;
    }
    Lab::new()
}

fn publish() -> Value {
    json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}})
}

/// A veth pair without a bridge by the face `ptp`, with a published port by the face `portmap`.
#[test]
fn what_ptp_and_portmap_made_comes_back() {
    let Some(lab) = lab() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let conf = json!({"name": "p2p", "ipMasq": true, "mtu": 1400, "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }});
    let ptp = plugin(&lab, Whose::Ours, "ptp", conf).on(&a);
    let result = ptp.add().ok();
    let ports = plugin(&lab, Whose::Ours, "portmap", json!({"name": "p2p"})).with(publish()).on(&a);
    let last = ports.prev(&result).add().ok();
    let end = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    let (ip, ip6) = (address(&result, 4), address(&result, 6));
    let mut scene = Scene::new(lab, outside, a, end.clone(), vec![(ptp, last.clone()), (ports, last)]);
    let damages = [
        told(&format!("ip address del 10.77.0.1/32 dev {end}"), "10.77.0.1"),
        told(&format!("ip -6 address del fd00:77::1/128 dev {end}"), "fd00:77::1"),
        told(&format!("ip route del {ip} dev {end}"), &ip),
        told(&format!("ip -6 route del {ip6} dev {end}"), &ip6),
        told(&format!("ip link set {end} down"), &end),
        told(&format!("ip link set {end} mtu 1300"), "MTU"),
        told("sysctl -qw net.ipv4.ip_forward=0", "ip_forward"),
        told("nft flush ruleset", "table inet linkspan"),
        told("nft flush map inet linkspan ports4_any", "0.0.0.0:8080"),
        told("nft flush chain inet linkspan net-p2p", "net-p2p"),
        told("nft flush map inet linkspan egress4", "way out of"),
        told(&format!("ip link del {end}"), "interface eth0"),
        untold(&format!("sysctl -qw net.ipv4.conf.{end}.route_localnet=0"), "route_localnet"),
        untold("rm -r /run/linkspan/ports", "claim of host port tcp 0.0.0.0:8080"),
    ];
    scene.by_command(&damages);
    scene.by_agent(&damages);
    let (ports, ptp) = (scene.calls.pop().unwrap(), scene.calls.pop().unwrap());
    for (plugin, result) in [ports, ptp] {
        plugin.prev(&result).del().ok();
    }
    Snapshot::take(&scene.lab).assert_without(&[&scene.a.id, &ip, &scene.end]);
}

/// Rate limits of linkspan's own link: the disciplines, and the device that what the container sends goes through.
#[test]
fn rate_limits_come_back() {
    let Some(lab) = lab() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let rates = json!({"ingressRate": 800_000_000, "ingressBurst": 8_000_000,
                       "egressRate": 800_000_000, "egressBurst": 8_000_000});
    let network = lab.plugin(json!({"ipam": dual_stack(1)})).publish(&["8080:80"]);
    let plugin = network.with(json!({"runtimeConfig": {"bandwidth": rates}})).on(&a);
    let result = plugin.add().ok();
    let end = lab::outcome::host_end(&result);
    let ifb = ifb(&lab);
    let mut scene = Scene::new(lab, outside, a, end.clone(), vec![(plugin, result)]);
    let damages = shaping_damages(&end, &ifb);
    scene.by_command(&damages);
    scene.by_agent(&damages);
}

fn ifb(lab: &Lab) -> String {
    let links = inspect::links(&lab.host);
    let ifb = links.iter().find(|link| link["linkinfo"]["info_kind"] == "ifb").expect("an IFB device");
    ifb["ifname"].as_str().unwrap().to_owned()
}

fn shaping_damages(end: &str, ifb: &str) -> Vec<Damage> {
    vec![
        told(&format!("tc qdisc del dev {end} root"), "rate limit on"),
        told(&format!("tc qdisc del dev {end} ingress"), "redirection of what"),
        told(&format!("tc qdisc del dev {ifb} root"), "rate limit on"),
        told(&format!("ip link set {ifb} down"), ifb),
        told(&format!("ip link del {ifb}"), ifb),
        untold(
            &format!("tc qdisc change dev {end} root tbf rate 1mbit burst 20k latency 25ms"),
            "rate limit on",
        ),
    ]
}

/// Parts beside an interface that Debian's `bridge` made.
#[test]
fn what_parts_made_on_the_host_comes_back_and_what_is_in_the_container_is_told() {
    let Some(lab) = lab() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let (_, result) = bridged(&lab, &a, "1.0.0", 1);
    let end = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    let mut calls = Vec::new();
    let mut last = result.clone();
    for (face, conf) in [
        ("portmap", publish()),
        ("firewall", json!({"ingressPolicy": "same-bridge"})),
        ("tuning", json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}})),
        (
            "bandwidth",
            json!({"ingressRate": 800_000_000, "ingressBurst": 8_000_000,
                             "egressRate": 800_000_000, "egressBurst": 8_000_000}),
        ),
        ("sbr", json!({})),
    ] {
        let call = plugin(&lab, Whose::Ours, face, json!({"name": "web"})).with(conf).on(&a);
        last = call.prev(&last).add().ok();
        calls.push((call, last.clone()));
    }
    let ifb = ifb(&lab);
    // Debian's bridge masquerades nothing here: the world knows the way back.
    outside.ip(&format!("route add {} via 192.0.2.1", address(&result, 4)));
    lab.host.set_sysctl("net.ipv4.ip_forward", "1");
    let mut scene = Scene::new(lab, outside, a, end.clone(), calls);
    let mut damages = vec![
        told("nft flush ruleset", "table inet linkspan"),
        told("nft flush map inet linkspan ports4_any", "0.0.0.0:8080"),
        told("nft flush chain inet linkspan net-web", "net-web"),
        told("nft flush set inet linkspan walled", "wall around"),
        untold("sysctl -qw net.ipv4.conf.cni0.route_localnet=0", "route_localnet"),
    ];
    damages.extend(shaping_damages(&end, &ifb));
    scene.by_command(&damages);
    scene.by_agent(&damages);
    tells(
        &scene.lab,
        &scene.a,
        &[
            ("ip link set eth0 mtu 1450", "MTU of"),
            ("sysctl -qw net.ipv4.conf.eth0.log_martians=0", "log_martians"),
            ("ip rule del from 10.88.1.2", "10.88.1.2"),
            ("ip route flush table 100", "route"),
        ],
    );
}

/// A device in the container alone is told of, whatever happened to it.
#[test]
fn a_macvlan_device_is_told_of() {
    let Some(lab) = lab() else { return };
    let _outside = lab.outside();
    let a = lab.container("a");
    let conf = json!({"name": "lan", "master": "uplink", "ipam": {"type": "host-local", "ranges": [
        [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100", "rangeEnd": "192.0.2.110", "gateway": "192.0.2.2"}],
    ], "routes": [{"dst": "198.51.100.0/24"}]}});
    let macvlan = plugin(&lab, Whose::Ours, "macvlan", conf).on(&a);
    let result = macvlan.add().ok();
    assert_eq!(linkspan(&lab, &["reconcile"]).stdout.trim(), "nothing differs");
    tells(
        &lab,
        &a,
        &[
            ("ip route del 198.51.100.0/24", "198.51.100.0/24"),
            (&format!("ip address del {}/24 dev eth0", address(&result, 4)), &address(&result, 4)),
            ("ip link set eth0 down", "down"),
            ("ip link del eth0", "eth0"),
        ],
    );
    // Without its link it is dead only when its namespace is.
    let id = a.id.clone();
    let said = linkspan(&lab, &["reconcile", "--collect"]);
    assert!(!said.stdout.contains("deleted"), "{}", said.stdout);
    a.unbind();
    drop(a);
    let said = linkspan(&lab, &["reconcile", "--collect"]);
    said.tells(&format!("deleted: {id}:eth0"));
    Snapshot::take(&lab).assert_without(&[&id]);
}

/// Each damage in the container is told of by the command, which leaves it as it is.
#[track_caller]
fn tells(lab: &Lab, container: &Container, damages: &[(&str, &str)]) {
    for (command, said) in damages {
        container.must(&["sh", "-c", command]);
        let before =
            (Snapshot::take(lab), container.must(&["ip", "address"]), container.must(&["ip", "rule"]));
        let report = linkspan(lab, &["reconcile"]);
        let lines: Vec<&str> =
            report.stdout.lines().filter(|line| line.starts_with("left alone: ")).collect();
        let text = format!("{command}: {}{}", report.stdout, report.stderr);
        assert!(report.ok && lines.iter().any(|line| line.contains(said)), "{text}");
        assert_eq!(lines.len(), report.stdout.lines().count(), "{text}");
        Snapshot::take(lab).assert_same(&before.0, &text);
        assert_eq!(container.must(&["ip", "address"]), before.1, "{text}");
        assert_eq!(container.must(&["ip", "rule"]), before.2, "{text}");
    }
}
