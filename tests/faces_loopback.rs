//! The face `loopback`, beside Debian's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::{Container, Lab, Space, inspect};
use serde_json::{Value, json};

fn is_up(container: &Container) -> bool {
    inspect::has_flag(&inspect::link(container, "lo").unwrap(), "UP")
}

fn plain(mut result: Value) -> Value {
    if result["dns"] == json!({}) {
        result.as_object_mut().unwrap().remove("dns");
    }
    result
}

#[test]
fn it_comes_up_and_says_what_it_has_in_every_version() {
    let Some(lab) = Lab::new() else { return };
    let (ours, theirs) = (Bin::ours(&lab), Bin::theirs(&lab));
    let container = lab.container("a");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let run = |bin: &Bin| {
            container.ip("link set lo down");
            let conf = json!({"name": "lo", "cniVersion": version});
            // Arguments for others are not its business, and the name of the interface is its own.
            let plugin = bin.plugin("loopback", conf).on(&container).args("none").ifname("any0");
            let result = plugin.add().ok();
            assert!(is_up(&container));
            if version >= "0.4.0" {
                plugin.prev(&result).check().ok();
            }
            plugin.del().ok();
            assert!(!is_up(&container));
            if version >= "0.4.0" {
                let down = plugin.prev(&result).check();
                assert!(
                    !down.succeeded() && down.stdout.contains("loopback interface is down"),
                    "{}",
                    down.stdout
                );
            }
            plain(result)
        };
        let (ours, theirs) = (run(&ours), run(&theirs));
        match version {
            // 1.1.1 prints the shape of 1.0.0 in every version.
            "0.1.0" | "0.2.0" => assert_eq!(ours["ip4"]["ip"], json!("127.0.0.1/8")),
            "1.0.0" => assert_eq!(ours, theirs),
            _ => assert_eq!(
                (&ours["ips"][0]["version"], &ours["interfaces"]),
                (&json!("4"), &theirs["interfaces"])
            ),
        }
    }
}

#[test]
fn an_earlier_result_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let plugin = Bin::ours(&lab).plugin("loopback", json!({"name": "lo"})).on(&container);
    let previous = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]});
    assert_eq!(plugin.prev(&previous).add().ok(), previous);
}

#[test]
fn nothing_is_kept_and_nothing_is_missed() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let plugin = Bin::ours(&lab).plugin("loopback", json!({"name": "lo"})).on(&container);
    plugin.add().ok();
    plugin.add().ok();
    assert!(!std::path::Path::new("/run/linkspan").exists(), "no state");
    container.unbind();
    plugin.del().ok();
    plugin.del().ok();
    plugin.without("CNI_NETNS").del().ok();
    plugin.add().refused(999);
    let later = plugin.with(json!({"cniVersion": "1.1.0"}));
    later.status().ok();
    later.gc(&[]).ok();
}

#[test]
fn the_hosts_own_is_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    let plugin =
        Bin::ours(&lab).plugin("loopback", json!({"name": "lo"})).on(&container).env("CNI_NETNS", &own);
    plugin.del().refused(8);
    plugin.add().refused(8);
    let host = Space::here("host");
    assert!(inspect::has_flag(&inspect::link(&host, "lo").unwrap(), "UP"));
}
