//! The face `portmap`: published ports of containers whose interface any plugin made, with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::outcome::{address, gateway, host_end};
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_server, udp, udp_server};
use lab::{Chain, Container, Lab, Outside, inspect};
use serde_json::{Value, json};

fn ipam() -> Value {
    json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.89.1.0/24"}], [{"subnet": "fd00:89:1::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    })
}

fn bridge() -> Value {
    json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam()})
}

fn portmap(keys: Value) -> Value {
    let mut conf = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    lab::plugin::merge(&mut conf, keys);
    conf
}

/// A host with an outside and a list of an interface plugin and `portmap`.
struct Town {
    outside: Outside,
    chain: Chain,
    lab: Lab,
}

impl Town {
    /// `main` is made by Debian's plugin where `foreign` is set.
    fn new(main: Value, keys: Value, foreign: bool) -> Option<Self> {
        let lab = Lab::new()?;
        let outside = lab.outside();
        let bin = Bin::ours(&lab);
        if foreign {
            bin.install_theirs(&[main["type"].as_str().unwrap(), "host-local"]);
        }
        let chain = bin.chain(json!({"name": "web", "plugins": [main, portmap(keys)]}));
        Some(Self { outside, chain, lab })
    }

    fn serve(&self, container: &Container, tag: &str) -> Vec<lab::talk::Server> {
        vec![tcp_server(container, "[::]:80", tag), udp_server(container, "0.0.0.0:53", tag)]
    }
}

/// Everybody reaches a published port: the outside, the host by any of its addresses, a neighbour, the container itself.
fn reached_from_everywhere(main: Value, foreign: bool, families: &[u8]) {
    let Some(town) = Town::new(main, json!({}), foreign) else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let publishing = town.chain.publish(&["8080:80", "5353:53/udp"]);
    let result = publishing.add(&a).ok();
    let neighbour = town.chain.add(&b).ok();
    assert_eq!(neighbour["ips"].as_array().unwrap().len(), families.len());
    let _servers = town.serve(&a, "a");
    let own: &[&str] = if families.contains(&6) {
        &["192.0.2.1:8080", "127.0.0.1:8080", "[2001:db8::1]:8080"]
    } else {
        &["192.0.2.1:8080", "127.0.0.1:8080"]
    };
    for at in own {
        assert_eq!(tcp(&town.lab.host, at).tag, "a", "the host by {at}");
        if !at.starts_with("127") {
            for from in [&*town.outside, &*a, &*b] {
                assert_eq!(tcp(from, at).tag, "a", "{} by {at}", from.name());
            }
        }
    }
    let seen = tcp(&town.outside, "192.0.2.1:8080").peer.ip().to_string();
    assert!(seen.ends_with(Outside::V4), "the client keeps its address: {seen}");
    for from in [&*town.outside, &*b, &town.lab.host] {
        assert_eq!(udp(from, "192.0.2.1:5353").tag, "a", "{}", from.name());
    }
    publishing.check(&a, &result).ok();
    publishing.del(&a, &result);
    town.chain.del(&b, &neighbour);
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "after DEL nobody answers");
    let left = Snapshot::take(&town.lab);
    left.assert_without(&[&a.id, &b.id, &address(&result, 4), "8080"]);
}

#[test]
fn of_our_bridge() {
    reached_from_everywhere(bridge(), false, &[4, 6]);
}

#[test]
fn of_our_bridge_without_masquerade() {
    let mut main = bridge();
    main["ipMasq"] = json!(false);
    reached_from_everywhere(main, false, &[4, 6]);
}

#[test]
fn of_debians_bridge() {
    reached_from_everywhere(bridge(), true, &[4, 6]);
}

#[test]
fn of_debians_ptp() {
    let ipam = json!({
        "type": "host-local", "subnet": "10.89.2.0/24", "routes": [{"dst": "0.0.0.0/0"}],
    });
    reached_from_everywhere(json!({"type": "ptp", "ipMasq": true, "ipam": ipam}), true, &[4]);
}

#[test]
fn every_client_of_a_ptp_container_is_masqueraded() {
    let main = || {
        json!({"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "subnet": "10.89.2.0/24",
        "routes": [{"dst": "0.0.0.0/0"}]}})
    };
    for backend in ["nftables", "iptables"] {
        let run = std::thread::spawn(move || {
            let keys = json!({"backend": backend, "masqAll": true});
            let Some(town) = Town::new(main(), keys, false) else { return };
            let (a, b) = (town.lab.container("a"), town.lab.container("b"));
            let publishing = town.chain.publish(&["8080:80"]);
            let result = publishing.add(&a).ok();
            // Another's ports are not of the network; hers keep their clients.
            let mut other = town.chain.publish(&["8081:80"]);
            other.list["name"] = json!("other");
            other.list["plugins"][0]["ipam"]["subnet"] = json!("10.89.3.0/24");
            other.list["plugins"][1]["masqAll"] = json!(false);
            let second = other.add(&b).ok();
            let _servers = (town.serve(&a, "a"), town.serve(&b, "b"));
            let client = |port: &str| tcp(&town.outside, port).peer.ip().to_canonical().to_string();
            assert_eq!(client("192.0.2.1:8080"), gateway(&result, 4), "{backend}");
            assert_eq!(client("192.0.2.1:8081"), "192.0.2.2", "{backend}");
            publishing.check(&a, &result).ok();
            publishing.del(&a, &result);
            other.del(&b, &second);
            Snapshot::take(&town.lab).assert_without(&[&a.id, &b.id, "8080"]);
        });
        run.join().unwrap();
    }
}

#[test]
fn with_iptables() {
    let Some(town) = Town::new(bridge(), json!({"backend": "iptables"}), false) else { return };
    let a = town.lab.container("a");
    let publishing = town.chain.publish(&["8080:80"]);
    let before = inspect::firewall_text(&town.lab.host);
    let result = publishing.add(&a).ok();
    let _servers = town.serve(&a, "a");
    let text = inspect::firewall_text(&town.lab.host);
    assert!(text.contains("LINKSPAN-PUBLISH") && !before.contains("LINKSPAN-PUBLISH"), "{text}");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a");
    assert_eq!(tcp(&town.lab.host, "127.0.0.1:8080").tag, "a");
    assert_eq!(tcp(&a, "192.0.2.1:8080").tag, "a", "through its own port");
    publishing.check(&a, &result).ok();
    // The plugin before chose nf_tables; both are made anew after a flush.
    town.lab.host.must(&["nft", "flush", "ruleset"]);
    publishing.check(&a, &result).refused(999);
    let b = town.lab.container("b");
    let other = town.chain.publish(&["8081:80"]).add(&b).ok();
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a", "the ADD of another brought it back");
    publishing.del(&a, &result);
    town.chain.del(&b, &other);
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    Snapshot::take(&town.lab).assert_without(&[&a.id, &b.id, "8080"]);
}

#[test]
fn conditions_and_a_chain_of_the_administrators() {
    let keys = json!({"conditionsV4": ["-s", "192.0.2.0/24"], "conditionsV6": ["-s", "2001:db8::/64"]});
    let Some(town) = Town::new(bridge(), keys, false) else { return };
    let a = town.lab.container("a");
    let publishing = town.chain.publish(&["8080:80"]);
    publishing.add(&a).ok();
    let _servers = town.serve(&a, "a");
    assert!(tcp_answers(&town.outside, "192.0.2.1:8080"), "the condition holds");
    town.outside.ip("address add 192.0.3.2/24 dev eth0");
    town.outside.ip("route replace 192.0.2.1 dev eth0 src 192.0.3.2");
    town.lab.ip("route add 192.0.3.0/24 dev uplink");
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "and not for everybody");

    let run = std::thread::spawn(|| {
        let keys = json!({"externalSetMarkChain": "SITE-MARK", "backend": "iptables"});
        let Some(town) = Town::new(bridge(), keys, false) else { return };
        for rule in [
            "-N SITE-MARK",
            "-A SITE-MARK -j MARK --set-mark 0x77",
            "-A POSTROUTING -m mark --mark 0x77 -j MASQUERADE",
        ] {
            let argv: Vec<&str> = ["iptables", "-t", "nat"].into_iter().chain(rule.split(' ')).collect();
            town.lab.host.must(&argv);
        }
        let a = town.lab.container("a");
        let mut chain = town.chain.publish(&["8080:80"]);
        // The chain is of IPv4 alone.
        chain.list["plugins"][0]["ipam"] =
            json!({"type": "host-local", "subnet": "10.89.1.0/24", "routes": [{"dst": "0.0.0.0/0"}]});
        chain.add(&a).ok();
        let _servers = town.serve(&a, "a");
        assert_eq!(
            tcp(&a, "192.0.2.1:8080").tag,
            "a",
            "marked by the administrator's chain, masqueraded by his rule"
        );
        let text = inspect::firewall_text(&town.lab.host);
        assert!(text.contains("-j SITE-MARK"), "{text}");
    });
    run.join().unwrap();
}

/// Lists of Calico and kubeadm name a bit of the mark: ports work, what is to be masqueraded is, and no packet's mark is
/// changed or asked for.
#[test]
fn a_mark_bit_is_left_to_others() {
    for (backend, own) in [("nftables", false), ("iptables", false), ("nftables", true), ("iptables", true)] {
        let keys = json!({"backend": backend, "markMasqBit": 5});
        let Some(mut town) = Town::new(bridge(), keys.clone(), false) else { return };
        if own {
            let one = json!({"type": "linkspan", "capabilities": {"portMappings": true}, "ipam": ipam()});
            town.chain.list["plugins"] = json!([one]);
            lab::plugin::merge(&mut town.chain.list["plugins"][0], keys);
        }
        let host = &town.lab.host;
        let witness = "table inet witness {
            chain before { type filter hook prerouting priority -310; iifname != \"lo\" meta mark set 0x20; }
            chain after { type filter hook postrouting priority 400; meta l4proto != tcp return;
                iif != 0 meta mark 0x20 counter comment \"kept\"
                iif != 0 meta mark != 0x20 counter comment \"lost\"
                meta skuid 0 meta mark != 0 counter comment \"set\"; }; }";
        host.feed(&["nft", "-f", "-"], witness);
        let a = town.lab.container("a");
        let result = town.chain.publish(&["8080:80"]).add(&a).ok();
        let _servers = town.serve(&a, "a");
        let peer = |from: &lab::Space, at: &str| tcp(from, at).peer.ip().to_canonical().to_string();
        let seen =
            (peer(&town.outside, "192.0.2.1:8080"), peer(&a, "192.0.2.1:8080"), peer(host, "127.0.0.1:8080"));
        let bridge = gateway(&result, 4);
        // Others carry the bit, and keep their address.
        assert_eq!(seen, ("192.0.2.2".to_owned(), bridge.clone(), bridge), "{backend}");
        let seen = host.must(&["nft", "list", "chain", "inet", "witness", "after"]);
        let none = |word: &str| seen.contains(&format!("counter packets 0 bytes 0 comment \"{word}\""));
        assert_eq!((none("kept"), none("lost"), none("set")), (false, true, true), "{backend}: {seen}");
    }
}

#[test]
fn a_killed_add_leaves_nothing() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    let warm = town.lab.container("warm");
    let publishing = town.chain.publish(&["8080:80", "8053:53/udp"]);
    let result = publishing.add(&warm).ok();
    publishing.del(&warm, &result);
    let mut killed = 0;
    for n in 0..40u64 {
        let container = town.lab.container(&format!("k{n}"));
        let [main, portmap] = &publishing.plugins(&container)[..] else { panic!("two plugins") };
        let interface = main.add().ok();
        let attached = Snapshot::take(&town.lab);
        let after = std::time::Duration::from_micros(400 + n * 150);
        killed += usize::from(portmap.prev(&interface).start("ADD").kill_after(after));
        if n % 2 == 0 {
            portmap.prev(&interface).del().ok();
            Snapshot::take(&town.lab).assert_same(&attached, "DEL after the kill");
        } else {
            // Or the next ADD takes it away and does it anew.
            let again = portmap.prev(&interface).add().ok();
            portmap.prev(&again).del().ok();
            Snapshot::take(&town.lab).assert_same(&attached, "ADD and DEL after the kill");
        }
        main.prev(&interface).del().ok();
    }
    assert!(killed > 5, "{killed} of 40 were killed half-way");
}

#[test]
fn many_lists_at_once() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    let containers: Vec<Container> = (0..12).map(|n| town.lab.container(&format!("m{n}"))).collect();
    let publishing = |n: usize| town.chain.publish(&[&format!("{}:80", 9000 + n)]);
    let numbered = || containers.iter().enumerate();
    let results: Vec<Value> = std::thread::scope(|scope| {
        let start = |(n, container)| {
            let chain = publishing(n);
            scope.spawn(move || chain.add(container).ok())
        };
        let running: Vec<_> = numbered().map(start).collect();
        running.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let _servers: Vec<_> = containers.iter().map(|c| tcp_server(c, "0.0.0.0:80", c.name())).collect();
    for (n, container) in numbered() {
        assert_eq!(tcp(&town.outside, &format!("192.0.2.1:{}", 9000 + n)).tag, container.name());
    }
    std::thread::scope(|scope| {
        for ((n, container), result) in numbered().zip(&results) {
            let chain = publishing(n);
            scope.spawn(move || chain.del(container, result));
        }
    });
    let ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
    Snapshot::take(&town.lab).assert_without(&ids);
}

#[test]
fn snat_off_leaves_the_inside_out() {
    let Some(town) = Town::new(bridge(), json!({"snat": false}), false) else { return };
    let a = town.lab.container("a");
    let publishing = town.chain.publish(&["8080:80"]);
    publishing.add(&a).ok();
    let _servers = town.serve(&a, "a");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a");
    assert!(!tcp_answers(&town.lab.host, "127.0.0.1:8080"), "127.0.0.1 needs snat");
    assert_eq!(town.lab.host.sysctl("net/ipv4/conf/cni0/route_localnet"), "0");
}

#[test]
fn a_port_has_one_owner_and_dead_containers_have_none() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let publishing = town.chain.publish(&["8080:80"]);
    let dead = publishing.add(&a).ok();
    let plugins = publishing.plugins(&b);
    let interface = plugins[0].add().ok();
    assert!(plugins[1].prev(&interface).add().refused(102).contains("container-a:eth0"));
    // The container dies, its namespace with it, and nobody says so.
    a.unbind();
    town.lab.ip(&format!("link delete {}", host_end(&dead)));
    let result = plugins[1].prev(&interface).add().ok();
    let _servers = town.serve(&b, "b");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "b");
    Snapshot::take(&town.lab).assert_without(&[&a.id]);
    publishing.check(&b, &result).ok();
}

#[test]
fn without_ports_it_only_passes_the_result_on() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    let a = town.lab.container("a");
    let plugins = town.chain.plugins(&a);
    let interface = plugins[0].add().ok();
    let before = Snapshot::take(&town.lab);
    assert_eq!(plugins[1].prev(&interface).add().ok(), interface);
    assert!(!town.lab.host.exec(&["ls", "/run/linkspan/ready/container-a:eth0:portmap"]).ok);
    Snapshot::take(&town.lab).assert_same(&before, "nothing to publish");
    plugins[1].prev(&interface).check().ok();
    plugins[1].prev(&interface).del().ok();
    plugins[1].del().ok();
}

#[test]
fn bad_input_is_refused_before_anything_is_done() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    let a = town.lab.container("a");
    let [main, portmap] = &town.chain.plugins(&a)[..] else { panic!("two plugins") };
    let interface = main.add().ok();
    let before = Snapshot::take(&town.lab);
    let port = |mapping: Value| portmap.prev(&interface).cap(json!({"portMappings": [mapping]}));
    for (plugin, code, words) in [
        (portmap.clone(), 999, "must be called as chained plugin"),
        (port(json!({"hostPort": 0, "containerPort": 80})), 999, "hostPort"),
        (port(json!({"hostPort": -1, "containerPort": 80})), 999, "hostPort"),
        (port(json!({"hostPort": 80, "containerPort": 0})), 999, "containerPort"),
        (portmap.prev(&interface).with(json!({"backend": "pf"})), 999, "backend"),
        (
            portmap.prev(&interface).with(json!({"markMasqBit": 5, "externalSetMarkChain": "X"})),
            999,
            "externalSetMarkChain",
        ),
        (portmap.prev(&interface).with(json!({"markMasqBit": 32})), 999, "markMasqBit"),
        (portmap.prev(&interface).with(json!({"cniVersion": "9.9.9"})), 1, "9.9.9"),
    ] {
        assert!(plugin.add().refused(code).contains(words), "{words}");
    }
    // Keys and arguments of other plugins are not its business.
    let others = json!({"ipam": 5, "mtu": "x", "ingressPolicy": "none", "args": {"cni": {"ips": [1]}}});
    portmap.prev(&interface).with(others).args("none").add().ok();
    Snapshot::take(&town.lab).assert_same(&before, "what was refused has changed nothing");
}

#[test]
fn every_version_passes_the_result_on() {
    let Some(town) = Town::new(bridge(), json!({}), false) else { return };
    for (n, version) in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().enumerate() {
        let container = town.lab.container(&format!("v{n}"));
        let mut chain = town.chain.publish(&[&format!("80{n}0:80")]);
        chain.list["cniVersion"] = json!(version);
        let result = chain.add(&container).ok();
        assert_eq!(result["cniVersion"], *version);
        let _servers = town.serve(&container, version);
        assert_eq!(tcp(&town.outside, &format!("192.0.2.1:80{n}0")).tag, *version);
        chain.del(&container, &result);
    }
}
