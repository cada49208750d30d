//! What a firewall reload or a careless administrator took away comes back: with the next ADD, and with
//! `linkspan reconcile`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::damage::{Damage, Scene, linkspan, to_iptables, to_links, to_nftables, to_subnets};
use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Lab, Outside};
use serde_json::json;
use std::time::Duration;

fn reload(backend: &str, flush: impl Fn(&Lab)) {
    if lab::is_reference() {
        lab::skip!("the reference does not");
    }
    let Some(mut lab) = Lab::new() else { return };
    if backend == "iptables" && !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let outside = lab.outside();
    let network = lab.plugin(json!({"backend": backend, "ipam": dual_stack(1)}));
    let other = network.with(json!({"name": "other", "ipam": dual_stack(2), "macspoofchk": true}));
    let (a, b, c, d) = (lab.container("a"), lab.container("b"), lab.container("c"), lab.container("d"));
    let warm = network.on(&d);
    warm.prev(&warm.add().ok()).del().ok();
    let first = network.on(&a).publish(&["8080:80", "127.0.0.1:9090:80"]);
    let result = first.add().ok();
    let second = other.on(&b).publish(&["8081:80"]);
    let result_b = second.add().ok();
    let whole = Snapshot::take(&lab);
    let _servers = [
        tcp_server(&a, "[::]:80", "a"),
        tcp_server(&b, "[::]:80", "b"),
        tcp_server(&outside, "[::]:80", "o"),
    ];
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a");
    flush(&lab);
    assert!(!tcp_answers(&outside, "192.0.2.1:8080"), "the flush took it");
    first.prev(&result).check().refused(120);

    let third = network.on(&c);
    let result_c = third.add().ok();
    for (at, tag) in [("192.0.2.1:8080", "a"), ("[2001:db8::1]:8080", "a"), ("192.0.2.1:8081", "b")] {
        assert_eq!(tcp(&outside, at).tag, tag, "{at} is back");
    }
    assert_eq!(tcp(&lab.host, "127.0.0.1:9090").tag, "a");
    assert_eq!(
        tcp(&b, "192.0.2.2:80").peer.ip().to_string(),
        format!("::ffff:{}", Outside::HOST4),
        "masquerade too"
    );
    assert!(!tcp_answers(&b, &format!("{}:80", address(&result, 4))), "the walls too");
    assert!(!tcp_answers(&outside, &format!("{}:80", address(&result, 4))));
    first.prev(&result).check().ok();
    second.prev(&result_b).check().ok();
    third.prev(&result_c).del().ok();
    Snapshot::take(&lab).assert_same(&whole, "as it was before the flush");
    first.prev(&result).del().ok();
    second.prev(&result_b).del().ok();
    Snapshot::take(&lab).assert_without(&[&a.id, &b.id, &address(&result, 4), &address(&result_b, 4)]);
}

#[test]
fn nftables_flushed() {
    reload("nftables", |lab| drop(lab.host.must(&["nft", "flush", "ruleset"])));
}

#[test]
fn iptables_flushed() {
    reload("iptables", |lab| {
        for tool in ["iptables", "ip6tables"] {
            for table in ["filter", "nat", "mangle", "raw"] {
                lab.host.must(&[tool, "-t", table, "-F"]);
                lab.host.must(&[tool, "-t", table, "-X"]);
            }
        }
    });
}

/// DEL under a flushed firewall finds nothing to take away, and says nothing of it.
#[test]
fn del_after_a_flush() {
    if lab::is_reference() {
        lab::skip!("the reference has its own ways");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).publish(&["8080:80"]);
    let result = plugin.add().ok();
    lab.host.must(&["nft", "flush", "ruleset"]);
    plugin.prev(&result).del().ok();
    Snapshot::take(&lab).assert_without(&[&a.id, &address(&result, 4)]);
    plugin.add().ok();
}

/// Strikes with every damage in turn: a look names it and changes nothing, `reconcile` mends it, and a second finds
/// nothing.
fn mends(lab: &Lab, scene: &Scene, damages: Vec<Damage>) {
    let said = linkspan(lab, &["reconcile"]);
    assert_eq!(said.stdout.trim(), "nothing differs", "before any damage: {}", said.stderr);
    for damage in damages {
        damage.strike(lab);
        // nft 1.0.6 prints the flags of a sleeping table as broken JSON.
        let struck = (damage.said != "dormant").then(|| Snapshot::take(lab));
        let look = linkspan(lab, &["reconcile", "--dry-run"]);
        assert!(look.stdout.contains("differs: "), "{}: {}{}", damage.name, look.stdout, look.stderr);
        assert!(look.stdout.contains(&damage.said), "{}: {}", damage.name, look.stdout);
        if let Some(struck) = struck {
            Snapshot::take(lab).assert_same(&struck, "a look changes nothing");
        }
        let mended = linkspan(lab, &["reconcile"]);
        assert!(mended.ok, "{}: {}{}", damage.name, mended.stdout, mended.stderr);
        assert!(mended.stdout.contains(&damage.said), "{}: {}", damage.name, mended.stdout);
        scene.assert_whole(lab, &damage.name);
        let again = linkspan(lab, &["reconcile"]);
        assert_eq!(again.stdout.trim(), "nothing differs", "{}", damage.name);
    }
}

/// The damages to a scene on a backend, in a host whose `iptables` is of this variant.
fn mends_all(backend: &str, variant: Option<&str>, damages: impl Fn(&Scene) -> Vec<Damage>) {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(mut lab) = Lab::new() else { return };
    if let Some(variant) = variant.filter(|variant| !lab.iptables(variant)) {
        lab::skip!("iptables-{variant} is not here");
    }
    let scene = Scene::new(&lab, backend);
    mends(&lab, &scene, damages(&scene));
    scene.end(&lab);
}

#[test]
fn the_command_mends_nftables() {
    mends_all("nftables", None, to_nftables);
}

#[test]
fn the_command_mends_links() {
    mends_all("nftables", None, to_links);
}

#[test]
fn the_command_mends_subnets() {
    mends_all("nftables", None, to_subnets);
}

#[test]
fn the_command_mends_iptables_over_nftables() {
    mends_all("iptables", Some("nft"), |_| to_iptables());
}

#[test]
fn the_command_mends_legacy_iptables() {
    mends_all("iptables", Some("legacy"), |_| to_iptables());
}

/// What a container that died without DEL left is told of, and with `--collect` deleted; the living are not touched,
/// whatever their path has come to mean.
#[test]
fn only_the_dead_are_collected() {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    let (a, b, c) = (lab.container("a"), lab.container("b"), lab.container("c"));
    let dead = network.on(&a).publish(&["8080:80"]);
    let result = dead.add().ok();
    network.on(&b).publish(&["8081:80"]).add().ok();
    network.on(&c).publish(&["8082:80"]).add().ok();
    let servers = [tcp_server(&b, "[::]:80", "b"), tcp_server(&c, "[::]:80", "c")];
    // One container ends, another's path is taken away, and a third's means another namespace from now on.
    let id = a.id.clone();
    a.unbind();
    drop(a);
    b.unbind();
    c.unbind();
    lab.ip("netns add c");
    let gone = |lab: &Lab| lab::inspect::link(&lab.host, &lab::outcome::host_end(&result)).is_none();
    assert!(
        lab::eventually(Duration::from_secs(30), || gone(&lab)),
        "the namespace's end takes the link with it"
    );

    let said = linkspan(&lab, &["reconcile"]);
    assert!(said.ok, "{}{}", said.stdout, said.stderr);
    assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
    assert!(said.stdout.contains(&format!("dead: {id}:eth0 of network web")), "{}", said.stdout);
    let said = linkspan(&lab, &["reconcile", "--collect"]);
    said.tells(&format!("deleted: {id}:eth0"));
    Snapshot::take(&lab).assert_without(&[&id, &address(&result, 4)]);
    assert_eq!(linkspan(&lab, &["reconcile", "--collect"]).stdout.trim(), "nothing differs");
    for (at, tag) in [("192.0.2.1:8081", "b"), ("192.0.2.1:8082", "c")] {
        assert_eq!(tcp(&outside, at).tag, tag);
    }
    drop(servers);
}

/// A namespace whose path and link are gone, but in which somebody lives, is not dead.
#[test]
fn the_inhabited_are_not_collected() {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let result = lab.plugin(json!({"ipam": dual_stack(1)})).on(&container).add().ok();
    let spawn = || std::process::Command::new("sleep").arg("60").spawn();
    let mut inhabitant = container.in_ns(spawn).expect("sleep is there");
    container.unbind();
    lab.ip(&format!("link del {}", lab::outcome::host_end(&result)));
    let said = linkspan(&lab, &["reconcile", "--collect"]);
    assert!(!said.ok && said.stderr.contains("no network namespace at"), "{}{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains("deleted"), "{}", said.stdout);
    inhabitant.kill().unwrap();
    inhabitant.wait().unwrap();
    let id = container.id.clone();
    drop(container);
    let said = linkspan(&lab, &["reconcile", "--collect"]);
    said.tells(&format!("deleted: {id}:eth0"));
}

/// A lease file or a claim that somebody deleted comes back: else the next container would be given the address.
#[test]
fn what_is_held_on_disk_comes_back() {
    if lab::is_reference() {
        lab::skip!("the reference has no such command");
    }
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    let result = network.on(&a).publish(&["8080:80"]).add().ok();
    let whole = Snapshot::take(&lab);
    lab.host.must(&["sh", "-c", "rm -r /run/linkspan/ports/* /run/linkspan/ipam/*"]);
    let said = linkspan(&lab, &["reconcile"]);
    assert!(said.ok && said.stdout.contains(&format!("lease of {}", address(&result, 4))), "{}", said.stdout);
    assert!(said.stdout.contains("claim of host port tcp 0.0.0.0:8080"), "{}", said.stdout);
    let now = Snapshot::take(&lab);
    let now: Vec<String> = now.lines().collect();
    let lost: Vec<String> = whole.lines().filter(|fact| !now.contains(fact)).collect();
    assert!(lost.iter().all(|fact| fact.contains("last_reserved_ip")), "{lost:?}");
    network.on(&b).publish(&["8080:80"]).add().refused(102);
    network.on(&b).add().ok();
}

/// `iptables -F` takes the exceptions out of a FORWARD chain whose policy drops.
#[test]
fn exceptions_in_a_dropping_forward_chain_come_back() {
    if lab::is_reference() {
        lab::skip!("the reference makes none");
    }
    for variant in ["nft", "legacy"] {
        let Some(mut lab) = Lab::new() else { return };
        if !lab.iptables(variant) {
            lab::skip!("iptables-{variant} is not here");
        }
        for tool in ["iptables", "ip6tables"] {
            lab.host.must(&[tool, "-P", "FORWARD", "DROP"]);
        }
        let scene = Scene::new(&lab, "nftables");
        for flush in ["-F", "-F LINKSPAN-ADMIT", "-F && iptables -X"] {
            lab.host.must(&[
                "sh",
                "-c",
                &format!("iptables {flush}; ip6tables {}", flush.replace("ipt", "ip6t")),
            ]);
            assert!(!scene.is_reachable(), "{variant} {flush}: the policy drops");
            let said = linkspan(&lab, &["reconcile"]);
            said.tells("exception for lks-web");
            scene.assert_whole(&lab, flush);
            assert_eq!(linkspan(&lab, &["reconcile"]).stdout.trim(), "nothing differs");
        }
    }
}

/// A route of somebody's own in the place of a bridge's is told of, as often as it is there.
#[test]
fn a_route_that_is_anothers_is_not_said_to_be_put_back() {
    if lab::is_reference() {
        lab::skip!("the reference does not");
    }
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&container);
    let result = plugin.add().ok();
    for (family, subnet, metric) in [("-4", "10.88.1.0/24", ""), ("-6", "fd00:88:1::/64", " metric 256")] {
        let own = format!("{subnet} dev lks-web");
        lab.ip(&format!("{family} route del {own}"));
        lab.ip(&format!("{family} route add blackhole {subnet}{metric}"));
        for _ in 0..2 {
            let said = linkspan(&lab, &["reconcile"]);
            let words = format!("{}{}", said.stdout, said.stderr);
            assert!(!said.ok && !words.contains("put back"), "{words}");
            assert!(words.contains(&format!("blackhole {subnet}")), "{words}");
        }
        let (other, others) = if family == "-4" { (6, "fd00:88:1::/64") } else { (4, "10.88.1.0/24") };
        lab.ip(&format!("-{other} route del {others} dev lks-web"));
        assert!(!linkspan(&lab, &["reconcile"]).ok, "{subnet} is blocked still");
        assert!(!lab::inspect::routes_to(&lab.host, other, others).is_empty(), "{others} is not");
        lab.ip(&format!("{family} route del blackhole {subnet}"));
        let said = linkspan(&lab, &["reconcile"]);
        assert!(said.stdout.contains(&format!("route to {subnet}")), "{}", said.stdout);
        plugin.prev(&result).check().ok();
    }
}

/// Turned off on the bridge, IPv6 takes gateways and routes with it; the record wants them.
#[test]
fn ipv6_that_was_turned_off_on_a_bridge_comes_back() {
    if lab::is_reference() {
        lab::skip!("the reference does not");
    }
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("a");
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&container);
    let result = plugin.add().ok();
    lab.host.set_sysctl("net/ipv6/conf/lks-web/disable_ipv6", "1");
    plugin.prev(&result).check().refused(120);
    let said = linkspan(&lab, &["reconcile"]);
    assert!(
        said.ok && said.stdout.contains("gateway address fd00:88:1::1/64"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    plugin.prev(&result).check().ok();
}
