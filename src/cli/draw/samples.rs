//! Pictures for tests.

use crate::model::{Protocol, Publication};
use crate::view::{Bridge, Condition, Graph, Health, Node, Uplink};

fn publication(protocol: Protocol, host: &str, target: &str) -> Publication {
    Publication { protocol, host: host.parse().unwrap(), target: target.parse().unwrap(), count: 1 }
}

fn node(at: usize, network: usize) -> Node {
    let address = format!("10.{network}.0.{}", at + 2);
    let target = format!("{address}:80");
    let ports = match at {
        0 => vec![
            publication(Protocol::Tcp, "0.0.0.0:8080", &target),
            publication(Protocol::Tcp, "[::]:8080", "[fd00::2]:80"),
            publication(Protocol::Udp, "127.0.0.1:5353", &format!("{address}:53")),
        ],
        1 => (0..9).map(|p| publication(Protocol::Tcp, &format!("0.0.0.0:{}", 9000 + p), &target)).collect(),
        _ => Vec::new(),
    };
    Node {
        container: format!("{at:02x}{network:02x}").repeat(16),
        name: (at.is_multiple_of(3)).then(|| format!("default/shop-{at}-7c9f8b<&>\"")),
        interface: "eth0".into(),
        veth: format!("lks{at:012x}"),
        addresses: if at.is_multiple_of(2) {
            vec![address, "fd00:1234:5678:9abc:def0:1234:5678:9abc".into()]
        } else {
            vec![address]
        },
        ports,
        state: match at {
            4 => Condition::Dead,
            5 => Condition::Broken,
            _ => Condition::Up,
        },
        isolated: at == 6,
    }
}

/// Networks of so many containers each, the second one walled.
pub(super) fn of(sizes: &[usize]) -> Graph {
    let bridge = |(at, size): (usize, &usize)| Bridge {
        network: format!("net{at}"),
        name: format!("lks-net{at}"),
        addresses: vec![format!("10.{at}.0.1/24")],
        health: if *size > 5 { Health::Failed } else { Health::Ok },
        masquerade: at == 0,
        walls: if at == 1 { vec!["closed to other walled networks".into()] } else { Vec::new() },
        containers: (0..*size).map(|index| node(index, at)).collect(),
    };
    Graph {
        uplinks: vec![Uplink { name: "eth0".into(), addresses: vec!["192.0.2.1/24".into()], up: true }],
        bridges: sizes.iter().enumerate().map(bridge).collect(),
    }
}
