//! `linkspan doctor`: each fault is made for real on a lab's host, found by its word with its severity, and mended where
//! that is safe; and on a healthy host nothing is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};

use lab::backends::{choose, on_each_backend};
use lab::cli::{Answer, document, linkspan, linkspan_with, shell};
use lab::damage::{Scene, to_links, to_nftables};
use lab::outcome::{address, host_end};
use lab::plugin::{binary, dual_stack};
use lab::{Lab, Plugin, inspect};
use serde_json::{Value, json};

/// What was found, but for what this kernel lacks and nothing here needs.
fn found(words: &str) -> Vec<(String, String, String)> {
    let document = document(words, "doctor");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = document["doctor"]["findings"].as_array().unwrap().iter();
    let rows = all.map(|f| (text(f, "word"), text(f, "severity"), format!("{f:#}")));
    rows.filter(|(word, severity, _)| (word.as_str(), severity.as_str()) != ("kernel-feature", "remark"))
        .collect()
}

/// Exactly these words with these severities, the worst first.
#[track_caller]
fn finds(wanted: &[(&str, &str)]) -> String {
    let found = found("doctor --json");
    let words: Vec<(&str, &str)> =
        found.iter().map(|(word, severity, _)| (word.as_str(), severity.as_str())).collect();
    let text = found.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    assert_eq!(words, wanted, "{text}");
    text
}

/// This word with this severity among others.
#[track_caller]
fn includes(word: &str, severity: &str) -> String {
    let found = found("doctor --json");
    let one = found.iter().find(|(w, s, _)| w == word && s == severity);
    one.unwrap_or_else(|| panic!("no {severity} {word} in {found:#?}")).2.clone()
}

#[track_caller]
fn lacks(word: &str) {
    let found = found("doctor --json");
    assert!(found.iter().all(|(w, _, _)| w != word), "{word} in {found:#?}");
}

/// `--fix` mends it, and a second look finds nothing.
#[track_caller]
fn fixed() -> Answer {
    let said = linkspan("doctor --fix --yes");
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("done: "), "{}", said.stdout);
    finds(&[]);
    said
}

fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn ours() -> Value {
    json!({"type": "linkspan", "capabilities": {"portMappings": true}, "ipam": dual_stack(1)})
}

fn list(file: &str, name: &str, plugins: Value) {
    let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": plugins});
    write(format!("/etc/cni/net.d/{file}"), list.to_string());
}

/// linkspan where runtimes look for it, and the network `web` configured.
fn configured() {
    fs::create_dir_all("/opt/cni/bin").unwrap();
    let _ = std::os::unix::fs::symlink(binary(), "/opt/cni/bin/linkspan");
    list("10-web.conflist", "web", json!([ours()]));
}

/// A lab without what the machine's own runtimes and daemons are configured to do.
fn bare() -> Option<Lab> {
    let lab = Lab::new()?;
    let hide = "for d in containerd crio containers NetworkManager systemd/network ufw; do \
                [ ! -d /etc/$d ] || mount -t tmpfs tmpfs /etc/$d || exit; done";
    lab.host.must(&["sh", "-c", hide]);
    Some(lab)
}

/// The same with linkspan and a network.
fn host() -> Option<Lab> {
    let lab = bare()?;
    configured();
    Some(lab)
}

fn web(lab: &Lab) -> Plugin {
    lab.plugin(json!({"ipam": dual_stack(1)}))
}

/// The lab has an `/etc` of its own, which begins as the machine's without runtimes.
fn own_etc(lab: &Lab) -> bool {
    let made = "mkdir -p /run/etc/upper /run/etc/work && \
                mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc && \
                rm -rf /etc/cni/net.d /etc/containerd /etc/crio /etc/containers /etc/ufw";
    let made = lab.host.exec(&["sh", "-c", made]);
    if !made.ok {
        lab::skipped(&format!("there is no overlay here: {}", made.stderr.trim()));
    } else {
        configured();
    }
    made.ok
}

/// Nobody's mount: a file in place of another, for this lab.
fn cover(lab: &Lab, path: &str, text: &str) {
    let file = format!("/run/covering-{}", lab.next());
    write(&file, text);
    lab.host.must(&["mount", "--bind", &file, path]);
}

fn a_healthy_host_has_no_finding(backend: &'static str) {
    let Some(mut lab) = bare() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    configured();
    finds(&[]);
    let scene = Scene::new(&lab, kind);
    finds(&[]);
    let said = linkspan("doctor");
    assert!(said.ok().contains("no faults, no warnings"), "{}", said.stdout);
    scene.assert_whole(&lab, "a look changes nothing");
    let said = linkspan("doctor --fix --yes");
    assert!(said.ok().contains("there is nothing that --fix mends"), "{}", said.stdout);
    scene.assert_whole(&lab, "nothing was mended");
    scene.end(&lab);
    finds(&[]);
}

fn flushed_rules_are_found_and_put_back(backend: &'static str) {
    let Some(mut lab) = bare() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    configured();
    let scene = Scene::new(&lab, kind);
    let flush = match backend {
        "nftables" => "nft flush ruleset",
        _ => "for t in nat filter; do iptables -t $t -F && iptables -t $t -X || exit; done",
    };
    lab.host.must(&["sh", "-c", flush]);
    // The other family's are there.
    finds(&[("rules-missing", "fault")]);
    let dry = linkspan("doctor --fix --dry-run");
    dry.failed(4, "1 fault");
    assert!(
        dry.stdout.contains("nothing was changed") && dry.stdout.contains("linkspan reconcile"),
        "{}",
        dry.stdout
    );
    finds(&[("rules-missing", "fault")]);
    fixed();
    scene.assert_whole(&lab, backend);
    scene.end(&lab);
}

on_each_backend!(a_healthy_host_has_no_finding, flushed_rules_are_found_and_put_back);

#[test]
fn every_damage_is_found_and_mended() {
    let Some(lab) = host() else { return };
    let scene = Scene::new(&lab, "nftables");
    let mut damages = to_links(&scene);
    damages.extend(to_nftables(&scene).into_iter().skip(1).step_by(4));
    for damage in damages {
        damage.strike(&lab);
        let said = linkspan("doctor");
        said.failed(4, "linkspan doctor --fix");
        assert!(said.stdout.contains(&damage.said), "{}: {}", damage.name, said.stdout);
        let said = linkspan("doctor --fix --yes");
        assert_eq!(said.code, 0, "{}: {}{}", damage.name, said.stdout, said.stderr);
        scene.assert_whole(&lab, &damage.name);
    }
}

#[test]
fn settings_that_records_call_for() {
    let Some(lab) = host() else { return };
    let scene = Scene::new(&lab, "nftables");
    lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    assert!(finds(&[("forwarding-off", "fault")]).contains("ip_forward"));
    fixed();
    lab.host.set_sysctl("net.ipv4.conf.lks-web.route_localnet", "0");
    finds(&[("localnet-off", "fault")]);
    fixed();
    lab.ip("link set lks-web down");
    finds(&[("bridge-drift", "fault")]);
    fixed();
    lab.ip(&format!("link set {} nomaster", host_end(&scene.web.1)));
    finds(&[("attachment-drift", "fault")]);
    fixed();
    lab.host.set_sysctl("net.ipv4.conf.uplink.forwarding", "0");
    assert!(finds(&[("forwarding-off", "fault")]).contains("sysctl -w net/ipv4/conf/uplink/forwarding=1"));
    lab.host.must(&["sysctl", "-qw", "net/ipv4/conf/uplink/forwarding=1"]);
    finds(&[]);
}

#[test]
fn settings_of_the_host() {
    let Some(lab) = host() else { return };
    let _outside = lab.outside();
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).publish(&["40000:80"]).add().ok();
    assert!(finds(&[("ephemeral-port", "remark")]).contains("ip_local_reserved_ports=40000"));
    lab.host.set_sysctl("net.ipv4.ip_local_reserved_ports", "40000");
    finds(&[]);

    lab.ip("link add second type veth peer name far");
    lab.ip("address add 198.51.100.1/24 dev second");
    lab.ip("link set second up");
    lab.ip("route add default via 198.51.100.2 metric 100");
    lacks("reverse-path");
    lab.host.set_sysctl("net.ipv4.conf.second.rp_filter", "1");
    assert!(finds(&[("reverse-path", "warning")]).contains("net.ipv4.conf.second.rp_filter=2"));
    lab.ip("link del second");

    lab.ip("-6 route replace default via 2001:db8::2 proto ra");
    lab.host.set_sysctl("net.ipv6.conf.uplink.accept_ra", "1");
    finds(&[("router-advertisements", "warning")]);
    lab.host.set_sysctl("net.ipv6.conf.uplink.accept_ra", "2");
    finds(&[]);

    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_count", "85000\n");
    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_max", "100000\n");
    assert!(finds(&[("conntrack-full", "warning")]).contains("nf_conntrack_max=200000"));
    cover(&lab, "/proc/sys/net/netfilter/nf_conntrack_count", "99999\n");
    finds(&[("conntrack-full", "fault")]);
}

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
fn what_the_dead_left() {
    let Some(lab) = host() else { return };
    let plugin = web(&lab);
    let keep = lab.container("keep");
    plugin.on(&keep).add().ok();
    let dead = lab.container("dead");
    plugin.on(&dead).publish(&["8080:80"]).add().ok();
    dead.unbind();
    drop(dead);
    assert!(
        lab::eventually(std::time::Duration::from_secs(10), || found("doctor --json")
            .iter()
            .any(|f| f.0 == "dead-attachment")),
        "the namespace dies"
    );
    finds(&[("dead-attachment", "warning")]);
    linkspan("doctor").failed(3, "1 warning");
    fixed();

    let half = lab.container("half");
    plugin.on(&half).add().ok();
    fs::create_dir_all("/run/linkspan/pending").unwrap();
    let moved = |from: &str, to: &str, id: &str| {
        fs::create_dir_all(format!("/run/linkspan/{to}")).unwrap();
        fs::rename(format!("/run/linkspan/{from}/{id}:eth0"), format!("/run/linkspan/{to}/{id}:eth0"))
            .unwrap();
    };
    moved("ready", "pending", "container-half");
    finds(&[("half-made", "warning")]);
    fixed();
    plugin.on(&half).add().ok();
    moved("ready", "doomed", "container-half");
    finds(&[("del-unfinished", "warning")]);
    fixed();
    assert!(inspect::link(&half, "eth0").is_none());
    assert!(inspect::link(&keep, "eth0").is_some(), "the living stay");
}

#[test]
fn what_belongs_to_nobody() {
    let Some(lab) = host() else { return };
    let plugin = web(&lab);
    let keep = lab.container("keep");
    let kept = plugin.on(&keep).publish(&["8080:80"]).add().ok();
    let lost = lab.container("lost");
    let result = plugin.on(&lost).publish(&["8081:80"]).add().ok();
    fs::remove_file("/run/linkspan/ready/container-lost:eth0").unwrap();
    lab.ip("link add lksffffffffffff type veth peer name lksfffffffffff0");
    lab.ip("link set lksffffffffffff group 1818981232");
    let text = finds(&[("orphan", "warning")]);
    assert!(text.contains(&address(&result, 4)) && text.contains("more"), "{text}");
    fixed();
    assert!(inspect::link(&lab.host, &host_end(&result)).is_none());
    assert!(!lab.host.must(&["nft", "list", "ruleset"]).contains(&address(&result, 4)));
    plugin.on(&keep).prev(&kept).check().ok();

    write("/run/linkspan/ready/torn:eth0", "{");
    includes("unreadable-record", "fault");
    fs::remove_file("/run/linkspan/ready/torn:eth0").unwrap();
    let path = "/run/linkspan/ready/container-keep:eth0";
    let record = fs::read_to_string(path).unwrap();
    let at = |time: u64| {
        let mut value: Value = serde_json::from_str(&record).unwrap();
        value["created"] = time.into();
        fs::write(path, value.to_string()).unwrap();
    };
    at(1);
    finds(&[("before-boot", "warning")]);
    at(9_999_999_999);
    finds(&[("clock-behind", "remark")]);
    fs::write(path, &record).unwrap();
    finds(&[]);
}

#[test]
fn what_libcni_remembers() {
    let Some(lab) = host() else { return };
    let (blue, red) = (lab.container("blue"), lab.container("red"));
    linkspan("add web blue").ok();
    linkspan("add web red").ok();
    finds(&[]);
    let all = document("ps --json", "ps")["attachments"].as_array().unwrap().clone();
    let of_red = all.iter().find(|a| a["sandbox"] == "/run/netns/red").unwrap();
    let id = of_red["container"].as_str().unwrap();
    fs::remove_file(format!("/run/linkspan/ready/{id}:eth0")).unwrap();
    assert!(includes("stale-result", "warning").contains("linkspan del web /run/netns/red"));
    linkspan("del web red").ok();
    fixed();
    blue.unbind();
    drop(blue);
    includes("stale-result", "warning");
    fixed();
    assert_eq!(fs::read_dir("/var/lib/cni/results").unwrap().count(), 0);
    write("/var/lib/cni/results/web-x-eth0", "{");
    finds(&[("unreadable-result", "warning")]);
    drop(red);
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
fn runtimes_that_look_elsewhere() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    finds(&[]);
    let cri = |conf: &str, bin: &str| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{conf}\"\nbin_dir = \"{bin}\"\n"
        )
    };
    write("/etc/containerd/config.toml", cri("/etc/cni/net.d", "/opt/cni/bin"));
    finds(&[]);
    write("/etc/containerd/config.toml", cri("/etc/cni/net.d", "/usr/lib/elsewhere"));
    assert!(finds(&[("runtime-directory", "warning")]).contains("linkspan install --dir /usr/lib/elsewhere"));
    write("/etc/containerd/config.toml", cri("/etc/other", "/opt/cni/bin"));
    assert!(finds(&[("runtime-directory", "warning")]).contains("NETCONFPATH=/etc/other"));
    write("/etc/containerd/config.toml", "version = \n");
    finds(&[("not-looked-at", "remark")]);
    write("/etc/containerd/config.toml", "version = 3\n");

    list("20-db.conflist", "db", json!([{"type": "linkspan"}]));
    write("/etc/crio/crio.conf.d/10.conf", "[crio.network]\ncni_default_network = \"db\"\n");
    assert!(finds(&[("runtime-picks", "remark")]).contains("CRI-O takes db (/etc/cni/net.d/20-db.conflist)"));
    fs::remove_file("/etc/cni/net.d/20-db.conflist").unwrap();
    let podman = "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\n  \"/usr/lib/elsewhere\",\n]\n";
    write("/etc/containers/containers.conf", podman);
    assert!(
        finds(&[("runtime-directory", "warning")]).contains("podman looks for plugins in /usr/lib/elsewhere")
    );
    write("/etc/containers/containers.conf", "");
    write("/etc/ufw/ufw.conf", "ENABLED=yes\n");
    finds(&[("ufw", "remark")]);
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
    let hide = "for p in iptables-restore iptables-save; do for d in /usr/sbin /sbin /usr/bin /usr/local/sbin; do \
                [ -e $d/$p ] && mount --bind /dev/null $(readlink -f $d/$p); done; done; true";
    lab.host.must(&["sh", "-c", hide]);
    finds(&[]);
    let mut plugin = ours();
    plugin["backend"] = "iptables".into();
    list("10-web.conflist", "web", json!([plugin]));
    finds(&[("iptables-missing", "fault"), ("iptables-missing", "fault")]);
}

#[test]
fn an_agent_that_is_needed() {
    let Some(lab) = host() else { return };
    let _stray = lab::agent::Stray;
    let (a, plugin) = (lab.container("a"), web(&lab).with(json!({"holdPorts": true})));
    let agent = lab::agent::Agent::start();
    plugin.on(&a).publish(&["8080:80"]).add().ok();
    finds(&[]);
    agent.kill();
    finds(&[("agent-missing", "fault")]);
    let agent = lab::agent::Agent::start();
    finds(&[]);
    agent.kill();
    // The one that is woken is on demand, and ends with its work.
    fixed();
    plugin.on(&a).del().ok();
    let gone =
        lab::eventually(std::time::Duration::from_secs(30), || !Path::new(lab::agent::SOCKET).exists());
    assert!(gone, "the agent ends");
    let agent = lab::agent::Agent::start();
    agent.kill();
    finds(&[("agent-socket", "remark")]);
    fixed();
    assert!(!Path::new(lab::agent::SOCKET).exists());
}

#[test]
fn command_lines_and_who_may() {
    let Some(lab) = host() else { return };
    linkspan("doctor --jsno").failed(2, "did you mean '--json'?");
    linkspan("doktor").failed(2, "did you mean 'doctor'?");
    linkspan("doctor --fxi").failed(2, "did you mean '--fix'?");
    linkspan("doctor web").failed(2, "has no use for 'web'");
    linkspan("doctor --yes").failed(2, "--fix");
    linkspan("doctor --fix --yes --dry-run").failed(2, "do not go together");
    linkspan("doctor --fix").failed(2, "add --yes to have it done");
    linkspan("doctor --fix --json").failed(2, "--yes");
    linkspan_with("doctor", &[("NETCONFPATH", "/proc/self/mem")]).failed(1, "cannot read /proc/self/mem");
    let quiet = shell(
        "\"$L\" doctor | true; echo ${PIPESTATUS[0]} 1>&2; \"$L\" doctor --json | head -c 1 > /dev/null",
    );
    assert_eq!(quiet.stderr.trim(), "0", "{}", quiet.stderr);

    let program = lab.work.path().join("linkspan");
    fs::copy(binary(), &program).unwrap();
    lab.host.must(&["chmod", "-R", "a+rX", lab.work.path().to_str().unwrap()]);
    let nobody = |extra: &str| {
        shell(&format!(
            "{extra} setpriv --reuid 65534 --regid 65534 --clear-groups {} doctor",
            program.display()
        ))
    };
    let said = nobody("LINKSPAN_STATE_DIR=/nowhere CNI_PATH=/nowhere NETCONFPATH=/nowhere");
    assert!(said.stdout.contains("remark not-looked-at") && said.ok, "{}{}", said.stdout, said.stderr);
    let (a, plugin) = (lab.container("a"), web(&lab));
    plugin.on(&a).add().ok();
    assert!(nobody("").stderr.contains("run this as root"));
}

#[test]
fn json_says_what_was_fixed_and_a_terminal_is_asked() {
    let Some(lab) = host() else { return };
    let (a, plugin) = (lab.container("a"), web(&lab));
    let result = plugin.on(&a).add().ok();
    let end = host_end(&result);
    lab.ip(&format!("link set {end} nomaster"));
    let document = document("doctor --fix --yes --json", "doctor");
    assert_eq!(document["doctor"]["faults"], 0);
    assert!(document["doctor"]["fixed"][0]["what"].as_str().unwrap().contains("reconcile"));
    if !shell("command -v script").ok {
        lab::skip!("script(1) is not here");
    }
    let ask =
        |word: &str| shell(&format!("(sleep 1; echo {word}) | script -qec \"$L doctor --fix\" /dev/null"));
    lab.ip(&format!("link set {end} nomaster"));
    let said = ask("n");
    assert!(
        said.stdout.contains("do it? [y/N]") && said.stdout.contains("nothing was changed"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("\x1b[31mfault\x1b[0m"), "colour at a terminal: {}", said.stdout);
    finds(&[("attachment-drift", "fault")]);
    assert!(ask("y").stdout.contains("done: "));
    finds(&[]);
}

#[test]
fn the_page_has_every_word_and_its_example_is_true() {
    let Some(lab) = host() else { return };
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).unwrap();
    for word in linkspan::doctor::Word::ALL {
        assert!(page.contains(&format!("| `{word}` |")), "{word} has no row");
    }
    let scene = Scene::new(&lab, "nftables");
    lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    lab.ip("route add 10.88.2.0/25 via 192.0.2.2");
    let said = linkspan("doctor");
    let mut shown = String::new();
    let mut skipping = false;
    for line in said.stdout.lines() {
        // What a kernel lacks is its own.
        skipping =
            if line.starts_with("remark kernel-feature") { true } else { skipping && line.starts_with(' ') };
        if !skipping {
            let line = if line.contains(" faults, ") { "2 faults, no warnings, no remarks" } else { line };
            shown.push_str(&format!("{line}\n"));
        }
    }
    let wanted = format!("$ linkspan doctor\n{shown}{}```", said.stderr);
    assert!(page.contains(&wanted), "docs/doctor.md should show:\n{wanted}");
    drop(scene);
}
