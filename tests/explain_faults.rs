//! `explain` where something is wrong: each fault is made for real, a real packet does not arrive, the fault is named, and
//! the command that is said to mend it, pasted, does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::explain::{arrives, dies, paste};
use lab::outcome::{address, bridge, gateway, host_end};
use lab::talk::{tcp, tcp_answers};
use lab::town::{House, Town, town};
use lab::{Outside, Space};
use serde_json::{Value, json};

/// A host with network `net1` of these keys, shop (published at 8080) and store in it, and `net2` with back.
struct Host {
    shop: House,
    store: House,
    back: House,
    town: Town,
}

fn host(keys: Value) -> Option<Host> {
    host_on("nftables", keys)
}

fn host_on(backend: &'static str, keys: Value) -> Option<Host> {
    let town = town(backend)?;
    let (one, two) = (town.network(1, keys), town.network(2, json!({"isolation": "none"})));
    let shop = town.attach(&one, "shop", &["8080:80", "127.0.0.1:8081:80"]);
    let (store, back) = (town.attach(&one, "store", &[]), town.attach(&two, "back", &[]));
    town.bridged_packets_are_seen("0");
    Some(Host { shop, store, back, town })
}

fn open() -> Value {
    json!({"isolation": "none"})
}

impl Host {
    fn kernel(&self) -> &Space {
        &self.town.lab.host
    }
}

fn id(house: &House) -> &str {
    &house.container.id
}

/// A way: who sends, in the lab and in words, and where to.
struct Trip<'a> {
    from: &'a Space,
    words: String,
    at: String,
}

fn trip<'a>(from: &'a Space, words: impl Into<String>, at: impl Into<String>) -> Trip<'a> {
    Trip { from, words: words.into(), at: at.into() }
}

impl Trip<'_> {
    /// It is told as arriving, and does.
    #[track_caller]
    fn works(&self) {
        arrives(&self.words);
        tcp(self.from, &self.at);
    }

    /// It is told as ending by this fault, and does; the command that would mend it.
    #[track_caller]
    fn ends(&self, fault: &str) -> String {
        let mend = dies(&self.words, fault);
        assert!(!tcp_answers(self.from, &self.at), "{} to {} ends by {fault}", self.words, self.at);
        mend
    }

    /// It works, ends once the damage is done, and works again once the command is pasted.
    #[track_caller]
    fn breaks_and_mends(&self, host: &Host, damage: &str, fault: &str) {
        self.works();
        host.kernel().must(&["sh", "-c", damage]);
        paste(host.kernel(), &self.ends(fault));
        self.works();
    }
}

#[test]
fn forwarding_is_off() {
    let Some(host) = host(open()) else { return };
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    way.breaks_and_mends(&host, "sysctl -qw net.ipv4.ip_forward=0", "forwarding-off");
    let way = trip(
        &host.shop,
        format!("{} {}:80 -6", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[1]),
    );
    way.breaks_and_mends(&host, "sysctl -qw net.ipv6.conf.all.forwarding=0", "forwarding-off");
}

#[test]
fn somebody_elses_chain_drops() {
    let Some(host) = host(open()) else { return };
    let out =
        || trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out().breaks_and_mends(
        &host,
        "nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'",
        "foreign-drop",
    );
    out().breaks_and_mends(
        &host,
        "nft 'table ip rules { chain sub { tcp dport { 22, 80-90 } reject; }; chain f { type filter hook forward priority -5; ip daddr 192.0.2.0/24 jump sub; }; }'",
        "foreign-drop",
    );
    out().breaks_and_mends(&host, "iptables-nft -P FORWARD DROP", "foreign-drop");
    out().breaks_and_mends(
        &host,
        "iptables-nft -F FORWARD && iptables-nft -P FORWARD ACCEPT && iptables-nft -A FORWARD -p tcp -m multiport --dports 80,443 -m addrtype ! --dst-type LOCAL -j DROP",
        "foreign-drop",
    );
    let told = lab::explain::explained(&out().words);
    assert!(told["hops"].as_array().unwrap().iter().any(|hop| hop["rules"].to_string().contains("FORWARD")));
    // What is not forwarded is dropped elsewhere.
    let own = lab::talk::tcp_server(host.kernel(), "[::]:9000", "host");
    let into = trip(&host.town.outside, "outside host:9000", "192.0.2.1:9000");
    into.breaks_and_mends(
        &host,
        "nft 'table inet door { set shut { type inet_service; flags interval; elements = { 9000-9010 }; }; chain in { type filter hook input priority 0; tcp dport @shut counter drop; }; }'",
        "foreign-drop",
    );
    drop(own);
}

#[test]
fn the_answer_is_dropped_on_its_way_back() {
    let Some(host) = host(open()) else { return };
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.works();
    host.kernel().must(&[
        "nft",
        "table inet wall { chain gate { type filter hook forward priority 10; ct direction reply iifname uplink drop; }; }",
    ]);
    out.ends("foreign-drop");
    let told = lab::explain::explained(&out.words);
    assert_eq!(told["hops"].as_array().unwrap().last().unwrap()["leg"], "back");
}

#[test]
fn the_ruleset_is_flushed() {
    for backend in ["nftables", "iptables-nft"] {
        let Some(host) = host_on(backend, open()) else { return };
        let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
        into.breaks_and_mends(&host, "nft flush ruleset", "rules-missing");
        // Outside does not know the way to the container's own address, as is usual.
        host.town.outside.ip("route del default");
        let out =
            trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
        out.breaks_and_mends(&host, "nft flush ruleset", "rules-missing");
    }
}

#[test]
fn the_containers_default_route() {
    let Some(host) = host(open()) else { return };
    let (shop, gone) = (&host.shop, gateway(&host.shop.result, 4));
    for (words, at) in [
        (format!("{} {}:80", id(shop), id(&host.back)), format!("{}:80", host.back.at()[0])),
        (format!("{} {}:80", id(shop), Outside::V4), format!("{}:80", Outside::V4)),
    ] {
        let way = trip(shop, words, at);
        way.works();
        shop.ip("route del default");
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
        shop.ip(&format!("route replace default via {}", address(&host.store.result, 4)));
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
        shop.ip("route replace default via 10.88.1.77");
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
    }
    // Who is asked must know the way back.
    let way = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    way.works();
    shop.ip("route del default");
    let mend = way.ends("default-route");
    paste(host.kernel(), &mend);
    way.works();
    let six =
        trip(shop, format!("{} {}:80 -6", id(shop), id(&host.back)), format!("{}:80", host.back.at()[1]));
    six.works();
    shop.ip("-6 route del default");
    paste(host.kernel(), &six.ends("default-route"));
    six.works();
    assert!(!gone.is_empty());
}

#[test]
fn the_gateways_address_is_gone() {
    let Some(host) = host(open()) else { return };
    let (gateway, bridge) = (gateway(&host.shop.result, 4), bridge(&host.shop.result));
    let damage = format!("ip address del {gateway}/24 dev {bridge}");
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    way.breaks_and_mends(&host, &damage, "gateway-missing");
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.breaks_and_mends(&host, &damage, "gateway-missing");
}

#[test]
fn links_are_down() {
    let Some(host) = host(open()) else { return };
    let (bridge, veth) = (bridge(&host.shop.result), host_end(&host.shop.result));
    let ways = [
        trip(
            &host.shop,
            format!("{} {}:80", id(&host.shop), id(&host.back)),
            format!("{}:80", host.back.at()[0]),
        ),
        trip(
            &host.shop,
            format!("{} {}:80", id(&host.shop), id(&host.store)),
            format!("{}:80", host.store.at()[0]),
        ),
        trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080"),
    ];
    for way in &ways {
        for link in [&bridge, &veth] {
            way.breaks_and_mends(&host, &format!("ip link set {link} down"), "link-down");
        }
        way.breaks_and_mends(&host, &format!("ip link set {veth} nomaster"), "detached");
    }
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.works();
    host.town.lab.ip("link set uplink down");
    out.ends("no-route");
}

#[test]
fn there_is_no_route() {
    let Some(host) = host(open()) else { return };
    let out = trip(&host.shop, format!("{} 198.51.100.7:80", id(&host.shop)), "198.51.100.7:80");
    host.town.outside.ip("address add 198.51.100.7/32 dev lo");
    out.works();
    host.town.lab.ip("route del default");
    let mend = out.ends("no-route");
    assert!(mend.contains("route add default via"), "{mend}");
    paste(host.kernel(), &mend.replace("GATEWAY", Outside::V4).replace("UPLINK", "uplink"));
    out.works();
    host.town.lab.ip("route add blackhole 198.51.100.0/24");
    out.ends("no-route");
    host.town.lab.ip("route del blackhole 198.51.100.0/24");
    host.town.lab.ip("route add prohibit 198.51.100.0/24");
    out.ends("no-route");
    trip(&host.shop, format!("{} 10.88.1.99:80", id(&host.shop)), "10.88.1.99:80").ends("no-route");
}

#[test]
fn hairpin_is_off() {
    let Some(host) = host(open()) else { return };
    if !host.town.bridged_packets_are_seen("1") {
        lab::skip!("this kernel has no br_netfilter, without which bridges need no hairpin");
    }
    for (at, six) in [("192.0.2.1:8080", ""), ("[2001:db8::1]:8080", " -6")] {
        let own = trip(&host.shop, format!("{} {at}{six}", id(&host.shop)), at);
        let damage = format!("bridge link set dev {} hairpin off", host_end(&host.shop.result));
        own.breaks_and_mends(&host, &damage, "hairpin-off");
        host.kernel().must(&["sh", "-c", &damage]);
        trip(&host.store, format!("{} {at}{six}", id(&host.store)), at).works();
        host.town.bridged_packets_are_seen("0");
        own.works();
        host.town.bridged_packets_are_seen("1");
        host.kernel().must(&["bridge", "link", "set", "dev", &host_end(&host.shop.result), "hairpin", "on"]);
    }
}

#[test]
fn nothing_masquerades_what_turns_back() {
    let Some(host) = host(json!({"isolation": "none", "snat": false})) else { return };
    trip(&host.shop, format!("{} 192.0.2.1:8080", id(&host.shop)), "192.0.2.1:8080").ends("hairpin-off");
    trip(&host.store, format!("{} 192.0.2.1:8080", id(&host.store)), "192.0.2.1:8080").ends("hairpin-off");
    trip(&host.back, format!("{} 192.0.2.1:8080", id(&host.back)), "192.0.2.1:8080").works();
    trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080").works();
}

#[test]
fn route_localnet_is_off() {
    let Some(host) = host(open()) else { return };
    let way = trip(host.kernel(), "host 127.0.0.1:8081", "127.0.0.1:8081");
    let damage = format!("sysctl -qw net.ipv4.conf.{}.route_localnet=0", bridge(&host.shop.result));
    way.breaks_and_mends(&host, &damage, "localnet-off");
}

#[test]
fn the_way_back_leads_elsewhere() {
    let Some(host) = host(open()) else { return };
    // A second way into the host, which nothing goes out by.
    host.town.lab.ip("link add side type veth peer name side0");
    let other = Space::create("other");
    host.kernel().must(&["sh", "-c", "touch /run/netns/other"]);
    other.in_ns(|| {
        let nothing = None::<&str>;
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/proc/thread-self/ns/net"), "/run/netns/other", nothing, flags, nothing)
            .unwrap();
    });
    host.town.lab.ip("link set side0 netns other");
    host.town.lab.ip("address add 203.0.113.1/24 dev side");
    host.town.lab.ip("link set side up");
    other.ip("address add 203.0.113.2/24 dev side0");
    other.ip("address add 198.51.100.9/32 dev lo");
    other.ip("link set side0 up");
    other.ip("route add default via 203.0.113.1 src 198.51.100.9");
    for key in ["all", "default", "side", "uplink"] {
        host.kernel()
            .set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), if key == "side" { "1" } else { "0" });
    }
    // The way back to it is the other one, which strict filtering takes for a forgery.
    let way = trip(&other, "198.51.100.9 192.0.2.1:8080 --in side", "192.0.2.1:8080");
    let mend = way.ends("reverse-path");
    assert!(mend.contains("rp_filter=2"), "{mend}");
    paste(host.kernel(), &mend);
    let told = lab::explain::explained(&way.words);
    assert_eq!(told["verdict"], "arrives", "{told:#}");
    // And from a container, where another network has its address.
    let bridge = bridge(&host.shop.result);
    host.kernel().set_sysctl(&format!("net.ipv4.conf.{bridge}.rp_filter"), "1");
    let held = address(&host.shop.result, 4);
    let out = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    out.works();
    host.town.lab.ip(&format!("route add {held}/32 dev uplink"));
    out.ends("reverse-path");
}

#[test]
fn a_route_of_the_host_covers_a_container() {
    let Some(host) = host(open()) else { return };
    for key in ["all".to_owned(), "default".to_owned(), bridge(&host.shop.result)] {
        host.kernel().set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0");
    }
    let damage = "ip route add 10.88.1.0/25 dev uplink";
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.breaks_and_mends(&host, damage, "overlapping-route");
    let from_host =
        trip(host.kernel(), format!("host {}:80", id(&host.shop)), format!("{}:80", host.shop.at()[0]));
    from_host.breaks_and_mends(&host, damage, "overlapping-route");
    // There it is right, and back it is not.
    let out = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    out.breaks_and_mends(&host, damage, "overlapping-route");
}

#[test]
fn walls_are_told_as_walls() {
    for backend in lab::backends::BACKENDS {
        let Some(host) = host_on(backend, json!({})) else { return };
        let words = format!("{} {}:80", id(&host.back), id(&host.shop));
        let way = trip(&host.back, words, format!("{}:80", host.shop.at()[0]));
        paste(host.kernel(), &way.ends("wall"));
        way.works();
    }
    let Some(walled) = host(json!({"isolation": "strict"})) else { return };
    strict_walls(&walled);
    drop(walled);
    seals();
}

fn strict_walls(host: &Host) {
    trip(
        &host.back,
        format!("{} {}:80 -6", id(&host.back), id(&host.shop)),
        format!("{}:80", host.shop.at()[1]),
    )
    .ends("wall");
    trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4)).works();
}

fn seals() {
    let Some(town) = town("nftables") else { return };
    let inner = town.network(1, json!({"internal": true}));
    let (one, two) = (town.attach(&inner, "one", &[]), town.attach(&inner, "two", &[]));
    let out = trip(&one, format!("{} {}:80", id(&one), Outside::V4), format!("{}:80", Outside::V4));
    out.ends("wall");
    // A container with CAP_NET_ADMIN gives itself the route, and a network beside it has the host forward.
    one.ip(&format!("route add default via {}", gateway(&one.result, 4)));
    let _back = town.attach(&town.network(2, open()), "back", &[]);
    out.ends("wall");
    trip(&one, format!("{} {}:80", id(&one), id(&two)), format!("{}:80", two.at()[0])).works();
}

#[test]
fn containers_that_are_kept_apart() {
    let Some(host) = host(json!({"isolation": "none", "icc": false})) else { return };
    for at in [0, 1] {
        let six = ["", " -6"][at];
        let way = trip(
            &host.shop,
            format!("{} {}:80{six}", id(&host.shop), id(&host.store)),
            format!("{}:80", host.store.at()[at]),
        );
        way.ends("wall");
    }
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.store)),
        format!("{}:80", host.store.at()[0]),
    );
    paste(host.kernel(), &way.ends("wall"));
    way.works();
}

#[test]
fn bridged_packets_are_filtered() {
    let Some(host) = host(open()) else { return };
    if !host.town.bridged_packets_are_seen("1") {
        lab::skip!("this kernel has no br_netfilter");
    }
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.store)),
        format!("{}:80", host.store.at()[0]),
    );
    way.works();
    let gate = "nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'";
    way.breaks_and_mends(&host, gate, "bridged-filtering");
    host.kernel().must(&["nft", "delete", "table", "inet", "wall"]);
    host.town.bridged_packets_are_seen("1");
    way.breaks_and_mends(&host, "iptables-nft -P FORWARD DROP", "bridged-filtering");
}

#[test]
fn what_is_not_published() {
    let Some(host) = host(open()) else { return };
    trip(&host.town.outside, format!("outside {}:443", id(&host.shop)), "192.0.2.1:443")
        .ends("not-published");
    trip(&host.town.outside, format!("outside {}:80", id(&host.store)), "192.0.2.1:80").ends("not-published");
    trip(&host.town.outside, "outside host:8081", "192.0.2.1:8081").ends("not-published");
    trip(&host.store, format!("{} host:7777", id(&host.store)), "10.88.1.1:7777").ends("not-published");
}

#[test]
fn legacy_iptables_drops() {
    let Some(host) = host(open()) else { return };
    if !host.kernel().exec(&["iptables-legacy", "-L"]).ok {
        lab::skip!("iptables-legacy is not here");
    }
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.breaks_and_mends(&host, "iptables-legacy -P FORWARD DROP", "foreign-drop");
    let sub = "iptables-legacy -F && iptables-legacy -P FORWARD ACCEPT && iptables-legacy -N sub \
               && iptables-legacy -A sub ! -s 10.9.0.0/16 -p tcp --dport 80:90 -j REJECT \
               && iptables-legacy -A FORWARD -i lks-+ -m conntrack --ctstate NEW -j sub";
    out.breaks_and_mends(&host, sub, "foreign-drop");
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.works();
    host.kernel().must(&[
        "iptables-legacy",
        "-t",
        "raw",
        "-A",
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        "8080",
        "-j",
        "DROP",
    ]);
    into.ends("foreign-drop");
    let told = lab::explain::explained(&into.words);
    let last =
        told["hops"].as_array().unwrap().last().unwrap()["rules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last["family"].as_str(), last["table"].as_str(), last["handle"].as_u64()),
        (Some("iptables-legacy"), Some("raw"), Some(1))
    );
}
