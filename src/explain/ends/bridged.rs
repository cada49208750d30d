//! `br_netfilter`: frames that stay on a bridge, sent through the chains of IP.

use crate::explain::{Certainty, Fault, Finding};
use crate::sys::sysctl;

/// The parameter of a family, as `sysctl` names it.
pub fn bridged_parameter(v4: bool) -> &'static str {
    if v4 { "net.bridge.bridge-nf-call-iptables" } else { "net.bridge.bridge-nf-call-ip6tables" }
}

/// Whether what stays on a bridge goes through the chains of IPv4 (or IPv6) all the same. Never where the kernel lacks
/// `br_netfilter`, or has not loaded it.
pub fn filters_bridged(v4: bool) -> bool {
    sysctl::read(bridged_parameter(v4)).is_ok_and(|value| value.trim() != "0")
}

/// The finding that a chain of IP drops what stays on a bridge; `rule` says which, and whose it is.
pub fn bridged_drop(v4: bool, rule: &str, certainty: Certainty) -> Finding {
    let parameter = bridged_parameter(v4);
    let what = format!(
        "{parameter} is on, so that what stays on the bridge goes through the chains of IP, and there {rule}"
    );
    Finding {
        fault: Fault::BridgedFiltering,
        certainty,
        what,
        mend: Some(format!("sysctl -w {parameter}=0")),
    }
}
