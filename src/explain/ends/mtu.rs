//! Packets of full size: whether they fit through every link of the way.

use crate::explain::{Fault, Finding};

use super::perhaps;

/// What the kernel lets pass a link over its MTU (`VLAN_HLEN` in `is_skb_forwardable`, include/linux/netdevice.h).
const SLACK: u32 = 4;

/// Who sends the packets: how large they can be, and where that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// In words: `eth0 of container shop`.
    pub what: String,
    /// The MTU of its interface, or of its route where that has one, in bytes.
    pub mtu: u32,
}

/// A link, or a route, on the way, in the order in which the packet meets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// In words: `vethab12`, `the route to 10.0.0.0/8`.
    pub what: String,
    /// Bytes that fit.
    pub mtu: u32,
    /// Whether IP routes there, so that the sender is told by ICMP of what does not fit; on a bridge, and between the
    /// ends of a veth pair, such a packet is dropped without a word.
    pub routed: bool,
    /// The command that sets the MTU to a number of bytes that is put in for `{}`.
    pub widen: String,
}

/// Whether packets as large as the sender makes them get through. `muted` is who keeps ICMP's 'does not fit' from the
/// sender, where somebody does.
///
/// The first link that a packet does not get through is reported. One that is routed and can answer is none: the sender
/// learns of it (RFC 1191, RFC 8201).
pub fn black_hole(sender: &Sender, way: &[Link], muted: Option<&str>) -> Vec<Finding> {
    let mut size = sender.mtu;
    for link in way {
        let fits = if link.routed { size <= link.mtu } else { size <= link.mtu.saturating_add(SLACK) };
        if fits {
            continue;
        }
        if !link.routed {
            return vec![silent(sender, link)];
        }
        if let Some(muted) = muted {
            return vec![deaf(sender, link, muted)];
        }
        // From here on they are as large as it has been told.
        size = link.mtu;
    }
    Vec::new()
}

fn silent(sender: &Sender, link: &Link) -> Finding {
    let what = format!(
        "{} sends packets of up to {} bytes, and {} carries {}: what is larger is dropped without a word, so that small packets arrive and large ones do not",
        sender.what, sender.mtu, link.what, link.mtu
    );
    perhaps(Fault::MtuBlackHole, what, link.widen.replace("{}", &sender.mtu.to_string()))
}

fn deaf(sender: &Sender, link: &Link, muted: &str) -> Finding {
    let what = format!(
        "{} sends packets of up to {} bytes, {} carries {}, and the ICMP answer that would say so is lost: {muted}",
        sender.what, sender.mtu, link.what, link.mtu
    );
    perhaps(Fault::MtuBlackHole, what, link.widen.replace("{}", &sender.mtu.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Certainty;

    fn link(mtu: u32, routed: bool) -> Link {
        Link { what: "x".to_owned(), mtu, routed, widen: "ip link set dev x mtu {}".to_owned() }
    }

    fn found(mtu: u32, way: &[Link], muted: Option<&str>) -> Option<(Certainty, String)> {
        let sender = Sender { what: "eth0".to_owned(), mtu };
        let mut all = black_hole(&sender, way, muted);
        all.pop().map(|finding| (finding.certainty, finding.mend.unwrap()))
    }

    #[test]
    fn a_narrow_link_of_layer_two_swallows() {
        let mend = "ip link set dev x mtu 1500".to_owned();
        assert_eq!(
            found(1500, &[link(1400, false)], None),
            Some((Certainty::Perhaps, mend)),
            "small ones pass"
        );
        assert_eq!(found(1500, &[link(1496, false)], None), None, "the kernel's slack for a VLAN tag");
        assert_eq!(found(1400, &[link(1500, false), link(1400, true)], None), None);
    }

    #[test]
    fn a_router_tells_unless_it_is_muted() {
        assert_eq!(found(1500, &[link(1400, true)], None), None);
        assert_eq!(found(1500, &[link(1400, true)], Some("a rule")).unwrap().0, Certainty::Perhaps);
        assert_eq!(
            found(1500, &[link(1400, true), link(1400, false)], None),
            None,
            "it has been told of 1400"
        );
        assert!(found(1500, &[link(1400, true), link(1300, false)], None).is_some());
    }
}
