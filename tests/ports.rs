//! Published ports, with real packets, the same for each firewall.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::backends::{choose, on_each_backend};
use lab::hold::Holder;
use lab::outcome::{address, gateway};
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{
    BRIEF, PATIENCE, UdpClient, http_get, http_server, tcp, tcp_answers, tcp_server, udp, udp_answers,
    udp_server,
};
use lab::{Container, Lab, Outside, Plugin, inspect, talk};
use serde_json::{Value, json};

/// A host with an outside, a network `web` on a backend, and a container in it that publishes nothing.
struct Town {
    sibling: Container,
    sibling_result: Value,
    outside: Outside,
    network: Plugin,
    lab: Lab,
}

impl Town {
    fn new(backend: &str) -> Option<Self> {
        let mut lab = Lab::new()?;
        let outside = lab.outside();
        let kind = choose(&mut lab, backend)?;
        let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
        let sibling = lab.container("sibling");
        let sibling_result = network.on(&sibling).add().ok();
        Some(Self { sibling, sibling_result, outside, network, lab })
    }

    /// A container that publishes ports and serves on port 80 of both protocols and families under its name.
    fn attach(&self, name: &str, ports: &[&str]) -> Served {
        let container = self.lab.container(name);
        let plugin = self.network.on(&container).publish(ports);
        let result = plugin.add().ok();
        let servers = vec![
            tcp_server(&container, "[::]:80", name),
            udp_server(&container, "0.0.0.0:80", name),
            udp_server(&container, &format!("[{}]:80", address(&result, 6)), name),
        ];
        Served { container, plugin, result, servers }
    }
}

struct Served {
    container: Container,
    plugin: Plugin,
    result: Value,
    servers: Vec<talk::Server>,
}

fn peer(seen: &talk::Seen) -> String {
    let ip = seen.peer.ip();
    if let std::net::IpAddr::V6(v6) = ip {
        return v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string());
    }
    ip.to_string()
}

fn tcp_is_reached_from_everywhere(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["8080:80"]);
    let host = &town.lab.host;
    let from_outside = tcp(&town.outside, "192.0.2.1:8080");
    assert_eq!(from_outside.tag, "a");
    assert_eq!(peer(&from_outside), Outside::V4, "the client keeps its address");
    assert_eq!(peer(&tcp(&town.outside, "[2001:db8::1]:8080")), Outside::V6);
    for own in ["192.0.2.1:8080", "127.0.0.1:8080", "[2001:db8::1]:8080"] {
        assert_eq!(tcp(host, own).tag, "a", "the host by {own}");
    }
    let gateways = [gateway(&a.result, 4), format!("[{}]", gateway(&a.result, 6))];
    for inside in [&*town.sibling, &*a.container] {
        for at in ["192.0.2.1", "[2001:db8::1]", &gateways[0], &gateways[1]] {
            assert_eq!(tcp(inside, &format!("{at}:8080")).tag, "a", "{} by {at}", inside.name());
        }
    }
    a.plugin.prev(&a.result).del().ok();
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "after DEL nobody answers");
}

fn udp_is_reached_from_everywhere(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["8080:80/udp"]);
    let host = &town.lab.host;
    assert_eq!(peer(&udp(&town.outside, "192.0.2.1:8080")), Outside::V4);
    assert_eq!(peer(&udp(&town.outside, "[2001:db8::1]:8080")), Outside::V6);
    for own in ["192.0.2.1:8080", "127.0.0.1:8080", "[2001:db8::1]:8080"] {
        assert_eq!(udp(host, own).tag, "a", "the host by {own}");
    }
    for inside in [&*town.sibling, &*a.container] {
        for at in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            assert_eq!(udp(inside, at).tag, "a", "{} by {at}", inside.name());
        }
    }
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "the other protocol is not published");
}

fn http_is_served_through_a_published_port(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["8080:8000", "8443:8000"]);
    let _server = http_server(&a.container, "[::]:8000", "hello from a");
    for (from, to) in [
        (&*town.outside, "192.0.2.1:8080"),
        (&*town.outside, "[2001:db8::1]:8443"),
        (&town.lab.host, "127.0.0.1:8443"),
        (&*town.sibling, "192.0.2.1:8080"),
    ] {
        assert_eq!(http_get(from, to).unwrap(), "hello from a", "{} {to}", from.name());
    }
}

fn a_host_address_limits_where_a_port_is_published(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    town.lab.ip("address add 192.0.2.10/24 dev uplink");
    let a = town.attach("a", &["192.0.2.10:8080:80", "[2001:db8::1]:8081:80", "0.0.0.0:8082:80"]);
    assert_eq!(tcp(&town.outside, "192.0.2.10:8080").tag, "a");
    assert_eq!(tcp(&town.lab.host, "192.0.2.10:8080").tag, "a");
    assert_eq!(tcp(&town.sibling, "192.0.2.10:8080").tag, "a");
    assert_eq!(tcp(&a.container, "192.0.2.10:8080").tag, "a");
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"), "another address of the host");
    assert!(!tcp_answers(&town.lab.host, "127.0.0.1:8080"));
    assert_eq!(tcp(&town.outside, "[2001:db8::1]:8081").tag, "a");
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8081"), "an IPv6 address publishes no IPv4 port");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8082").tag, "a");
    assert!(!tcp_answers(&town.outside, "[2001:db8::1]:8082"), "0.0.0.0 publishes no IPv6 port");
    // The same port on two addresses belongs to two containers.
    let b = town.attach("b", &["192.0.2.1:8080:80"]);
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "b");
    assert_eq!(tcp(&town.outside, "192.0.2.10:8080").tag, "a");
    b.plugin.prev(&b.result).del().ok();
    assert_eq!(tcp(&town.outside, "192.0.2.10:8080").tag, "a", "the neighbour's DEL took nothing of a's");
}

fn a_port_on_loopback_is_the_hosts_alone(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["127.0.0.1:8080:80", "127.0.0.1:8080:80/udp"]);
    assert_eq!(tcp(&town.lab.host, "127.0.0.1:8080").tag, "a");
    assert_eq!(udp(&town.lab.host, "127.0.0.1:8080").tag, "a");
    assert!(!tcp_answers(&town.lab.host, "192.0.2.1:8080"));
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    // A neighbour that sends packets for 127.0.0.1 over the wire, answers to them from there included.
    for (space, device, via) in
        [(&*town.outside, "eth0", Outside::HOST4.to_owned()), (&*town.sibling, "eth0", gateway(&a.result, 4))]
    {
        space.ip("route flush table local 127.0.0.0/8");
        space.ip("address flush dev lo");
        space.set_sysctl("net.ipv4.conf.all.route_localnet", "1");
        space.set_sysctl(&format!("net.ipv4.conf.{device}.route_localnet"), "1");
        space.ip(&format!("route add 127.0.0.0/8 via {via} dev {device}"));
        let route = space.ip("route get 127.0.0.1");
        assert!(route.contains(&via), "{}: {route}", space.name());
        assert!(!tcp_answers(space, "127.0.0.1:8080"), "{} reached 127.0.0.1", space.name());
        assert!(!udp_answers(space, "127.0.0.1:8080"), "{} reached 127.0.0.1 by UDP", space.name());
    }
}

fn transit_traffic_is_not_translated(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["8080:80"]);
    let _far = tcp_server(&town.outside, "[::]:8080", "outside");
    let _near = tcp_server(&town.sibling, "[::]:8080", "sibling");
    for inside in [&*a.container, &*town.sibling, &town.lab.host] {
        assert_eq!(tcp(inside, "192.0.2.2:8080").tag, "outside", "from {}", inside.name());
        assert_eq!(tcp(inside, "[2001:db8::2]:8080").tag, "outside", "from {}", inside.name());
    }
    // Neighbours that route to the containers are kept out unless the network trusts them.
    let trusting = town.network.with(json!({"trustedInterfaces": ["uplink"]}));
    trusting.on(&town.lab.container("b")).add().ok();
    let sibling = address(&town.sibling_result, 4);
    assert_eq!(tcp(&a.container, &format!("{sibling}:8080")).tag, "sibling");
    assert_eq!(tcp(&town.outside, &format!("{sibling}:8080")).tag, "sibling", "routed, not published");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a", "and the published port works");
}

fn stale_udp_flows_are_forgotten(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let client = UdpClient::new(&town.outside, "0.0.0.0:4000");
    assert!(client.ask("192.0.2.1:8080", BRIEF).is_err(), "nobody is there yet");
    assert_eq!(inspect::tracked(&town.lab.host, "udp", 8080).len(), 1, "the flow is tracked, untranslated");
    let a = town.attach("a", &["8080:80/udp"]);
    assert_eq!(client.ask("192.0.2.1:8080", PATIENCE).unwrap().tag, "a", "ADD flushed the flow");
    a.plugin.prev(&a.result).del().ok();
    assert_eq!(inspect::tracked(&town.lab.host, "udp", 8080), Vec::<String>::new(), "DEL flushed the flow");
    drop(a.servers);
    let b = town.attach("b", &["8080:80/udp"]);
    assert_eq!(client.ask("192.0.2.1:8080", PATIENCE).unwrap().tag, "b");
    // Others' flows stay: those to another port, and those to the same port of another host.
    let own = UdpClient::new(&town.lab.host, "0.0.0.0:4001");
    assert!(own.ask("192.0.2.2:8080", BRIEF).is_err());
    assert_eq!(inspect::tracked(&town.lab.host, "udp", 8080).len(), 2);
    b.plugin.prev(&b.result).del().ok();
    let left = inspect::tracked(&town.lab.host, "udp", 8080);
    assert!(left.len() == 1 && left[0].contains("dst=192.0.2.2"), "{left:?}");
}

fn sctp_is_published_too(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let first = town.attach("first", &["8080:80"]);
    first.plugin.prev(&first.result).del().ok();
    let clean = Snapshot::take(&town.lab);
    let a = town.attach("a", &["9899:2905/sctp"]);
    let text = inspect::firewall_text(&town.lab.host);
    let line = text.lines().find(|line| line.contains("9899"));
    let line = line.unwrap_or_else(|| panic!("port 9899 is not in the ruleset:\n{text}"));
    assert!(line.contains("sctp"), "{line}");
    a.plugin.prev(&a.result).del().ok();
    Snapshot::take(&town.lab).assert_same(&clean, "SCTP unpublished");
}

fn a_port_that_an_attachment_owns_is_refused(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let a = town.attach("a", &["8080:80", "9090:80/udp"]);
    let b = town.lab.container("b");
    let before = Snapshot::take(&town.lab);
    let second = town.network.on(&b);
    for ports in [&["8080:80"][..], &["192.0.2.1:8080:81"], &["7000:1", "9090:80/udp"], &["[::]:8080:80"]] {
        let said = second.publish(ports).add().refused(102);
        assert!(said.contains(&a.container.id), "{ports:?}: the owner is not named: {said}");
        Snapshot::take(&town.lab).assert_same(&before, &format!("{ports:?} refused"));
    }
    // In another network, too: the host's ports are one.
    let other = second.with(json!({"name": "other", "ipam": dual_stack(2)})).publish(&["8080:80"]).add();
    assert!(other.refused(102).contains(&a.container.id));
    second.publish(&["8080:80/udp", "9090:80"]).add().ok();
    a.plugin.prev(&a.result).del().ok();
    let _c = town.attach("c", &["9090:80/udp"]);
    assert_eq!(udp(&town.outside, "192.0.2.1:9090").tag, "c");
}

fn a_port_that_a_process_listens_on_is_refused(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let host = &town.lab.host;
    let holders = [
        Holder::tcp(host, "0.0.0.0:8080", "stubborn", &["serve"]),
        Holder::tcp(host, "127.0.0.1:8081", "stubborn", &[]),
        Holder::tcp(host, "[::]:8082", "stubborn", &[]),
        Holder::udp(host, "0.0.0.0:8083", "stubborn", &[]),
    ];
    let b = town.lab.container("b");
    let before = Snapshot::take(&town.lab);
    let plugin = town.network.on(&b);
    for ports in ["8080:80", "192.0.2.1:8080:80", "8081:80", "127.0.0.1:8081:80", "8082:80", "8083:80/udp"] {
        let said = plugin.publish(&[ports]).add().refused(102);
        assert!(
            said.contains("stubborn") || holders.iter().any(|h| said.contains(&h.pid().to_string())),
            "{ports}: {said}"
        );
        Snapshot::take(&town.lab).assert_same(&before, &format!("{ports} refused"));
    }
    let free = plugin.publish(&["192.0.2.1:8081:80", "8080:80/udp", "8083:80"]);
    let result = free.add().ok();
    free.prev(&result).del().ok();
    drop(holders);
    plugin.publish(&["8080:80", "8083:80/udp"]).add().ok();
}

fn a_port_that_the_runtime_holds_for_the_container_is_accepted(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let host = &town.lab.host;
    // podman: conmon, told of the container on its command line, binds the port for as long as the container lives.
    let id = "container-a";
    let _conmon = Holder::tcp(host, "0.0.0.0:8080", "conmon", &["--api-version", "1", "-c", id, "-u", id]);
    // podman itself, an ancestor of the plugin, binds it while it starts the container; here the test is that.
    let _ancestor = host.in_ns(|| std::net::TcpListener::bind("0.0.0.0:8081").unwrap());
    let a = town.attach("a", &["8080:80", "8081:80"]);
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a", "packets reach the container, not the holder");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8081").tag, "a");
    // Somebody else's conmon is somebody else.
    let b = town.lab.container("b");
    let _other = Holder::tcp(host, "0.0.0.0:8090", "conmon", &["--api-version", "1", "-c", "container-z"]);
    town.network.on(&b).publish(&["8090:80"]).add().refused(102);
    a.plugin.prev(&a.result).del().ok();
    let again = a.plugin.add().ok();
    assert!(!again.is_null(), "a restart of the same container under the same conmon");
}

fn mappings_that_say_the_same_twice_are_one(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let clean = Snapshot::take(&town.lab);
    let a = town.attach("a", &["8080:80", "8080:80", "[::]:8080:80", "0.0.0.0:8080:80"]);
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a");
    assert_eq!(tcp(&town.outside, "[2001:db8::1]:8080").tag, "a");
    a.plugin.prev(&a.result).check().ok();
    a.plugin.prev(&a.result).del().ok();
    Snapshot::take(&town.lab).assert_same(&clean, "unpublished");
}

fn many_ports_are_published_at_once(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let ports: Vec<String> = (0..200).map(|n| format!("{}:80", 20_000 + n)).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let a = town.attach("a", &ports);
    for at in ["192.0.2.1:20000", "192.0.2.1:20137", "[2001:db8::1]:20199"] {
        assert_eq!(tcp(&town.outside, at).tag, "a", "{at}");
    }
    a.plugin.prev(&a.result).check().ok();
    a.plugin.prev(&a.result).del().ok();
    assert!(!tcp_answers(&town.outside, "192.0.2.1:20137"));
}

on_each_backend! {
    tcp_is_reached_from_everywhere,
    udp_is_reached_from_everywhere,
    http_is_served_through_a_published_port,
    a_host_address_limits_where_a_port_is_published,
    a_port_on_loopback_is_the_hosts_alone,
    transit_traffic_is_not_translated,
    stale_udp_flows_are_forgotten,
    sctp_is_published_too,
    a_port_that_an_attachment_owns_is_refused,
    a_port_that_a_process_listens_on_is_refused,
    a_port_that_the_runtime_holds_for_the_container_is_accepted,
    mappings_that_say_the_same_twice_are_one,
    many_ports_are_published_at_once,
}
