//! Beside the real firewalld: its zones, its reload, and what STATUS says of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;
#[allow(dead_code)]
#[path = "coexistence/street.rs"]
mod street;

use std::time::Duration;

use lab::agent::{Agent, status};
use lab::damage::linkspan;
use lab::download::Download;
use lab::faces::{self, Whose};
use lab::firewalld::{Firewalld, must};
use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::talk::{tcp, tcp_answers, tcp_server};
use lab::{Lab, Outside, Plugin, Snapshot, eventually};
use serde_json::{Value, json};
use street::Street;

const LIMIT: Duration = Duration::from_secs(30);

/// A host with firewalld and the world outside.
struct Town {
    firewalld: Firewalld,
    outside: Outside,
    lab: Lab,
}

fn town() -> Option<Town> {
    if lab::is_reference() {
        lab::skipped("the reference has its own ways");
        return None;
    }
    let lab = Lab::new()?;
    let outside = lab.outside();
    let firewalld = Firewalld::start()?;
    Some(Town { firewalld, outside, lab })
}

/// Both addresses of a result, as firewalld lists them.
fn sources(result: &Value) -> Vec<String> {
    let mut sources = vec![format!("{}/32", address(result, 4)), format!("{}/128", address(result, 6))];
    sources.sort_unstable();
    sources
}

fn zoned(lab: &Lab, zone: &str) -> Plugin {
    lab.plugin(json!({"ipam": dual_stack(1), "firewalldZone": zone}))
}

/// What firewalld drops of a container in no zone of its own passes in the zone that the network names; CHECK looks
/// there, and DEL leaves nothing behind.
#[test]
fn a_zone_is_joined_and_left() {
    let Some(town) = town() else { return };
    let _server = tcp_server(&town.outside, "[::]:80", "outside");
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let without = town.lab.plugin(json!({"name": "plain", "ipam": dual_stack(2)})).on(&b);
    let plain = without.add().ok();
    assert!(!tcp_answers(&b, "192.0.2.2:80"), "firewalld rejects what leaves a container in no zone");
    let plugin = zoned(&town.lab, "trusted").on(&a).publish(&["8080:80"]);
    let result = plugin.add().ok();
    assert_eq!(town.firewalld.sources("trusted"), sources(&result));
    for at in ["192.0.2.2:80", "[2001:db8::2]:80"] {
        assert_eq!(tcp(&a, at).tag, "outside", "{at}");
    }
    let _inside = tcp_server(&a, "[::]:80", "a");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "a");
    plugin.prev(&result).check().ok();
    let one = format!("{}/32", address(&result, 4));
    must(&town.lab.host, &format!("--zone=trusted --remove-source={one}"));
    let said = plugin.prev(&result).check().refused(120);
    assert!(said.contains("firewalld's zone trusted") && said.contains(&address(&result, 4)), "{said}");
    plugin.prev(&result).del().ok();
    assert_eq!(town.firewalld.sources("trusted"), Vec::<String>::new());
    without.prev(&plain).del().ok();
    Snapshot::take(&town.lab).assert_without(&[&a.id, &address(&result, 4)]);
}

/// A zone that there is not, and an address that is in another one: refused, with what to do, and nothing stays.
#[test]
fn what_firewalld_refuses_is_said() {
    let Some(town) = town() else { return };
    let a = town.lab.container("a");
    let said = zoned(&town.lab, "moon").on(&a).add().refused(111);
    assert!(said.contains("\"moon\"") && said.contains("firewall-cmd --get-zones"), "{said}");
    // Addresses are given in turn: this is the next one's.
    must(&town.lab.host, "--zone=work --add-source=10.88.1.3/32");
    let said = zoned(&town.lab, "trusted").on(&a).add().refused(111);
    assert!(said.contains("--remove-source=10.88.1.3/32"), "{said}");
    Snapshot::take(&town.lab).assert_without(&[&a.id]);
    zoned(&town.lab, "trusted").on(&a).add().ok();
}

/// Where firewalld does not run nothing is asked of it, and what it knew when it ended does not come back by DEL.
#[test]
fn without_firewalld_the_zone_waits() {
    let Some(mut town) = town() else { return };
    town.firewalld.stop();
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let plugin = zoned(&town.lab, "trusted").on(&a);
    let result = plugin.add().ok();
    plugin.prev(&result).check().ok();
    town.firewalld.start_again();
    plugin.prev(&result).check().refused(120);
    let said = linkspan(&town.lab, &["reconcile"]);
    assert!(said.ok && said.stdout.contains("in firewalld's zone trusted"), "{}{}", said.stdout, said.stderr);
    assert_eq!(town.firewalld.sources("trusted"), sources(&result));
    let other = zoned(&town.lab, "trusted").on(&b);
    let second = other.add().ok();
    town.firewalld.stop();
    other.prev(&second).del().ok();
    plugin.prev(&result).del().ok();
}

/// A reload takes nothing of ours, breaks no connection, and the zones that firewalld forgets with it come back.
#[test]
fn a_reload_is_survived() {
    let Some(mut town) = town() else { return };
    let a = town.lab.container("a");
    let network = zoned(&town.lab, "trusted");
    let result = network.on(&a).publish(&["8080:82"]).add().ok();
    let agent = Agent::start();
    assert!(eventually(LIMIT, || status()["attachments"] == 1));
    let _server = tcp_server(&town.outside, "[::]:80", "outside");
    let downloads = [
        Download::begin(&a, "[::]:82", &town.outside, "192.0.2.1:8080"),
        Download::begin(&town.outside, "[::]:83", &a, "192.0.2.2:83"),
        Download::begin(&town.outside, "[::]:84", &a, "[2001:db8::2]:84"),
    ];
    let wanted = sources(&result);
    for _ in 0..2 {
        downloads.iter().for_each(|download| download.goes_on("before"));
        must(&town.lab.host, "--reload");
        assert!(
            eventually(LIMIT, || town.firewalld.sources("trusted") == wanted),
            "the agent puts them back"
        );
        downloads.iter().for_each(|download| download.goes_on("after the reload"));
        assert_eq!(tcp(&a, "192.0.2.2:80").tag, "outside", "new connections too");
        network.status().ok();
    }
    town.firewalld.stop();
    town.firewalld.start_again();
    assert!(eventually(LIMIT, || town.firewalld.sources("trusted") == wanted), "after a restart as well");
    downloads.into_iter().for_each(Download::finish);
    let objects = || status()["services"]["repair"]["objects"].as_u64().unwrap();
    assert!(objects() >= 6, "two addresses, three times: {}", status());
    drop(agent);
}

/// STATUS names the chain and rule of the real firewalld, and what it says to type helps, for good.
#[test]
fn status_names_its_drop_and_the_command_helps() {
    for (forwards, backend) in [(true, "nftables"), (false, "iptables-nft")] {
        let mut firewalld = None;
        let street = Street::new(backend, |host| {
            firewalld = Firewalld::start();
            if firewalld.is_some() {
                // Within a zone firewalld forwards between interfaces that are in it by name.
                let way = if forwards { "--add-interface=uplink" } else { "--remove-forward" };
                must(host, &format!("--permanent --zone=public {way}"));
                must(host, "--reload");
            }
        });
        let (Some(street), Some(_)) = (street, &firewalld) else { return };
        street.pass("published");
        let said = street.status();
        if forwards && said.succeeded() {
            // Nothing is dropped here: frames between siblings do not pass its chains (br_netfilter is off).
            street.breaks(&[], "nothing is dropped");
        } else {
            if forwards {
                street.pass("outgoing");
                street.ends("sibling");
            } else {
                street.ends("outgoing IPv4");
            }
            let said = said.refused(51);
            let command =
                "firewall-cmd --permanent --zone=trusted --add-interface=lks-web && firewall-cmd --reload";
            assert!(said.contains("inet firewalld filter_FORWARD") && said.contains(command), "{said}");
        }
        must(&street.lab.host, "--permanent --zone=trusted --add-interface=lks-web");
        for when in ["in zone trusted", "and after a further reload"] {
            must(&street.lab.host, "--reload");
            if backend != "nftables" {
                // firewalld empties the tables of iptables with every reload: there, ours has to come back.
                let said = linkspan(&street.lab, &["reconcile"]);
                assert!(said.ok && said.stdout.contains("LINKSPAN-"), "{}{}", said.stdout, said.stderr);
            }
            street.works(when);
        }
    }
}

/// The face `firewall` does as the reference: the zone `trusted` where none is named, unless its backend is another.
/// What the reference has put into a zone, ours takes out.
#[test]
fn the_face_joins_as_the_reference_does() {
    let Some(town) = town() else { return };
    let version = lab::firewalld::says("--version").unwrap();
    let told = lab::cli::document("doctor --json", "doctor")["doctor"]["versions"].clone();
    let firewalld = json!({"program": "firewalld", "version": version});
    assert!(told.as_array().unwrap().contains(&firewalld), "{told}");
    let a = town.lab.container("a");
    let (_, result) = faces::bridged(&town.lab, &a, "1.0.0", 1);
    let own = vec![format!("{}/32", address(&result, 4))];
    let call = |whose, extra: Value| {
        faces::plugin(&town.lab, whose, "firewall", json!({"name": "web"})).with(extra).on(&a).prev(&result)
    };
    for whose in Whose::BOTH {
        for (extra, zone) in [(json!({}), "trusted"), (json!({"firewalldZone": "work"}), "work")] {
            call(whose, extra.clone()).add().ok();
            assert_eq!(town.firewalld.sources(zone), own, "{whose:?} {extra}");
            call(whose, extra.clone()).check().ok();
            call(whose, extra).del().ok();
            assert_eq!(town.firewalld.sources(zone), Vec::<String>::new(), "{whose:?}");
        }
        let by_iptables = json!({"backend": "iptables"});
        call(whose, by_iptables.clone()).add().ok();
        assert_eq!(town.firewalld.sources("trusted"), Vec::<String>::new(), "{whose:?} asks nobody");
        call(whose, by_iptables).del().ok();
    }
    call(Whose::Theirs, json!({})).add().ok();
    call(Whose::Ours, json!({})).del().ok();
    assert_eq!(town.firewalld.sources("trusted"), Vec::<String>::new(), "what theirs has left");
}
