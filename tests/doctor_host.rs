//! `linkspan doctor` and what others have made of the host: their routes, firewalls, programs, configurations and kernel.
//! Each fault is made for real, and found by its word with its severity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::cli::{document, linkspan};
use lab::fitness::{bare, configured, cover, finds, fixed, host, includes, list, ours, web, write};
use lab::inspect;
use lab::talk::{tcp, tcp_answers, tcp_server};
use serde_json::{Value, json};

#[test]
fn subnets_of_others() {
    let Some(lab) = host() else { return };
    let _outside = lab.outside();
    finds(&[]);
    lab.ip("route add 10.88.1.128/25 via 192.0.2.2");
    assert!(
        includes("subnet-overlap", "fault")
            .contains("10.88.1.0/24 of network web (/etc/cni/net.d/10-web.conflist)")
    );
    let (a, plugin) = (lab.container("a"), web(&lab));
    lab.ip("route del 10.88.1.128/25");
    plugin.on(&a).add().ok();
    finds(&[]);
    lab.ip("route add 10.88.1.128/25 via 192.0.2.2");
    finds(&[("subnet-overlap", "fault")]);
    lab.ip("route del 10.88.1.128/25");
    lab.ip("route add 10.0.0.0/8 via 192.0.2.2");
    assert!(finds(&[("subnet-overlap", "warning")]).contains("10.0.0.0/8 by uplink"));
    lab.ip("route del 10.0.0.0/8");
    lab.ip("link add theirs type veth peer name other");
    lab.ip("link set theirs up");
    lab.ip("route add 10.88.1.200/32 dev theirs");
    finds(&[]);
    lab.ip("link del theirs");

    let twin = json!([{"type": "linkspan", "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"}}]);
    list("20-twin.conflist", "twin", twin);
    finds(&[("subnet-shared", "warning"), ("runtime-picks", "remark")]);
    fs::remove_file("/etc/cni/net.d/20-twin.conflist").unwrap();

    cover(&lab, "/etc/resolv.conf", "nameserver 10.88.1.77\n");
    finds(&[("nameserver-inside", "warning")]);
    // The gateway may answer for names.
    cover(&lab, "/etc/resolv.conf", "nameserver 10.88.1.1\n");
    finds(&[]);
}

/// Who deletes the route to the host's own neighbours cuts the host off.
#[test]
fn the_subnet_of_the_uplink() {
    let Some(lab) = host() else { return };
    let _outside = lab.outside();
    lab.ip("route add 10.88.0.0/16 via 192.0.2.2");
    lab.ip("route add 10.88.1.128/25 via 192.0.2.2");
    assert!(includes("subnet-overlap", "fault").contains("or 'ip route del 10.88.1.128/25'"));
    lab.ip("route add 203.0.113.0/24 via 10.88.1.129 dev uplink onlink");
    // The way to another gateway.
    assert!(!includes("subnet-overlap", "fault").contains("route del"));
    for route in ["203.0.113.0/24", "10.88.1.128/25", "10.88.0.0/16"] {
        lab.ip(&format!("route del {route}"));
    }

    let (a, b) = (lab.container("a"), lab.container("b"));
    let mut plugin = ours();
    plugin["ipam"] = json!({"type": "host-local", "subnet": "192.0.2.0/24"});
    list("10-web.conflist", "web", json!([plugin]));
    let finding = || {
        let text = includes("subnet-overlap", "fault");
        assert!(
            text.contains("192.0.2.0/24 by uplink") && text.contains("give the network another"),
            "{text}"
        );
        assert!(!text.contains("route del") && text.contains("the host's own neighbours"), "{text}");
    };
    finding();
    let told = "192.0.2.0/24 of network web overlaps the host's route to 192.0.2.0/24 by uplink";
    let said = linkspan("status web");
    assert!(said.code == 0 && said.stderr.contains(told), "{}{}", said.stdout, said.stderr);
    let said = linkspan("add web a");
    assert!(said.code == 0 && said.stderr.contains(told), "{}{}", said.stdout, said.stderr);
    assert!(!linkspan("add web b").stderr.contains(told), "once");
    finding();
    linkspan("del web a").ok();
    linkspan("del web b").ok();
    drop((a, b));
}

#[test]
fn firewalls_of_others() {
    let Some(lab) = host() else { return };
    let _outside = lab.outside();
    finds(&[]);
    let drop = "add table inet strict; add chain inet strict drops { type filter hook forward priority 10; policy drop; }";
    lab.host.must(&["nft", drop]);
    includes("foreign-drop", "fault");
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).add().ok();
    let text = finds(&[("foreign-drop", "fault")]);
    assert!(
        text.contains("inet strict drops") && text.contains("nft insert rule inet strict drops"),
        "{text}"
    );
    // Another's policy is its own.
    linkspan("doctor --fix --yes").failed(4, "1 fault");
    assert!(lab.host.must(&["nft", "list", "table", "inet", "strict"]).contains("policy drop"));
    lab.host.must(&["nft", "add rule inet strict drops accept"]);
    finds(&[]);
    lab.host.must(&["nft", "delete table inet strict"]);

    lab.host.must(&[
        "nft",
        "add table inet firewalld; add chain inet firewalld x { type filter hook input priority 0; }",
    ]);
    finds(&[("firewalld", "remark")]);
    lab.host.must(&["nft", "delete table inet firewalld"]);

    let both = "iptables-nft -A INPUT -j ACCEPT && iptables-legacy -A INPUT -j ACCEPT";
    if !lab.host.exec(&["sh", "-c", both]).ok {
        lab::skip!("iptables of both kinds is not here");
    }
    finds(&[("both-iptables", "warning")]);
}

/// A FORWARD chain that drops after containers were attached: the exception of our own is what is missing.
#[test]
fn a_forward_policy_that_is_set_later() {
    for variant in ["nft", "legacy"] {
        let Some(lab) = host() else { return };
        let outside = lab.outside();
        if !lab.host.exec(&["sh", "-c", &format!("command -v iptables-{variant}")]).ok {
            lab::skip!("iptables is not here");
        }
        let (a, plugin) = (lab.container("a"), web(&lab));
        plugin.on(&a).add().ok();
        let _server = tcp_server(&outside, "0.0.0.0:80", "outside");
        tcp(&a, "192.0.2.2:80");
        lab.host.must(&[&format!("iptables-{variant}"), "-P", "FORWARD", "DROP"]);
        assert!(!tcp_answers(&a, "192.0.2.2:80"), "{variant}: shut");
        let text = finds(&[("foreign-drop", "fault")]);
        assert!(
            text.contains("linkspan doctor --fix") && text.contains("by its policy"),
            "{variant}: {text}"
        );
        let said = linkspan("status web");
        said.failed(1, "cannot take containers");
        assert!((said.stdout + &said.stderr).contains("'linkspan reconcile' makes the exception"));
        fixed();
        tcp(&a, "192.0.2.2:80");
        linkspan("status web").ok();
        assert!(
            lab.host.must(&[&format!("iptables-{variant}"), "-S", "FORWARD"]).contains("-P FORWARD DROP")
        );

        // Without a container nobody suffers, and a runtime that waits for STATUS makes the ADD that mends it.
        plugin.on(&a).del().ok();
        lab.host.must(&[&format!("iptables-{variant}"), "-F", "FORWARD"]);
        linkspan("status web").ok();
        finds(&[]);
        plugin.on(&a).add().ok();
        assert_eq!(tcp(&a, "192.0.2.2:80").tag, "outside", "{variant}: by ADD");
    }
}

#[test]
fn managers_of_links() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).add().ok();
    let index = inspect::link(&lab.host, "lks-web").unwrap()["ifindex"].as_u64().unwrap();
    fs::create_dir_all("/run/NetworkManager/devices").unwrap();
    finds(&[("link-managed", "remark")]);
    write(format!("/run/NetworkManager/devices/{index}"), "[device]\nmanaged=true\n");
    assert!(finds(&[("link-managed", "warning")]).contains("unmanaged-devices=interface-name:lks*"));
    write(format!("/run/NetworkManager/devices/{index}"), "[device]\nmanaged=false\n");
    write("/run/NetworkManager/conf.d/x.conf", "[keyfile]\nunmanaged-devices=interface-name:lks*\n");
    finds(&[]);

    write("/run/systemd/network/00-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n");
    finds(&[]);
    fs::create_dir_all("/run/systemd/netif/links").unwrap();
    assert!(finds(&[("link-managed", "warning")]).contains("/run/systemd/network/00-all.network"));
    write("/run/systemd/network/00-aa.network", "[Match]\nName=lks*\n[Link]\nUnmanaged=yes\n");
    finds(&[]);
}

#[test]
fn configurations_and_plugins() {
    let Some(lab) = bare() else { return };
    fs::create_dir_all("/opt/cni/bin").unwrap();
    finds(&[("no-configuration", "remark")]);
    list("10-web.conflist", "web", json!([ours()]));
    assert!(finds(&[("plugin-missing", "fault")]).contains("linkspan install --dir /opt/cni/bin"));
    configured();
    finds(&[]);

    write("/etc/cni/net.d/05-torn.conflist", "{");
    finds(&[("bad-configuration", "fault")]);
    fs::remove_file("/etc/cni/net.d/05-torn.conflist").unwrap();

    let mut twice = json!([ours()]);
    twice[0]["ipam"]["type"] = "dhcp".into();
    list("20-web.conflist", "web", twice);
    let text = finds(&[("plugin-missing", "fault"), ("same-name", "warning")]);
    assert!(text.contains("the plugin dhcp"), "{text}");
    write("/opt/cni/bin/dhcp", "x");
    finds(&[("plugin-not-executable", "fault"), ("same-name", "warning")]);
    fs::remove_file("/etc/cni/net.d/20-web.conflist").unwrap();

    let bare = json!([{"type": "linkspan"}]);
    let with = |version: &str| {
        let list = json!({"cniVersion": version, "name": "web", "plugins": bare});
        write("/etc/cni/net.d/10-web.conflist", list.to_string());
    };
    with("9.9.0");
    finds(&[("version-too-new", "fault")]);
    with("0.4.0");
    finds(&[("version-old", "remark")]);
    with("1.1.0");
    list("00-first.conflist", "first", bare.clone());
    let text = finds(&[("runtime-picks", "remark")]);
    assert!(text.contains("containerd takes first (/etc/cni/net.d/00-first.conflist)"), "{text}");
    fs::remove_file("/etc/cni/net.d/00-first.conflist").unwrap();

    fs::remove_file("/opt/cni/bin/linkspan").unwrap();
    write("/opt/cni/bin/linkspan", "<linkspan version 0.0.1>");
    lab.host.must(&["chmod", "755", "/opt/cni/bin/linkspan"]);
    assert!(finds(&[("other-linkspan", "warning")]).contains("version 0.0.1"));
    configured();
    linkspan("install --force").ok();
    finds(&[]);
}

#[test]
fn features_of_the_kernel() {
    let Some(lab) = host() else { return };
    let mut plugin = ours();
    plugin["vlan"] = 7.into();
    list("10-web.conflist", "web", json!([plugin]));
    let all = document("doctor --json", "doctor")["doctor"]["findings"].clone();
    let filtering = |finding: &&Value| finding["what"].as_str().unwrap().contains("VLAN filtering");
    match all.as_array().unwrap().iter().find(filtering) {
        // The same kernel, asked for nothing: a remark.
        Some(finding) => {
            assert_eq!((&finding["word"], &finding["severity"]), (&json!("kernel-feature"), &json!("fault")));
            assert!(
                finding["why"].as_str().unwrap().contains("the key vlan in /etc/cni/net.d/10-web.conflist")
            );
            configured();
            let all = document("doctor --json", "doctor")["doctor"]["findings"].clone();
            let finding = all.as_array().unwrap().iter().find(filtering).unwrap().clone();
            assert_eq!(finding["severity"], "remark");
        }
        None => lab::skipped("this kernel filters VLANs"),
    }
    configured();
    lab.host.set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    finds(&[("ipv6-off", "fault")]);
}

#[test]
fn iptables_where_it_is_needed() {
    let Some(lab) = host() else { return };
    let versions = || document("doctor --json", "doctor")["doctor"]["versions"].clone();
    let release = lab.host.must(&["uname", "-r"]);
    assert_eq!(versions()[0], json!({"program": "Linux", "version": release.trim()}));
    assert!(!versions().to_string().contains("iptables"), "nobody uses it: {}", versions());
    let mut plugin = ours();
    plugin["backend"] = "iptables".into();
    list("10-web.conflist", "web", json!([plugin]));
    let iptables = lab.host.must(&["iptables", "--version"]);
    let told = json!({"program": "iptables", "version": iptables.trim().trim_start_matches("iptables v")});
    assert!(versions().as_array().unwrap().contains(&told), "{iptables}: {}", versions());
    finds(&[]);
    let old = "printf '#!/bin/sh\\necho iptables v1.6.1\\n' >/run/old && chmod 755 /run/old && \
               mount --bind /run/old $(readlink -f $(command -v iptables))";
    lab.host.must(&["sh", "-c", old]);
    assert!(finds(&[("iptables-version", "fault")]).contains("iptables is 1.6.1"));
    configured();
    let hide = "for p in iptables-restore iptables-save; do for d in /usr/sbin /sbin /usr/bin /usr/local/sbin; do \
                [ -e $d/$p ] && mount --bind /dev/null $(readlink -f $d/$p); done; done; true";
    lab.host.must(&["sh", "-c", hide]);
    finds(&[]);
    let mut plugin = ours();
    plugin["backend"] = "iptables".into();
    list("10-web.conflist", "web", json!([plugin]));
    finds(&[("iptables-missing", "fault"), ("iptables-missing", "fault")]);
}
