//! Keys of the reference `bandwidth`: the limits are there, and they limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::outcome::{address, host_end};
use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::talk::{is_free, is_limited, pour, sink_server};
use lab::{Lab, Plugin, inspect};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// 8 Mbit/s: a megabyte takes a second, less what the bucket holds.
const RATE: u64 = 8_000_000;
/// 256 kbit: 32 kB.
const BURST: u64 = 256_000;
const BYTES: usize = 1_500_000;

fn shapes(qdiscs: &[Value], device: &str) -> Vec<String> {
    let of_device = qdiscs.iter().filter(|q| q["dev"] == device);
    of_device.map(|q| q["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What judges how long it takes that should take so long.
type Judge = fn(Duration, &dyn Fn() -> Duration);

/// Bytes go into a container and out of it, within a limit or not; the queueing disciplines of its host end.
fn transfers(lab: &Lab, plugin: &Plugin, [into, out]: [Judge; 2]) -> Value {
    let a = lab.container("a");
    let result = plugin.on(&a).add().ok();
    let _inside = sink_server(&a, "0.0.0.0:80");
    let _host = sink_server(&lab.host, "0.0.0.0:81");
    into(due(), &|| pour(&lab.host, &format!("{}:80", address(&result, 4)), BYTES, LIMIT).unwrap());
    out(due(), &|| pour(&a, "10.88.1.1:81", BYTES, LIMIT).unwrap());
    let qdiscs = inspect::qdiscs(&lab.host);
    let veth = shapes(&qdiscs, &host_end(&result));
    plugin.on(&a).prev(&result).del().ok();
    json!(veth)
}

/// How long the bytes take at the rate.
fn due() -> Duration {
    Duration::from_secs_f64(f64::from(u32::try_from(BYTES * 8).unwrap()) / 8e6)
}

#[test]
fn a_container_without_limits_is_fast() {
    let Some(lab) = Lab::new() else { return };
    transfers(&lab, &lab.plugin(json!({"ipam": v4(1)})), [is_free, is_free]);
}

#[test]
fn what_the_container_receives_is_limited() {
    let Some(lab) = Lab::new() else { return };
    let keys = json!({"ipam": v4(1), "ingressRate": RATE, "ingressBurst": BURST});
    let qdiscs = transfers(&lab, &lab.plugin(keys), [is_limited, is_free]);
    assert_eq!(qdiscs, json!(["tbf"]));
}

#[test]
fn what_the_container_sends_is_limited() {
    let Some(lab) = Lab::new() else { return };
    let keys = json!({"ipam": v4(1), "egressRate": RATE, "egressBurst": BURST});
    let qdiscs = transfers(&lab, &lab.plugin(keys), [is_free, is_limited]);
    assert!(qdiscs.as_array().unwrap().contains(&json!("ingress")), "{qdiscs}");
}

#[test]
fn a_capability_limits_as_well_and_everything_goes_with_del() {
    let Some(lab) = Lab::new() else { return };
    let (warm, a) = (lab.container("warm"), lab.container("b"));
    let warmth = lab.plugin(json!({"ipam": v4(1)})).on(&warm);
    warmth.prev(&warmth.add().ok()).del().ok();
    let before = Snapshot::take(&lab);
    let limits = json!({"bandwidth": {"ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST}});
    let plugin = lab.plugin(json!({"ipam": v4(1)})).cap(limits).on(&a);
    let result = plugin.add().ok();
    let ifbs =
        || inspect::links(&lab.host).into_iter().filter(|l| l["linkinfo"]["info_kind"] == "ifb").count();
    assert_eq!(ifbs(), 1);
    plugin.prev(&result).check().ok();
    // Two interfaces of one container do not collide.
    let second =
        plugin.with(json!({"name": "other", "isDefaultGateway": false, "ipam": v4(2)})).ifname("eth1");
    if !lab::is_reference() {
        let other = second.add().ok();
        assert_eq!(ifbs(), 2);
        second.prev(&other).del().ok();
    }
    plugin.prev(&result).del().ok();
    assert_eq!(ifbs(), 0);
    let now = Snapshot::take(&lab);
    now.assert_without(&[&host_end(&result), &a.id]);
    assert!(now.since(&before).iter().all(|c| !c.key.starts_with("qdisc")));
}

#[test]
fn a_limit_that_was_taken_away_is_a_drift() {
    if lab::is_reference() {
        lab::skip!("the reference does not look");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": v4(1), "ingressRate": RATE, "ingressBurst": BURST})).on(&a);
    let result = plugin.add().ok();
    plugin.prev(&result).check().ok();
    lab.host.must(&["tc", "qdisc", "del", "dev", &host_end(&result), "root"]);
    assert!(plugin.prev(&result).check().refused(120).contains(&host_end(&result)));
}
