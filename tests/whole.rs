//! The firewall is looked at where somebody else has changed it, and only there (`/run/linkspan/ruleset`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::plugin::v4;
use lab::{Lab, talk};
use serde_json::json;

/// The noted generation, and the networks that were whole then.
fn noted() -> (u64, String) {
    let text = fs::read_to_string("/run/linkspan/ruleset").unwrap();
    let (numbers, networks) = text.split_once('\n').unwrap();
    (numbers.rsplit(' ').next().unwrap().parse().unwrap(), networks.to_owned())
}

#[test]
fn what_only_we_change_is_not_looked_at_again() {
    if lab::is_reference() {
        lab::skip!("the reference notes nothing");
    }
    let Some(lab) = Lab::new() else { return };
    let containers: Vec<_> = (0..6).map(|n| lab.container(&format!("c{n}"))).collect();
    let web = lab.plugin(json!({"name": "web", "ipam": v4(1)}));
    let api = lab.plugin(json!({"name": "api", "ipam": v4(2)}));
    web.on(&containers[0]).add().ok();
    web.on(&containers[1]).add().ok();
    let (first, networks) = noted();
    assert_eq!(networks, "admitted web");
    // One transaction, one generation.
    web.on(&containers[2]).add().ok();
    assert_eq!(noted(), (first + 1, networks.clone()));
    web.on(&containers[2]).del().ok();
    assert_eq!(noted(), (first + 2, networks));
    // A network's first ADD changes more than elements, and the next of either network looks.
    api.on(&containers[3]).add().ok();
    let (second, networks) = noted();
    assert!(second > first + 3 && networks == "admitted api", "{second} {networks}");
    web.on(&containers[4]).add().ok();
    assert_eq!(noted(), (second + 1, "admitted web\nadmitted api".to_owned()));
    // Somebody else's change, of a table that is none of ours: found, and noted anew.
    lab.host.must(&["nft", "add table ip somebody; add chain ip somebody nothing"]);
    web.on(&containers[5]).add().ok();
    assert_eq!(noted(), (second + 3, "admitted web".to_owned()));
}

/// The note says that all is whole, and it is not so any more.
#[test]
fn what_somebody_took_away_comes_back_whatever_was_noted() {
    if lab::is_reference() {
        lab::skip!("the reference mends nothing");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let containers: Vec<_> = (0..8).map(|n| lab.container(&format!("c{n}"))).collect();
    let web = lab.plugin(json!({"name": "web", "ipam": v4(1)}));
    let mut fresh = containers.iter();
    let mut add = |port: u16| web.on(fresh.next().unwrap()).publish(&[&format!("{port}:80")]).add().ok();
    add(8000);
    add(8001);
    let _server = talk::tcp_server(&containers[0], "[::]:80", "it");
    let damages = [
        "flush chain inet linkspan publish",
        "flush chain inet linkspan postrouting; flush chain inet linkspan forward",
        "flush ruleset",
    ];
    for (damage, port) in damages.into_iter().zip(8002..) {
        lab.host.must(&["nft", damage]);
        add(port);
        assert_eq!(talk::tcp(&outside, "192.0.2.1:8000").tag, "it", "after {damage}");
    }
    // A note of nonsense, and none.
    fs::write("/run/linkspan/ruleset", "0123456789abcdef 1 2\nadmitted web").unwrap();
    add(8010);
    fs::remove_file("/run/linkspan/ruleset").unwrap();
    add(8011);
    assert_eq!(talk::tcp(&outside, "192.0.2.1:8000").tag, "it");
}
