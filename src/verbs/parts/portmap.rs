//! Published ports of a container whose interface another plugin made.

use crate::cni::CniResult;
use crate::firewall::AttachmentRules;
use crate::model::{AttachmentKey, Publication};
use crate::plan::{Claims, Firewall, Localnet, Plan, Sandbox, Step, Upon};

use super::way::Way;
use super::{network, ports};
use crate::verbs::{Call, Context, VerbError};

/// The rules and claims of the published ports, and of the way back from them: a container reaches a neighbour's
/// published port only where its own packets are masqueraded.
pub(super) fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    let keys = &call.config.portmap;
    let addresses = previous.addresses_on(&key.interface);
    let mut publications: Vec<Publication> =
        keys.mappings.iter().flat_map(|mapping| Publication::of(mapping, &addresses)).collect();
    publications.sort_unstable();
    publications.dedup();
    if addresses.is_empty() || (publications.is_empty() && !keys.snat) {
        return Ok((Plan::default(), previous));
    }
    let way = Way::to(cx, &key.attachment(), &previous, &addresses)?;
    let provided = network::provide_to_part(cx, call.config, way.bridge())?;
    // The plugin that made the interface may have been ours, and have written the container's way out already.
    let has_way_out = way.masquerades_on(provided.network.backend);
    if publications.is_empty() && has_way_out {
        return Ok((Plan::default(), previous));
    }
    let waiting = ports::refuse_each_taken(cx, &publications, key)?;
    network::prepare(cx, call.config, &provided, |_| true)?;
    let network = crate::plan::rules(call.config, &provided.network);
    let masqueraded = way.bridge().is_empty() && network.masquerade_all && !publications.is_empty();
    let attachment = AttachmentRules {
        owner: key.clone(),
        host_interface: way.interface().to_owned(),
        addresses: if has_way_out { Vec::new() } else { addresses.clone() },
        publications: crate::plan::translated(call.config, &publications),
        walls: false,
        masqueraded,
        only_mac: None,
        only_ips: Vec::new(),
    };
    let mut steps = vec![Step::Upon(Upon { sandbox: sandbox.clone(), name: key.interface.clone() })];
    if !publications.is_empty() {
        steps.push(Step::Claims(Claims {
            owner: key.clone(),
            publications,
            waiting: Vec::new(),
            hold: keys.hold,
            proxy: keys.proxy,
        }));
    }
    if keys.snat && addresses.iter().any(std::net::IpAddr::is_ipv4) && !way.interface().is_empty() {
        steps.push(Step::Localnet(Localnet { interface: way.interface().to_owned() }));
    }
    let backend = provided.network.backend;
    let counted = keys.count;
    steps.push(Step::Firewall(Box::new(Firewall { backend, network, attachment, admit: true, counted })));
    let mut plan = Plan { steps };
    plan.set_aside(&waiting);
    Ok((plan, previous))
}
