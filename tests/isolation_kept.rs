//! How walls are kept: the address that a network leaves with, routed networks, hosts that drop what they forward,
//! administrators, changes, and what is left of it all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::backends::{BACKENDS, on_each_backend};
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_reaches, tcp_server};
use lab::town::{answered, closed, goes_out, open, published, town, whom};
use lab::{icmp, inspect};
use serde_json::{Value, json};

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
    answered(&town.outside, &a.at(), &["tcp4", "tcp6"], "what is published on every address");
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
    answered(&town.outside, &b.at(), &["tcp4", "tcp6"], "what is routed");
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
        answered(&town.outside, &a.at(), &["tcp4", "udp4"], "accepted before a strict wall");
        b.ip("-4 route replace default via 10.88.2.1");
        answered(&town.outside, &b.at(), &["tcp4", "udp4"], "accepted before a seal");
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

/// The rows of the page whose second column is a rule, below a head that names the command.
fn examples(tool: &str) -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/isolation.md")).unwrap();
    let head = format!("`{tool} ");
    let below = page.lines().skip_while(|line| !(line.starts_with('|') && line.contains(&head)));
    let rows = below.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.rsplit('`').nth(1).unwrap().to_owned()).collect()
}

/// Every rule that the page gives for copying is one that the tools take.
fn the_examples_of_the_page_are_taken(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    town.attach(&town.network(1, json!({})), "a", &["8080:80"]);
    let (tool, add) = match backend {
        "nftables" => ("nft", "nft add rule inet linkspan CNI-ADMIN"),
        _ => ("iptables", "iptables -A CNI-ADMIN"),
    };
    let rules = examples(tool);
    assert!(rules.len() >= 6, "{rules:?}");
    for rule in rules {
        let rule = if tool == "nft" { format!("{add} '{rule}'") } else { format!("{add} {rule}") };
        let said = town.lab.host.exec(&["sh", "-c", &rule]);
        assert!(said.ok, "{rule}: {}", said.stderr);
    }
}

/// As with ufw: from one LAN only, not to one container, and no more than so often.
fn an_administrator_allows_denies_and_limits(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let network = town.network(1, json!({}));
    let ports = ["8080:80", "8081:80", "8082:53/udp"];
    let a = town.attach(&network, "a", &ports);
    let b = town.attach(&network, "b", &["8083:80"]);
    town.outside.ip("address add 192.0.2.200/24 dev eth0");
    let rules = if backend == "nftables" {
        [
            "nft add rule inet linkspan CNI-ADMIN iifname uplink meta l4proto tcp ct original proto-dst 8080 \
             ip saddr != 192.0.2.128/25 drop"
                .to_owned(),
            format!("nft add rule inet linkspan CNI-ADMIN ip daddr {} ct state new drop", b.at()[0]),
            "nft add rule inet linkspan CNI-ADMIN meta l4proto udp ct original proto-dst 8082 ct state new \
             limit rate over 3/minute burst 3 packets drop"
                .to_owned(),
        ]
    } else {
        [
            "iptables -A CNI-ADMIN -i uplink -p tcp -m conntrack --ctorigdstport 8080 ! -s 192.0.2.128/25 -j DROP"
                .to_owned(),
            format!("iptables -A CNI-ADMIN -d {} -m conntrack --ctstate NEW -j DROP", b.at()[0]),
            "iptables -A CNI-ADMIN -p udp -m conntrack --ctorigdstport 8082 --ctstate NEW -m hashlimit \
             --hashlimit-name dns --hashlimit-above 3/minute --hashlimit-burst 3 -j DROP"
                .to_owned(),
        ]
    };
    for rule in rules {
        town.lab.host.must(&["sh", "-c", &rule]);
    }
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "from one LAN only");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8081").tag, "a", "another port is open to all");
    town.outside.ip("route replace 192.0.2.1/32 dev eth0 src 192.0.2.200");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a", "from the LAN that is let in");
    assert_eq!(tcp(&town.lab.host, "127.0.0.1:8080").tag, "a", "the host is not forwarded");
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8083"), "one container is denied");
    assert!(!tcp_answers(&a, "192.0.2.1:8083"), "to its neighbours by the host too");
    // The first has the time that it takes; each 20 seconds let one more pass.
    let begun = std::time::Instant::now();
    let heard = (0..8).filter(|n| asks_once(&town.outside, "192.0.2.1:8082", *n == 0)).count();
    let most = 4 + usize::try_from(begun.elapsed().as_secs() / 20).unwrap();
    assert!((1..=most).contains(&heard), "{heard} of 8 new flows passed a limit of 3");
}

/// One datagram from a port of its own, answered or not.
fn asks_once(space: &lab::Space, to: &str, must: bool) -> bool {
    space.in_ns(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(lab::talk::limit(must))).unwrap();
        socket.send_to(b"who", to).is_ok() && socket.recv(&mut [0; 64]).is_ok()
    })
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
        for at in a.at() {
            assert_eq!(tcp_reaches(&c, &format!("{at}:80"), direct), direct, "{what}");
        }
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

/// CHECK looks at walls, and what it misses the next ADD that writes them brings back.
fn a_missing_wall_is_seen(backend: &'static str) {
    let Some(town) = town(backend) else { return };
    let a = town.attach(&town.network(1, json!({})), "a", &[]);
    a.plugin.prev(&a.result).check().ok();
    let guarded = town.attach(&town.network(2, json!({"ipspoofchk": true})), "b", &[]);
    guarded.plugin.prev(&guarded.result).check().ok();
    town.lab.host.must(&["nft", "flush", "chain", "bridge", "linkspan", "pinned-ip"]);
    let said = guarded.plugin.prev(&guarded.result).check().refused(120);
    assert!(said.contains("bridge linkspan pinned-ip"), "{said}");
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

/// A packet passes the same rules however many networks there are, and an attachment adds none.
#[test]
fn walls_are_looked_up_and_not_walked() {
    let Some(town) = town("nftables") else { return };
    let rules = || {
        let chains = ["localnet", "publish", "prerouting", "postrouting", "forward", "apart"];
        chains.map(|chain| town.lab.host.must(&["nft", "list", "chain", "inet", "linkspan", chain]))
    };
    let network = town.network(1, json!({}));
    town.attach(&network, "a1", &[]);
    let few = rules();
    let elements = || inspect::ruleset(&town.lab.host).matches("wall-lks-net").count();
    let before = elements();
    town.attach(&network, "b1", &[]);
    assert_eq!(elements(), before);
    for n in 2..7 {
        let keys = [json!({"isolation": "strict"}), json!({"internal": true}), json!({"icc": false})];
        town.attach(&town.network(n, keys[usize::from(n) % 3].clone()), &format!("a{n}"), &[]);
    }
    assert_eq!(rules(), few);
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

on_each_backend! {
    a_network_leaves_with_an_address_of_its_own,
    a_routed_network_is_filtered_all_the_same,
    a_forward_chain_that_drops_lets_in_what_the_network_does,
    the_administrators_chain_comes_first,
    the_examples_of_the_page_are_taken,
    an_administrator_allows_denies_and_limits,
    a_changed_configuration_moves_the_walls,
    nothing_of_an_attachment_is_left,
    a_missing_wall_is_seen,
}
