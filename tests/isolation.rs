//! Who reaches whom: walls between networks, internal networks, containers kept apart, neighbours that route to the
//! containers, routed networks, the address that a network leaves with. The same on each firewall, and for IPv6.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::{address, bridge, gateway, host_end};
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{Seen, Server, tcp, tcp_answers, tcp_server, udp_answers, udp_server};
use lab::{Container, Lab, Outside, Plugin, Space, icmp, inspect};
use serde_json::{Value, json};

/// The backends of the configuration, with the variants of iptables.
const BACKENDS: [&str; 3] = ["nftables", "iptables-nft", "iptables-legacy"];

/// A host with an outside. Everybody serves TCP on port 80 and UDP on port 53 under their name.
struct Town {
    backend: &'static str,
    outside: Outside,
    _servers: Vec<Server>,
    lab: Lab,
}

/// An attached container.
struct House {
    container: Container,
    plugin: Plugin,
    result: Value,
    _servers: Vec<Server>,
}

impl std::ops::Deref for House {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.container
    }
}

impl House {
    /// Its addresses, ready for a port.
    fn at(&self) -> [String; 2] {
        [address(&self.result, 4), format!("[{}]", address(&self.result, 6))]
    }
}

fn town(backend: &'static str) -> Option<Town> {
    if lab::is_reference() {
        lab::skipped("the reference has no such keys");
        return None;
    }
    let mut lab = Lab::new()?;
    let outside = lab.outside();
    let (_, variant) = backend.split_once('-').unwrap_or((backend, ""));
    if !variant.is_empty() && !lab.iptables(variant) {
        lab::skipped(&format!("{backend} is not here, or not chosen by alternatives"));
        return None;
    }
    let servers = serve(&outside, "outside", &[Outside::V4.to_owned(), format!("[{}]", Outside::V6)]);
    Some(Town { backend, outside, _servers: servers, lab })
}

fn serve(space: &Space, tag: &str, at: &[String]) -> Vec<Server> {
    let udp = at.iter().map(|at| udp_server(space, &format!("{at}:53"), tag));
    udp.chain([tcp_server(space, "[::]:80", tag)]).collect()
}

impl Town {
    /// A network of a number, with these keys.
    fn network(&self, n: u8, keys: Value) -> Plugin {
        let kind = self.backend.split('-').next().unwrap();
        let plain = json!({"name": format!("net{n}"), "backend": kind, "ipam": dual_stack(n)});
        self.lab.plugin(plain).with(keys)
    }

    /// Turns `br_netfilter` on or off for this host; false where the kernel lacks it, and so never does it.
    fn bridged_packets_are_seen(&self, value: &str) -> bool {
        let there = std::path::Path::new("/proc/sys/net/bridge").exists();
        for family in ["iptables", "ip6tables"].into_iter().filter(|_| there) {
            self.lab.host.set_sysctl(&format!("net.bridge.bridge-nf-call-{family}"), value);
        }
        there
    }

    fn attach(&self, network: &Plugin, name: &str, ports: &[&str]) -> House {
        let container = self.lab.container(name);
        let mut plugin = network.on(&container);
        if !ports.is_empty() {
            plugin = plugin.publish(ports);
        }
        let result = plugin.add().ok();
        let servers = serve(&container, name, &[address(&result, 4), format!("[{}]", address(&result, 6))]);
        House { container, plugin, result, _servers: servers }
    }
}

/// Which of TCP and UDP, IPv4 and IPv6, are answered: all four, or what there is.
fn answers(from: &Space, at: &[String; 2]) -> Vec<&'static str> {
    let mut answered = Vec::new();
    for (at, names) in at.iter().zip([["tcp4", "udp4"], ["tcp6", "udp6"]]) {
        if tcp_answers(from, &format!("{at}:80")) {
            answered.push(names[0]);
        }
        if udp_answers(from, &format!("{at}:53")) {
            answered.push(names[1]);
        }
    }
    answered
}

#[track_caller]
fn open(from: &Space, to: &House) {
    assert_eq!(answers(from, &to.at()), ["tcp4", "udp4", "tcp6", "udp6"], "{} to {}", from.name(), to.name());
}

#[track_caller]
fn closed(from: &Space, to: &House) {
    assert_eq!(answers(from, &to.at()), [""; 0], "{} to {}", from.name(), to.name());
}

/// Whether a port that is published on all addresses is reached by those of the host, in both families.
#[track_caller]
fn published(from: &Space, port: u16, reached: bool) {
    for host in [Outside::HOST4.to_owned(), format!("[{}]", Outside::HOST6)] {
        let at = format!("{host}:{port}");
        assert_eq!(tcp_answers(from, &at), reached, "{} to {at}", from.name());
    }
}

/// Whether the world outside is reached, in both families.
#[track_caller]
fn goes_out(from: &Space, out: bool) {
    let at = [Outside::V4.to_owned(), format!("[{}]", Outside::V6)];
    let expected: &[&str] = if out { &["tcp4", "udp4", "tcp6", "udp6"] } else { &[] };
    assert_eq!(answers(from, &at), expected, "{} to the world", from.name());
}

fn whom(seen: &Seen) -> String {
    match seen.peer.ip() {
        std::net::IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        std::net::IpAddr::V4(v4) => v4.to_string(),
    }
}

/// Without a word written: other networks and neighbours reach what is published and nothing else.
fn a_network_has_a_wall_by_default(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let (one, two) = (town.network(1, json!({})), town.network(2, json!({"isolation": "default"})));
    let a = town.attach(&one, "a", &["8080:80"]);
    let b = town.attach(&one, "b", &[]);
    let c = town.attach(&two, "c", &["8081:80"]);
    closed(&a, &c);
    closed(&c, &a);
    closed(&town.outside, &a);
    closed(&town.outside, &c);
    assert!(!icmp::pings_briefly(&town.outside, &address(&a.result, 4)));
    assert!(!icmp::pings_briefly(&c, &address(&a.result, 6)));
    open(&a, &b);
    open(&town.lab.host, &a);
    for from in [&*town.outside, &*c, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    published(&a, 8081, true);
    goes_out(&a, true);
    goes_out(&c, true);
    a.plugin.prev(&a.result).check().ok();
    c.plugin.prev(&c.result).check().ok();
}

/// The destination's wall decides.
fn a_network_without_a_wall_is_open(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let a = town.attach(&town.network(1, json!({"isolation": "none"})), "a", &[]);
    let b = town.attach(&town.network(2, json!({})), "b", &[]);
    let c = town.attach(&town.network(3, json!({"ingressPolicy": "open"})), "c", &[]);
    open(&town.outside, &a);
    open(&b, &a);
    open(&c, &a);
    open(&a, &c);
    open(&town.outside, &c);
    closed(&a, &b);
    goes_out(&a, true);
    a.plugin.prev(&a.result).check().ok();
}

/// A strict network and another have nothing to do with each other, whichever of the two is strict.
fn a_strict_network_is_strict_both_ways(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let strict = town.network(1, json!({"isolation": "strict"}));
    let a = town.attach(&strict, "a", &["8080:80"]);
    let b = town.attach(&strict, "b", &[]);
    let c = town.attach(&town.network(2, json!({"isolation": "none"})), "c", &["8081:80"]);
    closed(&a, &c);
    closed(&c, &a);
    published(&c, 8080, false);
    published(&a, 8081, false);
    open(&a, &b);
    for from in [&*town.outside, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    published(&town.outside, 8081, true);
    closed(&town.outside, &a);
    goes_out(&a, true);
    a.plugin.prev(&a.result).check().ok();
}

fn nothing_enters_or_leaves_an_internal_network(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let asked = json!({"routes": [{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.0/24"}]});
    let inner = town.network(1, json!({"internal": true})).with(json!({"ipam": asked}));
    let a = town.attach(&inner, "a", &[]);
    assert_eq!(
        inspect::routes_to(&a, 4, "198.51.100.0/24").len(),
        1,
        "other routes are as they were asked for"
    );
    let b = town.attach(&inner, "b", &[]);
    for family in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        assert_eq!(town.lab.host.sysctl(&format!("net.{family}")), "0", "{family}: nothing is forwarded");
    }
    let c = town.attach(&town.network(2, json!({"isolation": "none"})), "c", &["8080:80"]);
    for family in [4, 6] {
        assert!(inspect::routes_to(&a, family, "default").is_empty());
        // A container with CAP_NET_ADMIN gives itself the route.
        a.ip(&format!("-{family} route add default via {}", gateway(&a.result, family)));
    }
    goes_out(&a, false);
    assert!(!icmp::pings_briefly(&a, Outside::V4) && !icmp::pings_briefly(&a, Outside::V6));
    published(&a, 8080, false);
    for stranger in [&*town.outside, &*c] {
        closed(stranger, &a);
        assert!(!icmp::pings_briefly(stranger, &address(&a.result, 6)));
    }
    closed(&a, &c);
    open(&a, &b);
    open(&town.lab.host, &a);
    assert!(icmp::ping(&a, &gateway(&a.result, 4)), "the gateway is there");
    goes_out(&c, true);
    a.plugin.prev(&a.result).check().ok();
    let said = inner.on(&town.lab.container("d")).publish(&["8081:80"]).add().refused(7);
    assert!(said.contains("internal") && said.contains("portMappings"), "{said}");
}

/// Neither at layer 2 nor by way of the gateway; and no `br_netfilter` is needed.
fn containers_are_kept_apart(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    town.bridged_packets_are_seen("0");
    let apart = town.network(1, json!({"icc": false}));
    let a = town.attach(&apart, "a", &["8080:80"]);
    let b = town.attach(&apart, "b", &[]);
    closed(&a, &b);
    closed(&b, &a);
    let link = inspect::link(&town.lab.host, &host_end(&a.result)).unwrap();
    assert_eq!(link["linkinfo"]["info_slave_data"]["isolated"], true);
    for family in [4, 6] {
        let bits = if family == 4 { 32 } else { 128 };
        let to = address(&b.result, family);
        a.ip(&format!("-{family} route add {to}/{bits} via {}", gateway(&a.result, family)));
        assert!(icmp::ping(&a, &gateway(&a.result, family)), "the gateway is seen");
        // Two legs are needed: the answer, too, has to go by way of the gateway.
        let back = address(&a.result, family);
        b.ip(&format!("-{family} route add {back}/{bits} via {}", gateway(&b.result, family)));
    }
    closed(&a, &b);
    for from in [&*town.outside, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    goes_out(&a, true);
    open(&town.lab.host, &b);
    a.plugin.prev(&a.result).check().ok();
    // Where the firewall sees bridged packets, the kernel bridges what was translated to a sibling, and isolated
    // ports do not see each other.
    if town.bridged_packets_are_seen("1") {
        closed(&a, &b);
        published(&b, 8080, false);
        published(&town.outside, 8080, true);
    }
}

/// Interfaces by name and by a wildcard; networks are let in by their own name alone.
fn trusted_interfaces_are_let_in(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    for (n, trusted, neighbour, other) in [
        (1, json!(["uplink"]), true, false),
        (2, json!(["eth7", "upl*"]), true, false),
        (3, json!(["*"]), true, false),
        (4, json!(["down*", "lks*"]), false, false),
        (5, json!(["lks-net9"]), false, true),
    ] {
        let what = trusted.to_string();
        let a = town.attach(&town.network(n, json!({"trustedInterfaces": trusted})), &format!("a{n}"), &[]);
        let c = town.attach(&town.network(9, json!({})), &format!("c{n}"), &[]);
        assert_eq!(tcp_answers(&town.outside, &format!("{}:80", a.at()[0])), neighbour, "{what}");
        assert_eq!(udp_answers(&town.outside, &format!("{}:53", a.at()[1])), neighbour, "{what}");
        assert_eq!(tcp_answers(&c, &format!("{}:80", a.at()[1])), other, "{what}");
        assert_eq!(udp_answers(&c, &format!("{}:53", a.at()[0])), other, "{what}");
        a.plugin.prev(&a.result).check().ok();
    }
}

/// What leaves has the address that was asked for; what is published and what stays inside is as ever.
fn a_network_leaves_with_an_address_of_its_own(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    town.lab.ip("address add 192.0.2.10/24 dev uplink");
    town.lab.ip("address add 2001:db8::10/64 dev uplink nodad");
    let keys = json!({"outboundAddress4": "192.0.2.10", "outboundAddress6": "2001:db8::10"});
    let a = town.attach(&town.network(1, keys), "a", &["8080:80"]);
    let b = town.attach(&town.network(2, json!({"outboundAddress4": "192.0.2.10"})), "b", &[]);
    assert_eq!(whom(&tcp(&a, "192.0.2.2:80")), "192.0.2.10");
    assert_eq!(whom(&tcp(&a, "[2001:db8::2]:80")), "2001:db8::10");
    assert_eq!(whom(&tcp(&b, "192.0.2.2:80")), "192.0.2.10");
    let other_family = whom(&tcp(&b, "[2001:db8::2]:80"));
    assert!(["2001:db8::1", "2001:db8::10"].contains(&&*other_family), "masqueraded: {other_family}");
    published(&town.outside, 8080, true);
    published(&a, 8080, true);
    a.plugin.prev(&a.result).check().ok();
    // An address that is not there (yet) is no mistake, but worth a word.
    let c = town.lab.container("c");
    let call = town.network(3, json!({"outboundAddress4": "192.0.2.77"})).on(&c);
    let outcome = call.add();
    outcome.ok();
    assert!(outcome.stderr.contains("192.0.2.77"), "{}", outcome.stderr);
}

/// Neighbours that have a route see the containers' own addresses, and reach there what is published, and nothing else.
fn a_routed_network_is_filtered_all_the_same(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let routed = town.network(1, json!({"mode": "routed"}));
    let ports = ["8080:80", "8081:80", "127.0.0.1:5300:53/udp", "192.0.2.1:7000:70"];
    let a = town.attach(&routed, "a", &ports);
    let b = town.attach(&routed, "b", &[]);
    let c = town.attach(&town.network(2, json!({})), "c", &[]);
    let _on_one_address = tcp_server(&a, "[::]:70", "a");
    assert_eq!(whom(&tcp(&a, "192.0.2.2:80")), address(&a.result, 4), "no address is translated");
    assert_eq!(whom(&tcp(&a, "[2001:db8::2]:80")), address(&a.result, 6));
    assert_eq!(answers(&town.outside, &a.at()), ["tcp4", "tcp6"], "what is published on every address");
    assert!(!tcp_answers(&town.outside, &format!("{}:70", a.at()[0])), "not what is published on one");
    for family in [4, 6] {
        assert!(icmp::ping(&town.outside, &address(&a.result, family)), "echo requests are answered");
    }
    closed(&town.outside, &b);
    closed(&c, &a);
    for from in [&*town.outside, &*c, &*b, &*a, &town.lab.host] {
        published(from, 8080, true);
    }
    open(&b, &a);
    a.plugin.prev(&a.result).check().ok();
    a.plugin.prev(&a.result).del().ok();
    let d = town.attach(&routed, "d", &[]);
    closed(&town.outside, &d);
    // Without a wall, there is nothing but the route.
    let e = town.attach(&town.network(3, json!({"mode": "routed", "isolation": "none"})), "e", &[]);
    open(&town.outside, &e);
}

/// On a host whose FORWARD chain drops, what a network lets in beyond published ports passes too.
fn a_forward_chain_that_drops_lets_in_what_the_network_does(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let tools: [&[&str]; 3] =
        [&["iptables-nft", "ip6tables-nft"], &["iptables", "ip6tables"], &["iptables", "ip6tables"]];
    let tools = tools[BACKENDS.iter().position(|name| *name == backend).unwrap()];
    for tool in tools {
        if !town.lab.host.exec(&[tool, "-P", "FORWARD", "DROP"]).ok {
            lab::skip!("{tool} is not here");
        }
    }
    // A network that began without such a word is let in when it says it.
    let first = town.attach(&town.network(1, json!({})), "first", &[]);
    let a = town.attach(&town.network(1, json!({"trustedInterfaces": ["uplink"]})), "a", &[]);
    let b = town.attach(&town.network(2, json!({"mode": "routed"})), "b", &["8080:80"]);
    let c = town.attach(&town.network(3, json!({})), "c", &[]);
    open(&town.outside, &a);
    open(&town.outside, &first);
    assert_eq!(answers(&town.outside, &b.at()), ["tcp4", "tcp6"]);
    closed(&town.outside, &c);
    closed(&c, &a);
    for from in [&a, &b, &c] {
        goes_out(from, true);
    }
}

/// An administrator's word comes before every wall, and nothing of ours takes it away.
fn the_administrators_chain_comes_first(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let keys = json!({"isolation": "strict", "iptablesAdminChainName": "SITE"});
    let strict = town.network(1, keys);
    let a = town.attach(&strict, "a", &["8080:80"]);
    let inner = town.network(2, json!({"internal": true, "iptablesAdminChainName": "SITE"}));
    let b = town.attach(&inner, "b", &[]);
    let (to_a, to_b) = (address(&a.result, 4), address(&b.result, 4));
    closed(&town.outside, &a);
    let admin = |rule: &str| {
        let nft = format!("nft add rule inet linkspan SITE {rule}");
        let words: Vec<&str> = nft.split(' ').collect();
        town.lab.host.must(&words);
    };
    if backend == "nftables" {
        admin(&format!("iifname uplink ip daddr {{ {to_a}, {to_b} }} accept"));
        admin("iifname uplink meta l4proto tcp ct original proto-dst 8080 drop");
    } else {
        for rule in [
            format!("-i uplink -d {to_a},{to_b} -p udp -j ACCEPT"),
            format!("-i uplink -d {to_b} -j ACCEPT"),
            "-i uplink -p tcp -m conntrack --ctorigdstport 8080 -j DROP".to_owned(),
            format!("-i uplink -d {to_a} -j ACCEPT"),
        ] {
            let line = format!("iptables -A SITE {rule}");
            let words: Vec<&str> = line.split(' ').collect();
            town.lab.host.must(&words);
        }
        town.lab.host.must(&["ip6tables", "-A", "SITE", "-i", "uplink", "-p", "tcp", "-j", "DROP"]);
    }
    let holds = || {
        assert_eq!(answers(&town.outside, &a.at()), ["tcp4", "udp4"], "accepted before a strict wall");
        b.ip("-4 route replace default via 10.88.2.1");
        assert_eq!(answers(&town.outside, &b.at()), ["tcp4", "udp4"], "accepted before a seal");
        if backend != "nftables" {
            published(&town.outside, 8080, false);
        }
    };
    holds();
    // ADD, DEL and GC, another network's and one that writes the network's rules anew.
    let c = town.attach(&strict.with(json!({"trustedInterfaces": ["eth9"]})), "c", &["8082:80"]);
    c.plugin.prev(&c.result).del().ok();
    let d = town.attach(&town.network(3, json!({"iptablesAdminChainName": "OTHER"})), "d", &[]);
    holds();
    d.plugin.prev(&d.result).del().ok();
    strict.without("CNI_NETNS").gc(&[(&a.container.id, "eth0"), (&b.container.id, "eth0")]).ok();
    holds();
}

/// The next ADD of a network writes what its configuration says now, for the containers that run.
fn a_changed_configuration_moves_the_walls(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let a = town.attach(&town.network(1, json!({"isolation": "none"})), "a", &["8080:80"]);
    let c = town.attach(&town.network(2, json!({})), "c", &[]);
    open(&c, &a);
    for (n, keys, direct, by_host) in [
        (0, json!({"isolation": "strict"}), false, false),
        (1, json!({"isolation": "default"}), false, true),
        (2, json!({"ingressPolicy": "same-bridge"}), true, true),
        (3, json!({"trustedInterfaces": ["lks-net2"]}), true, true),
        (4, json!({"internal": true}), false, false),
        (5, json!({"isolation": "none"}), true, true),
    ] {
        let what = keys.to_string();
        let b = town.attach(&town.network(1, keys), &format!("b{n}"), &[]);
        b.plugin.prev(&b.result).check().ok();
        assert_eq!(tcp_answers(&c, &format!("{}:80", a.at()[0])), direct, "{what}");
        assert_eq!(tcp_answers(&c, &format!("{}:80", a.at()[1])), direct, "{what}");
        published(&c, 8080, by_host);
        b.plugin.prev(&b.result).del().ok();
    }
}

/// A network's wall outlives its containers; nothing of an attachment does.
fn nothing_of_an_attachment_is_left(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    for (n, keys) in [
        (1, json!({"isolation": "strict", "icc": false, "macspoofchk": true, "ipspoofchk": true})),
        (2, json!({"internal": true, "ipspoofchk": true})),
        (3, json!({"trustedInterfaces": ["eth1"], "outboundAddress4": "192.0.2.1"})),
        (4, json!({"mode": "routed"})),
    ] {
        let ports: &[&str] = if n == 2 { &[] } else { &["8080:80", "8081:53/udp"] };
        let network = town.network(n, keys);
        let first = town.attach(&network, &format!("first{n}"), ports);
        first.plugin.prev(&first.result).del().ok();
        let clean = Snapshot::take(&town.lab);
        let second = town.attach(&network, &format!("second{n}"), ports);
        second.plugin.prev(&second.result).check().ok();
        second.plugin.del().ok();
        Snapshot::take(&town.lab).assert_same(&clean, &format!("DEL of network {n}"));
        let third = town.attach(&network, &format!("third{n}"), ports);
        third.container.unbind();
        network.gc(&[]).ok();
        Snapshot::take(&town.lab).assert_same(&clean, &format!("GC of network {n}"));
    }
}

/// Networks may share a bridge, whatever each says: the strictest word holds.
fn networks_that_share_a_bridge_share_its_wall(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let one = town.network(1, json!({"bridge": "shared", "isolation": "default"}));
    let two = town.network(1, json!({"name": "two", "bridge": "shared", "isolation": "strict"}));
    let a = town.attach(&one, "a", &["8080:80"]);
    let ipam = json!({"ranges": [[{"subnet": "10.88.1.0/24", "rangeStart": "10.88.1.100"}],
        [{"subnet": "fd00:88:1::/64", "rangeStart": "fd00:88:1::100"}]]});
    let b = town.attach(&two.with(json!({"ipam": ipam})), "b", &[]);
    let c = town.attach(&town.network(3, json!({})), "c", &[]);
    assert_eq!(bridge(&a.result), bridge(&b.result));
    open(&a, &b);
    closed(&c, &a);
    closed(&town.outside, &b);
    published(&c, 8080, false);
    published(&town.outside, 8080, true);
    a.plugin.prev(&a.result).check().ok();
    b.plugin.prev(&b.result).check().ok();
}

/// CHECK looks at walls, and what it misses the next ADD that writes them brings back.
fn a_missing_wall_is_seen(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let a = town.attach(&town.network(1, json!({})), "a", &[]);
    a.plugin.prev(&a.result).check().ok();
    let what = if backend == "nftables" {
        town.lab.host.must(&["nft", "flush", "chain", "inet", "linkspan", "wall-lks-net1"]);
        "wall-lks-net1"
    } else {
        town.lab.host.must(&["iptables", "-F", "LKS-in-net1"]);
        "LKS-in-net1"
    };
    let said = a.plugin.prev(&a.result).check().refused(120);
    assert!(said.contains(what), "{said}");
    if backend != "nftables" {
        return;
    }
    // The elements are looked at too.
    town.lab.host.must(&["nft", "flush", "map", "inet", "linkspan", "walls"]);
    let said = a.plugin.prev(&a.result).check().refused(120);
    assert!(said.contains("way into lks-net1"), "{said}");
}

/// A host whose rules an earlier release wrote gets this one's with the first ADD; administrators' stay.
#[test]
fn rules_of_an_earlier_release_are_replaced() {
    let Some(town) = town("nftables") else { return };
    let network = town.network(1, json!({}));
    let a = town.attach(&network, "a", &["8080:80"]);
    let c = town.attach(&town.network(2, json!({})), "c", &[]);
    // What that release left: its forward chain, none of our newer sets, a record without their keys.
    let words = "delete chain inet linkspan layout-2\nflush chain inet linkspan forward\n\
        add rule inet linkspan forward jump admin\nadd rule inet linkspan CNI-ADMIN tcp dport 22 drop\n\
        flush map inet linkspan walls\ndelete map inet linkspan walls\n\
        delete set inet linkspan strict\ndelete set inet linkspan internal\n\
        flush chain inet linkspan wall-lks-net1\ndelete chain inet linkspan wall-lks-net1\n";
    town.lab.host.feed(&["nft", "-f", "-"], words);
    let record = "/run/linkspan/networks/net1.json";
    let mut network_record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let keys = ["isolation", "trusted", "internal", "apart", "routed", "outbound4", "outbound6"];
    for key in keys {
        network_record["rules"].as_object_mut().unwrap().remove(key).expect(key);
    }
    std::fs::write(record, network_record.to_string()).unwrap();
    open(&c, &a);
    let b = town.attach(&network, "b", &[]);
    closed(&c, &a);
    published(&c, 8080, true);
    a.plugin.prev(&a.result).check().ok();
    b.plugin.prev(&b.result).check().ok();
    assert!(inspect::ruleset(&town.lab.host).contains("tcp dport 22 drop"));
}

macro_rules! on_each_backend {
    ($($case:ident),+ $(,)?) => {
        mod nftables { $(#[test] fn $case() { super::$case(super::BACKENDS[0]); })+ }
        mod iptables_nft { $(#[test] fn $case() { super::$case(super::BACKENDS[1]); })+ }
        mod iptables_legacy { $(#[test] fn $case() { super::$case(super::BACKENDS[2]); })+ }
    };
}

on_each_backend! {
    a_network_has_a_wall_by_default,
    a_network_without_a_wall_is_open,
    a_strict_network_is_strict_both_ways,
    nothing_enters_or_leaves_an_internal_network,
    containers_are_kept_apart,
    trusted_interfaces_are_let_in,
    a_network_leaves_with_an_address_of_its_own,
    a_routed_network_is_filtered_all_the_same,
    a_forward_chain_that_drops_lets_in_what_the_network_does,
    the_administrators_chain_comes_first,
    a_changed_configuration_moves_the_walls,
    nothing_of_an_attachment_is_left,
    networks_that_share_a_bridge_share_its_wall,
    a_missing_wall_is_seen,
}
