//! Their state, our hands: containers that Debian's plugins attached are checked, detached and collected by ours, and as
//! far as the formats allow the other way round.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::io::{Read, Write};
use std::net::TcpStream;

use lab::chain::Bin;
use lab::outcome::address;
use lab::snapshot::Snapshot;
use lab::talk::{BRIEF, PATIENCE, echo_server, tcp, tcp_answers, tcp_server};
use lab::{Chain, Container, Lab, Outside, inspect};
use serde_json::{Value, json};

const NAMES: [&str; 4] = ["bridge", "host-local", "portmap", "firewall"];

fn list() -> Value {
    json!({"name": "web", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.89.1.0/24"}], [{"subnet": "fd00:89:1::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "firewall"},
    ]})
}

/// A host whose plugins are Debian's, until they are replaced.
struct Town {
    outside: Outside,
    chain: Chain,
    bin: Bin,
    lab: Lab,
}

impl Town {
    fn new(variant: &str) -> Option<Self> {
        let mut lab = Lab::new()?;
        if !lab.iptables(variant) {
            lab::skipped(&format!("iptables-{variant} is not here"));
            return None;
        }
        let outside = lab.outside();
        let bin = Bin::theirs(&lab);
        let chain = bin.chain(list());
        Some(Self { outside, chain, bin, lab })
    }

    fn replace_files(&self) {
        self.bin.install_ours(&NAMES);
    }

    /// What of theirs is there that names a word: chains, jumps, rules, lease files, links.
    fn traces(&self, words: &[&str]) -> Vec<String> {
        let snapshot = Snapshot::take(&self.lab);
        let named = |line: &String| words.iter().any(|word| line.contains(word));
        snapshot.lines().filter(|line| !line.contains("last_reserved_ip")).filter(named).collect()
    }
}

/// The names of their chains for a container, from the shell's own SHA-512.
fn chains(container: &Container) -> [String; 2] {
    let text = format!("printf %s web{} | sha512sum", container.id);
    let sum = container.must(&["sh", "-c", &text]);
    [format!("CNI-{}", &sum[..24]), format!("CNI-DN-{}", &sum[..21])]
}

fn talks(stream: &mut TcpStream, byte: u8) -> bool {
    let mut answer = [0];
    stream.write_all(&[byte]).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == [byte]
}

fn switched(variant: &str) {
    let Some(town) = Town::new(variant) else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let before = Snapshot::take(&town.lab);
    let on_a = town.chain.publish(&["8080:80", "5353:53/udp", "192.0.2.1:8443:443"]);
    let on_b = town.chain.publish(&["8081:80"]);
    let result = on_a.add(&a).ok();
    let other = on_b.add(&b).ok();
    let _b = tcp_server(&b, "[::]:80", "b");
    let _echo = echo_server(&a, "0.0.0.0:80");
    let mut stream = town.outside.in_ns(|| TcpStream::connect("192.0.2.1:8080").unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(talks(&mut stream, 1));

    town.replace_files();
    assert!(talks(&mut stream, 2), "the connection survives the files being replaced");
    on_a.check(&a, &result).ok();
    on_b.check(&b, &other).ok();
    assert!(talks(&mut stream, 3), "CHECK changes nothing");
    let [masquerade, published] = chains(&a);
    assert!(town.traces(&[&masquerade]).len() > 2 && town.traces(&[&published]).len() > 2);

    // A third container, by ours beside theirs.
    let c = town.lab.container("c");
    let on_c = town.chain.publish(&["8082:80"]);
    let third = on_c.add(&c).ok();
    let _c = tcp_server(&c, "[::]:80", "c");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8082").tag, "c");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8081").tag, "b");
    assert!(talks(&mut stream, 4), "an ADD of ours changes nothing");

    on_a.del(&a, &result);
    stream.set_read_timeout(Some(BRIEF)).unwrap();
    assert!(!talks(&mut stream, 5), "it is gone now");
    let (v4, v6) = (address(&result, 4), address(&result, 6));
    let left =
        town.traces(&[&a.id, &masquerade, &published, &format!("{v4}/"), &format!("{v6}/"), "8080", "5353"]);
    assert!(left.is_empty(), "left of a: {left:#?}");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8081").tag, "b", "nothing of another is touched");
    on_b.check(&b, &other).ok();
    on_a.del(&a, &Value::Null);

    on_b.del(&b, &other);
    on_c.del(&c, &third);
    drop(stream);
    let [of_b, ports_of_b] = chains(&b);
    let left = town.traces(&[&b.id, &c.id, &of_b, &ports_of_b, "808"]);
    assert!(left.is_empty(), "{left:#?}");
    let more = Snapshot::take(&town.lab).since(&before);
    assert!(more.iter().all(|change| !change.key.contains("container-")), "{more:#?}");
}

#[test]
fn a_connection_survives_the_switch_and_its_container_leaves_nothing() {
    switched("nft");
}

#[test]
fn the_same_with_legacy_iptables() {
    switched("legacy");
}

#[test]
fn without_their_namespace_nothing_of_theirs_is_left_either() {
    let Some(town) = Town::new("nft") else { return };
    let a = town.lab.container("a");
    let chain = town.chain.publish(&["8080:80"]);
    let result = chain.add(&a).ok();
    let host_end = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    town.replace_files();
    a.unbind();
    town.lab.ip(&format!("link delete {host_end}"));
    chain.del(&a, &result);
    let [masquerade, published] = chains(&a);
    let left = town.traces(&[&a.id, &masquerade, &published, &address(&result, 4), "8080"]);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_guard_of_macs_goes_with_its_container() {
    let Some(town) = Town::new("nft") else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let mut chain = town.chain.clone();
    chain.list["plugins"].as_array_mut().unwrap().truncate(1);
    chain.list["plugins"][0]["macspoofchk"] = json!(true);
    let (of_a, of_b) = (chain.add(&a).ok(), chain.add(&b).ok());
    town.replace_files();
    chain.del(&a, &of_a);
    let left = inspect::ruleset(&town.lab.host);
    assert!(!left.contains(&format!("cni-br-iface-{}", a.id)), "{left}");
    assert!(left.contains(&format!("cni-br-iface-{}", b.id)) && left.contains("macspoofchk-"), "{left}");
    chain.del(&b, &of_b);
    assert!(!inspect::ruleset(&town.lab.host).contains("macspoofchk"));
}

#[test]
fn check_finds_what_is_missing() {
    let Some(town) = Town::new("nft") else { return };
    let a = town.lab.container("a");
    let chain = town.chain.publish(&["8080:80"]);
    let result = chain.add(&a).ok();
    town.replace_files();
    chain.check(&a, &result).ok();
    let [_, published] = chains(&a);
    town.lab.host.must(&["iptables", "-t", "nat", "-F", &published]);
    let said = chain.check(&a, &result).refused(999);
    assert!(said.contains("8080"), "{said}");
    town.lab.host.must(&["iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT"]);
    town.lab.host.must(&["iptables", "-t", "nat", "-X", &published]);
    let plugins = chain.plugins(&a);
    plugins[1].prev(&result).check().refused(999);
    let v4 = address(&result, 4);
    town.lab.host.must(&["iptables", "-D", "CNI-FORWARD", "-s", &v4, "-j", "ACCEPT"]);
    let said = plugins[2].prev(&result).check().refused(999);
    assert!(said.contains(&v4), "{said}");
    // The jump to the chain of `ipMasq`, and the rule in it.
    let [masquerade, _] = chains(&a);
    for flushed in [masquerade.as_str(), "POSTROUTING"] {
        plugins[0].prev(&result).check().ok();
        let saved = town.lab.host.must(&["iptables-save", "-t", "nat"]);
        town.lab.host.must(&["iptables", "-t", "nat", "-F", flushed]);
        let said = plugins[0].prev(&result).check().refused(999);
        assert!(said.contains(&format!("masquerade of {v4}: expected present, found missing")), "{said}");
        town.lab.host.must(&["sh", "-c", &format!("iptables-restore <<'END'\n{saved}END")]);
    }
    a.ip(&format!("address del {v4}/24 dev eth0"));
    let said = plugins[0].prev(&result).check().refused(999);
    assert!(said.contains(&v4), "{said}");
}

#[test]
fn gc_takes_theirs_that_are_not_valid() {
    let Some(town) = Town::new("nft") else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    town.chain.publish(&["8080:80"]).add(&a).ok();
    let other = town.chain.publish(&["8081:80"]).add(&b).ok();
    let _b = tcp_server(&b, "[::]:80", "b");
    town.replace_files();
    town.chain.gc(&b, &[(&b.id, "eth0")]);
    let [masquerade, published] = chains(&a);
    let left = town.traces(&[&a.id, &masquerade, &published, "8080"]);
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8081").tag, "b");
    town.chain.publish(&["8081:80"]).check(&b, &other).ok();
}

#[test]
fn their_tables_of_nf_tables_are_cleaned() {
    let Some(town) = Town::new("nft") else { return };
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    town.replace_files();
    let digits =
        |text: &str| a.must(&["sh", "-c", &format!("printf %s {text} | sha512sum")])[..16].to_owned();
    let web = digits("web");
    let (of_a, of_b) = (digits(&format!("eth0:{}", a.id)), digits(&format!("eth0:{}", b.id)));
    let rule = |of: &str, ip: &str| {
        format!(
            "ip saddr {ip} ip daddr != 10.1.0.0/24 masquerade comment \"{web}-{of}, net: web, if: eth0\"\n"
        )
    };
    let ports =
        |id: &str, port: u16, ip: &str| format!("tcp dport {port} dnat to {ip}:80 comment \"{id}\"\n");
    let text = format!(
        "table inet cni_plugins_masquerade {{ chain masq_checks {{\n{}{}}}\n\
         chain postrouting {{ type nat hook postrouting priority 100; goto masq_checks\n}}\n}}\n\
         table ip cni_hostport {{ chain hostports {{\n{}{}}}\n chain hostip_hostports {{ {}}}\n}}\n",
        rule(&of_a, "10.1.0.2"),
        rule(&of_b, "10.1.0.3"),
        ports(&a.id, 8080, "10.1.0.2"),
        ports(&b.id, 8081, "10.1.0.3"),
        ports(&a.id, 8443, "10.1.0.2"),
    );
    town.lab.host.feed(&["nft", "-f", "-"], &text);
    town.chain.del(&a, &Value::Null);
    let left = inspect::ruleset(&town.lab.host);
    assert!(!left.contains("10.1.0.2"), "{left}");
    assert_eq!(left.matches("10.1.0.3").count(), 2, "nothing of another is touched: {left}");
    town.chain.gc(&b, &[]);
    let left = inspect::ruleset(&town.lab.host);
    assert!(!left.contains("ip saddr 10.1.0.3"), "GC knows the network of masquerade: {left}");
    assert!(left.contains("dnat to 10.1.0.3"), "and not that of a port, which stays: {left}");
}

/// Rules that name no network are told by the lease of the address that they are for.
#[test]
fn gc_tells_by_its_leases_whose_rules_name_no_network() {
    let Some(town) = Town::new("nft") else { return };
    let (a, b, c) = (town.lab.container("a"), town.lab.container("b"), town.lab.container("c"));
    town.chain.add(&a).ok();
    town.chain.add(&b).ok();
    let mut other = town.chain.clone();
    other.list["name"] = json!("other");
    other.list["plugins"][0]["bridge"] = json!("cni1");
    other.list["plugins"][0]["ipam"] = json!({"type": "host-local", "subnet": "10.90.1.0/24"});
    other.add(&c).ok();
    // As version 1.9 publishes; the container `c` has no lease in the network.
    let port = |id: &str, port: u16, ip: &str| format!("tcp dport {port} dnat to {ip}:80 comment \"{id}\"\n");
    let text = format!(
        "table ip cni_hostport {{ chain hostports {{\n{}{}{}}}\n\
         chain masquerading {{ type nat hook postrouting priority 100;\n\
         ip saddr 10.89.1.2 ip daddr 10.89.1.2 masquerade comment \"{}\"\n}}\n}}\n",
        port(&a.id, 8080, "10.89.1.2"),
        port(&b.id, 8081, "10.89.1.3"),
        port(&c.id, 8082, "10.90.1.2"),
        a.id,
    );
    town.lab.host.feed(&["nft", "-f", "-"], &text);
    let admitted = |ip: &str| inspect::firewall_text(&town.lab.host).matches(&format!(" {ip}/32 ")).count();
    assert_eq!(
        (admitted("10.89.1.2"), admitted("10.89.1.3"), admitted("10.90.1.2")),
        (3, 3, 3),
        "two of firewall, and a jump of ipMasq"
    );
    town.replace_files();
    town.chain.gc(&b, &[(&b.id, "eth0")]);
    let left = inspect::ruleset(&town.lab.host);
    assert!(!left.contains("10.89.1.2"), "{left}");
    for stays in ["dnat to 10.89.1.3:80", "dnat to 10.90.1.2:80"] {
        assert!(left.contains(stays), "{stays}: {left}");
    }
    assert_eq!((admitted("10.89.1.2"), admitted("10.89.1.3"), admitted("10.90.1.2")), (0, 3, 3));
    assert!(!std::path::Path::new("/var/lib/cni/networks/web/10.89.1.2").exists());
    other.gc(&c, &[(&c.id, "eth0")]);
    assert_eq!(admitted("10.90.1.2"), 3, "a valid one keeps what is its own");
}

#[test]
fn old_lease_files_are_given_back() {
    let Some(town) = Town::new("nft") else { return };
    let a = town.lab.container("a");
    town.replace_files();
    std::fs::create_dir_all("/var/lib/cni/networks/web").unwrap();
    let lease =
        |ip: &str, text: &str| std::fs::write(format!("/var/lib/cni/networks/web/{ip}"), text).unwrap();
    lease("10.89.1.7", &a.id);
    lease("10.89.1.8", &format!("{}\r\neth0", a.id));
    lease("10.89.1.9", &format!("{}\r\neth1", a.id));
    lease("10.89.1.10", "another");
    town.chain.del(&a, &Value::Null);
    let there = |ip: &str| std::path::Path::new("/var/lib/cni/networks/web").join(ip).exists();
    assert!(!there("10.89.1.7") && !there("10.89.1.8"));
    assert!(there("10.89.1.9") && there("10.89.1.10"));
}

/// Their `bridge` takes the link and the addresses away, and then (1.1.1 with iptables over nf_tables) trips over the
/// chain of `ipMasq` that is not there.
fn deleted_by_theirs(chain: &Chain, container: &Container, result: &Value) {
    for plugin in chain.plugins(container).iter().rev() {
        let outcome = plugin.prev(result).del();
        let name = plugin.conf["type"].as_str().unwrap();
        let tripped = || outcome.json.as_ref().unwrap()["msg"].as_str().unwrap().contains("does not exist");
        assert!(outcome.succeeded() || (name == "bridge" && tripped()), "{name}: {}", outcome.stdout);
    }
}

#[test]
fn theirs_delete_what_ours_made_and_ours_collect_the_rest() {
    let Some(town) = Town::new("nft") else { return };
    town.replace_files();
    let (a, b) = (town.lab.container("a"), town.lab.container("b"));
    let chain = town.chain.publish(&["8080:80"]);
    let result = chain.add(&a).ok();
    town.bin.install_theirs(&NAMES);
    deleted_by_theirs(&chain, &a, &result);
    assert!(inspect::link(&a, "eth0").is_none(), "the interface is gone");
    let leases = || std::fs::read_dir("/var/lib/cni/networks/web").unwrap().count();
    assert!(
        town.traces(&[&a.id]).iter().all(|line| !line.starts_with("file /var/lib/cni")),
        "and its leases are"
    );
    assert!(leases() > 0);

    // What theirs could not know of goes with the next ADD that needs it, here the port.
    town.replace_files();
    let other = chain.add(&b).ok();
    let _b = tcp_server(&b, "[::]:80", "b");
    assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "b");
    assert!(town.traces(&[&a.id]).is_empty(), "{:#?}", town.traces(&[&a.id]));
    town.bin.install_theirs(&NAMES);
    deleted_by_theirs(&chain, &b, &other);
    town.replace_files();
    town.chain.gc(&b, &[]);
    assert!(town.traces(&[&b.id]).is_empty(), "or with GC: {:#?}", town.traces(&[&b.id]));
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
}
