//! Key `dns.enabled`, and where names come from.

use super::*;
use crate::cni::Reads;
use crate::model::Naming;

fn naming(extra: &Value, args: &str) -> Naming {
    parse(extra, Command::Add, args).unwrap().naming.unwrap()
}

#[test]
fn names_come_from_the_call() {
    assert_eq!(strict(&json!({})).unwrap().naming, None);
    assert_eq!(strict(&json!({"dns": {"enabled": false, "domain": "x"}})).unwrap().naming, None);
    let all = naming(
        &json!({"name": "web", "dns": {"enabled": true},
                "args": {"cni": {"name": "Third", "aliases": ["a.b", "pod"]}},
                "runtimeConfig": {"aliases": {"web": ["api", "API."], "other": ["no"]}}}),
        "IgnoreUnknown=1;K8S_POD_NAME=Pod",
    );
    assert_eq!(all.names, ["pod", "third", "a.b", "api"]);
    assert_eq!(all, Naming { names: all.names.clone(), ..Naming::default() });
    // What a runtime calls a pod may be no name.
    assert_eq!(naming(&json!({"dns": {"enabled": true}}), "K8S_POD_NAME=a..b").names, [] as [&str; 0]);
}

#[test]
fn name_servers_are_for_the_agent_and_the_rest_for_the_container() {
    let dns = json!({"enabled": true, "nameservers": ["192.0.2.1", "2001:db8::1"], "domain": "Corp.example",
                     "search": ["corp.example"], "options": ["ndots:2"]});
    let config = strict(&json!({"internal": true, "dns": dns})).unwrap();
    let naming = config.naming.unwrap();
    assert_eq!(naming.upstreams.len(), 2);
    assert_eq!((naming.domains, naming.internal), (vec!["corp.example".to_owned()], true));
    assert!(config.dns.nameservers.is_empty());
    assert_eq!((config.dns.search.len(), config.dns.options.len()), (1, 1));
    let capability = json!({"dns": {"enabled": true}, "runtimeConfig": {"dns": {"servers": ["192.0.2.9"]}}});
    assert_eq!(strict(&capability).unwrap().naming.unwrap().upstreams.len(), 1);
}

#[test]
fn a_dnsname_entry_has_names_by_being_one() {
    let podman = json!({"name": "net", "type": "dnsname", "domainName": "dns.podman", "dns": {"enabled": false},
                        "runtimeConfig": {"aliases": {"net": ["db"]}}});
    let face =
        Defaults { reads: Reads { names: true, arguments: true, ..Reads::NONE }, ..Defaults::REFERENCE };
    let environment = environment(Command::Add, "IgnoreUnknown=1;K8S_POD_NAME=store");
    let config = NetworkConfig::parse(&document(&podman), &environment, &face, Strictness::Strict).unwrap();
    let naming = config.naming.unwrap();
    assert_eq!(naming.domains, ["dns.podman"]);
    assert_eq!(naming.names, ["store", "db"]);
    // The name that the binary is called by decides, not the key.
    assert_eq!(parse(&podman, Command::Add, "").unwrap().naming, None);
}

#[test]
fn what_del_reads_is_never_refused() {
    for dns in [json!({"enabled": "x"}), json!({"enabled": true, "nameservers": ["x"], "domain": ".."})] {
        let read = parse(&json!({ "dns": dns }), Command::Del, "").unwrap();
        assert!(!read.warnings.is_empty(), "{dns}");
    }
}
