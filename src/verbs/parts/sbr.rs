//! Routing by source address, for an interface that another plugin made.

use crate::apply::ApplyError;
use crate::cni::{CniResult, Code};
use crate::model::AttachmentKey;
use crate::plan::{self, Plan, Sandbox, SourceTable, Sources, Step};

use super::leases_on;
use crate::verbs::{Call, Context, VerbError};

/// A rule for each of the interface's addresses, and a table with the interface's routes that serve it.
pub(super) fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    let name = &key.interface;
    if previous.ips.is_empty() {
        let words = format!("No IP addresses supplied on interface: {name}");
        return Err(VerbError::known(
            Code::InvalidConfig,
            words,
            "sbr routes by address, and prevResult has none",
        ));
    }
    let addresses = leases_on(&previous, name);
    if addresses.is_empty() {
        return Ok((Plan::default(), previous));
    }
    let failed = |cause| ApplyError::new(format!("the routes of {name}"), cause);
    let facts = cx.kernel.routing_facts(sandbox, name).map_err(failed)?;
    let facts = facts.ok_or_else(|| super::no_interface(name))?;
    let step = plan::sources(sandbox, name, &addresses, &facts, call.config.table);
    Ok((Plan { steps: vec![Step::Sources(Box::new(step))] }, previous))
}

/// What the reference plugin left: it keeps no record, so every rule from one of the interface's addresses is taken
/// for its own, as it does itself.
pub(super) fn left_by_reference(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
) -> Result<Plan, VerbError> {
    let name = &key.interface;
    let failed = |cause| ApplyError::new(format!("the routes of {name}"), cause);
    let Some(facts) = cx.kernel.routing_facts(sandbox, name).map_err(failed)? else {
        return Ok(Plan::default());
    };
    let tables = facts
        .rules
        .iter()
        .filter(|(source, table)| {
            facts.addresses.iter().any(|address| address.ip() == source.ip())
                && call.config.table.is_none_or(|wanted| wanted == *table)
        })
        .map(|(source, table)| SourceTable { source: *source, table: *table, routes: Vec::new() })
        .collect();
    let step = Sources { sandbox: sandbox.clone(), name: name.clone(), tables, moved: Vec::new() };
    Ok(Plan { steps: vec![Step::Sources(Box::new(step))] })
}

/// What CHECK may expect of an interface that the reference plugin set up: a rule for each address.
pub(super) fn expected(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    previous: &CniResult,
) -> Result<Plan, VerbError> {
    let name = &key.interface;
    let failed = |cause| ApplyError::new(format!("the routes of {name}"), cause);
    let facts = cx.kernel.routing_facts(sandbox, name).map_err(failed)?.unwrap_or_default();
    let tables = leases_on(previous, name)
        .iter()
        .map(|lease| {
            let source = ipnetwork::IpNetwork::from(lease.address.ip());
            let found = facts.rules.iter().find(|(of, _)| *of == source).map(|(_, table)| *table);
            let table = call.config.table.or(found).unwrap_or_default();
            SourceTable { source, table, routes: Vec::new() }
        })
        .collect();
    let step = Sources { sandbox: sandbox.clone(), name: name.clone(), tables, moved: Vec::new() };
    Ok(Plan { steps: vec![Step::Sources(Box::new(step))] })
}
