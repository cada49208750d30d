//! Routing by source address, for an interface that another plugin made.

use crate::apply::ApplyError;
use crate::cni::{CniResult, Code};
use crate::model::AttachmentKey;
use crate::plan::{self, Plan, RoutingFacts, Sandbox, SourceTable, Sources, Step};

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
    let facts = facts(cx, sandbox, name)?.ok_or_else(|| super::no_interface(name))?;
    let step = plan::sources(sandbox, name, &addresses, &facts, call.config.table);
    Ok((plan(step), previous))
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
    let Some(facts) = facts(cx, sandbox, name)? else { return Ok(Plan::default()) };
    let tables = facts
        .rules
        .iter()
        .filter(|(source, table)| {
            facts.addresses.iter().any(|address| address.ip() == source.ip())
                && call.config.table.is_none_or(|wanted| wanted == *table)
        })
        .map(|(source, table)| SourceTable { source: *source, table: *table, routes: Vec::new() })
        .collect();
    Ok(plan(of_tables(sandbox, name, tables)))
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
    let facts = facts(cx, sandbox, name)?.unwrap_or_default();
    let tables = leases_on(previous, name)
        .iter()
        .map(|lease| {
            let source = ipnetwork::IpNetwork::from(lease.address.ip());
            let found = facts.rules.iter().find(|(of, _)| *of == source).map(|(_, table)| *table);
            let table = call.config.table.or(found).unwrap_or_default();
            SourceTable { source, table, routes: Vec::new() }
        })
        .collect();
    Ok(plan(of_tables(sandbox, name, tables)))
}

/// The addresses, routes and rules of the interface; `None` where the container lacks it.
fn facts(cx: &mut Context, sandbox: &Sandbox, name: &str) -> Result<Option<RoutingFacts>, VerbError> {
    let failed = |cause| ApplyError::new(format!("the routes of {name}"), cause);
    Ok(cx.kernel.routing_facts(sandbox, name).map_err(failed)?)
}

/// Tables of which nothing was moved.
fn of_tables(sandbox: &Sandbox, name: &str, tables: Vec<SourceTable>) -> Sources {
    Sources { sandbox: sandbox.clone(), name: name.to_owned(), tables, moved: Vec::new() }
}

fn plan(step: Sources) -> Plan {
    Plan { steps: vec![Step::Sources(Box::new(step))] }
}
