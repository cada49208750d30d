//! DEL, CHECK, STATUS and VERSION in every situation that a runtime brings about.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::outcome::{address, bridge, host_end};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Plugin, inspect};
use serde_json::{Value, json};

/// A host on which the network has been used once, so that what it shares is there.
fn warm_host() -> Option<(Lab, Plugin, Snapshot)> {
    let lab = Lab::new()?;
    let plugin = lab
        .plugin(json!({"ipam": dual_stack(1), "ingressRate": 80_000_000, "ingressBurst": 800_000,
        "egressRate": 80_000_000, "egressBurst": 800_000, "macspoofchk": true}));
    let warm = lab.container("warm");
    let once = plugin.on(&warm).publish(&["8080:80", "8080:80/udp"]);
    once.prev(&once.add().ok()).del().ok();
    let clean = Snapshot::take(&lab);
    Some((lab, plugin, clean))
}

fn publishing(plugin: &Plugin, container: &Container) -> Plugin {
    plugin.on(container).publish(&["8080:80", "8080:80/udp", "127.0.0.1:9090:90"])
}

#[test]
fn del_needs_neither_namespace_nor_result_nor_the_same_configuration() {
    let Some((lab, network, clean)) = warm_host() else { return };
    type Detach = fn(&Plugin, &Container, &Value) -> Plugin;
    let cases: [(&str, Detach); 8] = [
        ("as it should be", |p, _, result| p.prev(result)),
        ("without prevResult", |p, _, _| p.clone()),
        ("namespace gone", |p, c, result| {
            c.unbind();
            p.prev(result)
        }),
        ("namespace not named", |p, _, result| p.without("CNI_NETNS").prev(result)),
        ("namespace named by nothing", |p, _, result| p.env("CNI_NETNS", "").prev(result)),
        ("link gone", |p, c, result| {
            c.ip("link del eth0");
            p.prev(result)
        }),
        ("another configuration", |p, _, _| {
            p.with(json!({"runtimeConfig": null, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
                "ingressRate": null, "ingressBurst": null, "egressRate": null, "egressBurst": null,
                "macspoofchk": false, "bridge": "elsewhere", "backend": "iptables", "ipMasq": false}))
        }),
        ("a configuration that ADD would refuse", |p, _, _| {
            p.with(json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.1.0/31"}]]}}))
        }),
    ];
    for (n, (why, detach)) in cases.into_iter().enumerate() {
        if lab::is_reference() && n > 0 {
            // The reference leaks rules in most of these.
            break;
        }
        let container = lab.container(&format!("c{n}"));
        let plugin = publishing(&network, &container);
        let result = plugin.add().ok();
        let detach = detach(&plugin, &container, &result);
        detach.del().ok();
        Snapshot::take(&lab).assert_same(&clean, why);
        detach.del().ok();
        Snapshot::take(&lab).assert_same(&clean, &format!("{why}, twice"));
    }
}

#[test]
fn del_of_a_container_that_never_was() {
    let Some((lab, network, clean)) = warm_host() else { return };
    let a = lab.container("a");
    network.on(&a).del().ok();
    network.id("nobody").ifname("eth0").env("CNI_NETNS", "/run/netns/nobody").del().ok();
    Snapshot::take(&lab).assert_same(&clean, "nobody was detached");
    let fresh = lab.plugin(json!({"name": "never-used"})).on(&a).del();
    fresh.ok();
}

#[test]
fn del_takes_one_attachment_only() {
    let Some((lab, network, _)) = warm_host() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = publishing(&network, &a);
    let result = first.add().ok();
    let second = network.on(&b).publish(&["8081:80"]);
    let kept = second.add().ok();
    let twin = network
        .with(json!({"name": "other", "isDefaultGateway": false, "ipam": v4(9)}))
        .on(&a)
        .ifname("eth1");
    let twins = twin.add().ok();
    first.prev(&result).del().ok();
    second.prev(&kept).check().ok();
    twin.prev(&twins).check().ok();
    assert!(inspect::link(&a, "eth0").is_none() && inspect::link(&a, "eth1").is_some());
}

/// Every drift is reported at once, each by the name of its object.
#[test]
fn check_reports_all_drifts_together() {
    if lab::is_reference() {
        lab::skip!("the reference stops at the first");
    }
    let Some((lab, network, _)) = warm_host() else { return };
    let a = lab.container("a");
    let plugin = publishing(&network, &a);
    let result = plugin.add().ok();
    plugin.prev(&result).check().ok();
    let veth = host_end(&result);
    a.ip("route del default");
    a.ip(&format!("address del {}/64 dev eth0", address(&result, 6)));
    lab.ip(&format!("link set {veth} type bridge_slave hairpin off"));
    lab.host.must(&["tc", "qdisc", "del", "dev", &veth, "root"]);
    let said = plugin.prev(&result).check().refused(120);
    for object in ["0.0.0.0/0", &address(&result, 6), &veth, "hairpin"] {
        assert!(said.contains(object), "{object} is not among the drifts: {said}");
    }
}

#[test]
fn check_sees_each_drift() {
    if lab::is_reference() {
        lab::skip!("the reference does not look at most of these");
    }
    let Some((lab, network, _)) = warm_host() else { return };
    type Drift = fn(&Lab, &Container, &Value);
    let drifts: [(&str, Drift); 11] = [
        ("an address deleted", |_, c, r| drop(c.ip(&format!("address del {}/24 dev eth0", address(r, 4))))),
        ("a route deleted", |_, c, _| drop(c.ip("-6 route del default"))),
        ("the link down", |_, c, _| drop(c.ip("link set eth0 down"))),
        ("the host end down", |l, _, r| l.ip(&format!("link set {} down", host_end(r)))),
        ("off the bridge", |l, _, r| l.ip(&format!("link set {} nomaster", host_end(r)))),
        ("another MTU", |_, c, _| drop(c.ip("link set eth0 mtu 1300"))),
        ("the gateway's address deleted", |l, _, r| {
            l.ip(&format!("address del 10.88.1.1/24 dev {}", bridge(r)));
        }),
        ("the bridge down", |l, _, r| l.ip(&format!("link set {} down", bridge(r)))),
        ("the firewall flushed", |l, _, _| drop(l.host.must(&["nft", "flush", "ruleset"]))),
        ("the link gone", |_, c, _| drop(c.ip("link del eth0"))),
        ("forwarding off", |l, _, _| l.host.set_sysctl("net.ipv4.ip_forward", "0")),
    ];
    for (n, (why, drift)) in drifts.into_iter().enumerate() {
        let container = lab.container(&format!("c{n}"));
        let plugin = publishing(&network, &container);
        let result = plugin.add().ok();
        plugin.prev(&result).check().ok();
        drift(&lab, &container, &result);
        let seen = plugin.prev(&result).check();
        assert!(!seen.succeeded(), "CHECK does not see {why}");
        seen.refused(120);
        plugin.prev(&result).del().ok();
        // The next ADD mends what the network shares.
    }
}

#[test]
fn check_of_what_is_not_attached() {
    if lab::is_reference() {
        lab::skip!("the reference looks at the result only");
    }
    let Some((lab, network, _)) = warm_host() else { return };
    let a = lab.container("a");
    let plugin = network.on(&a);
    let result = plugin.add().ok();
    plugin.prev(&result).del().ok();
    assert!([3, 120].contains(&plugin.prev(&result).check().code()));
    plugin.check().code();
}

/// Later plugins of a chain change what ADD made, and say so in the result that CHECK is given.
#[test]
fn check_tolerates_what_later_plugins_change() {
    let tuning = format!("{}/tuning", lab::plugin::REFERENCE);
    if !std::path::Path::new(&tuning).exists() {
        lab::skip!("{tuning} is not installed");
    }
    if lab::is_reference() {
        lab::skip!("Debian's bridge does not");
    }
    let Some((lab, network, _)) = warm_host() else { return };
    let a = lab.container("a");
    let plugin = network.with(json!({"macspoofchk": false, "cniVersion": "1.0.0"})).on(&a);
    let result = plugin.add().ok();
    let tuned =
        lab.plugin(json!({"cniVersion": "1.0.0", "type": "tuning", "mac": "02:00:00:00:00:99", "mtu": 1400}));
    let last = tuned.of(tuning).on(&a).prev(&result).add().ok();
    assert_eq!(inspect::link(&a, "eth0").unwrap()["address"], "02:00:00:00:00:99");
    plugin.prev(&last).check().ok();
    plugin.prev(&last).del().ok();
}

#[test]
fn version_speaks_all_and_echoes() {
    let Some(lab) = Lab::new() else { return };
    let bare = |version: &str| {
        let input = json!({"cniVersion": version}).to_string();
        lab.plugin(json!({})).without("CNI_PATH").stdin(input).version().ok()
    };
    let known = json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(bare("1.1.0")["supportedVersions"], known);
    assert_eq!(bare("1.1.0")["cniVersion"], "1.1.0");
    if !lab::is_reference() {
        assert_eq!(bare("0.4.0")["cniVersion"], "0.4.0");
        assert_eq!(
            lab.plugin(json!({})).stdin("").version().ok()["supportedVersions"],
            known,
            "stdin may be empty"
        );
    }
}

#[test]
fn without_a_command_it_says_what_it_is() {
    if lab::is_reference() {
        lab::skip!("the stand-in does not");
    }
    let Some(lab) = Lab::new() else { return };
    let said = lab.plugin(json!({})).run("");
    assert!(said.succeeded());
    assert!(format!("{}{}", said.stdout, said.stderr).contains("linkspan"), "{said:?}");
}

/// The longest container ID and the longest name of an interface make file names, for each plugin of a chain.
#[test]
fn the_longest_names_are_attached_checked_and_detached() {
    if lab::is_reference() {
        lab::skip!("its leases have no such names");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let id = "c".repeat(200);
    let plugin = lab.plugin(json!({"ipam": v4(1)})).on(&a).id(&id).ifname("abcdefghijklmno");
    let result = plugin.add().ok();
    plugin.prev(&result).check().ok();
    plugin.add().refused(103);
    plugin.prev(&result).del().ok();
    Snapshot::take(&lab).assert_without(&[&id]);
}
