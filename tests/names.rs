//! The name service: containers find each other, and nobody else's names; real resolvers ask.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::HashSet;

use serde_json::{Value, json};

use lab::agent::{Agent, Stray, status};
use lab::dns::{dig, musl_resolver, resolve_by};
use lab::hold::Holder;
use lab::outcome::{address, gateway};
use lab::plugin::{Plugin, dual_stack, v4};
use lab::talk::PATIENCE;
use lab::{Container, Lab, eventually, skip};

/// A network with a name service.
fn named(lab: &Lab, name: &str, ipam: Value) -> Plugin {
    lab.plugin(json!({"name": name, "dns": {"enabled": true}, "ipam": ipam}))
}

/// An ADD of a container that its runtime calls so.
fn add(network: &Plugin, container: &Container, name: &str) -> Value {
    let added = network.on(container).args(&format!("IgnoreUnknown=1;K8S_POD_NAME={name}")).add();
    assert_eq!(added.stderr, "", "nothing is degraded");
    added.ok()
}

#[test]
fn containers_find_each_other_by_all_their_names() {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start();
    let web = named(&lab, "web", dual_stack(1));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = add(&web, &a, "front");
    let aliased = web.cap(json!({"aliases": {"web": ["api", "Store"], "other": ["none"]}}));
    let by_args = aliased.with(json!({"args": {"cni": {"name": "third", "aliases": ["fourth"]}}}));
    let second = add(&by_args, &b, "Back_1");
    let (gw4, gw6) = (gateway(&first, 4), gateway(&first, 6));
    assert_eq!(first["dns"]["nameservers"], json!([gw4, gw6]), "the container is told where to ask");

    let (four, six) = (address(&second, 4), address(&second, 6));
    let names =
        ["back_1", "BACK_1", "api", "store", "third", "fourth", "container-b", "back_1.web", "api.web."];
    for name in names {
        for server in [&gw4, &gw6] {
            assert_eq!(
                dig(&a, server, &format!("{name} A")).data,
                std::slice::from_ref(&four),
                "{name} at {server}"
            );
            assert_eq!(
                dig(&a, server, &format!("{name} AAAA")).data,
                std::slice::from_ref(&six),
                "{name} at {server}"
            );
        }
    }
    assert_eq!(dig(&b, &gw4, "front A").data, [address(&first, 4)]);
    assert_eq!(dig(&a, &gw4, "front A").data, [address(&first, 4)], "itself");
    assert_eq!(dig(&a, &gw4, &format!("-x {four}")).data, ["back_1.web."]);
    assert_eq!(dig(&a, &gw6, &format!("-x {six}")).data, ["back_1.web."]);
    assert_eq!(dig(&a, &gw4, "+tcp front A").data, [address(&first, 4)]);
    assert_eq!(dig(&a, &gw4, "+noedns front A").data, [address(&first, 4)]);
    assert_eq!(dig(&lab.host, &gw4, "front A").data, [address(&first, 4)], "the host may ask as well");
    for absent in ["absent", "other", "absent.web"] {
        assert_eq!(dig(&a, &gw4, &format!("{absent} A")).status, "NXDOMAIN", "{absent}");
    }
    let nothing = dig(&a, &gw4, "back_1 MX");
    assert_eq!((nothing.status.as_str(), nothing.data.len()), ("NOERROR", 0));

    // DEL returns when the name is gone.
    by_args.on(&b).del().ok();
    assert_eq!(dig(&a, &gw4, "back_1 A").status, "NXDOMAIN");
    assert_eq!(dig(&a, &gw4, &format!("-x {four}")).status, "NXDOMAIN");
    web.on(&a).del().ok();
    assert_eq!(status()["services"]["names"]["listening"], json!([]), "nobody is left who could ask");
    drop(agent);
}

#[test]
fn a_name_of_several_containers_has_all_addresses_in_changing_order() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let web = named(&lab, "web", v4(1)).cap(json!({"aliases": {"web": ["all"]}}));
    let containers: Vec<Container> = (0..3).map(|n| lab.container(&format!("c{n}"))).collect();
    let results: Vec<Value> =
        containers.iter().enumerate().map(|(n, c)| add(&web, c, &format!("n{n}"))).collect();
    let mut wanted: Vec<String> = results.iter().map(|result| address(result, 4)).collect();
    wanted.sort();
    let gw = gateway(&results[0], 4);
    let firsts: HashSet<String> = (0..40)
        .map(|_| {
            let said = containers[0].must(&["dig", &format!("@{gw}"), "+short", "all", "A"]);
            let mut lines: Vec<&str> = said.lines().collect();
            let first = lines[0].to_owned();
            lines.sort_unstable();
            assert_eq!(lines, wanted);
            first
        })
        .collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn a_container_sees_its_own_networks_only() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let (web, db) = (named(&lab, "web", v4(1)), named(&lab, "db", v4(2)));
    let plain = lab.plugin(json!({"name": "plain", "ipam": v4(3)}));
    let (a, b, both, other) =
        (lab.container("a"), lab.container("b"), lab.container("both"), lab.container("other"));
    let (in_web, in_db) = (add(&web, &a, "front"), add(&db, &b, "store"));
    add(&web, &both, "both");
    let second = db.on(&both).ifname("eth1").args("IgnoreUnknown=1;K8S_POD_NAME=both").add().ok();
    let unnamed = plain.on(&other).add().ok();
    assert!(unnamed["dns"].is_null(), "{unnamed}");
    let (web_gw, db_gw) = (gateway(&in_web, 4), gateway(&in_db, 4));

    for server in [&web_gw, &db_gw] {
        assert_eq!(dig(&both, server, "front A").data, [address(&in_web, 4)], "at {server}");
        assert_eq!(dig(&both, server, "store.db A").data, [address(&in_db, 4)], "at {server}");
        // Whichever gateway is asked: it is the asker that counts.
        assert_eq!(dig(&a, server, "front A").data, [address(&in_web, 4)], "at {server}");
        for hidden in
            ["store A", "store.db A", "both.db A", "absent.db A", &format!("-x {}", address(&in_db, 4))]
        {
            assert_eq!(dig(&a, server, hidden).status, "NXDOMAIN", "{hidden} at {server}");
        }
        assert_eq!(dig(&a, server, "both A").data.len(), 1, "not the address on the other network");
        let refused = dig(&other, server, "front A");
        assert_eq!((refused.status.as_str(), refused.data.len()), ("REFUSED", 0), "a network without names");
        assert_eq!(dig(&other, server, "+tcp front A").status, "REFUSED");
    }
    db.on(&both).ifname("eth1").del().ok();
    assert_eq!(dig(&both, &web_gw, "store A").status, "NXDOMAIN", "it has left that network");
    assert_eq!(dig(&both, &web_gw, "front A").data.len(), 1);
    assert!(!address(&second, 4).is_empty());
}

#[test]
fn it_listens_on_gateways_and_nowhere_else() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let agent = Agent::start();
    let web = named(&lab, "web", dual_stack(1));
    let result = add(&web, &lab.container("a"), "front");
    let mut wanted = Vec::new();
    for gateway in [gateway(&result, 4), format!("[{}]", gateway(&result, 6))] {
        wanted.push(format!("tcp {gateway}:53"));
        wanted.push(format!("udp {gateway}:53"));
    }
    wanted.sort();
    let mine = format!("pid={},", agent.child.id());
    let said = lab.host.must(&["ss", "-Hlnptu"]);
    let mut listening: Vec<String> = said
        .lines()
        .filter(|line| line.contains(&mine))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {}", words[0], words[4])
        })
        .collect();
    listening.sort();
    assert_eq!(listening, wanted, "{said}");
    // Another host that routes to the gateway is a stranger.
    let heard = dig(&outside, &gateway(&result, 4), "front A");
    assert_eq!((heard.status.as_str(), heard.data.len()), ("REFUSED", 0), "{}", heard.text);
}

#[test]
fn real_resolvers_understand_it() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let web = named(&lab, "web", dual_stack(1));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (result, target) = (add(&web, &a, "front"), add(&web, &b, "back"));
    let gw = gateway(&result, 4);
    let (four, six) = (address(&target, 4), address(&target, 6));
    let by = |argv: &[&str]| resolve_by(&a, &lab, &gw, argv);

    for name in ["back", "back.web"] {
        let glibc = by(&["getent", "ahosts", name]);
        assert!(glibc.ok && glibc.stdout.contains(&four) && glibc.stdout.contains(&six), "{}", glibc.stdout);
        let busybox = by(&["busybox", "nslookup", name]);
        assert!(busybox.ok && busybox.stdout.contains(&four), "{}{}", busybox.stdout, busybox.stderr);
    }
    assert!(by(&["getent", "hosts", &four]).stdout.contains("back.web"));
    assert!(!by(&["getent", "ahosts", "absent"]).ok);
    assert!(!by(&["busybox", "nslookup", "absent"]).ok);
    let Some(musl) = musl_resolver(&lab) else {
        skip!("rustc has no musl target here: glibc and busybox were asked")
    };
    let musl = musl.to_str().unwrap();
    for name in ["back", "back.web"] {
        let said = by(&[musl, name]);
        let mut found: Vec<&str> = said.stdout.lines().collect();
        found.sort_unstable();
        assert_eq!(found, [four.as_str(), six.as_str()], "{name}: {}", said.stderr);
    }
    assert!(!by(&[musl, "absent"]).ok);
}

/// A bridge that is deleted and made again, by somebody else's hand, has its listener again: it never lost it.
#[test]
fn a_bridge_that_is_made_anew_serves_names() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let web = named(&lab, "web", dual_stack(1));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let result = add(&web, &a, "front");
    lab.ip("link delete lks-web");
    let second = add(&web, &b, "back");
    for server in [gateway(&result, 4), gateway(&result, 6)] {
        assert_eq!(dig(&b, &server, "back A").data, [address(&second, 4)], "at {server}");
        assert_eq!(dig(&b, &server, "+tcp back A").data, [address(&second, 4)], "at {server}");
    }
}

#[test]
fn a_port_that_is_taken_is_said_and_hurts_nobody_else() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let _agent = Agent::start();
    let taken = Holder::udp(&lab.host, "0.0.0.0:53", "somebody", &[]);
    let web = named(&lab, "web", v4(1));
    let a = lab.container("a");
    let added = web.on(&a).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
    let result = added.ok();
    assert!(added.stderr.contains("names: cannot listen on 10.88.1.1:53"), "{}", added.stderr);
    assert!(result["dns"].is_null(), "nobody is to be asked there: {result}");
    drop(taken);
    // The next one finds it free.
    let b = lab.container("b");
    let gw = gateway(&add(&web, &b, "back"), 4);
    assert!(eventually(PATIENCE, || dig(&b, &gw, "front A").data.len() == 1));
}

#[test]
fn wrong_keys_are_refused_before_anything_is_done() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let table = [
        (json!({"dns": {"enabled": "yes"}}), "dns.enabled"),
        (json!({"isGateway": false, "isDefaultGateway": false}), "dns.enabled = true without a gateway"),
        (json!({"ipam": {}}), "dns.enabled = true without a gateway"),
        (json!({"dns": {"enabled": true, "nameservers": ["one"]}}), "dns.nameservers"),
        (json!({"dns": {"enabled": true, "domain": "a..b"}}), "dns.domain"),
        (json!({"args": {"cni": {"name": "a b"}}}), "args.cni.name"),
        (json!({"args": {"cni": {"aliases": "a"}}}), "args.cni.aliases"),
        (json!({"runtimeConfig": {"aliases": {"web": ["*"]}}}), "runtimeConfig.aliases.web[0]"),
    ];
    for (keys, named_key) in table {
        let mut network = named(&lab, "web", v4(1));
        if keys.get("ipam").is_some() {
            network.conf["ipam"] = json!({});
        }
        let words = network.with(keys.clone()).on(&a).add().refused(7);
        assert!(words.contains(named_key), "{keys}: {words}");
    }
    assert!(lab::inspect::link(&lab.host, "lks-web").is_none());
    assert!(!lab::agent::has_socket(), "nobody was started for it");
    // A pod's name may be too long for DNS: it is said, and the container has its other names.
    let _agent = Agent::start();
    let long = "a".repeat(64);
    let added = named(&lab, "web", v4(1)).on(&a).args(&format!("IgnoreUnknown=1;K8S_POD_NAME={long}")).add();
    assert!(added.stderr.contains("is no name in DNS"), "{}", added.stderr);
    assert_eq!(dig(&a, &gateway(&added.ok(), 4), "container-a A").data.len(), 1);
}
