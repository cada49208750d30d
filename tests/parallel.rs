//! Many calls at once, on a host where nothing has been made yet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lab::outcome::{address, gateway};
use lab::plugin::{dual_stack, v4};
use lab::snapshot::Snapshot;
use lab::{Container, Lab, Outcome, Plugin, icmp, talk};
use serde_json::json;

const MANY: usize = 64;
/// The addresses in use of the lab's network.
const LEASES: &str = "/run/linkspan/ipam/web";

fn containers(lab: &Lab, count: usize) -> Vec<Container> {
    (0..count).map(|n| lab.container(&format!("c{n}"))).collect()
}

/// A call for each container, with a host port of its own.
fn publishing(network: &Plugin, containers: &[Container]) -> Vec<Plugin> {
    let call = |(n, container)| network.on(container).publish(&[&format!("{}:80", 8000 + n)]);
    containers.iter().enumerate().map(call).collect()
}

/// Starts all, then waits for all.
fn at_once<'a>(calls: impl IntoIterator<Item = (&'a Plugin, &'static str)>) -> Vec<Outcome> {
    let running: Vec<_> = calls.into_iter().map(|(call, command)| call.start(command)).collect();
    running.into_iter().map(lab::plugin::Running::finish).collect()
}

#[test]
fn sixty_four_adds_on_a_fresh_host_and_sixty_four_dels() {
    if lab::is_reference() {
        lab::skip!("the reference races for the bridge");
    }
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let fresh = Snapshot::take(&lab);
    let containers = containers(&lab, MANY);
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    let calls = publishing(&network, &containers);
    let results: Vec<_> = at_once(calls.iter().map(|call| (call, "ADD"))).iter().map(Outcome::ok).collect();
    for family in [4, 6] {
        let distinct: BTreeSet<String> = results.iter().map(|result| address(result, family)).collect();
        assert_eq!(distinct.len(), MANY, "IPv{family} addresses");
    }
    let bridges: BTreeSet<String> = results.iter().map(lab::outcome::bridge).collect();
    assert_eq!(bridges.len(), 1);
    for n in [0, MANY / 2, MANY - 1] {
        assert!(icmp::ping(&containers[n], &gateway(&results[n], 4)));
        assert!(icmp::ping(&containers[n], &address(&results[(n + 7) % MANY], 4)));
        let _server = talk::tcp_server(&containers[n], "[::]:80", "it");
        assert_eq!(talk::tcp(&outside, &format!("192.0.2.1:{}", 8000 + n)).tag, "it");
    }
    for outcome in at_once(calls.iter().zip(&results).map(|(call, _)| (call, "DEL"))) {
        outcome.ok();
    }
    let bridge = bridges.first().unwrap();
    let after = Snapshot::take(&lab);
    let traces: Vec<String> =
        results.iter().flat_map(|r| [address(r, 4), lab::outcome::host_end(r)]).collect();
    let traces: Vec<&str> =
        traces.iter().map(String::as_str).chain(containers.iter().map(|c| c.id.as_str())).collect();
    after.assert_only_shared(&fresh, bridge, &traces);
}

#[test]
fn networks_are_made_at_once() {
    if lab::is_reference() {
        lab::skip!("the reference races for its chains");
    }
    let Some(lab) = Lab::new() else { return };
    let containers = containers(&lab, 16);
    // No subnet is given: each network must choose its own, and no two the same.
    let calls: Vec<Plugin> = containers
        .iter()
        .enumerate()
        .map(|(n, container)| lab.plugin(json!({"name": format!("net{}", n % 8)})).on(container))
        .collect();
    let results: Vec<_> = at_once(calls.iter().map(|call| (call, "ADD"))).iter().map(Outcome::ok).collect();
    let gateways: BTreeSet<String> = results.iter().map(|result| gateway(result, 4)).collect();
    assert_eq!(gateways.len(), 8, "{gateways:?}");
    for n in 0..8 {
        assert_eq!(gateway(&results[n], 4), gateway(&results[n + 8], 4));
        assert!(icmp::ping(&containers[n], &address(&results[n + 8], 4)), "siblings of net{n}");
    }
}

#[test]
fn adds_and_dels_mixed() {
    if lab::is_reference() {
        lab::skip!("the reference races");
    }
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    let containers = containers(&lab, 24);
    let calls = publishing(&network, &containers);
    let (old, new) = calls.split_at(12);
    let warm = lab.container("warm");
    network.on(&warm).add().ok();
    network.on(&warm).del().ok();
    let clean = Snapshot::take(&lab);
    for round in 0..4 {
        let (leave, come) = if round % 2 == 0 { (new, old) } else { (old, new) };
        let mixed = come.iter().zip(leave).flat_map(|(come, leave)| [(come, "ADD"), (leave, "DEL")]);
        let outcomes = at_once(mixed);
        let results: Vec<_> = outcomes.iter().map(Outcome::ok).filter(|result| !result.is_null()).collect();
        let distinct: BTreeSet<String> = results.iter().map(|result| address(result, 4)).collect();
        assert_eq!(distinct.len(), 12, "round {round}");
        for (call, result) in come.iter().zip(&results) {
            call.prev(result).check().ok();
        }
    }
    for outcome in at_once(calls.iter().map(|call| (call, "DEL"))) {
        outcome.ok();
    }
    Snapshot::take(&lab).assert_same(&clean, "all have gone");
}

/// Most of them are taken away by another's DEL, while that one still waits for the kernel.
#[test]
fn what_a_del_took_is_gone_at_its_end_and_not_later() {
    if lab::is_reference() {
        lab::skip!("the reference races");
    }
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    let containers = containers(&lab, 32);
    let calls = publishing(&network, &containers);
    let results: Vec<_> = at_once(calls.iter().map(|call| (call, "ADD"))).iter().map(Outcome::ok).collect();
    let there = |container: &Container, result: &serde_json::Value| {
        let (host_end, lease) = (lab::outcome::host_end(result), format!("{LEASES}/{}", address(result, 4)));
        let link = |name: &str| std::fs::exists(format!("/proc/sys/net/ipv4/conf/{name}")).unwrap();
        let found = [
            lab.host.in_ns(|| link(&host_end)),
            container.in_ns(|| link("eth0")),
            Path::new(&lease).exists(),
        ];
        found.map(|there| (there, container.id.clone()))
    };
    for (there, container) in
        containers.iter().zip(&results).flat_map(|(container, result)| there(container, result))
    {
        assert!(there, "{container} before");
    }
    let running: Vec<_> = calls.iter().map(|call| call.start("DEL")).collect();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let watched = running.into_iter().zip(&containers).zip(&results);
        let watch = |((running, container), result): ((lab::plugin::Running, _), _)| {
            scope.spawn(move || {
                running.finish().ok();
                there(container, result)
            })
        };
        let watchers: Vec<_> = watched.map(watch).collect();
        watchers.into_iter().flat_map(|watcher| watcher.join().unwrap()).collect()
    });
    for (there, container) in ended {
        assert!(!there, "{container}");
    }
}

/// Who takes the others away with itself is killed: each of them goes on by itself, and a later DEL does the rest.
#[test]
fn dels_at_once_of_which_some_are_killed() {
    if lab::is_reference() {
        lab::skip!("the reference leaks");
    }
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    let containers = containers(&lab, 16);
    let calls = publishing(&network, &containers);
    let warm = lab.container("warm");
    network.on(&warm).add().ok();
    network.on(&warm).del().ok();
    let clean = Snapshot::take(&lab);
    for round in 0..6u64 {
        for outcome in at_once(calls.iter().map(|call| (call, "ADD"))) {
            outcome.ok();
        }
        let mut running: Vec<_> = calls.iter().map(|call| call.start("DEL")).collect();
        let survivors = running.split_off(4);
        // The first is in the middle of the kernel's wait, the others wait for it or for the next batch.
        for (n, running) in (0..).zip(running) {
            running.kill_after(Duration::from_millis(round * 4 + n));
        }
        for running in survivors {
            running.finish().ok();
        }
        for outcome in at_once(calls[..4].iter().map(|call| (call, "DEL"))) {
            outcome.ok();
        }
        Snapshot::take(&lab).assert_same(&clean, &format!("round {round}"));
    }
}

/// One host port, many who want it: one gets it.
#[test]
fn a_host_port_has_one_winner() {
    if lab::is_reference() {
        lab::skip!("the reference gives it to all");
    }
    let Some(lab) = Lab::new() else { return };
    let network = lab.plugin(json!({"ipam": v4(1)}));
    let containers = containers(&lab, 16);
    let calls: Vec<Plugin> = containers.iter().map(|c| network.on(c).publish(&["8080:80"])).collect();
    let outcomes = at_once(calls.iter().map(|call| (call, "ADD")));
    let winners = outcomes.iter().filter(|outcome| outcome.succeeded()).count();
    assert_eq!(winners, 1);
    for outcome in outcomes.iter().filter(|outcome| !outcome.succeeded()) {
        assert!(outcome.refused(102).contains("8080"));
    }
}

/// The same attachment, asked for many times at once: one ADD makes it, and the others harm nothing.
#[test]
fn an_attachment_has_one_winner() {
    if lab::is_reference() {
        lab::skip!("the reference has no lock for it");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let call = lab.plugin(json!({"ipam": v4(1)})).on(&a);
    let outcomes = at_once((0..8).map(|_| (&call, "ADD")));
    let winners: Vec<_> = outcomes.iter().filter(|outcome| outcome.succeeded()).collect();
    assert_eq!(winners.len(), 1);
    for outcome in outcomes.iter().filter(|outcome| !outcome.succeeded()) {
        outcome.refused(103);
    }
    call.prev(&winners[0].ok()).check().ok();
    for outcome in at_once((0..8).map(|_| (&call, "DEL"))) {
        outcome.ok();
    }
    Snapshot::take(&lab).assert_without(&[&a.id]);
}
