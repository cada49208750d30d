//! Why the host's routes and parameters do not let a packet on, named as its kernel decides.

use nix::errno::Errno;

use crate::model::names;
use crate::sys::rtnl::{Address, Link, RouteQuery};

use super::super::{Fault, Finding};
use super::{Walk, Way, interface_parameter, surely};

impl Walk<'_> {
    /// Why the kernel does not take what comes in by an interface: the checks of `fib_validate_source` and those before
    /// it, in their order.
    pub(super) fn input_refused(
        &mut self,
        link: &Link,
        errno: Option<Errno>,
        is_local: bool,
    ) -> Way<Option<Finding>> {
        let v4 = self.packet.is_ipv4();
        let name = &link.name;
        let (source, to) = (self.packet.source, self.destination());
        let loopback = [source, Some(to)].into_iter().flatten().any(|address| address.is_loopback());
        if v4 && loopback && name != "lo" {
            let on = |place: &str| interface_parameter(&self.host, true, place, "route_localnet") == Some(1);
            if !on(name) && !on("all") {
                return Ok(Some(self.localnet_off(name)));
            }
        }
        if !is_local && !self.forwards(name) {
            let (key, what) = if v4 {
                ("net.ipv4.ip_forward", "the host forwards no IPv4")
            } else {
                ("net.ipv6.conf.all.forwarding", "the host forwards no IPv6")
            };
            let all = self.host.parameter(if v4 { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" });
            let (key, what) = if all == Some(0) {
                (key.to_owned(), format!("{what}: {key} is 0"))
            } else {
                let own = format!("net.ipv4.conf.{name}.forwarding");
                let what = format!("the host does not forward what comes in by {name}: {own} is 0");
                (own, what)
            };
            return Ok(Some(surely(Fault::ForwardingOff, what, Some(format!("sysctl -w {key}=1")))));
        }
        if v4 && errno.is_some() {
            return self.reverse_path(name);
        }
        Ok(None)
    }

    pub(super) fn forwards(&self, interface: &str) -> bool {
        if self.packet.is_ipv4() {
            return interface_parameter(&self.host, true, interface, "forwarding") != Some(0);
        }
        self.host.parameter("ipv6/conf/all/forwarding") != Some(0)
            || interface_parameter(&self.host, false, interface, "force_forwarding") == Some(1)
    }

    /// `rp_filter`, where the way back to the source does not leave by the interface.
    pub(super) fn reverse_path(&mut self, name: &str) -> Way<Option<Finding>> {
        let filter = interface_parameter(&self.host, true, "all", "rp_filter")
            .max(interface_parameter(&self.host, true, name, "rp_filter"))
            .unwrap_or(0);
        let Some(source) = self.packet.source.filter(|_| filter > 0) else { return Ok(None) };
        if self.host.holder(source).is_some() {
            let what = format!(
                "{source}, the source, is an address of the host itself, and comes in by {name}: the kernel takes that for a forgery"
            );
            return Ok(Some(surely(Fault::ReversePath, what, None)));
        }
        let query = RouteQuery { to: source, from: None, input: None, mark: self.mark() };
        let back = self.host.route(&query)?.ok().and_then(|route| route.oif);
        let back = back.and_then(|index| self.host.by_index(index)).map(|link| link.name.clone());
        if back.as_deref() == Some(name) || (filter == 2 && back.is_some()) {
            return Ok(None);
        }
        let way = back.map_or_else(|| "nowhere".to_owned(), |back| format!("by {back}"));
        let what = format!(
            "{source} comes in by {name}, but the way back to it leads {way}: reverse path filtering drops it (rp_filter of {name} or of all is {filter})"
        );
        let mend = format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
        Ok(Some(surely(Fault::ReversePath, what, Some(mend))))
    }

    pub(super) fn localnet_off(&self, interface: &str) -> Finding {
        let what = format!(
            "route_localnet of {interface} is off: what comes from 127.0.0.1 does not leave by it, and answers to it do not come in"
        );
        let mend = format!("sysctl -w net.ipv4.conf.{interface}.route_localnet=1");
        surely(Fault::LocalnetOff, what, Some(mend))
    }

    pub(super) fn show_route(&self) -> Option<String> {
        Some(format!("ip route get {}", self.destination()))
    }

    pub(super) fn no_route(&self, errno: Errno) -> Finding {
        let to = self.destination();
        let six = if to.is_ipv4() { "" } else { "-6 " };
        let down: Vec<(&Address, &Link)> = self
            .host
            .addresses
            .iter()
            .filter(|own| own.address.is_ipv4() == to.is_ipv4())
            .filter_map(|own| Some((own, self.host.by_index(own.index)?)))
            .filter(|(_, link)| !link.is_up() && link.name != "lo")
            .collect();
        if let Some((own, link)) = down.iter().find(|(own, _)| own.address.contains(to)) {
            let name = &link.name;
            let (network, prefix) = (own.address.network(), own.address.prefix());
            let what = format!("{name} is down, and with it the host's route to {network}/{prefix}");
            return surely(Fault::LinkDown, what, Some(format!("ip link set {name} up")));
        }
        let uplink =
            down.iter().find(|(_, link)| link.group != names::LINK_GROUP).map(|(_, link)| &link.name);
        let what = format!("the host has no route to {to}: {}", errno.desc());
        let (what, mend) = match (errno, uplink) {
            (Errno::ENETUNREACH | Errno::EHOSTUNREACH, Some(name)) => (
                format!("{what}; {name} is down, and a default route by it is gone"),
                format!("ip link set {name} up && ip {six}route add default via GATEWAY dev {name}"),
            ),
            (Errno::ENETUNREACH | Errno::EHOSTUNREACH, None) => {
                (what, format!("ip {six}route add default via GATEWAY dev UPLINK"))
            }
            _ => (what, format!("ip {six}route show table all")),
        };
        surely(Fault::NoRoute, what, Some(mend))
    }
}
