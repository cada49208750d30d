//! A container on two networks, to each of which the runtime hands the same published ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::agent::{Agent, status};
use lab::backends::{choose, on_each_backend};
use lab::chain::Bin;
use lab::cli::{document, linkspan};
use lab::explain::{arrives, dies};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::talk::{PATIENCE, Server, UdpClient, tcp, tcp_answers, tcp_server, udp, udp_server};
use lab::{Container, Lab, Outside, Plugin, eventually, hold, inspect};
use serde_json::{Value, json};

/// What is published in each of these tests, by each network.
const PORTS: [&str; 3] = ["8080:80", "8081:80/udp", "8090-8092:90-92"];

/// A host with an outside and two networks.
struct Town {
    networks: [Plugin; 2],
    outside: Outside,
    lab: Lab,
}

impl Town {
    fn new(backend: &str) -> Option<Self> {
        let mut lab = Lab::new()?;
        let outside = lab.outside();
        let kind = choose(&mut lab, backend)?;
        let networks = [1, 2]
            .map(|n| lab.plugin(json!({"name": format!("n{n}"), "backend": kind, "ipam": dual_stack(n)})));
        Some(Self { networks, outside, lab })
    }

    /// A container with a server, and its interface on each network, with the same ports; not attached yet.
    fn container(&self, name: &str) -> (Container, Vec<Server>, [Plugin; 2]) {
        let a = self.lab.container(name);
        let servers = vec![
            tcp_server(&a, "[::]:80", name),
            tcp_server(&a, "[::]:91", name),
            udp_server(&a, "0.0.0.0:80", name),
        ];
        let [one, two] = self.networks.each_ref().map(|network| network.on(&a).publish(&PORTS));
        (a, servers, [one, two.ifname("eth1")])
    }

    fn answers(&self, tag: &str) {
        for at in ["192.0.2.1:8080", "[2001:db8::1]:8080", "192.0.2.1:8091", "[2001:db8::1]:8091"] {
            assert_eq!(tcp(&self.outside, at).tag, tag, "{at}");
        }
        assert_eq!(tcp(&self.lab.host, "127.0.0.1:8080").tag, tag);
        assert_eq!(udp(&self.outside, "192.0.2.1:8081").tag, tag);
    }
}

/// The interfaces of the rows of `linkspan ports` that wait, and of those that do not.
fn rows(waiting: bool) -> Vec<String> {
    let all = document("ports --json", "ports");
    let rows = all["ports"].as_array().unwrap().iter();
    let mut names: Vec<String> = rows
        .filter(|row| row["waiting"].as_bool().unwrap_or_default() == waiting)
        .map(|row| row["interface"].as_str().unwrap().to_owned())
        .collect();
    names.dedup();
    names
}

fn the_first_network_publishes_and_the_second_waits(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let (a, _servers, [one, two]) = town.container("a");
    let first = one.add().ok();
    let outcome = two.add();
    let second = outcome.ok();
    assert!(outcome.stderr.contains("stays with") && outcome.stderr.contains("8080"), "{}", outcome.stderr);
    town.answers("a");
    assert_eq!((rows(false), rows(true)), (vec!["eth0".to_owned()], vec!["eth1".to_owned()]));
    assert!(linkspan(&format!("ports {}", a.id)).ok().contains("waits"));
    assert!(linkspan(&format!("inspect {}", a.id)).ok().contains("waits for"));
    one.prev(&first).check().ok();
    two.prev(&second).check().ok();
    // Another container is refused as ever.
    let b = town.lab.container("b");
    let said = town.networks[1].on(&b).publish(&PORTS[..1]).add().refused(102);
    assert!(said.contains(&a.id), "{said}");
    two.prev(&second).del().ok();
    town.answers("a");
    one.prev(&first).check().ok();
    Snapshot::take(&town.lab).assert_without(&[&format!("{}:eth1", a.id)]);
    one.prev(&first).del().ok();
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    town.networks[1].on(&b).publish(&PORTS).add().ok();
}

/// A dry run says what becomes of the ports: the other interface has them, unless that goes too.
#[test]
fn a_dry_run_names_who_takes_the_ports_up() {
    let Some(town) = Town::new("nftables") else { return };
    let (a, _servers, [one, two]) = town.container("a");
    one.add().ok();
    two.add().ok();
    let said = |of: &str| linkspan(&format!("del {}{of} --dry-run", a.id)).ok().to_owned();
    let (first, second, both) = (said(":eth0"), said(":eth1"), said(""));
    for port in ["tcp 0.0.0.0:8080", "tcp [::]:8080", "udp 0.0.0.0:8081", "tcp 0.0.0.0:8090-8092"] {
        let line = format!("  hand the host port {port} to {}:eth1, which waits for it\n", a.id);
        assert!(first.contains(&line), "{line} in {first}");
        assert!(both.contains(&format!("  free the host port {port}\n")), "{both}");
    }
    assert!(!first.contains("free the host port"), "{first}");
    assert!(!second.contains("host port") && !both.contains("hand the host port"), "{second}{both}");
}

/// As `podman network disconnect` has it: with the container's first network goes what published its ports.
fn the_second_network_takes_the_ports_up(backend: &str) {
    let Some(town) = Town::new(backend) else { return };
    let (a, _servers, [one, two]) = town.container("a");
    let first = one.add().ok();
    let second = two.add().ok();
    // A flow that lives on would be sent to the first address.
    let before = UdpClient::new(&town.outside, "0.0.0.0:4000");
    before.ask("192.0.2.1:8081", PATIENCE).unwrap();
    one.prev(&first).del().ok();
    assert_eq!((rows(false), rows(true)), (vec!["eth1".to_owned()], Vec::new()));
    before.ask("192.0.2.1:8081", PATIENCE).unwrap();
    town.answers("a");
    two.prev(&second).check().ok();
    assert_eq!(linkspan("reconcile --dry-run").ok().trim(), "nothing differs");
    let b = town.lab.container("b");
    town.networks[0].on(&b).publish(&PORTS[2..]).add().refused(102);
    // Back again: it is the first that waits now.
    let first = one.add().ok();
    assert_eq!((rows(false), rows(true)), (vec!["eth1".to_owned()], vec!["eth0".to_owned()]));
    town.answers("a");
    one.prev(&first).check().ok();
    two.prev(&second).del().ok();
    town.answers("a");
    one.prev(&first).del().ok();
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    Snapshot::take(&town.lab).assert_without(&[&a.id]);
    town.networks[1].on(&b).publish(&PORTS).add().ok();
}

on_each_backend!(the_first_network_publishes_and_the_second_waits, the_second_network_takes_the_ports_up);

/// Whoever let the ports go died before it handed them over.
#[test]
fn a_port_that_nobody_took_up_is_found_and_mended() {
    let Some(town) = Town::new("nftables") else { return };
    let (a, _servers, [one, two]) = town.container("a");
    let first = one.add().ok();
    let second = two.add().ok();
    let waiters = |there: bool| {
        for directory in ["ports/tcp-8080", "ports/udp-8081", "ranges"] {
            let mut names = std::fs::read_dir(format!("/run/linkspan/{directory}")).into_iter().flatten();
            let found = names.find_map(|name| {
                let name = name.unwrap();
                name.file_name().to_str().unwrap().starts_with("wait-").then(|| name.path())
            });
            assert_eq!(found.is_some(), there, "{directory}");
            if let Some(path) = found {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    waiters(true);
    one.prev(&first).del().ok();
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    let said = two.prev(&second).check();
    assert!(!said.succeeded() && said.words().contains("8080, which is free"), "{}", said.words());
    assert!(linkspan("reconcile").ok().contains("8080"));
    two.prev(&second).check().ok();
    town.answers("a");
    waiters(false);
    drop(a);
}

/// What one network cannot publish is the other's from the beginning.
#[test]
fn a_family_that_the_first_network_lacks_is_the_second_one_s() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let a = lab.container("a");
    let _server = tcp_server(&a, "[::]:80", "a");
    let network = |name: &str, ipam: Value| lab.plugin(json!({"name": name, "ipam": ipam})).on(&a);
    network("n1", v4(1)).publish(&["8080:80"]).add().ok();
    network("n2", dual_stack(2)).ifname("eth1").publish(&["8080:80"]).add().ok();
    for at in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        assert_eq!(tcp(&outside, at).tag, "a", "{at}");
    }
}

/// A network without IPv4 is given a port that is published on an IPv4 address.
#[test]
fn an_address_of_a_family_that_the_second_network_lacks_is_the_first_one_s() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let _server = tcp_server(&a, "[::]:80", "a");
    let six = json!({"type": "host-local", "ranges": [[{"subnet": "fd00:88:2::/64"}]]});
    let second = lab.plugin(json!({"name": "n2", "ipam": six})).on(&a).ifname("eth1");
    let second = second.publish(&["127.0.0.1:8080:80"]);
    // Nobody publishes it there.
    assert!(second.add().refused(7).contains("no IPv4 address"));
    let first = lab.plugin(json!({"name": "n1", "ipam": v4(1)})).on(&a);
    let first = first.publish(&["127.0.0.1:8080:80"]);
    first.add().ok();
    let outcome = second.add();
    let result = outcome.ok();
    assert!(outcome.stderr.contains("no address of its family"), "{}", outcome.stderr);
    second.prev(&result).check().ok();
    assert_eq!(tcp(&lab.host, "127.0.0.1:8080").tag, "a");
    // What the first one does not publish either.
    second.del().ok();
    second.publish(&["127.0.0.1:8081:80"]).add().refused(7);
}

/// A wildcard meets what each has on an address: one's own other interface, and somebody else.
#[test]
fn what_another_container_has_on_one_address_is_not_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    lab.ip("address add 192.0.2.77/24 dev uplink");
    let networks = [1, 2].map(|n| lab.plugin(json!({"name": format!("n{n}"), "ipam": v4(n)})));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let [own, other] = [(&a, "192.0.2.1:8080:80"), (&b, "192.0.2.77:8080:80")]
        .map(|(container, port)| networks[0].on(container).publish(&[port]));
    let second = networks[1].on(&a).ifname("eth1").publish(&["0.0.0.0:8080:80"]);
    for order in [[&own, &other], [&other, &own]] {
        order.iter().for_each(|plugin| drop(plugin.add().ok()));
        let outcome = second.add();
        assert!(outcome.refused(102).contains(&b.id), "{}", outcome.words());
        assert!(!outcome.stderr.contains("waits for it"), "{}", outcome.stderr);
        order.iter().for_each(|plugin| drop(plugin.del().ok()));
    }
}

/// In whichever order a runtime attaches them.
#[test]
fn an_internal_network_leaves_the_ports_to_the_other() {
    for internal in [0, 1] {
        let Some(town) = Town::new("nftables") else { return };
        let (a, _servers, mut sides) = town.container("a");
        sides[internal] = sides[internal].with(json!({"internal": true}));
        for (at, side) in sides.iter().enumerate() {
            let outcome = side.add();
            let result = outcome.ok();
            assert_eq!(outcome.stderr.contains("is internal"), at == internal, "{}", outcome.stderr);
            side.prev(&result).check().ok();
        }
        let other = if internal == 0 { "eth1" } else { "eth0" };
        assert_eq!((rows(false), rows(true)), (vec![other.to_owned()], Vec::new()));
        town.answers("a");
        drop(a);
    }
}

/// The plugin `portmap` by its own name.
#[test]
fn the_face_portmap_leaves_them_to_the_first() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let bin = Bin::ours(&lab);
    let a = lab.container("a");
    let _server = tcp_server(&a, "[::]:80", "a");
    for (n, interface) in [(1, "eth0"), (2, "eth1")] {
        let chain = bin.chain(json!({"name": format!("n{n}"), "plugins": [
            {"type": "bridge", "bridge": format!("cni{n}"), "isGateway": true, "ipMasq": true,
             "ipam": {"type": "host-local", "subnet": format!("10.89.{n}.0/24"), "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]}));
        let mut result = Value::Null;
        for plugin in chain.publish(&["8080:80"]).plugins(&a) {
            let plugin = plugin.ifname(interface);
            let plugin = if result.is_null() { plugin } else { plugin.prev(&result) };
            result = plugin.add().ok();
        }
    }
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a");
    assert_eq!((rows(false), rows(true)), (vec!["eth0".to_owned()], vec!["eth1".to_owned()]));
}

/// `podman network connect n2`, `podman network disconnect n1`: what leaves goes by the first network that is there.
#[test]
fn the_second_network_s_way_out_waits_for_the_first_one_s_end() {
    let Some(town) = Town::new("nftables") else { return };
    let (a, _servers, [one, two]) = town.container("a");
    let [first, second] = [&one, &two].map(|side| side.add().ok());
    let _outside = tcp_server(&town.outside, "[::]:9000", "outside");
    let there = |interfaces: [&str; 2]| {
        for (family, to) in [(4, Outside::V4), (6, Outside::V6)] {
            let all = inspect::routes_to(&a, family, "default");
            let names: Vec<&str> = all.iter().map(|route| route["dev"].as_str().unwrap()).collect();
            let wanted: Vec<&str> = interfaces.into_iter().filter(|name| !name.is_empty()).collect();
            assert_eq!(names, wanted, "IPv{family}: {all:?}");
            // Of equal ones the kernel would take that whose gateway it has heard of.
            let metrics: Vec<u64> =
                all.iter().map(|route| route["metric"].as_u64().unwrap_or_default()).collect();
            assert!(metrics.is_sorted_by(|one, next| one < next), "{all:?}");
            let used = inspect::json(&a, &["ip", "-j", "route", "get", to]);
            assert_eq!(used[0]["dev"], wanted[0], "{used}");
            let to = if family == 4 { format!("{to}:9000") } else { format!("[{to}]:9000") };
            assert_eq!(tcp(&a, &to).tag, "outside");
        }
    };
    there(["eth0", "eth1"]);
    one.prev(&first).check().ok();
    two.prev(&second).check().ok();
    arrives(&format!("{} {}:9000", a.id, Outside::V4));
    one.prev(&first).del().ok();
    there(["eth1", ""]);
    two.prev(&second).check().ok();
    arrives(&format!("{} {}:9000", a.id, Outside::V4));
}

/// A route with a metric of its own, and one that both networks have.
#[test]
fn every_route_of_the_second_network_is_there_when_the_first_goes() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let routes = json!([
        {"dst": "10.100.0.0/16"}, {"dst": "fd00:100::/48", "priority": 7}, {"dst": "fd00:101::/48", "table": 4242},
        {"dst": "10.101.0.0/16", "gw": "10.88.1.77"}, {"dst": "10.101.0.0/16", "gw": "10.88.1.78"},
        {"dst": "fd00:102::/48", "gw": "fd00:88:1::77"}, {"dst": "fd00:102::/48", "gw": "fd00:88:1::78"},
    ]);
    let side = |n: u8, interface: &str| {
        let text =
            routes.to_string().replace("88.1.", &format!("88.{n}.")).replace("88:1:", &format!("88:{n}:"));
        let mut ipam = dual_stack(n);
        ipam["routes"] = serde_json::from_str(&text).unwrap();
        lab.plugin(json!({"name": format!("n{n}"), "ipam": ipam})).on(&a).ifname(interface)
    };
    let (one, two) = (side(1, "eth0"), side(2, "eth1"));
    let first = one.add().ok();
    let before = [4, 6].map(|family| inspect::routes(&a, family).len());
    let second = two.add().ok();
    one.prev(&first).check().ok();
    two.prev(&second).check().ok();
    one.prev(&first).del().ok();
    two.prev(&second).check().ok();
    assert_eq!([4, 6].map(|family| inspect::routes(&a, family).len()), before);
    let six = inspect::routes_to(&a, 6, "fd00:100::/48");
    assert_eq!((six.len(), &six[0]["metric"]), (1, &json!(8)));
}

/// Of several interfaces `explain` takes the one that is meant, and says so.
#[test]
fn the_interface_that_is_asked_for_follows_from_who_asks() {
    let Some(town) = Town::new("nftables") else { return };
    let (a, _servers, [_, two]) = town.container("a");
    town.networks[0].with(json!({"isolation": "strict"})).on(&a).add().ok();
    two.args("K8S_POD_NAMESPACE=default;K8S_POD_NAME=shop").add().ok();
    let b = town.lab.container("b");
    let beside = town.networks[1].on(&b).add().ok();
    let to = |told: &Value| told["destination"].as_str().unwrap().to_owned();
    for words in
        ["outside NAME:80", "outside NAME:eth1:80", "outside shop:eth1:80", "b NAME:80", "host NAME:eth1:80"]
    {
        let told = arrives(&words.replace("NAME", &a.id).replace("b ", &format!("{} ", b.id)));
        let asks = words.contains(":eth1");
        assert_eq!(told.to_string().contains("eth1 is asked"), !asks, "{words}: {told:#}");
    }
    let gateway = lab::outcome::gateway(&beside, 4);
    let told = arrives(&format!("{gateway} {}:80", a.id));
    assert!(to(&told).starts_with("10.88.2."), "{told:#}");
    let told = arrives(&format!("host {}:80", a.id));
    assert!(to(&told).starts_with("10.88.1.") && told.to_string().contains("it is the first"), "{told:#}");
    dies(&format!("outside {}:eth0:80", a.id), "not-published");
    assert!(linkspan(&format!("ports {}:eth0", a.id)).ok().is_empty());
    assert!(linkspan("ports shop:eth1").ok().contains("8080"));
}

/// The agent holds the ports for whichever interface has them.
#[test]
fn held_ports_stay_held() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let [one, two] = [1, 2].map(|n| {
        let network = lab.plugin(json!({"name": format!("n{n}"), "ipam": v4(n), "holdPorts": true}));
        network.on(&a).ifname(&format!("eth{}", n - 1)).publish(&["8080:80"])
    });
    // One that an ADD starts is waited for a moment only, and what it holds then is told by nobody.
    let _agent = Agent::start();
    let is_free = || hold::is_free(&lab.host, "tcp", "0.0.0.0:8080");
    assert!(is_free());
    let first = one.add().ok();
    let second = two.add().ok();
    assert!(eventually(PATIENCE, || !is_free()));
    one.prev(&first).del().ok();
    // The agent has heard of it, and what it holds is the second one's.
    let heard = || status()["attachments"] == 1 && status()["services"]["ports"]["held"] == 1;
    assert!(eventually(PATIENCE, heard), "{}", status());
    assert!(!is_free());
    two.prev(&second).check().ok();
    two.prev(&second).del().ok();
    assert!(eventually(PATIENCE, is_free));
}
