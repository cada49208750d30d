//! Walls around a container whose interface another plugin made.

use crate::cni::CniResult;
use crate::firewall::AttachmentRules;
use crate::model::{AttachmentKey, IngressPolicy};
use crate::plan::{Firewall, Plan, Sandbox, Step, Upon};

use super::network;
use super::way::Way;
use crate::verbs::{Call, Context, VerbError};

/// The network's walls and the administrator's chain, which are the network's and shared; of the attachment's own is
/// only what a host without a bridge needs.
pub(super) fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    // As in the reference, which asks for no interface: what plugins before said of theirs may be too little.
    let mut addresses = previous.addresses_on(&key.interface);
    if addresses.is_empty() {
        addresses = previous.addresses();
    }
    if addresses.is_empty() {
        return Ok((Plan::default(), previous));
    }
    let way = Way::to(cx, &key.attachment(), &previous, &addresses)?;
    let provided = network::provide_to_part(cx, call.config, way.bridge())?;
    network::prepare(cx, call.config, &provided, |_| true)?;
    let network = crate::plan::rules(call.config, &provided.network);
    let attachment = AttachmentRules {
        owner: key.clone(),
        host_interface: way.interface().to_owned(),
        // Where they lead is the business of the plugins that masquerade and publish.
        addresses: Vec::new(),
        publications: Vec::new(),
        walls: network.ingress != IngressPolicy::Open && way.bridge().is_empty(),
        masqueraded: false,
        only_mac: None,
        only_ips: Vec::new(),
    };
    let backend = provided.network.backend;
    let firewall = Firewall { backend, network, attachment, admit: true, counted: false };
    let mut steps = vec![Step::Upon(Upon { sandbox: sandbox.clone(), name: key.interface.clone() })];
    steps.extend(crate::plan::zone(call.config, &addresses));
    steps.push(Step::Firewall(Box::new(firewall)));
    Ok((Plan { steps }, previous))
}
