//! Who publishes the ports, and how each makes a host that has many of them.

use std::fmt::Write as _;

use crate::host::{Call, die};
use crate::town::{Town, command, inside};

/// The first published port; the others follow it.
const FIRST: usize = 10_000;

pub(crate) enum Contender {
    /// linkspan's executable, with nf_tables.
    Linkspan(String),
    /// The rules that the reference `portmap` writes: a jump and a chain of three rules for each container. The one in
    /// the middle is written by the plugins themselves, of which this is the directory.
    Portmap(String),
    /// The rules that Docker writes: one that translates for each port.
    Docker,
}

impl Contender {
    pub(crate) fn all(linkspan: &str, plugins: &str) -> Vec<Self> {
        let mut all = vec![Self::Linkspan(linkspan.to_owned())];
        if std::path::Path::new(plugins).join("portmap").exists() {
            all.push(Self::Portmap(plugins.to_owned()));
        } else {
            eprintln!("bench: skipped the reference portmap: no plugins in {plugins}");
        }
        all.push(Self::Docker);
        all
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Linkspan(_) => "linkspan",
            Self::Portmap(_) => "reference portmap",
            Self::Docker => "Docker-like rules",
        }
    }

    /// A host with `size` published ports, the one in the middle being that of a container which answers.
    pub(crate) fn settle(&self, size: usize) -> Town {
        let middle = size / 2;
        let (before, behind) = (FIRST..FIRST + middle, FIRST + middle + 1..FIRST + size);
        let port = u16::try_from(FIRST + middle).unwrap_or(u16::MAX);
        let town = Town::new(&format!("{}{size}", &self.name()[..1]));
        match self {
            Self::Linkspan(path) => {
                // With one port, too, there is a second container, which publishes nothing.
                let others: Vec<String> = before.chain(behind).map(mapping).collect();
                let other = crate::host::namespace(&format!("others{size}"));
                linkspan(path, &town, &format!("size{size}"), ("others", &other), &others.join(","));
                let own = mapping(usize::from(port));
                linkspan(path, &town, &format!("size{size}"), ("served", &town.container), &own);
            }
            Self::Portmap(plugins) => {
                // The plugin makes its chains, and is taken away again to be made anew in the middle.
                let chain = ["bridge", "portmap", "firewall"];
                reference(plugins, &town, port, "ADD", &chain);
                reference(plugins, &town, port, "DEL", &["portmap"]);
                restore(&town, &portmap_rules(before));
                reference(plugins, &town, port, "ADD", &["portmap"]);
                restore(&town, &portmap_rules(behind));
            }
            Self::Docker => {
                docker_bridge(&town);
                restore(&town, &docker_rules(FIRST..FIRST + size, port));
            }
        }
        town.open(port)
    }
}

fn mapping(port: usize) -> String {
    format!(r#"{{"hostPort":{port},"containerPort":80,"protocol":"tcp"}}"#)
}

fn linkspan(path: &str, town: &Town, state: &str, (id, netns): (&str, &str), mappings: &str) {
    let configuration = format!(
        r#"{{"cniVersion":"1.0.0","name":"bench","type":"linkspan","backend":"nftables","bridge":"bench0","ipam":{{"type":"host-local","subnet":"10.97.0.0/16"}},"runtimeConfig":{{"portMappings":[{mappings}]}}}}"#
    );
    let call = call(path, "ADD", id, netns).variable("LINKSPAN_STATE_DIR", &format!("/run/{state}"));
    inside(&town.host, || call.stdin(configuration.as_bytes()).run());
}

fn call(program: &str, verb: &str, id: &str, netns: &str) -> Call {
    Call::new(program, &[program])
        .variable("CNI_COMMAND", verb)
        .variable("CNI_CONTAINERID", id)
        .variable("CNI_NETNS", netns)
        .variable("CNI_IFNAME", "eth0")
        .variable("CNI_PATH", "/usr/lib/cni")
}

/// Runs reference plugins one after the other, as a runtime runs a chain. Each host has a network name of its own,
/// because the plugins keep their leases by it.
fn reference(plugins: &str, town: &Town, port: u16, verb: &str, chain: &[&str]) {
    let name = town.host.rsplit('/').next().unwrap_or("bench");
    let result = format!("/run/{name}.result");
    for plugin in chain {
        let previous = std::fs::read_to_string(&result).map(|text| format!(r#","prevResult":{text}"#));
        let previous = if *plugin == "bridge" { String::new() } else { previous.unwrap_or_default() };
        let mappings = mapping(usize::from(port));
        let keys = match *plugin {
            "bridge" => {
                r#","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","subnet":"10.98.0.0/16","routes":[{"dst":"0.0.0.0/0"}]}"#.to_owned()
            }
            "portmap" => format!(
                r#","capabilities":{{"portMappings":true}},"runtimeConfig":{{"portMappings":[{mappings}]}}"#
            ),
            _ => String::new(),
        };
        let configuration =
            format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"{plugin}"{keys}{previous}}}"#);
        let call = call(&format!("{plugins}/{plugin}"), verb, "served", &town.container);
        let (_, output) = inside(&town.host, || call.stdin(configuration.as_bytes()).run());
        if *plugin == "bridge" && std::fs::write(&result, output).is_err() {
            die(&result);
        }
    }
}

/// What `portmap` 1.1 writes for containers with one port each: compare `iptables-save -t nat` after an ADD of it.
fn portmap_rules(ports: std::ops::Range<usize>) -> String {
    let (mut chains, mut lines) = (String::new(), String::new());
    for port in ports {
        let chain = format!("CNI-DN-{port:021x}");
        let address = address(port);
        let to = format!("-p tcp -m tcp --dport {port}");
        let _ = writeln!(chains, ":{chain} - [0:0]");
        let _ = writeln!(
            lines,
            r#"-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"bench\" id: \"c{port}\"" -m multiport --dports {port} -j {chain}
-A {chain} -s 10.98.0.0/16 {to} -j CNI-HOSTPORT-SETMARK
-A {chain} -s 127.0.0.1/32 {to} -j CNI-HOSTPORT-SETMARK
-A {chain} {to} -j DNAT --to-destination {address}:80"#
        );
    }
    format!("*nat\n{chains}{lines}COMMIT\n")
}

fn address(port: usize) -> String {
    format!("10.98.{}.{}", 128 + port / 250 % 100, 1 + port % 250)
}

/// What Docker writes with its userland proxy: jumps to a chain, in which each port has a rule.
fn docker_rules(ports: std::ops::Range<usize>, served: u16) -> String {
    let mut text = String::from(
        "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n-A POSTROUTING -s 10.98.0.0/16 ! -o docker0 -j MASQUERADE\n-A DOCKER -i docker0 -j RETURN\n",
    );
    for port in ports {
        let address = if port == usize::from(served) { "10.98.0.2".to_owned() } else { address(port) };
        let _ = writeln!(
            text,
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport {port} -j DNAT --to-destination {address}:80"
        );
    }
    text + "COMMIT\n"
}

fn docker_bridge(town: &Town) {
    let container = town.container.rsplit('/').next().unwrap_or_default();
    for words in [
        "ip link add docker0 type bridge",
        "ip address add 10.98.0.1/16 dev docker0",
        "ip link set docker0 up",
        "ip link add veth0 type veth peer name inner",
        &format!("ip link set inner netns {container}"),
        "ip link set veth0 master docker0 up",
    ] {
        command(&town.host, words);
    }
    for words in [
        "ip address add 10.98.0.2/16 dev inner",
        "ip link set inner up",
        "ip route add default via 10.98.0.1",
    ] {
        command(&town.container, words);
    }
}

fn restore(town: &Town, text: &str) {
    let call = Call::new("/usr/sbin/iptables-restore", &["iptables-restore", "--noflush"]);
    inside(&town.host, || call.stdin(text.as_bytes()).run());
}
