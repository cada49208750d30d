//! A host port that the reference `portmap` publishes is taken, whoever asks for it next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::chain::Bin;
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::{Lab, inspect};
use serde_json::json;

fn list() -> serde_json::Value {
    let ranges = json!([[{"subnet": "10.89.1.0/24"}], [{"subnet": "fd00:89:1::/64"}]]);
    json!({"name": "web", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "ranges": ranges}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

/// What is asked for, and whether somebody has it, where theirs has 8080 on every address and 8443 on 192.0.2.1.
const ASKED: [(&str, bool); 9] = [
    ("8080:80", true),
    ("127.0.0.1:8080:80", true),
    ("[::]:8080:80", true),
    ("8080:80/udp", false),
    ("8081:80", false),
    ("8443:443", true),
    ("192.0.2.1:8443:443", true),
    ("127.0.0.1:8443:443", false),
    ("8070-8090:8070-8090", true),
];

fn beside_iptables(variant: &str) {
    let Some(mut lab) = Lab::new() else { return };
    if !lab.iptables(variant) {
        lab::skipped(&format!("iptables-{variant} is not here"));
        return;
    }
    let _outside = lab.outside();
    let (theirs, ours) = (Bin::theirs(&lab), Bin::ours(&lab));
    let (a, b) = (lab.container("a"), lab.container("b"));
    let on_a = theirs.chain(list()).publish(&["8080:80", "192.0.2.1:8443:443"]);
    let result = on_a.add(&a).ok();
    let network = lab.plugin(json!({"name": "own", "ipam": dual_stack(2)})).on(&b);
    for (asked, taken) in ASKED {
        let own = network.publish(&[asked]);
        let outcome = own.add();
        if !taken {
            outcome.ok();
            own.del().ok();
            continue;
        }
        let words = outcome.refused(102);
        let owner = "taken by container container-a of network web, by the reference plugin portmap";
        assert!(words.contains(owner), "{asked}: {words}");
    }
    Snapshot::take(&lab).assert_without(&["container-b"]);
    // The face, in the same network as theirs; the container that has the port may ask again.
    let chain = ours.chain(list());
    assert_eq!(chain.publish(&["8080:80"]).add(&b).code(), 102);
    chain.plugins(&b)[0].del().ok();
    let portmap = &chain.publish(&["8080:80"]).plugins(&a)[1];
    portmap.prev(&result).add().ok();
    portmap.prev(&result).del().ok();
    // Automatic ports stay clear of theirs.
    lab.host.set_sysctl("net.ipv4.ip_local_port_range", "8079 8081");
    let automatic = network.cap(json!({"portMappings": [
        {"hostPort": 0, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 0, "containerPort": 81, "protocol": "tcp"},
    ]}));
    automatic.add().ok();
    assert!(inspect::link(&b, "eth0").is_some());
    automatic.del().ok();
    on_a.from(&theirs).del(&a, &result);
    network.publish(&["8080:80"]).add().ok();
}

#[test]
fn beside_iptables_nft() {
    beside_iptables("nft");
}

#[test]
fn beside_iptables_legacy() {
    beside_iptables("legacy");
}

/// As version 1.9 writes it with the backend nftables, which Debian's does not have.
const NFTABLES: &str = "
    add table ip cni_hostport { comment \"CNI portmap plugin\"; }
    add chain ip cni_hostport hostports
    add chain ip cni_hostport hostip_hostports
    add rule ip cni_hostport hostports tcp dport 8080 dnat to 10.1.0.2:80 comment \"c1\"
    add rule ip cni_hostport hostports ip daddr 192.0.2.1 tcp dport 8443 dnat to 10.1.0.2:443 comment \"c1\"
    add table ip6 cni_hostport
    add chain ip6 cni_hostport hostports
    add chain ip6 cni_hostport hostip_hostports
    add rule ip6 cni_hostport hostports tcp dport 8080 dnat to [fd00:1::2]:80 comment \"c1\"
";

#[test]
fn beside_nftables() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let b = lab.container("b");
    lab.host.must(&["sh", "-c", &format!("nft -f - <<'END'{NFTABLES}END")]);
    let network = lab.plugin(json!({"name": "own", "ipam": dual_stack(2)})).on(&b);
    for (asked, taken) in ASKED {
        let own = network.publish(&[asked]);
        let outcome = own.add();
        if taken {
            let words = outcome.refused(102);
            assert!(
                words.contains("taken by container c1, by the reference plugin portmap"),
                "{asked}: {words}"
            );
        } else {
            outcome.ok();
            own.del().ok();
        }
    }
    // CHECK of what theirs attached compares port by port.
    let a = lab.container("a");
    let result = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": a.path}],
        "ips": [{"address": "10.1.0.2/24", "interface": 0}]});
    let portmap = Bin::ours(&lab).plugin("portmap", json!({"name": "web"})).on(&a).id("c1").prev(&result);
    portmap.publish(&["8080:80", "192.0.2.1:8443:443"]).check().ok();
    let words = portmap.publish(&["8080:81"]).check().refused(999);
    assert!(words.contains("published port tcp 0.0.0.0:8080"), "{words}");
}
