//! What can happen to a host under running containers, to be put right again.

use serde_json::{Value, json};

use super::outcome::{address, host_end};
use super::plugin::{binary, dual_stack};
use super::snapshot::Snapshot;
use super::space::Said;
use super::talk::{Server, tcp, tcp_answers, tcp_server};
use super::{Container, Lab, Outside, Plugin};

/// Two networks, each with a container that serves and publishes a port, and the world outside.
pub struct Scene {
    /// The container of network `web`: ports 8080 and 127.0.0.1:9090, rates limited.
    pub a: Container,
    /// The container of network `other`: port 8081, behind a wall, its MAC guarded.
    pub b: Container,
    /// The world outside.
    pub outside: Outside,
    /// The plugin for `a`, and its result.
    pub web: (Plugin, Value),
    /// The plugin for `b`, and its result.
    pub other: (Plugin, Value),
    /// The host with all in place.
    pub whole: Snapshot,
    _servers: Vec<Server>,
}

impl Scene {
    /// Sets it up on one backend.
    pub fn new(lab: &Lab, backend: &str) -> Self {
        Self::with(lab, json!({ "backend": backend }))
    }

    /// Sets it up with keys for both networks.
    pub fn with(lab: &Lab, keys: Value) -> Self {
        let outside = lab.outside();
        let bandwidth = json!({"ingressRate": 800_000_000, "ingressBurst": 8_000_000,
                               "egressRate": 800_000_000, "egressBurst": 8_000_000});
        let network = lab.plugin(json!({"ipam": dual_stack(1)})).with(keys.clone());
        let other = json!({"name": "other", "ipam": dual_stack(2), "macspoofchk": true, "ingressPolicy": "same-bridge"});
        let other = network.with(other);
        let (a, b, warm) = (lab.container("a"), lab.container("b"), lab.container("warm"));
        // What only the first ADD of a network does is done.
        let first = network.on(&warm);
        first.prev(&first.add().ok()).del().ok();
        let web = network
            .with(json!({"runtimeConfig": {"bandwidth": bandwidth}}))
            .on(&a)
            .publish(&["8080:80", "127.0.0.1:9090:80"]);
        let web = (web.clone(), web.add().ok());
        let other = other.on(&b).publish(&["8081:80", "8100-8109:8100-8109", "8200-8209:9200-9209"]);
        let other = (other.clone(), other.add().ok());
        let servers = vec![
            tcp_server(&a, "[::]:80", "a"),
            tcp_server(&b, "[::]:80", "b"),
            tcp_server(&outside, "[::]:80", "o"),
        ];
        // Tables that a look at them makes are there from the start.
        for tool in ["iptables", "ip6tables"].iter().filter(|_| keys["backend"] == "iptables") {
            for table in ["filter", "nat", "mangle", "raw"] {
                lab.host.must(&[tool, "-t", table, "-S"]);
            }
        }
        let whole = Snapshot::take(lab);
        let scene = Self { a, b, outside, web, other, whole, _servers: servers };
        scene.assert_serves(lab);
        scene
    }

    /// Every way in and out works.
    pub fn assert_serves(&self, lab: &Lab) {
        for (at, tag) in [("192.0.2.1:8080", "a"), ("[2001:db8::1]:8080", "a"), ("192.0.2.1:8081", "b")] {
            assert_eq!(tcp(&self.outside, at).tag, tag, "{at}");
        }
        assert_eq!(tcp(&lab.host, "127.0.0.1:9090").tag, "a");
        let out = tcp(&self.b, "192.0.2.2:80");
        assert_eq!(out.tag, "o", "a container reaches the world");
    }

    /// Whether the first published port answers.
    pub fn is_reachable(&self) -> bool {
        tcp_answers(&self.outside, "192.0.2.1:8080")
    }

    /// The host is as it was, everything works, and CHECK agrees.
    pub fn assert_whole(&self, lab: &Lab, what: &str) {
        Snapshot::take(lab).assert_same(&self.whole, what);
        self.assert_serves(lab);
        for (plugin, result) in [&self.web, &self.other] {
            plugin.prev(result).check().ok();
        }
    }

    /// Both containers go, and leave nothing.
    pub fn end(self, lab: &Lab) {
        for (plugin, result) in [&self.web, &self.other] {
            plugin.prev(result).del().ok();
        }
        let gone = [&self.a.id, &self.b.id, &address(&self.web.1, 4), &address(&self.other.1, 4)];
        Snapshot::take(lab).assert_without(&gone.map(String::as_str));
    }
}

/// `linkspan ARGS` on the host.
pub fn linkspan(lab: &Lab, arguments: &[&str]) -> Said {
    let binary = binary();
    let mut argv = vec![binary.to_str().unwrap()];
    argv.extend(arguments);
    lab.host.exec(&argv)
}

/// A damage: what it is called, how it is done, and a word that a report of its repair has.
pub struct Damage {
    /// For messages.
    pub name: String,
    /// Commands for the host, each must succeed.
    pub commands: Vec<String>,
    /// What the report names.
    pub said: String,
}

fn damage(name: &str, commands: &[&str], said: &str) -> Damage {
    let commands = commands.iter().map(|&command| command.to_owned()).collect();
    Damage { name: name.to_owned(), commands, said: said.to_owned() }
}

impl Damage {
    /// Does it.
    pub fn strike(&self, lab: &Lab) {
        for command in &self.commands {
            lab.host.must(&["sh", "-c", command]);
        }
    }

    /// Does it while somebody may put back its first part before its second: that need not succeed.
    pub fn strike_at_the_agent(&self, lab: &Lab) {
        for command in &self.commands {
            lab.host.exec(&["sh", "-c", command]);
        }
    }
}

/// Damages of the nf_tables ruleset.
pub fn to_nftables(scene: &Scene) -> Vec<Damage> {
    let (ip, end) = (address(&scene.web.1, 4), host_end(&scene.other.1));
    let mut all = vec![
        damage("the whole ruleset is flushed", &["nft flush ruleset"], "table inet linkspan"),
        damage("the table is deleted", &["nft delete table inet linkspan"], "table inet linkspan"),
        damage(
            "the guards' table is deleted",
            &["nft delete table bridge linkspan"],
            "table bridge linkspan",
        ),
        damage("the table sleeps", &["nft 'add table inet linkspan { flags dormant; }'"], "dormant"),
        damage(
            "a policy is turned",
            &["nft 'add chain inet linkspan forward { type filter hook forward priority 0; policy drop; }'"],
            "policy drop",
        ),
        damage(
            "ports are closed",
            &["nft flush map inet linkspan ports4_any", "nft flush map inet linkspan ports4"],
            "0.0.0.0:8080",
        ),
        damage("a range is closed", &["nft flush map inet linkspan ranges4"], "8100-8109"),
        damage("a shifted range is closed", &["nft flush map inet linkspan shifts4"], "8200-8209"),
        damage("ways out are closed", &["nft flush map inet linkspan egress4"], "way out of"),
        damage("a wall falls", &["nft flush set inet linkspan walled"], "wall around"),
        damage(
            "a port leads elsewhere",
            &[
                "printf 'delete element inet linkspan ports4_any { tcp . 8080 }\\nadd element inet linkspan ports4_any \
               { tcp . 8080 : 10.99.0.9 . 80 }\\n' | nft -f -",
            ],
            "10.99.0.9",
        ),
        damage(
            "a guard is gone",
            &[&format!("nft delete element bridge linkspan guarded '{{ \"{end}\" }}'")],
            &end,
        ),
        damage(
            "a network's chain is gone",
            &[&format!(
                "printf 'delete element inet linkspan egress4 {{ {ip} }}\\ndelete element inet linkspan egress6 \
                 {{ {} }}\\nflush chain inet linkspan net-web\\ndelete chain inet linkspan net-web\\n' | nft -f -",
                address(&scene.web.1, 6)
            )],
            "net-web",
        ),
    ];
    let chains = [
        "localnet",
        "prerouting",
        "output",
        "publish",
        "postrouting",
        "admin",
        "forward",
        "net-web",
        "net-other",
    ];
    for chain in chains {
        let command = format!("nft flush chain inet linkspan {chain}");
        all.push(damage(&format!("chain {chain} is flushed"), &[&command], chain));
    }
    all
}

/// Damages of links, addresses and sysctls, whatever the firewall's backend.
pub fn to_links(scene: &Scene) -> Vec<Damage> {
    let (web, other) = (host_end(&scene.web.1), host_end(&scene.other.1));
    let gateway = super::outcome::gateway(&scene.web.1, 4);
    let gateway6 = super::outcome::gateway(&scene.web.1, 6);
    vec![
        damage("a bridge is deleted", &["ip link del lks-web"], "bridge lks-web"),
        damage("both bridges are", &["ip link del lks-web", "ip link del lks-other"], "bridge lks-other"),
        damage("a bridge is set down", &["ip link set lks-web down"], "bridge lks-web"),
        damage("a port leaves its bridge", &[&format!("ip link set {web} nomaster")], &web),
        damage("a port changes its bridge", &[&format!("ip link set {web} master lks-other")], &web),
        damage("a port is set down", &[&format!("ip link set {other} down")], &other),
        damage("a port's MTU changes", &[&format!("ip link set {other} mtu 1300")], &other),
        damage(
            "gateways lose their addresses",
            &[
                &format!("ip addr del {gateway}/24 dev lks-web"),
                &format!("ip addr del {gateway6}/64 dev lks-web"),
            ],
            &gateway,
        ),
        damage("forwarding is turned off", &["sysctl -qw net.ipv4.ip_forward=0"], "ip_forward"),
        damage("IPv6 forwarding is", &["sysctl -qw net.ipv6.conf.all.forwarding=0"], "forwarding"),
        damage(
            "the rates are lifted",
            &[&format!("tc qdisc del dev {web} root"), &format!("tc qdisc del dev {web} ingress")],
            &web,
        ),
        damage("an interface is deleted", &[&format!("ip link del {other}")], "interface eth0"),
    ]
}

/// Damages to the routes of bridges, of which the kernel tells nobody who has not asked for all routes.
pub fn to_subnets(_: &Scene) -> Vec<Damage> {
    vec![
        damage("a subnet's route is deleted", &["ip route del 10.88.1.0/24"], "route to 10.88.1.0/24"),
        damage(
            "and that of IPv6",
            &["ip -6 route del fd00:88:1::/64 dev lks-web"],
            "route to fd00:88:1::/64",
        ),
    ]
}

/// Damages by iptables, of one variant's programs.
pub fn to_iptables() -> Vec<Damage> {
    let every = |what: &str| {
        let tables = ["filter", "nat", "mangle", "raw"];
        let commands = tables.map(|t| format!("iptables -t {t} {what} && ip6tables -t {t} {what}"));
        commands.join(" && ")
    };
    vec![
        damage("the filter table is flushed", &["iptables -F"], "LINKSPAN-FORWARD"),
        damage("the nat table is flushed", &["iptables -t nat -F"], "LINKSPAN-PUBLISH"),
        damage("everything is flushed and deleted", &[&every("-F"), &every("-X")], "LINKSPAN-POST"),
        damage("one chain is flushed", &["iptables -t nat -F LINKSPAN-PUBLISH"], "LINKSPAN-PUBLISH"),
        damage("a jump is gone", &["iptables -D FORWARD -j LINKSPAN-FORWARD"], "FORWARD"),
        damage("one rule is gone", &["iptables -t nat -D LINKSPAN-POST 1"], "LINKSPAN-POST"),
    ]
}
