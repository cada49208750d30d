//! The laboratory itself: isolation, traffic, snapshots, before anything is judged by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::snapshot::Snapshot;
use lab::{Lab, hold::Holder, icmp, inspect, programs, talk};

#[test]
fn the_host_is_joined_to_the_outside_and_to_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    assert!(icmp::ping(&lab.host, "192.0.2.2") && icmp::ping(&lab.host, "2001:db8::2"));
    assert!(!icmp::pings_briefly(&outside, "192.0.2.99"));
    let _server = talk::tcp_server(&outside, "0.0.0.0:80", "outside");
    let seen = talk::tcp(&lab.host, "192.0.2.2:80");
    assert_eq!((seen.tag.as_str(), seen.peer.ip().to_string().as_str()), ("outside", "192.0.2.1"));
    assert!(!talk::tcp_answers(&lab.host, "192.0.2.2:81"));
    let names: Vec<_> = inspect::links(&lab.host).iter().map(|l| l["ifname"].to_string()).collect();
    assert!(
        names.iter().all(|n| ["\"lo\"", "\"uplink\"", "\"sit0\"", "\"tunl0\""].contains(&n.as_str())),
        "{names:?}"
    );
}

#[test]
fn two_labs_do_not_see_each_other() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add here type bridge");
    std::fs::write("/run/here", "x").unwrap();
    std::thread::spawn(|| {
        let Some(other) = Lab::new() else { return };
        assert!(inspect::link(&other.host, "here").is_none());
        assert!(!std::path::Path::new("/run/here").exists());
        other.ip("link add there type bridge");
    })
    .join()
    .unwrap();
    assert!(inspect::link(&lab.host, "here").is_some() && inspect::link(&lab.host, "there").is_none());
}

#[test]
fn a_container_is_a_namespace_with_a_path() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    lab.link_by_hand(&a);
    assert!(icmp::ping(&lab.host, "10.0.0.2"));
    let _udp = talk::udp_server(&a, "0.0.0.0:53", "a");
    assert_eq!(talk::udp(&lab.host, "10.0.0.2:53").peer.ip().to_string(), "10.0.0.1");
    let _http = talk::http_server(&a, "0.0.0.0:80", "hello");
    assert_eq!(talk::http_get(&lab.host, "10.0.0.2:80").unwrap(), "hello");
    a.unbind();
    assert!(!std::path::Path::new(&a.path).exists());
}

#[test]
fn a_snapshot_sees_every_kind_of_change() {
    let Some(lab) = Lab::new() else { return };
    let _outside = lab.outside();
    let clean = Snapshot::take(&lab);
    Snapshot::take(&lab).assert_same(&clean, "nothing was done");
    let seen = |what: &str| {
        let now = Snapshot::take(&lab);
        let changes = now.since(&clean);
        assert!(!changes.is_empty(), "{what} was not seen");
        changes.into_iter().map(|c| c.key).collect::<Vec<_>>()
    };
    lab.ip("route add 203.0.113.0/24 via 192.0.2.2");
    assert_eq!(seen("a route"), ["route 203.0.113.0/24 table main dev uplink"]);
    lab.ip("route del 203.0.113.0/24");
    lab.ip("address add 10.9.9.9/32 dev uplink");
    assert!(seen("an address").iter().any(|k| k == "address uplink 10.9.9.9/32"));
    lab.ip("address del 10.9.9.9/32 dev uplink");
    Snapshot::take(&lab).assert_same(&clean, "all was undone");
    lab.host.feed(
        &["nft", "-f", "-"],
        "table inet t {\n set s {\n type ipv4_addr\n }\n chain c {\n counter accept\n }\n}\n",
    );
    let base = Snapshot::take(&lab);
    assert!(base.mentions("inet"));
    lab.host.must(&["nft", "add", "element", "inet", "t", "s", "{", "10.1.0.2", "}"]);
    let with = Snapshot::take(&lab);
    assert_eq!(with.since(&base).len(), 1);
    assert!(with.mentions("10.1.0.2") && !with.mentions("10.1.0.") && !with.mentions("0.1.0.2"));
    std::fs::create_dir_all("/run/linkspan").unwrap();
    std::fs::write("/run/linkspan/f", "a:eth0 10.1.0.3:80 fd00::2:1 x10.1.0.4").unwrap();
    let file = Snapshot::take(&lab);
    assert!(file.mentions("a") && file.mentions("10.1.0.3") && file.mentions("fd00::2:1"));
    assert!(!file.mentions("fd00::2") && !file.mentions("10.1.0.4") && !file.mentions("eth"));
    std::fs::remove_file("/run/linkspan/f").unwrap();
    lab.host.must(&["nft", "delete", "table", "inet", "t"]);
    for save in ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"] {
        lab.host.must(&[save, "-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "ACCEPT"]);
        assert!(seen(save).iter().any(|k| k.starts_with(save) && k.ends_with("--dport 7 -j ACCEPT")));
        lab.host.must(&[save, "-F", "INPUT"]);
    }
    std::fs::create_dir_all("/run/linkspan/ready").unwrap();
    std::fs::write("/run/linkspan/ready/x:eth0", "{}").unwrap();
    assert!(seen("a file").iter().any(|k| k == "file /run/linkspan/ready/x:eth0"));
}

#[test]
fn a_process_holds_a_port() {
    let Some(lab) = Lab::new() else { return };
    let holder = Holder::tcp(&lab.host, "0.0.0.0:8080", "conmon", &["-c", "container-a"]);
    let refused = lab.host.in_ns(|| std::net::TcpListener::bind("0.0.0.0:8080").is_err());
    assert!(refused);
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", holder.pid())).unwrap();
    assert!(line.starts_with("conmon\0") && line.contains("container-a"), "{line:?}");
    drop(holder);
    assert!(lab.host.in_ns(|| std::net::TcpListener::bind("0.0.0.0:8080").is_ok()));
}

#[test]
fn a_directory_can_be_frozen_or_full() {
    let Some(mut lab) = Lab::new() else { return };
    lab.freeze("/run/frozen");
    assert_eq!(
        std::fs::write("/run/frozen/x", "x").unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    lab.cover_small("/run/small", "size=64k");
    assert_eq!(
        std::fs::write("/run/small/x", vec![0; 100_000]).unwrap_err().kind(),
        std::io::ErrorKind::StorageFull
    );
}

/// A bridge numbers its ports from 1 to 1023: the test of a full one relies on it.
#[test]
fn a_bridge_has_1023_ports() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add br0 type bridge");
    lab.fill_bridge("br0");
    assert!(!lab.host.exec(&["ip", "link", "set", "b511", "master", "br0"]).ok);
    lab.ip("link set b0 nomaster");
    lab.ip("link set b511 master br0");
}

#[test]
fn a_plugin_is_run_bounded_wrapped_and_killed() {
    use lab::plugin::Plugin;
    use std::time::Duration;
    let Some(lab) = Lab::new() else { return };
    let script = |name: &str, text: &str| {
        let path = lab.work.path().join(name);
        programs::put(&path, &format!("#!/bin/sh\n{text}\n"));
        Plugin::new(serde_json::json!({})).of(path)
    };
    let said = script("echo", "cat").add();
    assert_eq!(said.ok(), serde_json::json!({"cniVersion": "1.1.0", "name": "web", "type": "linkspan"}));
    let refused = script(
        "refuse",
        r#"echo '{"cniVersion":"1.1.0","code":102,"msg":"taken","details":"by a"}'; exit 1"#,
    );
    assert!(refused.id("a").add().refused(102).contains("by a"));
    assert!(script("sleep", "exec sleep 60").start("ADD").kill_after(Duration::from_millis(20)));
    let brief = script("true", "exit 0");
    let had_ended = |after| !brief.start("ADD").kill_after(Duration::from_millis(after));
    assert!([300, 1_000, 10_000, 30_000].into_iter().any(had_ended), "it had ended before");
    let env =
        script("env", r#"cat >/dev/null; echo "{\"env\":\"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME\"}""#);
    let told = env.on(&lab.container("c")).ifname("net1").del().ok();
    assert_eq!(told["env"], "DEL container-c net1");
    if std::path::Path::new("/usr/bin/setpriv").exists() {
        let link = script("link", "ip link add x type bridge 2>/dev/null && echo '{}' || echo '[]'");
        let weak = link.wrapped(&["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        assert!(weak.add().ok().is_array(), "without CAP_NET_ADMIN");
        assert!(link.add().ok().is_object(), "with it");
    }
}

#[test]
fn stdout_must_be_one_document() {
    use lab::plugin::Plugin;
    let Some(lab) = Lab::new() else { return };
    let path = lab.work.path().join("two");
    programs::put(&path, "#!/bin/sh\necho '{}'; echo '{}'\n");
    let twice = std::panic::catch_unwind(|| Plugin::new(serde_json::json!({})).of(path).add());
    assert!(twice.is_err(), "two documents pass for one");
}
