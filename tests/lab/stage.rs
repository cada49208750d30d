//! A network with a victim and an attacker.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::backends::choose;
use super::frames::{self, Mac, Wire};
use super::outcome::{address, bridge, gateway, host_end};
use super::plugin::dual_stack;
use super::snapshot::Snapshot;
use super::{Container, Lab, Outside, Plugin, Space, icmp, inspect};

/// How long an attack goes on before it counts as failed: with patience where it must succeed.
pub fn tries(must: bool) -> Duration {
    if must { super::talk::PATIENCE } else { Duration::from_millis(1200) }
}

/// One side of an attack: a container, and its names.
pub struct Side {
    /// The container.
    pub container: Container,
    /// The call that attached it.
    pub plugin: Plugin,
    /// What the call gave.
    pub result: Value,
    /// Its own address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Its interface, for frames by hand.
    pub wire: Wire,
}

impl std::ops::Deref for Side {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.container
    }
}

/// A network with a victim, alice, and an attacker, mallory.
pub struct Stage {
    /// The victim.
    pub alice: Side,
    /// The attacker.
    pub mallory: Side,
    /// Their gateway.
    pub gateway4: Ipv4Addr,
    /// The same, IPv6.
    pub gateway6: Ipv6Addr,
    /// Their bridge.
    pub bridge: String,
    /// Its address.
    pub bridge_mac: Mac,
    /// Their network.
    pub network: Plugin,
    /// The world outside.
    pub outside: Outside,
    /// The host.
    pub lab: Lab,
}

/// Attaches one side.
pub fn attach(lab: &Lab, network: &Plugin, name: &str) -> Side {
    let container = lab.container(name);
    let plugin = network.on(&container);
    let result = plugin.add().ok();
    let wire = Wire::open(&container, "eth0");
    let (v4, v6) = (address(&result, 4).parse().unwrap(), address(&result, 6).parse().unwrap());
    Side { mac: wire.mac, v4, v6, wire, container, plugin, result }
}

/// A host on this backend with a network of these keys, or a test that is skipped.
pub fn stage(backend: &'static str, keys: Value) -> Option<Stage> {
    if super::is_reference() {
        super::skipped("the reference has no such guards");
        return None;
    }
    let mut lab = Lab::new()?;
    let outside = lab.outside();
    let kind = choose(&mut lab, backend)?;
    // What the host's own defaults may stop must not be taken for our doing.
    for key in ["all", "default"] {
        lab.host.set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0");
    }
    let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)})).with(keys);
    let alice = attach(&lab, &network, "alice");
    let mallory = attach(&lab, &network, "mallory");
    let bridge = bridge(&alice.result);
    let bridge_mac = frames::mac(inspect::link(&lab.host, &bridge).unwrap()["address"].as_str().unwrap());
    let (gateway4, gateway6) = (gateway(&alice.result, 4), gateway(&alice.result, 6));
    for side in [&alice, &mallory] {
        assert!(
            icmp::ping(side, &gateway4) && icmp::ping(side, &gateway6),
            "{} is honest so far",
            side.name()
        );
    }
    assert!(icmp::ping(&mallory, &alice.v4.to_string()) && icmp::ping(&mallory, &alice.v6.to_string()));
    let (gateway4, gateway6) = (gateway4.parse().unwrap(), gateway6.parse().unwrap());
    Some(Stage { alice, mallory, gateway4, gateway6, bridge, bridge_mac, network, outside, lab })
}

/// Both guards.
pub fn guards() -> Value {
    json!({"macspoofchk": true, "ipspoofchk": true})
}

/// Tries until it works, as it must or must not, or the time is over.
pub fn attack(must: bool, mut once: impl FnMut(), mut worked: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + tries(must);
    while Instant::now() < end {
        once();
        std::thread::sleep(Duration::from_millis(40));
        if worked() {
            return true;
        }
    }
    false
}

/// The hardware address that somebody has for a neighbour.
pub fn neighbour(of: &Space, ip: impl ToString) -> Option<Mac> {
    let rows = inspect::rows(inspect::json(of, &["ip", "-j", "neigh", "show", &ip.to_string()]));
    rows.iter().find_map(|row| row["lladdr"].as_str()).map(frames::mac)
}

/// A UDP socket that hears of every datagram, and from whom.
pub fn ear(space: &Space, bind: &str) -> UdpSocket {
    let socket = space.datagrams(bind);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket
}

/// Whether a datagram arrives that says this.
pub fn heard(ear: &UdpSocket, word: &[u8]) -> Option<String> {
    let mut buffer = [0; 256];
    while let Ok((length, from)) = ear.recv_from(&mut buffer) {
        if &buffer[..length] == word {
            return Some(from.ip().to_string());
        }
    }
    None
}

/// The attack succeeds without a word in the configuration, and fails with both guards. Either way honest traffic is
/// as it should be, and what it takes is taken away with the container.
pub fn succeeds_unless_guarded(backend: &'static str, attack: impl Fn(&Stage, bool) -> bool) {
    let Some(open) = stage(backend, json!({})) else { return };
    assert!(attack(&open, true), "without a guard the attack succeeds");
    drop(open);
    let Some(guarded) = stage(backend, guards()) else { return };
    assert!(!attack(&guarded, false), "with both guards it fails");
    for side in [&guarded.alice, &guarded.mallory] {
        side.plugin.prev(&side.result).check().ok();
    }
    let end = host_end(&guarded.mallory.result);
    guarded.mallory.plugin.prev(&guarded.mallory.result).del().ok();
    Snapshot::take(&guarded.lab).assert_without(&[&end, &guarded.mallory.container.id]);
}
