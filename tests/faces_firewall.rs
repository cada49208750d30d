//! The face `firewall`: walls and the way through a closed FORWARD chain, for interfaces of any plugin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{Server, tcp, tcp_answers, tcp_reaches, tcp_server};
use lab::{Chain, Container, Lab, Outside};
use serde_json::{Value, json};

fn list(name: &str, main: &str, subnet: &str, firewall: Value, backend: &str) -> Value {
    let mut firewall = firewall;
    firewall["type"] = json!("firewall");
    let mut interface = json!({
        "type": main, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": subnet, "routes": [{"dst": "0.0.0.0/0"}]},
    });
    if main == "bridge" {
        interface["bridge"] = json!(format!("br-{name}"));
        interface["isGateway"] = json!(true);
    }
    let portmap = json!({"type": "portmap", "backend": backend, "capabilities": {"portMappings": true}});
    json!({"name": name, "plugins": [interface, portmap, firewall]})
}

struct Town {
    _servers: Vec<Server>,
    containers: Vec<Container>,
    results: Vec<Value>,
    chains: Vec<Chain>,
    outside: Outside,
    lab: Lab,
}

impl Town {
    /// Containers 0 and 1 in network `one`, 2 in `two`, all with a policy; 0 publishes its port 80.
    fn new(main: &str, foreign: bool, firewall: Value, close: impl FnOnce(&Lab)) -> Option<Self> {
        Self::on("nftables", main, foreign, firewall, close)
    }

    /// The same on another backend, which is the network's: `portmap` chooses it.
    fn on(
        backend: &str,
        main: &str,
        foreign: bool,
        firewall: Value,
        close: impl FnOnce(&Lab),
    ) -> Option<Self> {
        let mut lab = Lab::new()?;
        if !lab.iptables("nft") {
            lab::skipped("iptables-nft is not here");
            return None;
        }
        let outside = lab.outside();
        close(&lab);
        let bin = Bin::ours(&lab);
        if foreign {
            bin.install_theirs(&[main, "host-local"]);
        }
        let one = bin.chain(list("one", main, "10.92.1.0/24", firewall.clone(), backend));
        let two = bin.chain(list("two", main, "10.92.2.0/24", firewall, backend));
        let chains = vec![one.publish(&["8080:80"]), one, two];
        let containers: Vec<Container> = (0..3).map(|n| lab.container(&format!("c{n}"))).collect();
        let results = chains.iter().zip(&containers).map(|(chain, to)| chain.add(to).ok()).collect();
        let mut servers: Vec<Server> =
            containers.iter().map(|c| tcp_server(c, "0.0.0.0:80", c.name())).collect();
        servers.push(tcp_server(&outside, "0.0.0.0:80", "outside"));
        Some(Self { _servers: servers, containers, results, chains, outside, lab })
    }

    /// One container reaches another, as it must or must not.
    #[track_caller]
    fn reach(&self, pairs: &[(usize, usize)], must: bool) {
        for (from, to) in pairs {
            let at = format!("{}:80", address(&self.results[*to], 4));
            assert_eq!(tcp_reaches(&self.containers[*from], &at, must), must, "c{from} to c{to}");
        }
    }

    /// The way out, and what is published.
    fn the_rest_works(&self) {
        for container in &self.containers {
            assert_eq!(tcp(container, "192.0.2.2:80").tag, "outside", "{} goes out", container.name());
        }
        assert_eq!(tcp(&self.outside, "192.0.2.1:8080").tag, "c0", "published");
        for (n, chain) in self.chains.iter().enumerate() {
            chain.check(&self.containers[n], &self.results[n]).ok();
        }
    }

    fn leave(&self) {
        for (n, chain) in self.chains.iter().enumerate() {
            chain.del(&self.containers[n], &self.results[n]);
        }
        let ids: Vec<&str> = self.containers.iter().map(|c| c.id.as_str()).collect();
        Snapshot::take(&self.lab).assert_without(&ids);
        assert!(!tcp_answers(&self.outside, "192.0.2.1:8080"));
    }
}

fn policy(word: &str) -> Value {
    json!({"ingressPolicy": word})
}

#[test]
fn open_lets_all_talk() {
    let Some(town) = Town::new("bridge", false, json!({}), |_| {}) else { return };
    town.reach(&[(1, 0), (2, 0), (0, 2)], true);
    town.the_rest_works();
    town.leave();
}

#[test]
fn same_bridge_keeps_other_networks_out() {
    for foreign in [false, true] {
        let run = std::thread::spawn(move || {
            let Some(town) = Town::new("bridge", foreign, policy("same-bridge"), |_| {}) else { return };
            town.reach(&[(1, 0), (0, 1)], true);
            town.reach(&[(2, 0), (0, 2)], false);
            town.the_rest_works();
            town.leave();
        });
        run.join().unwrap();
    }
}

#[test]
fn isolated_hosts_of_ptp_are_apart() {
    for (backend, foreign) in [("nftables", true), ("iptables", true), ("iptables", false)] {
        let run = std::thread::spawn(move || {
            let policy = policy("isolated");
            let Some(town) = Town::on(backend, "ptp", foreign, policy, |_| {}) else { return };
            town.reach(&[(1, 0), (2, 0), (0, 2)], false);
            town.the_rest_works();
            // What CHECK sees of it.
            if backend == "iptables" {
                town.lab.host.must(&["iptables", "-F", "LINKSPAN-WALL"]);
                // The wall is what held it.
                town.reach(&[(1, 0)], true);
                town.chains[0].check(&town.containers[0], &town.results[0]).refused(999);
            }
            town.leave();
        });
        run.join().unwrap();
    }
}

fn forward_drop(lab: &Lab) {
    lab.host.must(&["iptables", "-P", "FORWARD", "DROP"]);
}

#[test]
fn a_closed_forward_chain_is_passed() {
    for (main, foreign) in [("bridge", false), ("bridge", true), ("ptp", true)] {
        let run = std::thread::spawn(move || {
            let Some(town) = Town::new(main, foreign, json!({"backend": "iptables"}), forward_drop) else {
                return;
            };
            town.the_rest_works();
            town.leave();
            let rules = town.lab.host.must(&["iptables", "-S"]);
            assert!(
                main == "bridge" || !rules.contains("-i veth"),
                "what was one container's is gone: {rules}"
            );
        });
        run.join().unwrap();
    }
}

#[test]
fn without_the_plugin_it_stays_closed() {
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let outside = lab.outside();
    forward_drop(&lab);
    let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
    let container = lab.container("a");
    let mut list = list("one", "bridge", "10.92.1.0/24", json!({}), "nftables");
    list["plugins"].as_array_mut().unwrap().truncate(1);
    Bin::ours(&lab).chain(list).add(&container).ok();
    assert!(!tcp_answers(&container, "192.0.2.2:80"), "as with the reference: only `firewall` opens it");
}

#[test]
fn the_administrators_chain_comes_first() {
    let Some(town) = Town::new("bridge", false, json!({"iptablesAdminChainName": "SITE"}), |_| {}) else {
        return;
    };
    town.reach(&[(1, 2)], true);
    let rule =
        ["nft", "add", "rule", "inet", "linkspan", "SITE", "ip", "saddr", "10.92.1.0/24", "ip", "daddr"];
    let rule: Vec<&str> = rule.into_iter().chain(["10.92.2.0/24", "drop"]).collect();
    town.lab.host.must(&rule);
    town.reach(&[(1, 2)], false);
    town.the_rest_works();
}

#[test]
fn bad_input_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let bin = Bin::ours(&lab);
    let container = lab.container("a");
    let main =
        json!({"name": "web", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.92.1.0/24"}});
    let result = bin.plugin("bridge", main).on(&container).add().ok();
    let firewall = bin.plugin("firewall", json!({"name": "web"})).on(&container);
    assert!(firewall.add().refused(999).contains("missing prevResult from earlier plugin"));
    let firewall = firewall.prev(&result);
    firewall.with(json!({"cniVersion": "0.3.1"})).add().refused(1);
    firewall.with(json!({"ingressPolicy": "none"})).add().refused(999);
    assert!(
        firewall.with(json!({"backend": "pf"})).add().refused(999).contains("unrecognized firewall backend")
    );
    for backend in ["", "iptables", "firewalld"] {
        assert_eq!(firewall.with(json!({"backend": backend})).args("none").add().ok(), result);
    }
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let firewall = firewall.with(json!({"cniVersion": version}));
        assert_eq!(firewall.add().ok()["cniVersion"], json!(version));
        firewall.check().ok();
    }
    firewall.del().ok();
    firewall.del().ok();
}

/// What the plugins before have said of their interfaces may be too little: the addresses are what counts.
#[test]
fn interfaces_without_a_sandbox_are_let_through() {
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let outside = lab.outside();
    forward_drop(&lab);
    let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
    let container = lab.container("a");
    let bin = Bin::ours(&lab);
    let main = json!({
        "name": "web", "isGateway": true, "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "10.92.1.0/24"},
    });
    let mut result = bin.plugin("bridge", main).on(&container).add().ok();
    for interface in result["interfaces"].as_array_mut().unwrap() {
        interface.as_object_mut().unwrap().remove("sandbox");
    }
    let firewall = bin.plugin("firewall", json!({"name": "web"})).on(&container).prev(&result);
    assert!(!tcp_answers(&container, "192.0.2.2:80"));
    firewall.add().ok();
    tcp(&container, "192.0.2.2:80");
    firewall.check().ok();
    firewall.del().ok();

    // Without a record, a damaged result is no reason to be asked for ever.
    for damage in [json!({"ips": [{"address": "10.92.1"}]}), json!([1]), json!({"cniVersion": "9"})] {
        firewall.prev(&damage).del().ok();
    }
}
