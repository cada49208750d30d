//! Names and texts against what the real plugins have left.

use super::*;
use crate::firewall::iptables::Saved;
use crate::model::{Protocol, Publication};

/// `iptables-save` after the plugins of Debian (1.1.1) attached `c1` and `c2` to `web`, shortened.
const SAVED: &str = r#"*filter
:FORWARD ACCEPT [0:0]
:CNI-FORWARD - [0:0]
-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT
-A CNI-FORWARD -d 10.1.0.20/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:CNI-6d3d07a9dd6929a378525d55 - [0:0]
:CNI-8258b412696a053f12fb2e81 - [0:0]
:CNI-DN-6d3d07a9dd6929a378525 - [0:0]
:CNI-DN-8258b412696a053f12fb2 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"web\" id: \"c1\"" -j CNI-8258b412696a053f12fb2e81
-A POSTROUTING -s 10.1.0.3/32 -m comment --comment "name: \"web\" id: \"c2\"" -j CNI-6d3d07a9dd6929a378525d55
-A CNI-8258b412696a053f12fb2e81 -d 10.1.0.0/24 -m comment --comment "name: \"web\" id: \"c1\"" -j ACCEPT
-A CNI-DN-8258b412696a053f12fb2 -s 10.1.0.0/24 -p tcp -m tcp --dport 8081 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-8258b412696a053f12fb2 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 10.1.0.2:80
-A CNI-DN-8258b412696a053f12fb2 -d 192.0.2.1/32 -p udp -m udp --dport 8081 -j DNAT --to-destination 10.1.0.2:53
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"web\" id: \"c1\"" -m multiport --dports 8081 -j CNI-DN-8258b412696a053f12fb2
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"web\" id: \"c2\"" -m multiport --dports 8082 -j CNI-DN-6d3d07a9dd6929a378525
COMMIT
"#;

fn names() -> Names {
    Names::of("web", &AttachmentKey::new("c1", "eth0"))
}

#[test]
fn names_are_those_that_the_plugins_gave() {
    let names = names();
    assert_eq!(names.masquerade, "CNI-8258b412696a053f12fb2e81");
    assert_eq!(names.published, "CNI-DN-8258b412696a053f12fb2");
    assert_eq!(names.masquerade_comment.len(), 33);
    assert!(names.masquerade_comment.starts_with(&network_digits("web")));
}

#[test]
fn one_containers_chains_go_and_no_others() {
    let saved = Saved::parse(SAVED);
    let names = names();
    let text = remove_chains(&saved, &[&names.published, &names.masquerade_ports]).unwrap();
    assert_eq!(
        text,
        "*nat\n:CNI-DN-8258b412696a053f12fb2 - [0:0]\n-D CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \
         \\\"web\\\" id: \\\"c1\\\"\" -m multiport --dports 8081 -j CNI-DN-8258b412696a053f12fb2\n\
         -X CNI-DN-8258b412696a053f12fb2\nCOMMIT\n"
    );
    assert_eq!(remove_chains(&saved, &["CNI-DN-none"]), None);
    let text = remove_admitted(&saved, &["10.1.0.2".parse().unwrap()]).unwrap();
    assert_eq!(text.matches("-D CNI-FORWARD").count(), 2);
    assert!(!text.contains("10.1.0.20"));
}

#[test]
fn ports_and_owners_are_read() {
    let saved = Saved::parse(SAVED);
    let published: Vec<String> =
        published(&saved, &names().published).iter().map(ToString::to_string).collect();
    assert_eq!(published, ["tcp 0.0.0.0:8081", "udp 192.0.2.1:8081"]);
    let all = owners(&saved, Kind::Published);
    assert_eq!(all.len(), 2);
    let [name, network, id] = ["CNI-DN-8258b412696a053f12fb2", "web", "c1"].map(str::to_owned);
    assert_eq!(all[0], OwnedChain { name, network, id });
    assert_eq!(owners(&saved, Kind::Masquerade).len(), 2);
}

#[test]
fn rules_without_a_lease_are_those_of_the_container_to_that_address() {
    let rule = |handle: u64, id: &str, target: Option<&str>| Rule {
        handle,
        comment: id.to_owned(),
        published: target.map(|target| Publication {
            protocol: Protocol::Tcp,
            host: "0.0.0.0:8080".parse().unwrap(),
            target: target.parse().unwrap(),
            count: 1,
        }),
    };
    let rules = [
        ("hostports", rule(1, "c1", Some("10.1.0.2:80"))),
        ("hostports", rule(2, "c2", Some("10.1.0.2:80"))),
        ("hostports", rule(3, "c1", Some("10.2.0.9:80"))),
        ("masquerading", rule(4, "c1", None)),
        ("masquerading", rule(5, "c2", None)),
    ];
    let handles = |id: &str, addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        without_lease(&rules, id, &addresses).iter().map(|(_, rule)| rule.handle).collect::<Vec<_>>()
    };
    assert_eq!(handles("c1", &["10.1.0.2"]), [1], "its port in another network stays, and what goes with it");
    assert_eq!(handles("c1", &["10.1.0.2", "10.2.0.9"]), [1, 3, 4]);
    assert_eq!(handles("c2", &["10.1.0.2"]), [2, 5]);
    assert_eq!(handles("c3", &["10.1.0.2"]), [0; 0]);
    assert_eq!(handles("c1", &["10.9.0.1"]), [0; 0]);
}
