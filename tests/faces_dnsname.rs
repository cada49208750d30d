//! The face `dnsname`: names for containers whose interface another plugin made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::agent::{Agent, Stray, status};
use lab::dns::dig;
use lab::faces::{Whose, bridged, plugin};
use lab::hold::Holder;
use lab::{Container, Lab, Plugin};
use serde_json::{Value, json};

const GATEWAY: &str = "10.88.1.1";

/// What podman chains to its bridge, for a container that is called so.
fn named(lab: &Lab, container: &Container, name: &str, previous: &Value) -> Plugin {
    plugin(lab, Whose::Ours, "dnsname", json!({"name": "web", "domainName": "dns.podman"}))
        .cap(json!({"aliases": {"web": [format!("alias-of-{name}")]}}))
        .args(&format!("IgnoreUnknown=1;K8S_POD_NAME={name}"))
        .on(container)
        .prev(previous)
}

#[test]
fn containers_of_another_s_bridge_find_each_other() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (bridge, first) = bridged(&lab, &a, "1.0.0", 1);
    let (_, second) = bridged(&lab, &b, "1.0.0", 1);
    let front = named(&lab, &a, "front", &first);
    let added = front.add();
    assert_eq!(added.stderr, "", "nothing is degraded");
    let result = added.ok();
    assert_eq!(result["dns"], json!({"nameservers": [GATEWAY], "search": ["dns.podman"]}));
    for part in ["ips", "interfaces", "routes"] {
        assert_eq!(result[part], first[part], "{part} pass");
    }
    let back = named(&lab, &b, "back", &second);
    back.add().ok();
    let address = second["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    for name in ["back", "back.dns.podman", "back.web", "alias-of-back", "container-b"] {
        assert_eq!(dig(&a, GATEWAY, &format!("{name} A")).data, std::slice::from_ref(&address), "{name}");
    }
    assert_eq!(dig(&a, GATEWAY, &format!("-x {address}")).data, ["back.web."]);
    front.prev(&result).check().ok();
    // A runtime that reloads its network asks again without DEL.
    back.add().ok();
    assert_eq!(dig(&a, GATEWAY, "back A").data, [address]);

    back.del().ok();
    assert_eq!(dig(&a, GATEWAY, "back A").status, "NXDOMAIN");
    back.del().ok();
    let unknown = back.check();
    assert!(
        !unknown.succeeded() && unknown.words().contains("container-b:eth0:dnsname"),
        "{}",
        unknown.words()
    );
    front.del().ok();
    assert_eq!(std::fs::read_dir("/run/linkspan/ready").unwrap().count(), 0);
    bridge.del().ok();
}

#[test]
fn name_servers_of_the_result_are_asked_by_the_agent_or_by_the_container() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let (_, mut first) = bridged(&lab, &a, "1.0.0", 1);
    first["dns"] = json!({"nameservers": ["192.0.2.53"], "search": ["corp.example"]});
    let front = named(&lab, &a, "front", &first);
    let agent = Agent::start();
    let served = front.add().ok();
    let search = json!(["corp.example", "dns.podman"]);
    assert_eq!(served["dns"], json!({"nameservers": [GATEWAY], "search": search}));
    let record = std::fs::read_to_string("/run/linkspan/ready/container-a:eth0:dnsname").unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["naming"]["upstreams"], json!(["192.0.2.53"]));
    front.del().ok();
    assert_eq!(status()["services"]["names"]["listening"], json!([]));
    // Somebody else has the port: nobody of ours answers there, and the container is not sent there.
    let taken = Holder::udp(&lab.host, "0.0.0.0:53", "somebody", &[]);
    let unserved = front.add();
    assert!(unserved.stderr.contains("cannot listen on 10.88.1.1:53"), "{}", unserved.stderr);
    assert_eq!(unserved.ok()["dns"], json!({"nameservers": ["192.0.2.53"], "search": search}));
    drop(taken);
    drop(agent);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_done() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let a = lab.container("a");
    let (_, first) = bridged(&lab, &a, "1.0.0", 1);
    let refused = |plugin: Plugin, words: &str| {
        let said = plugin.add().refused(7);
        assert!(said.contains(words), "{said}");
    };
    let front = named(&lab, &a, "front", &first);
    refused(front.with(json!({"prevResult": null})), "must be called as chained plugin");
    let mut flat = first.clone();
    flat["ips"][0].as_object_mut().unwrap().remove("gateway");
    refused(front.prev(&flat), "set isGateway");
    let aliases = json!({"runtimeConfig": {"aliases": {"web": ["a..b"]}}});
    refused(front.with(aliases), "is no name in DNS");
    assert!(std::fs::read_dir("/run/linkspan/ready").map_or(true, |mut all| all.next().is_none()));
    assert!(!lab::agent::has_socket(), "nobody had work for an agent");
}
