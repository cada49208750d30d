//! Which sockets an attachment's published ports want.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::firewall::NAMES_PORT;
use crate::model::{Protocol, Publication};
use crate::plan::{Claims, Plan};

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Want {
    /// Transport protocol.
    pub(super) protocol: Protocol,
    /// What it is bound to.
    pub(super) at: SocketAddr,
    /// Where what comes is passed on to; `None` where the port is only held.
    pub(super) target: Option<SocketAddr>,
}

impl Want {
    /// Whether the two cannot be bound at the same time.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        self.takes(other.protocol, other.at) || other.takes(self.protocol, self.at)
    }

    /// Whether it is given what is sent there.
    fn takes(&self, protocol: Protocol, to: SocketAddr) -> bool {
        let own = self.at.ip();
        self.protocol == protocol
            && self.at.port() == to.port()
            && own.is_ipv4() == to.is_ipv4()
            && (own == to.ip() || own.is_unspecified())
    }
}

/// Whether linkspan's agent is to serve what comes to `at` for an attachment with this plan (`userlandProxy`): where it holds
/// the port, and where the kernel does not translate.
#[must_use]
pub fn serves(plan: &Plan, protocol: Protocol, at: SocketAddr) -> bool {
    of(plan).iter().any(|want| want.target.is_some() && want.takes(protocol, at))
}

/// All that the plan of an attachment wants; nothing where it asks for neither hold nor proxy.
pub(super) fn of(plan: &Plan) -> Vec<Want> {
    let Some(claims) = plan.claims().filter(|claims| claims.hold || claims.proxy) else { return Vec::new() };
    let localnet = plan.bridge().is_some_and(|bridge| bridge.route_localnet);
    let mut wants = Vec::new();
    // SCTP has no sockets here: its ports are not held.
    for publication in claims.publications.iter().filter(|p| p.protocol != Protocol::Sctp) {
        for offset in 0..publication.count {
            of_port(claims, publication, offset, localnet, &mut wants);
        }
    }
    wants
}

fn of_port(claims: &Claims, publication: &Publication, offset: u16, localnet: bool, wants: &mut Vec<Want>) {
    let at = |address: SocketAddr| SocketAddr::new(address.ip(), address.port().saturating_add(offset));
    let (host, target, protocol) = (at(publication.host), at(publication.target), publication.protocol);
    let mut want = |ip: IpAddr, target| {
        wants.push(Want { protocol, at: SocketAddr::new(ip, host.port()), target });
    };
    // At the gateways that port is the name service's, which could not listen there beside one on all addresses.
    let hold = claims.hold && !(host.ip().is_unspecified() && host.port() == NAMES_PORT);
    let covers = |ip: IpAddr| host.ip() == ip || host.ip().is_unspecified();
    if hold {
        want(host.ip(), claims.proxy.then_some(target));
    } else if claims.proxy {
        // The kernel translates nothing that goes to ::1, and what goes to 127.0.0.1 where route_localnet is set.
        let loopback = match host.ip() {
            IpAddr::V4(_) => (!localnet).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        };
        if let Some(ip) = loopback.filter(|ip| covers(*ip)) {
            want(ip, Some(target));
        }
    }
    // A container without IPv6 is served at [::1] all the same, since `localhost` may mean that.
    let alone = || {
        !claims.publications.iter().any(|other| {
            other.host.is_ipv6()
                && other.protocol == protocol
                && (other.host.port()..=other.last_host_port()).contains(&host.port())
        })
    };
    if claims.proxy && host.is_ipv4() && host.ip().is_unspecified() && alone() {
        want(IpAddr::V6(Ipv6Addr::LOCALHOST), Some(target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AttachmentKey;
    use crate::plan::Step;

    fn plan(hold: bool, proxy: bool, ports: &[(&str, &str, u16)]) -> Plan {
        let publications = ports
            .iter()
            .map(|(host, target, count)| Publication {
                protocol: Protocol::Tcp,
                host: host.parse().unwrap(),
                target: target.parse().unwrap(),
                count: *count,
            })
            .collect();
        let claims =
            Claims { owner: AttachmentKey::new("a", "eth0"), publications, waiting: Vec::new(), hold, proxy };
        Plan { steps: vec![Step::Claims(claims)] }
    }

    fn wanted(hold: bool, proxy: bool, ports: &[(&str, &str, u16)]) -> Vec<(String, Option<String>)> {
        let wants = of(&plan(hold, proxy, ports));
        wants.iter().map(|want| (want.at.to_string(), want.target.map(|t| t.to_string()))).collect()
    }

    fn pair(at: &str, target: &str) -> (String, Option<String>) {
        (at.to_owned(), Some(target.to_owned()))
    }

    #[test]
    fn a_hold_is_one_socket_a_port() {
        let both = [("0.0.0.0:80", "10.1.0.2:8080", 1), ("[::]:80", "[fd00::2]:8080", 1)];
        assert_eq!(
            wanted(true, false, &both),
            [("0.0.0.0:80".to_owned(), None), ("[::]:80".to_owned(), None)]
        );
        let range = wanted(true, false, &[("192.0.2.1:100", "10.1.0.2:200", 3)]);
        assert_eq!(
            range.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>(),
            ["192.0.2.1:100", "192.0.2.1:101", "192.0.2.1:102"]
        );
        assert!(wanted(false, false, &both).is_empty());
    }

    #[test]
    fn the_name_service_s_port_is_left_to_it_on_all_addresses() {
        let all = [("0.0.0.0:53", "10.1.0.2:53", 1), ("[::]:53", "[fd00::2]:53", 1)];
        assert!(wanted(true, false, &all).is_empty());
        let served = [pair("127.0.0.1:53", "10.1.0.2:53"), pair("[::1]:53", "[fd00::2]:53")];
        assert_eq!(wanted(true, true, &all), served);
        assert_eq!(wanted(true, false, &[("192.0.2.1:53", "10.1.0.2:53", 1)]).len(), 1);
    }

    #[test]
    fn a_proxy_is_where_the_kernel_does_not_translate() {
        let both = [("0.0.0.0:80", "10.1.0.2:8080", 1), ("[::]:80", "[fd00::2]:8080", 1)];
        let expected = [pair("127.0.0.1:80", "10.1.0.2:8080"), pair("[::1]:80", "[fd00::2]:8080")];
        assert_eq!(wanted(false, true, &both), expected);
        let expected = [pair("0.0.0.0:80", "10.1.0.2:8080"), pair("[::]:80", "[fd00::2]:8080")];
        assert_eq!(wanted(true, true, &both), expected);
        let only_v4 = wanted(true, true, &both[..1]);
        assert_eq!(only_v4, [pair("0.0.0.0:80", "10.1.0.2:8080"), pair("[::1]:80", "10.1.0.2:8080")]);
        assert!(wanted(false, true, &[("192.0.2.1:80", "10.1.0.2:8080", 1)]).is_empty());
    }
    #[test]
    fn it_is_known_what_the_agent_serves() {
        let ports = [("0.0.0.0:80", "10.1.0.2:8080", 2)];
        let cases = [
            ((false, true), "127.0.0.1:80", true),
            ((false, true), "127.0.0.1:81", true),
            ((false, true), "127.0.0.1:82", false),
            ((false, true), "192.0.2.1:80", false),
            ((false, true), "[::1]:80", true),
            ((false, true), "[fd00::1]:80", false),
            ((true, true), "192.0.2.1:80", true),
            ((true, false), "192.0.2.1:80", false),
        ];
        for ((hold, proxy), at, expected) in cases {
            let plan = plan(hold, proxy, &ports);
            assert_eq!(serves(&plan, Protocol::Tcp, at.parse().unwrap()), expected, "{hold} {proxy} {at}");
            assert!(!serves(&plan, Protocol::Udp, at.parse().unwrap()));
        }
    }
}
