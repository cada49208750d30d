//! The host's name servers, where linkspan's name service asks them for containers.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::store::Stage;

use super::files;
use super::finding::{Findings, Severity, Word, some};
use super::sight::Sight;
use super::subnets::{RESOLVER, servers};

/// The port of DNS.
const PORT: u16 = 53;

/// Looks whether there is somebody to be asked. Where nobody asks for names, nobody misses them.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let ready = sight.reading.records.attachments.iter().filter(|found| found.stage == Stage::Ready);
    let mut named = ready.filter_map(|found| found.record.naming.as_ref());
    if !named.any(|naming| !naming.internal && naming.upstreams.is_empty()) {
        return;
    }
    let text = files::text(Path::new(RESOLVER)).unwrap_or_default();
    let found: Vec<IpAddr> = servers(&text).collect();
    let silent: Vec<String> =
        found.iter().filter(|server| refuses(**server)).map(ToString::to_string).collect();
    let (severity, what) = match (found.len(), silent.len()) {
        (0, _) => (Severity::Fault, format!("{RESOLVER} names no name server by its address")),
        (_, 0) => return,
        (all, silent_ones) => {
            let severity = if all == silent_ones { Severity::Fault } else { Severity::Warning };
            (severity, format!("nobody answers at the host's name server {} ({RESOLVER})", some(&silent)))
        }
    };
    findings.add(
        severity,
        Word::NameserverMissing,
        what,
        "linkspan's name service asks there what is no container's name, and containers get SERVFAIL",
        format!(
            "write 'nameserver ADDRESS' into {RESOLVER}, or start the resolver that it names (systemctl start systemd-resolved)"
        ),
    );
}

/// Whether an address of the host's own has nobody who listens: the kernel says so at once. What is elsewhere is not
/// asked.
fn refuses(server: IpAddr) -> bool {
    if !server.is_loopback() {
        return false;
    }
    let any: IpAddr = match server {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return false };
    if socket.set_nonblocking(true).is_err() || socket.connect((server, PORT)).is_err() {
        return false;
    }
    // Nothing is asked: what comes back at once is the kernel's word that the port is closed.
    let sent = socket.send(&[]);
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    sent.err().is_some_and(refused) || socket.recv(&mut [0]).err().is_some_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_port_of_the_host_is_told_at_once() {
        assert!(!refuses("192.0.2.53".parse().unwrap()), "nobody beyond the host is asked");
    }
}
