//! What waits at the ends of a packet's way: each trouble is made for real, a real packet shows it, and the inspection
//! names it and says what mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use lab::cli::{linkspan, shell};
use lab::frames::{self, Wire};
use lab::hold::Holder;
use lab::outcome::{address, bridge, host_end};
use lab::plugin::{dual_stack, v4};
use lab::talk::{self, BRIEF, PATIENCE, UdpClient, tcp, tcp_answers, tcp_server, udp_server};
use lab::{Container, Lab, Outside, Plugin, Space, inspect, skip};
use linkspan::explain::ends::{self, Link, Sender};
use linkspan::explain::{Certainty, Fault, Finding};
use linkspan::model::{AttachmentKey, Protocol};
use linkspan::sys::Netns;
use linkspan::view::{self, Attachment, Reading, Wants};
use serde_json::{Value, json};

/// The one finding, which is sure and of this fault.
#[track_caller]
fn one(found: &[Finding], fault: Fault) -> &Finding {
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].fault, found[0].certainty), (fault, Certainty::Surely), "{found:?}");
    &found[0]
}

/// Carries out a command that a finding says would mend it.
#[track_caller]
fn mend(finding: &Finding) {
    let command = finding.mend.as_deref().expect("something mends it");
    let said = shell(command);
    assert!(said.ok, "{command}: {}{}", said.stdout, said.stderr);
}

fn listener(container: &Container, protocol: Protocol, at: &str) -> Vec<Finding> {
    let netns = Netns::open(&container.path).unwrap();
    ends::listener(Some(&netns), protocol, at.parse().unwrap(), "container shop").unwrap()
}

fn reading() -> (Reading, Vec<Attachment>) {
    let reading = Reading::take(std::path::Path::new("/run/linkspan"), Wants::LEAST).unwrap();
    let attachments = view::attachments(&reading);
    (reading, attachments)
}

/// A container of a network with both families.
fn attached(lab: &Lab, name: &str, ports: &[&str]) -> (Container, Value) {
    let container = lab.container(name);
    let mut plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&container);
    if !ports.is_empty() {
        plugin = plugin.publish(ports);
    }
    let result = plugin.add().ok();
    (container, result)
}

#[test]
fn nothing_listens_in_the_container() {
    let Some(lab) = Lab::new() else { return };
    let (shop, result) = attached(&lab, "shop", &[]);
    let at = format!("{}:80", address(&result, 4));
    let error = talk::tcp_within(&lab.host, &at, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let found = listener(&shop, Protocol::Tcp, &at);
    let what = &one(&found, Fault::NothingListens).what;
    assert!(what.contains(&at) && what.contains("nor on any other tcp port"), "{what}");

    // The wrong port, which is named; the wrong protocol; the wrong family.
    let server = tcp_server(&shop, &format!("{}:8000", address(&result, 4)), "shop");
    let found = listener(&shop, Protocol::Tcp, &at);
    assert!(one(&found, Fault::NothingListens).what.contains("8000"), "{found:?}");
    one(&listener(&shop, Protocol::Udp, &at.replace(":80", ":8000")), Fault::NothingListens);
    let v6 = format!("[{}]:8000", address(&result, 6));
    assert!(!tcp_answers(&lab.host, &v6));
    one(&listener(&shop, Protocol::Tcp, &v6), Fault::NothingListens);
    drop(server);

    let _both = tcp_server(&shop, "[::]:80", "shop");
    assert_eq!(tcp(&lab.host, &at).tag, "shop", "a server on [::] takes IPv4 too");
    assert_eq!(listener(&shop, Protocol::Tcp, &at), []);
    let other = format!("{}:53", address(&result, 4));
    let _udp = udp_server(&shop, &other, "shop");
    talk::udp(&lab.host, &other);
    assert_eq!(listener(&shop, Protocol::Udp, &other), []);
}

#[test]
fn a_server_on_loopback_is_told_from_none() {
    let Some(lab) = Lab::new() else { return };
    let (shop, result) = attached(&lab, "shop", &[]);
    let _four = tcp_server(&shop, "127.0.0.1:80", "shop");
    let _six = tcp_server(&shop, "[::1]:80", "shop");
    for at in [format!("{}:80", address(&result, 4)), format!("[{}]:80", address(&result, 6))] {
        assert!(!tcp_answers(&lab.host, &at));
        let found = listener(&shop, Protocol::Tcp, &at);
        let finding = one(&found, Fault::ListensOnLoopback);
        assert!(finding.what.contains("127.0.0.1:80") && finding.what.contains("PID"), "{finding:?}");
        let everywhere = if at.starts_with('[') { "[::]:80" } else { "0.0.0.0:80" };
        assert!(finding.mend.as_deref().unwrap().contains(everywhere), "{finding:?}");
    }
    assert_eq!(tcp(&shop, "127.0.0.1:80").tag, "shop", "who is inside is answered");
    assert_eq!(listener(&shop, Protocol::Tcp, "127.0.0.1:80"), []);
}

#[test]
fn a_host_port_has_one_owner() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let (shop, result) = attached(&lab, "shop", &["8080:80"]);
    let (store, _) = attached(&lab, "store", &[]);
    let _server = tcp_server(&shop, "[::]:80", "shop");
    let at: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    let (_, attachments) = reading();
    let key = |container: &Container| AttachmentKey::new(&container.id, "eth0");
    let asked = |wanted: Option<&AttachmentKey>, at| {
        ends::host_port(Protocol::Tcp, at, wanted, &attachments, None).unwrap()
    };

    // Another container's: who meant the store by it reaches the shop.
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "shop");
    let found = asked(Some(&key(&store)), at);
    let what = &one(&found, Fault::PortTaken).what;
    assert!(what.contains(&shop.id) && what.contains(&address(&result, 4)), "{what}");
    assert_eq!(asked(Some(&key(&shop)), at), []);
    assert_eq!(asked(None, at), []);

    // A process's of the host.
    let held = Holder::tcp(&lab.host, "0.0.0.0:8081", "occupant", &[]);
    let free = "192.0.2.1:8081".parse().unwrap();
    let found = asked(Some(&key(&store)), free);
    let what = &one(&found, Fault::PortTaken).what;
    assert!(what.contains(&format!("(PID {})", held.pid())), "{what}");
    assert_eq!(asked(None, free), [], "the process is who was asked for");

    // Both: the process gets nothing.
    let both = Holder::tcp(&lab.host, "0.0.0.0:8080", "occupant", &[]);
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "shop");
    let found = asked(Some(&key(&shop)), at);
    assert_eq!((found[0].fault, found[0].certainty), (Fault::PortTaken, Certainty::Perhaps), "{found:?}");
    let agent = Some(both.pid());
    assert_eq!(
        ends::host_port(Protocol::Tcp, at, None, &attachments, agent).unwrap(),
        [],
        "it holds it for the shop"
    );
}

#[test]
fn a_udp_flow_that_leads_elsewhere_is_found() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let (shop, result) = attached(&lab, "shop", &["5353:53/udp"]);
    let target: SocketAddr = format!("{}:53", address(&result, 4)).parse().unwrap();
    let _server = udp_server(&shop, &target.to_string(), "shop");
    let to: SocketAddr = "192.0.2.1:5353".parse().unwrap();

    // While the rules are away a client goes on, and its flow is tracked as the host's own.
    let rules = inspect::ruleset(&lab.host);
    lab.host.must(&["nft", "flush", "ruleset"]);
    lab.host.feed(
        &["nft", "-f", "-"],
        "table inet watch { chain c { type filter hook input priority 0; ct state new\n}\n}\n",
    );
    let client = UdpClient::new(&outside, "192.0.2.2:4000");
    assert!(client.ask(&to.to_string(), BRIEF).is_err());
    lab.host.feed(&["nft", "-f", "-"], &rules);

    assert!(client.ask(&to.to_string(), BRIEF).is_err(), "it still goes where it went");
    assert_eq!(talk::udp(&outside, &to.to_string()).tag, "shop", "another one does not");
    let stale = ends::stale_flows(to, target).unwrap();
    assert_eq!(stale.len(), 1, "{stale:?}");
    assert_eq!((stale[0].client, stale[0].leads_to), ("192.0.2.2:4000".parse().unwrap(), to));
    let finding = ends::StaleFlow::finding(&stale, target).unwrap();
    assert_eq!(finding.fault, Fault::StaleFlow);
    assert!(finding.what.contains("192.0.2.2:4000"), "{finding:?}");

    mend(&finding);
    assert_eq!(client.ask(&to.to_string(), PATIENCE).unwrap().tag, "shop");
    assert_eq!(ends::stale_flows(to, target).unwrap(), []);
}

#[test]
fn a_full_table_of_connections_is_found() {
    let Some(lab) = Lab::new() else { return };
    let most: u32 = lab.host.sysctl("net.netfilter.nf_conntrack_max").parse().unwrap();
    if most > 300_000 {
        skip!("the kernel tracks {most} connections at most, and filling that would take its memory");
    }
    let outside = lab.outside();
    let (shop, _) = attached(&lab, "shop", &["8080:80"]);
    let _server = tcp_server(&shop, "[::]:80", "shop");
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "shop");
    assert_eq!(ends::conntrack_table(), []);

    lab::flows::fill_table(most, 0);
    let error = talk::tcp_within(&outside, "192.0.2.1:8080", BRIEF).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    // The connection of before may just be forgotten: then there is room for one.
    let mut found = ends::conntrack_table();
    for round in 1..6 {
        if found.iter().any(|finding| finding.certainty == Certainty::Surely) {
            break;
        }
        lab::flows::fill_table(most, round);
        found = ends::conntrack_table();
    }
    let finding = one(&found, Fault::ConntrackFull);
    assert!(finding.mend.as_deref().unwrap().ends_with(&format!("nf_conntrack_max={}", 2 * most)));

    lab.host.must(&["conntrack", "-D", "-p", "udp"]);
    assert_eq!(ends::conntrack_table(), []);
    assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "shop");
}

#[test]
fn large_packets_that_a_narrow_link_swallows() {
    let Some(lab) = Lab::new() else { return };
    let (shop, result) = attached(&lab, "shop", &[]);
    let (store, other) = attached(&lab, "store", &[]);
    let at = format!("{}:53", address(&other, 4));
    let _server = udp_server(&store, &at, "store");
    let narrow = host_end(&other);
    lab.ip(&format!("link set {narrow} mtu 1300"));
    assert!(arrives(&shop, &at, 1000, true), "small ones arrive");
    assert!(!arrives(&shop, &at, 1400, false), "large ones do not");

    let mtu = |space: &Space, name: &str| -> u32 {
        u32::try_from(inspect::link(space, name).unwrap()["mtu"].as_u64().unwrap()).unwrap()
    };
    let way = |names: &[&str]| -> Vec<Link> {
        let link = |name: &&str| Link {
            what: (*name).to_owned(),
            mtu: mtu(&lab.host, name),
            routed: false,
            widen: format!("ip link set dev {name} mtu {{}}"),
        };
        names.iter().map(link).collect()
    };
    let sender = Sender { what: "eth0 of container shop".to_owned(), mtu: mtu(&shop, "eth0") };
    let (first, second) = (host_end(&result), narrow.clone());
    let found = ends::black_hole(&sender, &way(&[&first, &second]), None);
    let finding = found.first().expect("a finding");
    assert_eq!(
        (finding.fault, finding.certainty),
        (Fault::MtuBlackHole, Certainty::Perhaps),
        "small ones pass"
    );
    assert!(finding.what.contains(&narrow) && finding.what.contains("1300"), "{finding:?}");
    mend(finding);
    assert!(arrives(&shop, &at, 1400, true));
    assert_eq!(ends::black_hole(&sender, &way(&[&first, &second]), None), []);
}

/// Whether a datagram of this size, with 'do not fragment', is answered, as it must or must not be.
fn arrives(from: &Space, to: &str, size: usize, must: bool) -> bool {
    let socket = from.in_ns(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 128];
    lab::eventually(talk::limit(must), || {
        let sent = from.in_ns(|| socket.send_to(&vec![0; size], to)).is_ok();
        sent && socket.recv_from(&mut answer).is_ok()
    })
}

#[test]
fn two_with_one_address_are_found() {
    let Some(lab) = Lab::new() else { return };
    let (shop, result) = attached(&lab, "shop", &[]);
    let (store, _) = attached(&lab, "store", &[]);
    let held: Ipv4Addr = address(&result, 4).parse().unwrap();
    let at = format!("{held}:80");
    let _servers = [tcp_server(&shop, "[::]:80", "shop"), tcp_server(&store, "[::]:80", "store")];
    let asked = || {
        let (reading, attachments) = reading();
        let owner = attachments.iter().find(|attachment| attachment.container == shop.id).unwrap();
        ends::duplicate_address(held.into(), owner, &reading, &attachments).unwrap()
    };
    assert_eq!(tcp(&lab.host, &at).tag, "shop");
    assert_eq!(asked(), []);

    // Another container takes it, and says so to all.
    store.ip(&format!("address add {held}/24 dev eth0"));
    let wire = Wire::open(&store, "eth0");
    wire.send(&frames::ethernet(
        frames::BROADCAST,
        wire.mac,
        frames::ARP,
        &frames::arp(1, (wire.mac, held), (frames::BROADCAST, held)),
    ));
    assert!(
        lab::eventually(PATIENCE, || talk::tcp_within(&lab.host, &at, BRIEF)
            .is_ok_and(|seen| seen.tag == "store")),
        "the host asks the wrong one"
    );
    let found = asked();
    let what = &one(&found, Fault::DuplicateAddress).what;
    assert!(what.contains(&store.id) && what.contains("the host sends to that one"), "{what}");
    mend(&found[0]);
    lab.ip(&format!("neighbour flush dev {}", bridge(&result)));
    assert_eq!(tcp(&lab.host, &at).tag, "shop");
    assert_eq!(asked(), []);

    // The host itself has it.
    lab.ip(&format!("address add {held}/32 dev lo"));
    assert!(!tcp_answers(&lab.host, &at));
    let found = asked();
    assert!(one(&found, Fault::DuplicateAddress).what.contains("the host itself"), "{found:?}");
    mend(&found[0]);
    assert_eq!(tcp(&lab.host, &at).tag, "shop");
}

#[test]
fn bridged_packets_in_the_chains_of_ip() {
    let Some(lab) = Lab::new() else { return };
    if !std::path::Path::new("/proc/sys/net/bridge").exists() {
        skip!("this kernel lacks br_netfilter");
    }
    let plugin: Plugin = lab.plugin(json!({"ipam": v4(1)}));
    let (shop, store) = (lab.container("shop"), lab.container("store"));
    plugin.on(&shop).add().ok();
    let at = format!("{}:80", address(&plugin.on(&store).add().ok(), 4));
    let _server = tcp_server(&store, "[::]:80", "store");
    lab.host.set_sysctl("net.bridge.bridge-nf-call-iptables", "0");
    lab.host.feed(
        &["nft", "-f", "-"],
        "table ip strict { chain f { type filter hook forward priority 1; policy drop;\n}\n}\n",
    );
    assert_eq!(tcp(&shop, &at).tag, "store", "what stays on a bridge is nothing to IP");
    assert!(!ends::filters_bridged(true));

    lab.host.set_sysctl("net.bridge.bridge-nf-call-iptables", "1");
    assert!(!tcp_answers(&shop, &at));
    assert!(ends::filters_bridged(true));
    let finding =
        ends::bridged_drop(true, "chain f of table ip strict drops it by its policy", Certainty::Surely);
    assert!(
        finding.fault == Fault::BridgedFiltering && finding.what.contains("table ip strict"),
        "{finding:?}"
    );
    mend(&finding);
    assert_eq!(tcp(&shop, &at).tag, "store");
    assert!(!ends::filters_bridged(true));
}

#[test]
fn the_host_s_own_listeners_are_asked_in_its_namespace() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let at: SocketAddr = format!("{}:9000", Outside::HOST4).parse().unwrap();
    let found = ends::listener(None, Protocol::Tcp, at, "the host").unwrap();
    assert!(one(&found, Fault::NothingListens).what.contains("the host"), "{found:?}");
    let _listener = TcpListener::bind(at).unwrap();
    assert_eq!(ends::listener(None, Protocol::Tcp, at, "the host").unwrap(), []);
}

/// An interface that lacks the family which is asked for is not the one that is meant.
#[test]
fn the_interface_that_is_asked_for_has_the_family() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let (shop, other, plain) = (lab.container("shop"), lab.container("other"), lab.container("plain"));
    let network = |name: &str, ipam| lab.plugin(json!({"name": name, "isolation": "none", "ipam": ipam}));
    let four = network("n1", v4(1));
    four.on(&shop).add().ok();
    four.on(&plain).add().ok();
    let shop6 = address(&network("n2", dual_stack(2)).on(&shop).ifname("eth1").add().ok(), 6);
    let other6 = address(&network("n3", dual_stack(3)).on(&other).add().ok(), 6);
    let _servers = [tcp_server(&shop, "[::]:80", "shop"), tcp_server(&other, "[::]:80", "other")];
    assert_eq!(tcp(&shop, &format!("[{other6}]:80")).tag, "other");
    assert_eq!(tcp(&other, &format!("[{shop6}]:80")).tag, "shop");
    let words = |words: &str| words.replace("OTHER", &other.id).replace("SHOP", &shop.id);
    for question in ["-6 host SHOP:80", "-6 OTHER SHOP:80", &format!("{other6} SHOP:80")] {
        let told = lab::explain::arrives(&words(question));
        assert_eq!(told["destination"], *shop6, "{question}: {told:#}");
        assert!(told.to_string().contains("eth1 is asked, since it is the first with IPv6"), "{told:#}");
    }
    for question in ["-6 SHOP OTHER:80", &format!("SHOP [{other6}]:80"), "-6 SHOP outside"] {
        assert_eq!(lab::explain::arrives(&words(question))["source"], *shop6, "{question}");
    }
    // By IPv4 it is the first still; and who has no such interface is told.
    assert!(
        lab::explain::arrives(&words("host SHOP:80"))["destination"]
            .as_str()
            .unwrap()
            .starts_with("10.88.1.")
    );
    let lacks = format!("container {} has no IPv6 address", plain.id);
    linkspan(&words(&format!("explain SHOP {}:80 -6", plain.id))).failed(1, &lacks);
    linkspan(&format!("explain {} {other6}", plain.id)).failed(1, &lacks);
}
