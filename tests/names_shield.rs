//! The name service is nobody's to take: whatever containers publish, questions to a gateway reach the agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use serde_json::{Value, json};

use lab::agent::{Agent, Stray, status};
use lab::dns::{Answering, dig};
use lab::outcome::{address, gateway};
use lab::plugin::{Plugin, dual_stack};
use lab::{Container, Lab};

fn network(lab: &Lab, name: &str, number: u8, keys: Value) -> Plugin {
    lab.plugin(json!({"name": name, "ipam": dual_stack(number)})).with(keys)
}

fn add(network: &Plugin, container: &Container, name: &str) -> Value {
    let added = network.on(container).args(&format!("IgnoreUnknown=1;K8S_POD_NAME={name}")).add();
    assert_eq!(added.stderr, "", "nothing is degraded");
    added.ok()
}

/// A container that publishes port 53 on all addresses has the questions of the world, and of no container.
fn published_everywhere(keys: Value, first: bool) {
    let Some(mut lab) = Lab::new() else { return };
    if keys["backend"] == "iptables" && !lab.iptables("nft") {
        lab::skip!("iptables-nft is not here");
    }
    let _agent = Agent::start();
    let outside = lab.outside();
    let names = json!({"dns": {"enabled": true}});
    let (web, own) = (network(&lab, "web", 1, keys.clone()).with(names), network(&lab, "own", 2, keys));
    let (a, resolver) = (lab.container("a"), lab.container("resolver"));
    let publish =
        || own.on(&resolver).publish(&["53:53/udp", "53:53/tcp"]).with(json!({"holdPorts": true})).add().ok();
    if first {
        publish();
    }
    let result = add(&web, &a, "front");
    if !first {
        publish();
    }
    let _answering = Answering::start(&resolver, [198, 51, 100, 53]);
    for server in [gateway(&result, 4), gateway(&result, 6)] {
        for question in ["front A", "+tcp front A"] {
            let heard = dig(&a, &server, question);
            assert_eq!(heard.data, [address(&result, 4)], "{question} at {server}: {}", heard.text);
            let heard = dig(&lab.host, &server, question);
            assert_eq!(
                heard.data,
                [address(&result, 4)],
                "{question} at {server}, from the host: {}",
                heard.text
            );
        }
    }
    // The world's questions are the container's, as published.
    let heard = dig(&outside, "192.0.2.1", "front A");
    assert_eq!(heard.data, ["198.51.100.53"], "{}", heard.text);
    // With the last container of the network its name service goes, and nothing else.
    own.on(&resolver).publish(&["53:53/udp", "53:53/tcp"]).del().ok();
    assert_eq!(dig(&a, &gateway(&result, 4), "front A").data, [address(&result, 4)]);
    assert_eq!(status()["services"]["ports"]["held"], 0, "that port is not held on all addresses");
    web.on(&a).args("IgnoreUnknown=1;K8S_POD_NAME=front").check();
}

#[test]
fn a_port_that_was_published_before_takes_no_questions() {
    published_everywhere(json!({}), true);
}

#[test]
fn a_port_that_is_published_later_takes_no_questions() {
    published_everywhere(json!({}), false);
}

#[test]
fn a_port_that_is_published_by_iptables_takes_no_questions() {
    published_everywhere(json!({"backend": "iptables"}), true);
    published_everywhere(json!({"backend": "iptables"}), false);
}

#[test]
fn a_range_takes_no_questions() {
    let Some(lab) = Lab::new() else { return };
    let _agent = Agent::start();
    let web = network(&lab, "web", 1, json!({"dns": {"enabled": true}}));
    let (a, resolver) = (lab.container("a"), lab.container("resolver"));
    let result = add(&web, &a, "front");
    let own = network(&lab, "own", 2, json!({}));
    own.on(&resolver).publish(&["50-60:50-60/udp", "1050-1060:50-60/udp"]).add().ok();
    let _answering = Answering::start(&resolver, [198, 51, 100, 53]);
    assert_eq!(dig(&a, &gateway(&result, 4), "front A").data, [address(&result, 4)]);
    assert_eq!(dig(&a, &gateway(&result, 6), "front A").data, [address(&result, 4)]);
}

/// The gateway of a network is published by nobody, of its own or of another network; other ports of it are free.
#[test]
fn a_gateway_s_port_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let (a, b) = (lab.container("a"), lab.container("b"));
    let web = network(&lab, "web", 1, json!({"dns": {"enabled": true}}));
    let result = add(&web, &a, "front");
    let own = network(&lab, "own", 2, json!({}));
    let gw = gateway(&result, 4);
    for ports in [format!("{gw}:53:53/udp"), format!("{gw}:53:53/tcp"), format!("{gw}:50-60:50-60/udp")] {
        let words = own.on(&b).publish(&[&ports]).add().refused(102);
        assert!(words.contains("the name service of network web"), "{words}");
        web.on(&b).publish(&[&ports]).add().refused(102);
    }
    own.on(&b).publish(&[&format!("{gw}:54:53/udp")]).add().ok();
    assert_eq!(dig(&a, &gw, "front A").data, [address(&result, 4)]);
}

/// A host that drops what it is not told to take in says so by STATUS and at ADD, where nobody would be answered.
#[test]
fn a_host_that_takes_no_questions_is_told_of() {
    let ip = |rules: &str| {
        format!(
            "table ip filter {{ chain INPUT {{ type filter hook input priority 0; policy drop; {rules} }}; }}"
        )
    };
    let own = |rules: &str| {
        format!(
            "table inet site {{ chain input {{ type filter hook input priority 0; policy drop; {rules} }}; }}"
        )
    };
    let usual = "iifname lo accept; ct state established,related accept; tcp dport 22 accept;";
    let dns = "meta l4proto { tcp, udp } th dport 53 accept;";
    let table = [
        (ip(usual), Some("iptables -I INPUT -i lks-web -p udp --dport 53 -j ACCEPT")),
        (own(usual), Some("nft insert rule inet site input iifname lks-web")),
        (own("iifname \"lks-*\" udp dport 53 drop; accept;"), None),
        (own(&format!("{usual} udp dport 53 accept;")), None),
        (own(&format!("{usual} {dns}")), None),
        (own("iifname lks-web accept;"), None),
        (own("udp dport 5353 accept; ip protocol udp udp dport 53 accept;"), None),
    ];
    for (rules, advice) in table {
        let Some(lab) = Lab::new() else { return };
        let _agent = Agent::start();
        let web = lab.plugin(json!({"name": "web", "dns": {"enabled": true}, "ipam": lab::plugin::v4(1)}));
        let plain = lab.plugin(json!({"name": "plain", "ipam": lab::plugin::v4(2)}));
        let a = lab.container("a");
        lab.host.feed(&["nft", "-f", "-"], &rules);
        let added = web.on(&a).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
        let result = added.ok();
        let works = dig(&a, "10.88.1.1", "+time=1 front A").data.len() == 1;
        let Some(advice) = advice else {
            if works {
                assert_eq!(added.stderr, "", "{rules}");
                assert_eq!(result["dns"]["nameservers"], json!(["10.88.1.1"]));
                web.status().ok();
            }
            continue;
        };
        assert!(!works, "{rules}");
        assert!(
            added.stderr.contains("cannot ask for names") && added.stderr.contains(advice),
            "{}",
            added.stderr
        );
        assert!(result["dns"].is_null(), "it asks the host's servers, which it may reach: {result}");
        let words = web.status().refused(51);
        assert!(words.contains("containers cannot ask for names") && words.contains(advice), "{words}");
        plain.status().ok();
        // What was said to be typed helps, and the next container has names.
        let typed = words.split("let them in: ").nth(1).unwrap().split(" (with ufw").next().unwrap();
        let typed: Vec<&str> = typed
            .split("; ")
            .map(str::trim)
            .filter(|command| command.starts_with("iptables") || command.starts_with("nft"))
            .collect();
        let typed = typed
            .join("\n")
            .lines()
            .map(|line| line.split(" (STATUS").next().unwrap().trim_end_matches(['"', '\n']).to_owned())
            .collect::<Vec<_>>();
        for command in &typed {
            let command = command.replace("{ tcp, udp }", "'{ tcp, udp }'");
            lab.host.must(&["sh", "-c", &command]);
        }
        web.status().ok();
        assert_eq!(dig(&a, "10.88.1.1", "front A").data.len(), 1, "{typed:?}");
        let added = web.on(&lab.container("b")).add();
        assert_eq!(added.stderr, "");
        assert_eq!(added.ok()["dns"]["nameservers"], json!(["10.88.1.1"]));
    }
}

/// The same of legacy iptables, of which nf_tables knows nothing; the command that is told lets the questions in.
#[test]
fn a_host_of_legacy_iptables_that_takes_no_questions_is_told_of() {
    let Some(lab) = Lab::new() else { return };
    let drop = "iptables-legacy -A INPUT -i lo -j ACCEPT && \
                iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && \
                iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT && iptables-legacy -P INPUT DROP";
    if !lab.host.exec(&["sh", "-c", drop]).ok {
        lab::skip!("there is no legacy iptables here");
    }
    let _agent = Agent::start();
    let web = lab.plugin(json!({"name": "web", "dns": {"enabled": true}, "ipam": lab::plugin::v4(1)}));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let added = web.on(&a).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
    assert!(dig(&a, "10.88.1.1", "+time=1 front A").data.is_empty());
    let advice = "iptables-legacy -I INPUT -i lks-web -p udp --dport 53 -j ACCEPT";
    assert!(
        added.stderr.contains("iptables-legacy filter INPUT") && added.stderr.contains(advice),
        "{}",
        added.stderr
    );
    assert!(added.ok()["dns"].is_null());
    lab.host.must(&["sh", "-c", advice]);
    let second = web.on(&b).args("IgnoreUnknown=1;K8S_POD_NAME=back").add();
    assert_eq!(second.stderr, "");
    assert_eq!(second.ok()["dns"]["nameservers"], json!(["10.88.1.1"]));
    assert_eq!(dig(&a, "10.88.1.1", "back A").data.len(), 1);
    // A rule that drops does as a policy, and is named by its line.
    lab.host.must(&["iptables-legacy", "-I", "INPUT", "-p", "udp", "-j", "DROP"]);
    let said = web.status().refused(51);
    assert!(said.contains("rule 1 (iptables-legacy -L INPUT --line-numbers)"), "{said}");
}
