//! `absent`, for many attachments at once: the waits that the kernel makes are shared.
//!
//! Firewall first, so that a dying container never leaks packets out of the uplink; links next; then the flows through
//! its ports, of which none can come any more; host ports and addresses last, so that nobody gets an address that still
//! answers.

use std::time::{Duration, Instant};

use crate::model::names;
use crate::plan::Step;
use crate::sys::rtnl;

use super::{ApplyError, Attempt, Cause, Kernel};

/// The interface group of links that are about to go, all at the price of one.
const DOOMED_GROUP: u32 = names::LINK_GROUP + 1;

impl Kernel {
    /// Waits until nobody else changes links of any namespace: the kernel has one lock for all of them, which every
    /// question of this kind takes, in turn. Gives how long that was.
    pub fn await_links(&mut self) -> Duration {
        let begun = Instant::now();
        // Who cannot ask does not wait.
        if let Ok(host) = self.host() {
            rtnl::notice_carrier(host, "lo");
        }
        begun.elapsed()
    }
}

pub(super) fn absent(kernel: &mut Kernel, plans: &[&[Step]], attempt: Attempt) -> Vec<Vec<ApplyError>> {
    let mut errors: Vec<Vec<ApplyError>> = plans.iter().map(|_| Vec::new()).collect();
    kernel.absent_firewalls(plans, attempt, &mut errors);
    remove_links(kernel, plans, attempt, &mut errors);
    remove_inner_links(kernel, plans, &mut errors);
    forget_flows(kernel, plans, &mut errors);
    leave_zones(kernel, plans, attempt, &mut errors);
    let are_many = plans.len() > 1;
    let open = kernel.sandboxes.len();
    for (steps, errors) in plans.iter().zip(&mut errors) {
        // What could not be closed to the network must not be handed to the next container.
        if !errors.is_empty() {
            continue;
        }
        for step in steps.iter().rev() {
            let outcome = match step {
                Step::Leases(step) => kernel.release_leases(step),
                Step::Claims(step) => kernel.release_claims(step),
                Step::Shape(step) if !steps.iter().any(|step| matches!(step, Step::Link(_))) => {
                    kernel.unshape(step)
                }
                Step::Settings(step) => kernel.restore_settings(step),
                Step::Sources(step) => kernel.remove_sources(step),
                _ => Ok(()),
            };
            if let Err(cause) = outcome {
                errors.push(ApplyError::new(step, cause));
            }
        }
        if are_many {
            kernel.close_sandboxes(open);
        }
    }
    errors
}

/// The names of the links that a plan has on the host.
fn links(steps: &[Step]) -> impl Iterator<Item = (&Step, &str)> {
    steps.iter().filter_map(|step| match step {
        Step::Link(link) => Some((step, link.host_name.as_str())),
        Step::Shape(shape) if shape.shaping.egress.is_some() => Some((step, shape.ifb_name.as_str())),
        _ => None,
    })
}

/// Devices that are in containers alone.
fn remove_inner_links(kernel: &mut Kernel, plans: &[&[Step]], errors: &mut [Vec<ApplyError>]) {
    let are_many = plans.len() > 1;
    let open = kernel.sandboxes.len();
    for (steps, errors) in plans.iter().zip(errors) {
        for step in steps.iter() {
            if let Step::Macvlan(device) = step
                && let Err(cause) = kernel.remove_macvlan(device)
            {
                errors.push(ApplyError::new(step, cause));
            }
        }
        // Of one alone it serves the steps that follow too.
        if are_many {
            kernel.close_sandboxes(open);
        }
    }
}

fn remove_links(kernel: &mut Kernel, plans: &[&[Step]], attempt: Attempt, errors: &mut [Vec<ApplyError>]) {
    let mut doomed: Vec<(usize, &Step, &str)> = Vec::new();
    let mut owners = None;
    for (plan, steps) in plans.iter().enumerate() {
        for (step, name) in links(steps) {
            match attempt {
                Attempt::First => doomed.push((plan, step, name)),
                Attempt::Again => match kernel.is_own_link(name, steps, &mut owners) {
                    Ok(true) => doomed.push((plan, step, name)),
                    Ok(false) => {}
                    Err(cause) => errors[plan].push(ApplyError::new(step, cause)),
                },
            }
        }
    }
    if doomed.is_empty() {
        return;
    }
    let names: Vec<&str> = doomed.iter().map(|(_, _, name)| *name).collect();
    // They go together or not at all, so a refusal is every attachment's: each keeps its record and is tried again.
    if let Err(cause) = kernel.delete_links(&names, DOOMED_GROUP) {
        let text = cause.to_string();
        for (plan, step, _) in &doomed {
            errors[*plan].push(ApplyError::new(step, Cause::Batch(text.clone())));
        }
    }
}

/// What an address may do by its zone must not become the next container's.
fn leave_zones(kernel: &mut Kernel, plans: &[&[Step]], attempt: Attempt, errors: &mut [Vec<ApplyError>]) {
    for (steps, errors) in plans.iter().zip(errors) {
        for step in steps.iter() {
            let Step::Zone(zone) = step else { continue };
            let left = match attempt {
                Attempt::First => kernel.leave_zone(zone),
                Attempt::Again => kernel.own_sources(zone).and_then(|own| kernel.leave_zone(&own)),
            };
            if let Err(cause) = left {
                errors.push(ApplyError::new(step, cause));
            }
        }
    }
}

fn forget_flows(kernel: &mut Kernel, plans: &[&[Step]], errors: &mut [Vec<ApplyError>]) {
    for (steps, errors) in plans.iter().zip(errors) {
        for step in steps.iter() {
            if let Step::Firewall(firewall) = step
                && let Err(cause) = kernel.forget_flows(&firewall.attachment.publications)
            {
                errors.push(ApplyError::new(step, cause));
            }
        }
    }
}
