mod claims;
mod faults;
mod leases;
mod records;
mod reference;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::json;

use super::*;
use crate::model::{AttachmentKey, FirewallBackend, Network, Range, RangeSet};

/// A state directory of the test's own.
fn state() -> (tempfile::TempDir, State) {
    let base = tempfile::tempdir().unwrap();
    let state = State::open(&base.path().join("run/linkspan")).unwrap();
    (base, state)
}

fn key(id: &str) -> AttachmentKey {
    AttachmentKey::new(id, "eth0")
}

fn record(id: &str) -> Record {
    Record {
        version: RECORD_VERSION,
        key: key(id),
        network: "web".to_owned(),
        created: 1_700_000_000,
        begun: 1_700_000_000_000_000,
        naming: None,
        labels: std::collections::BTreeMap::new(),
        plan: json!([{"step": "veth"}]),
    }
}

/// A range set of one subnet whose first address is the gateway.
/// For those who write nothing down.
fn unwritten(_leases: &[crate::model::Lease]) -> Result<()> {
    Ok(())
}

fn set(subnet: &str) -> RangeSet {
    let subnet: IpNetwork = subnet.parse().unwrap();
    let ip = |text: String| text.parse::<IpAddr>().unwrap();
    let (first, last) = match subnet {
        IpNetwork::V4(v4) => (ip(v4.nth(1).unwrap().to_string()), ip(v4.broadcast().to_string())),
        IpNetwork::V6(v6) => {
            (IpAddr::V6((v6.network().to_bits() + 1).into()), ip(v6.broadcast().to_string()))
        }
    };
    vec![Range { subnet, start: first, end: last, gateway: Some(first) }]
}

/// The record of a network of that bridge.
fn network(name: &str, bridge: &str) -> Network {
    Network {
        mac: None,
        gc_after: Some(300),
        name: name.to_owned(),
        bridge: bridge.to_owned(),
        automatic: vec![vec![set("10.1.0.0/24").remove(0)]],
        ranges: Vec::new(),
        leases: None,
        mtu: None,
        backend: FirewallBackend::Nftables,
        admitted: Vec::new(),
        rules: serde_json::Value::Null,
        left: Vec::new(),
    }
}
