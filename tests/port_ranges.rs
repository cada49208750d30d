//! Ranges of published ports, with real packets, the same for each firewall.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::backends::{choose, on_each_backend};
use lab::outcome::address;
use lab::plugin::dual_stack;
use lab::snapshot::Snapshot;
use lab::talk::{PATIENCE, Server, UdpClient, tcp, tcp_answers, tcp_server, udp, udp_answers, udp_server};
use lab::{Container, Lab, Outside, Plugin, inspect};
use serde_json::{Value, json};

fn town(backend: &str) -> Option<(Lab, Outside, Plugin)> {
    let mut lab = Lab::new()?;
    let outside = lab.outside();
    let kind = choose(&mut lab, backend)?;
    let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
    // A first attachment, so that what networks leave behind is there, connection tracking with it.
    let first = lab.container("first");
    let kept = network.on(&first).publish(&["7000-7009:7000-7009", "7100-7109:100-109"]).add().ok();
    network.on(&first).prev(&kept).del().ok();
    Some((lab, outside, network))
}

/// Servers on ports of a container, each named after its port, for TCP (both families) and UDP (each).
fn serve(container: &Container, result: &Value, ports: &[u16]) -> Vec<Server> {
    let mut servers = Vec::new();
    for port in ports {
        let tag = format!("p{port}");
        servers.push(tcp_server(container, &format!("[::]:{port}"), &tag));
        servers.push(udp_server(container, &format!("0.0.0.0:{port}"), &tag));
        servers.push(udp_server(container, &format!("[{}]:{port}", address(result, 6)), &tag));
    }
    servers
}

/// Every port of a range leads to its own port in the container: the same number, a lower one, a higher one, and a
/// lower one of a range that starts low.
fn each_port_leads_to_its_own(backend: &str) {
    let Some((lab, outside, network)) = town(backend) else { return };
    let clean = Snapshot::take(&lab);
    let a = lab.container("a");
    let mappings: Vec<String> =
        ["8000-8010:8000-8010", "18000-18010:9000-9010", "3000-3010:13000-13010", "10-60:2-52"]
            .iter()
            .flat_map(|ports| [format!("{ports}/tcp"), format!("{ports}/udp")])
            .collect();
    let mappings: Vec<&str> = mappings.iter().map(String::as_str).collect();
    let plugin = network.on(&a).publish(&mappings);
    let result = plugin.add().ok();
    let listed = lab::cli::linkspan("ps");
    assert_eq!(listed.row(&a.id).last().unwrap(), "up", "{}", listed.stdout);
    let served = [8000, 8005, 8010, 9000, 9005, 9010, 13000, 13005, 13010, 2, 11, 12, 30, 52];
    let _servers = serve(&a, &result, &served);
    for (host, inside) in [
        (8000, 8000),
        (8005, 8005),
        (8010, 8010),
        (18000, 9000),
        (18005, 9005),
        (18010, 9010),
        (3000, 13000),
        (3005, 13005),
        (3010, 13010),
        (10, 2),
        (19, 11),
        (20, 12),
        (38, 30),
        (60, 52),
    ] {
        for at in ["192.0.2.1", "[2001:db8::1]"] {
            let (to, tag) = (format!("{at}:{host}"), format!("p{inside}"));
            assert_eq!(tcp(&outside, &to).tag, tag, "tcp {to}");
            assert_eq!(udp(&outside, &to).tag, tag, "udp {to}");
            assert_eq!(tcp(&lab.host, &to).tag, tag, "tcp {to} from the host");
        }
    }
    assert_eq!(tcp(&lab.host, "127.0.0.1:18005").tag, "p9005");
    for beside in [7999, 8011, 17999, 18011, 9, 61] {
        assert!(!tcp_answers(&outside, &format!("192.0.2.1:{beside}")), "{beside} is not published");
    }
    assert!(!udp_answers(&outside, "192.0.2.1:8011"));
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
    assert!(!tcp_answers(&outside, "192.0.2.1:8005"), "after DEL nobody answers");
    Snapshot::take(&lab).assert_same(&clean, "ranges unpublished");
}

/// However long, a range is one element of nf_tables, or one rule of iptables, for each family; and one claim.
fn a_long_range_is_one_thing(backend: &str) {
    let Some((lab, outside, network)) = town(backend) else { return };
    let a = lab.container("a");
    let plugin =
        network.on(&a).publish(&["192.0.2.1:20000-29999:20000-29999", "192.0.2.1:30000-39999:1000-10999"]);
    let result = plugin.add().ok();
    let _server = tcp_server(&a, "[::]:29999", "last");
    let _shifted = tcp_server(&a, "[::]:10999", "last-shifted");
    assert_eq!(tcp(&outside, "192.0.2.1:29999").tag, "last");
    assert_eq!(tcp(&outside, "192.0.2.1:39999").tag, "last-shifted");
    let text = inspect::firewall_text(&lab.host);
    let mentioned = |what: &[&str]| text.lines().filter(|line| what.iter().all(|w| line.contains(w))).count();
    if backend == "nftables" {
        assert_eq!(mentioned(&["20000-29999"]), 1, "{text}");
        assert_eq!(mentioned(&["30000-39999"]), 1, "{text}");
    } else {
        assert_eq!(mentioned(&["DNAT", "20000:29999"]), 1, "{text}");
        assert_eq!(mentioned(&["DNAT", "30000:39999"]), 1, "{text}");
    }
    let claims: Vec<_> = std::fs::read_dir("/run/linkspan/ranges").unwrap().flatten().collect();
    assert_eq!(claims.len(), 2);
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
}

/// Ranges and single ports of other attachments, in every network, keep each other out.
fn ranges_have_one_owner(backend: &str) {
    let Some((lab, _outside, network)) = town(backend) else { return };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = network.on(&a).publish(&["8000-8010:8000-8010", "192.0.2.1:9000:90", "7000-7010:70-80/udp"]);
    let result = first.add().ok();
    let before = Snapshot::take(&lab);
    let second = network.on(&b);
    for ports in [
        &["8000:80"][..],
        &["127.0.0.1:8010:80"],
        &["[::]:8005:80"],
        &["7990-8000:7990-8000"],
        &["8010-8020:10-20"],
        &["1-65535:1-65535"],
        &["1234:80", "8900-9100:100-300"],
        &["7005:75/udp"],
    ] {
        let said = second.publish(ports).add().refused(102);
        assert!(said.contains(&a.id), "{ports:?}: the owner is not named: {said}");
        let other = second.with(json!({"name": "other", "ipam": dual_stack(2)}));
        assert!(other.publish(ports).add().refused(102).contains(&a.id), "{ports:?} in another network");
        Snapshot::take(&lab).assert_same(&before, &format!("{ports:?} refused"));
    }
    let beside =
        second.publish(&["8011-8020:8011-8020", "8000-8010:8000-8010/udp", "127.0.0.1:8900-9100:100-300"]);
    let free = beside.add().ok();
    beside.prev(&free).check().ok();
    beside.prev(&free).del().ok();
    first.prev(&result).check().ok();
    first.prev(&result).del().ok();
    second.publish(&["8005:80"]).add().ok();
}

/// A flow of UDP that was there before its range was published, and one whose container is gone, are forgotten.
fn stale_flows_of_a_range_are_forgotten(backend: &str) {
    let Some((lab, outside, network)) = town(backend) else { return };
    let client = UdpClient::new(&outside, "0.0.0.0:4000");
    for port in [8000, 8005] {
        let _ = client.ask(&format!("192.0.2.1:{port}"), std::time::Duration::from_millis(50));
        assert_eq!(inspect::tracked(&lab.host, "udp", port).len(), 1, "tracked, untranslated");
    }
    for round in 0..2 {
        let a = lab.container(&format!("a{round}"));
        let plugin = network.on(&a).publish(&["8000-8010:8000-8010/udp"]);
        let tag = format!("round {round}").replace(' ', "-");
        let _servers = [8000, 8005].map(|port| udp_server(&a, &format!("0.0.0.0:{port}"), &tag));
        let result = plugin.add().ok();
        for port in [8000, 8005] {
            assert_eq!(client.ask(&format!("192.0.2.1:{port}"), PATIENCE).unwrap().tag, tag, "{port}");
        }
        plugin.prev(&result).del().ok();
        assert_eq!(inspect::tracked(&lab.host, "udp", 8005), Vec::<String>::new(), "DEL flushed the flow");
    }
}

/// The kernel may lack SCTP sockets; its firewall takes ranges of SCTP all the same, and gives them back.
fn ranges_of_sctp_are_loaded(backend: &str) {
    let Some((lab, _outside, network)) = town(backend) else { return };
    let clean = Snapshot::take(&lab);
    let a = lab.container("a");
    let plugin =
        network.on(&a).publish(&["9899:2905/sctp", "9900-9910:9900-9910/sctp", "9950-9960:36412-36422/sctp"]);
    let result = plugin.add().ok();
    let text = inspect::firewall_text(&lab.host);
    for port in ["9899", "9900", "9950"] {
        assert!(text.lines().any(|line| line.contains("sctp") && line.contains(port)), "{port}:\n{text}");
    }
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
    Snapshot::take(&lab).assert_same(&clean, "SCTP unpublished");
}

/// In a routed network neighbours reach a published range at the container's own address, and nothing beside it.
fn a_routed_network_opens_its_ranges(backend: &str) {
    let Some((lab, outside, network)) = town(backend) else { return };
    let a = lab.container("a");
    let routed = network.with(json!({"name": "routed", "ipam": dual_stack(3), "mode": "routed"}));
    let plugin = routed.on(&a).publish(&["8000-8010:80-90", "9000-9010:85-95", "7000:96", "7001:99"]);
    let result = plugin.add().ok();
    let _servers = serve(&a, &result, &[79, 80, 90, 95, 96, 97, 99]);
    for at in [address(&result, 4), format!("[{}]", address(&result, 6))] {
        for port in [80, 90, 95, 96, 99] {
            assert_eq!(tcp(&outside, &format!("{at}:{port}")).tag, format!("p{port}"), "{at}");
        }
        for port in [79, 97] {
            assert!(!tcp_answers(&outside, &format!("{at}:{port}")), "{at}:{port} is not published");
        }
    }
    assert_eq!(tcp(&outside, "192.0.2.1:8010").tag, "p90");
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
}

on_each_backend! {
    each_port_leads_to_its_own,
    a_long_range_is_one_thing,
    ranges_have_one_owner,
    stale_flows_of_a_range_are_forgotten,
    ranges_of_sctp_are_loaded,
    a_routed_network_opens_its_ranges,
}
