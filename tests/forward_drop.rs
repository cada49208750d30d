//! A host whose FORWARD path somebody else has closed: it works where the host offers a place for it, and else
//! STATUS says whose chain drops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::cli::linkspan;
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{Server, tcp, tcp_answers, tcp_reaches, tcp_server};
use lab::{Container, Lab, Outside, Plugin};
use serde_json::{Value, json};

struct Closed {
    _servers: Vec<Server>,
    container: Container,
    result: Value,
    plugin: Plugin,
    outside: Outside,
    lab: Lab,
}

/// A host that `close` has shut, and a container attached with a published port.
fn attached(backend: &str, variant: &str, close: impl FnOnce(&Lab)) -> Option<Closed> {
    let mut lab = Lab::new()?;
    let outside = lab.outside();
    if !variant.is_empty() && !lab.iptables(variant) {
        lab::skipped(&format!("iptables-{variant} is not here"));
        return None;
    }
    close(&lab);
    let container = lab.container("a");
    let plugin =
        lab.plugin(json!({"backend": backend, "ipam": dual_stack(1)})).on(&container).publish(&["8080:80"]);
    let result = plugin.add().ok();
    let servers = vec![tcp_server(&outside, "[::]:80", "outside"), tcp_server(&container, "[::]:80", "a")];
    Some(Closed { _servers: servers, container, result, plugin, outside, lab })
}

impl Closed {
    /// Outgoing and published traffic, for each family, which must work or must not; what does not work is listed.
    fn broken(&self, must: bool) -> Vec<&'static str> {
        let cases = [
            ("outgoing IPv4", &*self.container, "192.0.2.2:80"),
            ("published IPv4", &*self.outside, "192.0.2.1:8080"),
            ("outgoing IPv6", &*self.container, "[2001:db8::2]:80"),
            ("published IPv6", &*self.outside, "[2001:db8::1]:8080"),
        ];
        cases
            .into_iter()
            .filter(|(_, from, to)| !tcp_reaches(from, to, must))
            .map(|(what, ..)| what)
            .collect()
    }

    /// All of it works.
    #[track_caller]
    fn works(&self, when: &str) {
        assert_eq!(self.broken(true), Vec::<&str>::new(), "{when}");
    }

    /// Either all works, or STATUS answers 50 and names the chain.
    fn works_or_is_explained(&self, chain: &str) {
        let said = self.plugin.without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME").status();
        if said.succeeded() {
            return self.works(chain);
        }
        let said = said.refused(50);
        assert!(said.contains(chain), "STATUS does not name {chain}: {said}");
    }
}

fn iptables_policy(variant: &'static str) -> impl Fn(&Lab) {
    move |lab| {
        lab.host.must(&[&format!("iptables-{variant}"), "-P", "FORWARD", "DROP"]);
        lab.host.must(&[&format!("ip6tables-{variant}"), "-P", "FORWARD", "DROP"]);
    }
}

/// What Docker leaves behind: a policy of DROP, and a chain that is the administrator's.
fn docker(lab: &Lab) {
    for tool in ["iptables-nft", "ip6tables-nft"] {
        lab.host.must(&[tool, "-P", "FORWARD", "DROP"]);
        lab.host.must(&[tool, "-N", "DOCKER-USER"]);
        lab.host.must(&[tool, "-A", "DOCKER-USER", "-j", "RETURN"]);
        lab.host.must(&[tool, "-I", "FORWARD", "-j", "DOCKER-USER"]);
    }
}

fn nft_table(lab: &Lab) {
    let text =
        "table inet strict {\n chain gate {\n type filter hook forward priority 0; policy drop;\n }\n}\n";
    lab.host.feed(&["nft", "-f", "-"], text);
}

/// The control: without linkspan's doing, each of these closes the way.
#[test]
fn the_doors_are_really_shut() {
    for close in [&iptables_policy("nft") as &dyn Fn(&Lab), &iptables_policy("legacy"), &docker, &nft_table] {
        let Some(lab) = Lab::new() else { return };
        let outside = lab.outside();
        let a = lab.container("a");
        lab.link_by_hand(&a);
        a.ip("route add default via 10.0.0.1");
        lab.host.set_sysctl("net.ipv4.ip_forward", "1");
        let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
        assert_eq!(tcp(&a, "192.0.2.2:80").tag, "outside", "open");
        close(&lab);
        assert!(!tcp_answers(&a, "192.0.2.2:80"), "shut");
    }
}

#[test]
fn iptables_backend_under_a_policy_of_its_own_variant() {
    for variant in ["nft", "legacy"] {
        let Some(closed) = attached("iptables", variant, iptables_policy(variant)) else { return };
        closed.works(variant);
        let said = closed.plugin.status();
        assert!(lab::is_reference() || said.succeeded(), "{}", said.stdout);
    }
}

#[test]
fn nftables_backend_under_a_policy_of_iptables() {
    for variant in ["nft", "legacy"] {
        let Some(closed) = attached("nftables", "", iptables_policy(variant)) else { return };
        closed.works_or_is_explained("FORWARD");
    }
}

#[test]
fn docker_user_is_a_place_for_it() {
    for backend in ["nftables", "iptables"] {
        let Some(closed) = attached(backend, "nft", docker) else { return };
        closed.works(backend);
        closed.plugin.prev(&closed.result).check().ok();
    }
}

/// What was put into a foreign chain goes with the attachment, or belongs to the network's bridge alone.
#[test]
fn docker_user_is_left_as_it_was() {
    let Some(mut lab) = Lab::new() else { return };
    let _outside = lab.outside();
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    docker(&lab);
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).publish(&["8080:80"]);
    let result = plugin.add().ok();
    plugin.prev(&result).del().ok();
    let after = Snapshot::take(&lab);
    after.assert_without(&[&a.id, "10.88.1.2", "fd00:88:1::2"]);
    let again = plugin.add().ok();
    plugin.prev(&again).del().ok();
    let chain = |s: &Snapshot| s.lines().filter(|l| l.contains("DOCKER-USER")).collect::<Vec<_>>();
    assert_eq!(chain(&Snapshot::take(&lab)), chain(&after), "nothing piles up");
    assert!(
        chain(&after).iter().any(|l| l.contains("-A DOCKER-USER -j RETURN")),
        "the administrator's rule stays"
    );
}

/// With the rules of a network whose configuration is gone go its chains and what let it through another's; a way that
/// another network on its bridge needs stays.
#[test]
fn a_retired_network_keeps_no_way_through() {
    if lab::is_reference() {
        lab::skip!("the reference has no commands");
    }
    for variant in ["nft", "legacy"] {
        let Some(closed) = attached("nftables", variant, iptables_policy(variant)) else { return };
        let Closed { container, plugin, lab, .. } = &closed;
        let tools = [format!("iptables-{variant}"), format!("ip6tables-{variant}")];
        let ways = || tools.each_ref().map(|tool| lab.host.must(&[tool, "-S"]).contains("lks-web"));
        let record = || fs::read_to_string("/run/linkspan/networks/web.json").unwrap();
        let retire = || assert!(linkspan("gc web").ok().contains("deleted its firewall rules"));
        assert_eq!(ways(), [true; 2], "{variant}");
        plugin.prev(&closed.result).del().ok();
        retire();
        assert_eq!(ways(), [false; 2], "{variant}");
        let left = lab.host.must(&["nft", "list", "table", "inet", "linkspan"]);
        assert!(!left.contains("web"), "{variant}: {left}");
        assert!(!record().contains("admitted"), "{}", record());
        retire();

        let beside = plugin.with(json!({"name": "beside", "bridge": "lks-web"}));
        let result = beside.add().ok();
        retire();
        assert_eq!(ways(), [true; 2], "{variant}");
        assert_eq!(closed.broken(true), Vec::<&str>::new(), "{variant}");
        beside.prev(&result).check().ok();
        beside.prev(&result).del().ok();

        let again = plugin.on(container).add().ok();
        assert_eq!(closed.broken(true), Vec::<&str>::new(), "{variant}");
        plugin.prev(&again).check().ok();
        assert_eq!(linkspan("reconcile --dry-run").ok().trim(), "nothing differs", "{variant}");
    }
}

#[test]
fn a_drop_in_a_table_of_nft_is_named() {
    if lab::is_reference() {
        lab::skip!("the reference says nothing");
    }
    for backend in ["nftables", "iptables"] {
        let Some(closed) = attached(backend, "nft", nft_table) else { return };
        assert_eq!(
            closed.broken(false).len(),
            4,
            "{backend}: no accept of ours can open another table's drop"
        );
        let said = closed.plugin.status().refused(51);
        assert!(said.contains("strict") && said.contains("gate"), "{backend}: {said}");
        closed.lab.host.must(&["nft", "delete", "table", "inet", "strict"]);
        closed.plugin.status().ok();
        closed.works(backend);
    }
}

#[test]
fn an_open_host_is_not_complained_of() {
    if lab::is_reference() {
        lab::skip!("Debian's reference knows no STATUS");
    }
    let Some(closed) = attached("auto", "nft", |lab| {
        // A base chain that drops nothing by policy is nobody's wall.
        let text = "table inet polite {\n chain gate {\n type filter hook forward priority 0; policy accept;\n }\n}\n";
        lab.host.feed(&["nft", "-f", "-"], text);
    }) else {
        return;
    };
    closed.plugin.status().ok();
    closed.works("an open host");
}
