//! What a face answers to wrong keys, side by side with Debian's plugin of the same name: exit status, code and words; and
//! that nothing has changed then.

mod lab;

use lab::beside::{Beside, Is};
use lab::faces::Whose;
use lab::plugin::merge;
use serde_json::{Value, json};

#[test]
fn keys_of_the_plugins_that_make_an_interface() {
    let Some(stage) = Beside::new() else { return };
    stage.keys(
        "bridge",
        vec![
            (json!({"mtu": "x"}), Is::Alike),
            (json!({"mtu": -1}), Is::Refused(999, "mtu = -1")),
            (json!({"bridge": 7}), Is::Alike),
            (json!({"bridge": "sixteencharacters"}), Is::Refused(999, "at most 15 fit")),
            (json!({"bridge": "lo"}), Is::Same),
            (json!({"isGateway": "x"}), Is::Alike),
            (json!({"vlan": 4095}), Is::Same),
            (json!({"vlan": -1}), Is::Same),
            (json!({"vlanTrunk": [{"minID": 7}]}), Is::Refused(999, "maxID")),
            (json!({"hairpinMode": true, "promiscMode": true}), Is::Same),
            (
                json!({"ipam": {"type": 7}}),
                Is::Refused(999, "failed to load netconf: json: cannot unmarshal number"),
            ),
            (
                json!({"ipam": {"type": "nobody"}}),
                Is::Refused(999, "failed to find plugin \"nobody\" in path ["),
            ),
            (json!({"ipam": {"subnet": "10.9.0.0/33"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.1/24"}}), Is::Same),
            (json!({"runtimeConfig": {"mac": "x"}}), Is::Same),
            (json!({"args": {"cni": {"mac": "x"}}}), Is::Same),
            (json!({"prevResult": []}), Is::Alike),
        ],
    );
    stage.keys(
        "ptp",
        vec![
            (json!({"mtu": "x"}), Is::Alike),
            (json!({"ipMasq": "yes"}), Is::Alike),
            (json!({"ipam": null}), Is::Same),
            (json!({"ipam": {"subnet": "10.77.0.0/33"}}), Is::Same),
        ],
    );
    stage.keys(
        "macvlan",
        vec![
            (json!({"master": "nowhere"}), Is::Alike),
            (json!({"master": null}), Is::Same),
            (json!({"master": 7}), Is::Alike),
            (json!({"mode": "sideways"}), Is::Same),
            (json!({"mtu": 9000}), Is::Same),
            (json!({"mac": "x"}), Is::Same),
            (json!({"mtu": "x"}), Is::Alike),
        ],
    );
    for face in ["bridge", "ptp", "macvlan"] {
        stage.bare.ip("link add eth0 type veth peer name other");
        stage.compare(face, Is::Same, |whose| {
            let outcome = stage.good(whose, face).add();
            // Theirs leaves the address.
            stage.good(whose, face).ifname("eth9").del();
            stage.good(whose, "host-local").del().ok();
            outcome
        });
        stage.bare.ip("link del eth0");
    }
}

#[test]
fn keys_of_the_plugins_that_give_addresses() {
    let Some(stage) = Beside::new() else { return };
    let ranges = |ranges: Value| json!({"ipam": {"subnet": null, "ranges": ranges}});
    stage.keys(
        "host-local",
        vec![
            (json!({"ipam": null}), Is::Same),
            (json!({"ipam": {"subnet": null}}), Is::Same),
            (ranges(json!([])), Is::Same),
            (ranges(json!([[]])), Is::Same),
            (json!({"ipam": {"subnet": "x"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.0/31"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.0/32"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.0/+24"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.1/024"}}), Is::Same),
            (json!({"ipam": {"subnet": "10.9.0.1/24"}}), Is::Same),
            (json!({"ipam": {"subnet": "::ffff:10.9.0.0/120"}}), Is::Same),
            (json!({"ipam": {"rangeStart": "x"}}), Is::Same),
            (json!({"ipam": {"rangeStart": "10.8.0.1"}}), Is::Same),
            (json!({"ipam": {"rangeEnd": "10.8.0.1"}}), Is::Same),
            (
                json!({"ipam": {"rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.5"}}),
                Is::Refused(999, "rangeStart"),
            ),
            (json!({"ipam": {"gateway": "x"}}), Is::Same),
            (json!({"ipam": {"gateway": "10.8.0.1"}}), Is::Refused(999, "inside the subnet")),
            (ranges(json!([[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/24"}]])), Is::Same),
            (ranges(json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/24"}]])), Is::Same),
            (ranges(json!([[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]])), Is::Same),
            (json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}}), Is::Same),
            (json!({"ipam": {"routes": [{"dst": "x"}]}}), Is::Same),
            (json!({"ipam": {"routes": [{"dst": "10.0.0.0/8", "gw": "x"}]}}), Is::Same),
            (json!({"ipam": {"resolvConf": "/run/nowhere"}}), Is::Same),
            (json!({"runtimeConfig": {"ips": ["x"]}}), Is::Same),
            (json!({"runtimeConfig": {"ips": ["10.8.0.5"]}}), Is::Same),
            (json!({"runtimeConfig": {"ips": ["10.9.0.1"]}}), Is::Same),
            (json!({"args": {"cni": {"ips": ["10.8.0.5"]}}}), Is::Same),
            (json!({"args": {"cni": {"ips": "x"}}}), Is::Refused(999, "json: cannot unmarshal string")),
        ],
    );
    let old = json!({"cniVersion": "0.2.0"});
    let mut two = ranges(json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]));
    merge(&mut two, old.clone());
    stage.keys("host-local", vec![(two, Is::Same)]);
    let mut two = json!({"ipam": {"addresses": [{"address": "10.9.0.5/24"}, {"address": "10.9.0.6/24"}]}});
    merge(&mut two, old);
    stage.keys(
        "static",
        vec![
            (two, Is::Same),
            (json!({"ipam": null}), Is::Same),
            (json!({"ipam": {"addresses": []}}), Is::Refused(999, "ipam.addresses")),
            (json!({"ipam": {"addresses": [{"address": "10.9.0.5"}]}}), Is::Same),
            (json!({"ipam": {"addresses": [{"address": "x"}]}}), Is::Same),
            (json!({"ipam": {"addresses": [{"address": "10.9.0.5/24", "gateway": "x"}]}}), Is::Same),
            (json!({"runtimeConfig": {"ips": ["10.1.1.1"]}}), Is::Same),
            (json!({"args": {"cni": {"ips": ["10.1.1.1"]}}}), Is::Same),
            (json!({"ipam": {"routes": [{"dst": "x"}]}}), Is::Same),
        ],
    );
    // The same address again, and no address any more.
    let tiny = json!({"ipam": {"subnet": "10.3.0.0/30"}});
    for whose in Whose::BOTH {
        stage
            .good(whose, "host-local")
            .with(tiny.clone())
            .with(json!({"name": format!("{whose:?}")}))
            .add()
            .ok();
    }
    for (id, is) in [("container-b", Is::Alike), ("another", Is::Same)] {
        let run = |whose| {
            let name = json!({"name": format!("{whose:?}")});
            stage.good(whose, "host-local").with(tiny.clone()).with(name).id(id).add()
        };
        stage.compare(id, is, run);
    }
}

#[test]
fn keys_of_the_plugins_that_add_a_part() {
    let Some(stage) = Beside::new() else { return };
    let port = |host: Value, container: Value| json!({"runtimeConfig": {"portMappings": [{"hostPort": host, "containerPort": container, "protocol": "tcp"}]}});
    stage.keys(
        "portmap",
        vec![
            (port(json!(0), json!(80)), Is::Same),
            (port(json!(-1), json!(80)), Is::Same),
            (port(json!(8080), json!(0)), Is::Same),
            (port(json!(65_536), json!(80)), Is::Refused(999, "hostPort")),
            (port(json!("x"), json!(80)), Is::Refused(999, "hostPort")),
            (json!({"runtimeConfig": {"portMappings": "x"}}), Is::Refused(999, "failed to parse config: failed to parse network configuration: json: cannot unmarshal string")),
            (json!({"markMasqBit": 32}), Is::Same),
            (json!({"markMasqBit": -1}), Is::Same),
            (json!({"markMasqBit": 5, "externalSetMarkChain": "X"}), Is::Same),
            (json!({"snat": "x"}), Is::Alike),
            (json!({"conditionsV4": "x"}), Is::Alike),
            (json!({"prevResult": null}), Is::Same),
            (json!({"prevResult": []}), Is::Alike),
        ],
    );
    stage.keys(
        "firewall",
        vec![
            (json!({"backend": 7}), Is::Alike),
            (json!({"backend": "x"}), Is::Refused(999, "unrecognized firewall backend \"x\"")),
            (json!({"ingressPolicy": "x"}), Is::Same),
            (json!({"iptablesAdminChainName": 7}), Is::Alike),
            (json!({"prevResult": null}), Is::Same),
        ],
    );
    stage.keys(
        "tuning",
        vec![
            (json!({"sysctl": {"kernel.hostname": "x"}}), Is::Same),
            (json!({"sysctl": 7}), Is::Alike),
            (json!({"sysctl": {"net.nothing.here": "1"}}), Is::Refused(999, "/proc/sys/net/nothing/here")),
            (json!({"mac": "x"}), Is::Same),
            (json!({"mtu": "x"}), Is::Alike),
            (json!({"mtu": -1}), Is::Same),
            (json!({"promisc": 1}), Is::Alike),
            (json!({"runtimeConfig": {"mac": "x"}}), Is::Same),
            (json!({"args": {"cni": {"mac": "x"}}}), Is::Same),
            (json!({"prevResult": null}), Is::Same),
        ],
    );
    let none = json!({"cniVersion": "1.0.0", "interfaces": [], "ips": []});
    stage.keys(
        "bandwidth",
        vec![
            (json!({"ingressBurst": null}), Is::Same),
            (json!({"ingressRate": null}), Is::Same),
            (json!({"egressRate": 1000}), Is::Same),
            (json!({"egressBurst": 1000}), Is::Same),
            (json!({"ingressBurst": 34_359_738_368_u64}), Is::Same),
            (json!({"ingressRate": "x"}), Is::Alike),
            (json!({"prevResult": null}), Is::Same),
            (json!({"prevResult": none}), Is::Same),
            (
                json!({"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "cni0"}], "ips": []}}),
                Is::Same,
            ),
            (json!({"cniVersion": "0.2.0", "prevResult": null}), Is::Same),
        ],
    );
    stage.keys(
        "sbr",
        vec![
            (json!({"prevResult": null}), Is::Same),
            (json!({"prevResult": none}), Is::Same),
            (json!({"prevResult": []}), Is::Alike),
        ],
    );
    let lo = stage.good(Whose::Ours, "bandwidth").ifname("lo").add();
    assert!(lo.refused(999).contains("container interface lo has no veth peer"));
    for face in ["portmap", "firewall", "tuning", "bandwidth"] {
        let alone = |whose| stage.good(whose, face).with(json!({"prevResult": null})).check();
        stage.compare(&format!("{face} CHECK"), Is::Same, alone);
    }
}
