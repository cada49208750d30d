//! Names of a container whose interface another plugin made: the agent serves them on the gateways of the result.

use crate::cni::CniResult;
use crate::model::{AttachmentKey, Naming};
use crate::plan::{Plan, Sandbox, Step, Upon};

use super::leases_on;
use crate::verbs::{Call, VerbError};

/// Nothing is made on the host, only remembered for the agent. The result gets the domain that names stand under; who
/// answers for them follows once somebody does.
pub(super) fn build(
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    mut previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    let name = &key.interface;
    if leases_on(&previous, name).iter().all(|lease| lease.gateway.is_none()) {
        return Err(VerbError::Config(format!(
            "dnsname serves names on the gateway of {name}, and prevResult has none: set isGateway for the plugin \
             that makes the interface"
        )));
    }
    let domain = &call.config.dns.domain;
    if !domain.is_empty() && !previous.dns.search.contains(domain) {
        previous.dns.search.push(domain.clone());
    }
    let upon = Upon { sandbox: sandbox.clone(), name: name.clone() };
    Ok((Plan { steps: vec![Step::Upon(upon)] }, previous))
}

/// What the container is called, with its addresses and the gateways to be listened on. The name servers of the result
/// become those that all else is forwarded to.
pub(super) fn naming(call: &Call, key: &AttachmentKey, result: &CniResult) -> Option<Naming> {
    let mut naming = call.config.naming.clone()?;
    let leases = leases_on(result, &key.interface);
    naming.addresses = leases.iter().map(|lease| lease.address).collect();
    naming.gateways = leases.iter().filter_map(|lease| lease.gateway).collect();
    naming.gateways.sort_unstable();
    naming.gateways.dedup();
    naming.upstreams = result.dns.nameservers.iter().filter_map(|server| server.parse().ok()).collect();
    Some(naming)
}
