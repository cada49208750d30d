//! `ls`, `ps`, `ports`, `ipam`, `inspect`, `top`, `graph`: each against a real host with two networks, published ports, a
//! dead container and an orphan lease, as tables and as documents of the schema.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::cli::{document, linkspan, linkspan_with, shell};
use lab::outcome::address;
use lab::plugin::{dual_stack, v4};
use lab::talk::{tcp, tcp_server};
use lab::{Container, Lab, Outside, programs};
use serde_json::{Value, json};

/// Network `web` (10.1.0.0/24 and IPv6) with `shop`, `dead` and an orphan lease; network `back`, walled, with `store`.
struct Town {
    shop: Container,
    shop_result: Value,
    store: Container,
    dead: Container,
    orphan: String,
    outside: Outside,
    lab: Lab,
}

impl Town {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let outside = lab.outside();
        let web = lab.plugin(json!({"ipam": dual_stack(1)}));
        let back = lab.plugin(json!({"name": "back", "ipam": v4(2), "ingressPolicy": "same-bridge"}));
        let (shop, store, dead) = (lab.container("shop"), lab.container("store"), lab.container("dead"));
        let named = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=shop-0;TIER=front";
        let shop_result = web.on(&shop).publish(&["8080:80", "127.0.0.1:8053:53/udp"]).args(named).add().ok();
        back.on(&store).add().ok();
        let dead_result = web.on(&dead).publish(&["9090:90"]).add().ok();
        dead.unbind();
        let held = address(&dead_result, 4);
        let orphan = format!("{}.77", held.rsplit_once('.').unwrap().0);
        fs::write(format!("/run/linkspan/ipam/web/{orphan}"), "container-ghost\r\neth0").unwrap();
        Some(Self { shop, shop_result, store, dead, orphan, outside, lab })
    }

    fn bridge(&self) -> String {
        lab::outcome::bridge(&self.shop_result)
    }
}

/// The agent is asked where the health of networks is shown, which hangs on it, and nowhere else.
#[test]
fn only_what_judges_networks_asks_the_agent() {
    let Some(town) = Town::new() else { return };
    let named = json!({"name": "named", "ipam": v4(3), "dns": {"enabled": true}});
    let a = town.lab.container("a");
    town.lab.plugin(named).on(&a).add().ok();
    drop(lab::agent::Stray);
    let path = "/run/linkspan/agent.sock";
    let _ = fs::remove_file(path);
    let socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let explain = format!("explain {} {}:80", town.shop.id, town.store.id);
    let looks = ["ps", "ports", "ipam", "inspect shop-0", explain.as_str()];
    for (words, code) in looks.into_iter().zip([0, 0, 0, 0, 3]) {
        let said = linkspan(words);
        assert_eq!(said.code, code, "{words}: {}{}", said.stdout, said.stderr);
        assert!(socket.accept().is_err(), "{words}");
    }
    linkspan("ls").ok();
    assert!(socket.accept().is_ok(), "ls says what is wrong with a network");
}

#[test]
fn ls_counts_and_judges_networks() {
    let Some(town) = Town::new() else { return };
    let table = linkspan("ls");
    let web = table.row("web");
    assert_eq!((web[1].as_str(), web[5].as_str()), (town.bridge().as_str(), "2"), "{web:?}");
    assert_eq!(web[3], "5", "two of each family, and the orphan");
    assert_eq!(web[4], "250", "of the 253 addresses that IPv4 has without the gateway");
    assert_eq!(web.last().unwrap(), "warning");
    assert_eq!(table.row("back").last().unwrap(), "ok");
    assert!(table.stdout.contains("web: 1 attachment is dead"), "{}", table.stdout);
    assert!(table.stdout.contains("web: 1 lease belongs to nobody"), "{}", table.stdout);

    let found = document("ls --json --network back", "ls");
    assert_eq!(found["networks"].as_array().unwrap().len(), 1);
    for (filter, name) in
        [("--container shop-0", "web"), ("--label TIER=front", "web"), ("-c container-st", "back")]
    {
        let found = document(&format!("ls --json {filter}"), "ls");
        let names: Vec<&str> =
            found["networks"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
        assert_eq!(names, [name], "{filter}");
    }
    linkspan("ls --container nobody").failed(1, "there is no container 'nobody'");
    let found = document("ls --json --network back", "ls");
    assert_eq!(found["networks"][0]["free"], 252);

    town.lab.ip(&format!("link set {} down", town.bridge()));
    let after = linkspan("ls");
    assert_eq!(after.row("web").last().unwrap(), "failed");
    assert!(after.stdout.contains("is down"), "{}", after.stdout);
    town.lab.ip(&format!("link del {}", town.bridge()));
    assert!(linkspan("ls").stdout.contains(&format!("web: the bridge {} is gone", town.bridge())));
}

#[test]
fn ps_tells_the_living_from_the_dead_and_filters() {
    let Some(town) = Town::new() else { return };
    let table = linkspan("ps");
    let shop = table.row(&town.shop.id);
    assert_eq!(shop[1..4], ["default/shop-0", "eth0", "web"]);
    assert!(shop[4].contains(&address(&town.shop_result, 4)), "{shop:?}");
    assert!(shop[5].contains("0.0.0.0:8080->80/tcp") && shop[5].contains("[::]:8080->80/tcp"), "{shop:?}");
    assert_eq!(shop.last().unwrap(), "up");
    assert_eq!(table.row(&town.dead.id).last().unwrap(), "dead");

    let ids = |words: &str| -> Vec<String> {
        let found = document(words, "ps");
        let rows = found["attachments"].as_array().unwrap();
        rows.iter().map(|row| row["container"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("ps --json").len(), 3);
    assert_eq!(ids("ps --json --network back"), [town.store.id.as_str()]);
    assert_eq!(ids("ps --json --container container-sh"), [town.shop.id.as_str()]);
    assert_eq!(ids("ps --json -c shop-0"), [town.shop.id.as_str()], "by the pod's name");
    assert_eq!(ids("ps --json --label TIER=front"), [town.shop.id.as_str()]);
    assert!(ids("ps --json --label TIER=back").is_empty());
    linkspan("ps --network bakc").failed(1, "did you mean 'back'?");
    linkspan("ps --container container-shpo").failed(1, "did you mean 'container-shop'?");
}

#[test]
fn a_container_whose_network_is_damaged_is_broken() {
    let Some(town) = Town::new() else { return };
    let veth = lab::outcome::host_end(&town.shop_result);
    town.lab.ip(&format!("link set {veth} nomaster"));
    let table = linkspan("ps");
    assert_eq!(table.row(&town.shop.id).last().unwrap(), "broken");
    assert!(table.stdout.contains("is not on the bridge"), "{}", table.stdout);
    town.lab.ip(&format!("link set {veth} master {}", town.bridge()));
    assert_eq!(linkspan("ps").row(&town.shop.id).last().unwrap(), "up");
    town.lab.host.must(&["nft", "flush", "ruleset"]);
    let flushed = linkspan("ps");
    assert_eq!(flushed.row(&town.shop.id).last().unwrap(), "broken");
    assert!(flushed.stdout.contains("firewall elements are missing"), "{}", flushed.stdout);
    let half = "/run/linkspan/pending/container-half:eth0";
    fs::copy(format!("/run/linkspan/ready/{}:eth0", town.store.id), half).unwrap();
    assert!(linkspan("ps").stdout.contains("half-made"));
}

#[test]
fn ports_are_told_as_docker_tells_them() {
    let Some(town) = Town::new() else { return };
    let lines = linkspan(&format!("ports {}", town.shop.id));
    assert_eq!(lines.ok(), "53/udp -> 127.0.0.1:8053\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n",);
    assert_eq!(linkspan("ports shop-0").ok(), lines.ok(), "by name");
    let all = document("ports --json", "ports");
    let mut hosts: Vec<&str> =
        all["ports"].as_array().unwrap().iter().map(|p| p["host"].as_str().unwrap()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["0.0.0.0:8080", "0.0.0.0:9090", "127.0.0.1:8053", "[::]:8080", "[::]:9090"]);
    let row = linkspan("ports").row("0.0.0.0:8080");
    assert_eq!(row[1..5], ["tcp", town.shop.id.as_str(), "default/shop-0", "web"]);
    linkspan("ports container-").failed(1, "may be container-dead, container-shop, container-store");
    linkspan("ports nobody").failed(1, "'linkspan ps' lists them");
}

#[test]
fn ipam_marks_orphans_and_the_dead() {
    let Some(town) = Town::new() else { return };
    let table = linkspan("ipam");
    assert_eq!(table.row(&town.orphan).last().unwrap(), "orphan");
    assert_eq!(table.row(&address(&town.shop_result, 4)).last().unwrap(), "held");
    assert_eq!(table.row(&address(&town.shop_result, 6)).last().unwrap(), "held");
    let found = document("ipam --json", "ipam");
    let of = |key: &str| found["ipam"][key].as_array().unwrap().clone();
    assert_eq!((of("ranges").len(), of("leases").len()), (3, 6));
    let states = |state: &str| of("leases").iter().filter(|lease| lease["state"] == state).count();
    assert_eq!((states("held"), states("dead"), states("orphan")), (3, 2, 1));
    assert!(of("leases").iter().all(|lease| lease["since"].as_u64().unwrap() > 1_600_000_000));
    let filtered = document("ipam --json --container shop-0", "ipam");
    assert_eq!(filtered["ipam"]["leases"].as_array().unwrap().len(), 2);
}

#[test]
fn inspect_puts_record_and_kernel_side_by_side() {
    let Some(town) = Town::new() else { return };
    let text = linkspan("inspect shop-0");
    assert!(text.ok().contains("no drift") && !text.stdout.contains("\n!"), "{}", text.stdout);
    for word in ["TIER=front", "namespace", "MTU", "lease", "host port", "firewall", "route"] {
        assert!(text.stdout.contains(word), "{word} in {}", text.stdout);
    }
    let held = address(&town.shop_result, 4);
    town.shop.ip(&format!("address del {held}/24 dev eth0"));
    let text = linkspan("inspect container-sh");
    let marked: Vec<&str> = text.ok().lines().filter(|line| line.starts_with('!')).collect();
    assert!(marked.iter().any(|line| line.contains(&held) && line.contains("missing")), "{}", text.stdout);
    assert!(text.stdout.contains("drift:"), "{}", text.stdout);
    let found = document("inspect shop-0 --json", "inspectContainer");
    assert!(!found["containers"][0]["drift"].as_array().unwrap().is_empty());

    let network = document("inspect web --json", "inspectNetwork");
    assert_eq!(network["network"]["attachments"].as_array().unwrap().len(), 2);
    town.lab.host.set_sysctl("net.ipv4.ip_forward", "0");
    let text = linkspan("inspect web");
    assert!(
        text.ok().lines().any(|l| l.starts_with('!') && l.contains("net.ipv4.ip_forward")),
        "{}",
        text.stdout
    );
    linkspan("inspect wbe").failed(1, "did you mean 'web'?");
    let labelled = document("inspect --label TIER=front --json", "inspectContainer");
    assert_eq!(labelled["containers"].as_array().unwrap().len(), 1);
    assert_eq!(labelled["containers"][0]["attachment"]["container"], town.shop.id.as_str());
    let two = document("inspect --network web --json", "inspectContainer");
    assert_eq!(two["containers"].as_array().unwrap().len(), 2);
    let one = document("inspect web --container shop-0 --json", "inspectNetwork");
    assert_eq!(one["network"]["attachments"].as_array().unwrap().len(), 1);
    assert!(linkspan(&format!("inspect {}", town.dead.id)).ok().contains("dead"));
}

#[test]
fn top_counts_what_passes() {
    let Some(town) = Town::new() else { return };
    assert!(linkspan("top").ok().contains("bytes of ports are not counted"));
    town.lab.host.set_sysctl("net.netfilter.nf_conntrack_acct", "1");
    let _server = tcp_server(&town.shop, "[::]:80", "shop");
    let before = document("top --json --container shop-0", "top");
    for _ in 0..3 {
        assert_eq!(tcp(&town.outside, "192.0.2.1:8080").tag, "shop");
    }
    let after = document("top --json --container shop-0", "top");
    let count = |found: &Value, key: &str| found["traffic"][0][key].as_u64().unwrap();
    for key in ["receivedBytes", "sentBytes", "receivedPackets", "sentPackets"] {
        assert!(count(&after, key) > count(&before, key), "{key}: {before} {after}");
    }
    let ports = after["traffic"][0]["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["host"] == "0.0.0.0:8080").unwrap();
    assert_eq!(port["connections"], 3, "{port}");
    let part = |key: &str| port[key].as_u64().unwrap_or_else(|| panic!("{key} of {port}"));
    assert!(part("receivedBytes") > 0 && part("sentBytes") > 0, "{port}");
    assert_eq!(part("bytes"), part("receivedBytes") + part("sentBytes"));
    assert!(part("packets") >= 3 * 6, "three connections begun, answered and ended: {port}");
    let silent = ports.iter().find(|port| port["host"] == "127.0.0.1:8053").unwrap();
    assert_eq!((&silent["packets"], &silent["connections"]), (&json!(0), &json!(0)));
    let table = linkspan("top --container shop-0");
    assert!(!table.ok().contains("not counted"), "{}", table.stdout);
    let row = table.stdout.lines().find(|line| line.trim_start().starts_with("0.0.0.0:8080")).unwrap();
    assert_eq!(row.split_whitespace().count(), 5, "port, received, sent, packets, connections: {row}");
    assert_eq!(count(&after, "connections"), 3);
    let rows = linkspan("top --watch=0.1 --count 2 --network web");
    assert_eq!(rows.ok().matches("CONTAINER").count(), 2);
    let second = rows.stdout.rsplit_once("CONTAINER").unwrap().1;
    let row: Vec<&str> =
        second.lines().find(|l| l.starts_with("container-shop")).unwrap().split_whitespace().collect();
    assert!(row[3] != "-" && row[4] != "-", "rates since the page before: {row:?}");
    let first = rows.stdout.lines().find(|l| l.starts_with("container-shop")).unwrap();
    assert_eq!(first.split_whitespace().nth(3), Some("-"), "no page before: {first}");
    assert!(rows.stdout.contains("connections tracked on this host"));
}

#[test]
fn graph_draws_the_host_in_four_languages() {
    let Some(town) = Town::new() else { return };
    let tree = linkspan("graph");
    for word in
        ["uplink uplink  192.0.2.1/24", "network web", "network back", "wall: closed", "*:8080 -> 80/tcp"]
    {
        assert!(tree.ok().contains(word), "{word} in {}", tree.stdout);
    }
    for format in ["svg", "dot", "mermaid"] {
        let said = linkspan(&format!("graph --format {format}"));
        for word in ["uplink", "default/shop-0", &town.store.id, &town.bridge(), "dead"] {
            assert!(said.ok().contains(word), "{word} in {format}: {}", said.stdout);
        }
    }
    let found = document("graph --json --network back", "graph");
    assert_eq!(found["graph"]["bridges"].as_array().unwrap().len(), 1);
    linkspan("graph --format sgv").failed(2, "did you mean 'svg'?");
}

#[test]
fn pages_are_repeated_and_a_closed_pipe_is_quiet() {
    let Some(_town) = Town::new() else { return };
    let twice = linkspan("ps --watch=0.05 --count 3");
    assert_eq!(twice.ok().matches("CONTAINER").count(), 3);
    let said = shell(
        "\"$L\" ps --watch=0.05 2>/tmp/see-pipe.$$ | head -n 1; echo ${PIPESTATUS[0]}; cat /tmp/see-pipe.$$; rm /tmp/see-pipe.$$",
    );
    assert_eq!(said.stdout.lines().skip(1).collect::<Vec<_>>(), ["0"], "{}{}", said.stdout, said.stderr);
    let colours = linkspan("ls").stdout;
    assert!(!colours.contains('\x1b'), "no colour without a terminal");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let Some(_town) = Town::new() else { return };
    if !shell("command -v script").ok {
        lab::skip!("script(1), which makes a terminal, is not here");
    }
    assert!(shell("script -qec \"$L ps\" /dev/null").stdout.contains("\x1b[32mup\x1b[0m"));
    assert!(!shell("NO_COLOR=1 script -qec \"$L ps\" /dev/null").stdout.contains("\x1b["));
    assert!(!shell("TERM=dumb script -qec \"$L ps\" /dev/null").stdout.contains("\x1b["));
}

#[test]
fn who_may_not_read_the_records_is_told_so() {
    let Some(town) = Town::new() else { return };
    let copy = town.lab.work.path().join("linkspan");
    programs::copy(lab::plugin::binary(), &copy);
    fs::set_permissions(town.lab.work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = copy.display();
    let nobody = format!("setpriv --reuid 65534 --regid 65534 --clear-groups {program} ls");
    if !shell("setpriv --reuid 65534 --regid 65534 --clear-groups true").ok {
        lab::skip!("another user cannot be had here");
    }
    let said = shell(&nobody);
    assert!(!said.ok && said.stderr.contains("run this as root"), "{}", said.stderr);
    let elsewhere = town.lab.work.path().join("empty");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = shell(&format!("LINKSPAN_STATE_DIR={} {nobody}", elsewhere.display()));
    assert!(said.ok && said.stdout.starts_with("NETWORK"), "what the kernel lets it: {}", said.stderr);
}

#[test]
fn a_host_without_linkspan_has_nothing_to_show() {
    let Some(_lab) = Lab::new() else { return };
    for words in ["ls", "ps", "ports", "ipam", "top", "graph", "check --all"] {
        assert!(!linkspan(words).ok().is_empty(), "{words}");
    }
    for (words, name) in
        [("ls --json", "ls"), ("ps --json", "ps"), ("graph --json", "graph"), ("top --json", "top")]
    {
        document(words, name);
    }
    assert!(!std::path::Path::new("/run/linkspan").exists(), "looking makes nothing");
    linkspan_with("ls", &[("LINKSPAN_STATE_DIR", "/proc/version")]).failed(1, "/proc/version");
}
