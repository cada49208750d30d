//! A host with networks whose containers all serve, to ask who reaches whom.

use serde_json::{Value, json};

use super::backends::choose;
use super::outcome::address;
use super::plugin::dual_stack;
use super::talk::{Seen, Server, tcp_reaches, tcp_server, udp_reaches, udp_server};
use super::{Container, Lab, Outside, Plugin, Space};

/// A host with an outside. Everybody serves TCP on port 80 and UDP on port 53 under their name.
pub struct Town {
    /// Its firewall, and the variant of iptables.
    pub backend: &'static str,
    kind: &'static str,
    /// The world outside.
    pub outside: Outside,
    _servers: Vec<Server>,
    /// The host.
    pub lab: Lab,
}

/// An attached container.
pub struct House {
    /// The container.
    pub container: Container,
    /// The call that attached it.
    pub plugin: Plugin,
    /// What the call gave.
    pub result: Value,
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
    pub fn at(&self) -> [String; 2] {
        [address(&self.result, 4), format!("[{}]", address(&self.result, 6))]
    }
}

/// A host on this backend, or a test that is skipped.
pub fn town(backend: &'static str) -> Option<Town> {
    if super::is_reference() {
        super::skipped("the reference has no such keys");
        return None;
    }
    let mut lab = Lab::new()?;
    let outside = lab.outside();
    let kind = choose(&mut lab, backend)?;
    let servers = serve(&outside, "outside", &[Outside::V4.to_owned(), format!("[{}]", Outside::V6)]);
    Some(Town { backend, kind, outside, _servers: servers, lab })
}

/// Servers on TCP port 80 and UDP port 53.
pub fn serve(space: &Space, tag: &str, at: &[String]) -> Vec<Server> {
    let udp = at.iter().map(|at| udp_server(space, &format!("{at}:53"), tag));
    udp.chain([tcp_server(space, "[::]:80", tag)]).collect()
}

impl Town {
    /// A network of a number, with these keys.
    pub fn network(&self, n: u8, keys: Value) -> Plugin {
        let plain = json!({"name": format!("net{n}"), "backend": self.kind, "ipam": dual_stack(n)});
        self.lab.plugin(plain).with(keys)
    }

    /// Turns `br_netfilter` on or off for this host; false where the kernel lacks it, and so never does it.
    pub fn bridged_packets_are_seen(&self, value: &str) -> bool {
        let there = std::path::Path::new("/proc/sys/net/bridge").exists();
        for family in ["iptables", "ip6tables"].into_iter().filter(|_| there) {
            self.lab.host.set_sysctl(&format!("net.bridge.bridge-nf-call-{family}"), value);
        }
        there
    }

    /// A container of a network, which publishes these ports.
    pub fn attach(&self, network: &Plugin, name: &str, ports: &[&str]) -> House {
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

/// TCP and UDP, IPv4 and IPv6.
const ALL: [&str; 4] = ["tcp4", "udp4", "tcp6", "udp6"];

/// Of [`ALL`], these are answered, which are waited for with patience, and no others. They are asked at once, since what
/// is silent takes its whole time.
#[track_caller]
pub fn answered(from: &Space, at: &[String; 2], expected: &[&str], what: &str) {
    let [four, six] = at;
    let found: Vec<&str> = std::thread::scope(|scope| {
        let asking = ALL.map(|name| {
            let must = expected.contains(&name);
            let at = if name.ends_with('4') { four } else { six };
            let ask = move || match name.starts_with("tcp") {
                true => tcp_reaches(from, &format!("{at}:80"), must),
                false => udp_reaches(from, &format!("{at}:53"), must),
            };
            (name, scope.spawn(ask))
        });
        let heard = asking.map(|(name, asking)| asking.join().expect("somebody who asks").then_some(name));
        heard.into_iter().flatten().collect()
    });
    assert_eq!(found, expected, "{} to {at:?}: {what}", from.name());
}

/// All of a container is reached.
#[track_caller]
pub fn open(from: &Space, to: &House) {
    answered(from, &to.at(), &ALL, to.name());
}

/// Nothing of a container is reached.
#[track_caller]
pub fn closed(from: &Space, to: &House) {
    answered(from, &to.at(), &[], to.name());
}

/// Whether a port that is published on all addresses is reached by those of the host, in both families.
#[track_caller]
pub fn published(from: &Space, port: u16, reached: bool) {
    for host in [Outside::HOST4.to_owned(), format!("[{}]", Outside::HOST6)] {
        let at = format!("{host}:{port}");
        assert_eq!(tcp_reaches(from, &at, reached), reached, "{} to {at}", from.name());
    }
}

/// Whether the world outside is reached, in both families.
#[track_caller]
pub fn goes_out(from: &Space, out: bool) {
    let at = [Outside::V4.to_owned(), format!("[{}]", Outside::V6)];
    answered(from, &at, if out { &ALL } else { &[] }, "the world");
}

/// The client that a server saw, as an address of its own family.
pub fn whom(seen: &Seen) -> String {
    match seen.peer.ip() {
        std::net::IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        std::net::IpAddr::V4(v4) => v4.to_string(),
    }
}
