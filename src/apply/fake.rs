//! A host in memory that fails at the step it is told to.

use std::collections::BTreeSet;

use super::{ApplyError, Attempt, Cause, Drift, Host, ensure_again, ensure_or_step_back, give_back};
use crate::model::{AttachmentKey, LeaseSource};
use crate::plan::{Claims, Forwarding, Leases, Plan, Step};

/// What is there, and which call of `ensure` or `absent` fails.
#[derive(Default)]
struct Fake {
    present: BTreeSet<String>,
    fail_at: Option<usize>,
    fail_absent: Option<String>,
}

impl Host for Fake {
    fn ensure(&mut self, steps: &[Step]) -> Result<(), (usize, ApplyError)> {
        for (index, step) in steps.iter().enumerate() {
            // A step that fails may leave half of itself behind.
            self.present.insert(step.to_string());
            if self.fail_at == Some(index) {
                return Err((index, ApplyError::new(step, Cause::Firewall("told to fail".into()))));
            }
        }
        Ok(())
    }

    fn absent(&mut self, plans: &[&[Step]], _attempt: Attempt) -> Vec<Vec<ApplyError>> {
        let mut errors = Vec::new();
        for steps in plans {
            let mut of_plan = Vec::new();
            for step in steps.iter().rev().filter(|step| !step.is_shared()) {
                if self.fail_absent.as_ref() == Some(&step.to_string()) {
                    of_plan.push(ApplyError::new(step, Cause::Firewall("told to fail".into())));
                } else {
                    self.present.remove(&step.to_string());
                }
            }
            errors.push(of_plan);
        }
        errors
    }

    fn probe(&mut self, steps: &[Step]) -> Result<Vec<Drift>, ApplyError> {
        let missing = steps.iter().filter(|step| !self.present.contains(&step.to_string()));
        Ok(missing.map(|step| Drift::missing(step.to_string())).collect())
    }
}

fn plan() -> Plan {
    let claims = |n: u32| {
        Step::Claims(Claims {
            owner: AttachmentKey::new(format!("c{n}"), "eth0"),
            publications: Vec::new(),
            waiting: Vec::new(),
            hold: false,
            proxy: false,
        })
    };
    let mut steps: Vec<Step> = (0..4).map(claims).collect();
    steps.insert(1, Step::Forwarding(Forwarding { ipv4: true, ipv6: false }));
    Plan { steps }
}

#[test]
fn a_failure_at_any_step_leaves_only_what_is_shared() {
    let plan = plan();
    for fail_at in 0..plan.steps.len() {
        let mut host = Fake { fail_at: Some(fail_at), ..Fake::default() };
        let error = ensure_or_step_back(&mut host, &plan).unwrap_err();
        assert_eq!(error.object, plan.steps[fail_at].to_string());
        assert!(error.not_undone.is_empty());
        let shared: BTreeSet<String> =
            plan.steps[..=fail_at].iter().filter(|s| s.is_shared()).map(ToString::to_string).collect();
        assert_eq!(host.present, shared, "step {fail_at}");
    }
}

#[test]
fn what_cannot_be_undone_is_said_and_the_rest_is_undone() {
    let plan = plan();
    let stuck = plan.steps[2].to_string();
    let mut host = Fake { fail_at: Some(4), fail_absent: Some(stuck.clone()), ..Fake::default() };
    let error = ensure_or_step_back(&mut host, &plan).unwrap_err();
    assert_eq!(error.not_undone.len(), 1);
    assert!(error.to_string().contains(&stuck), "{error}");
    assert_eq!(host.present.len(), 2, "the stuck step and the shared one: {:?}", host.present);
}

/// Each try undoes as far as it came.
#[test]
fn what_the_first_try_could_not_undo_is_not_forgotten_by_the_second() {
    let plan = plan();
    let stuck = plan.steps[3].to_string();
    let mut host = Fake { fail_at: Some(4), fail_absent: Some(stuck.clone()), ..Fake::default() };
    let first = ensure_or_step_back(&mut host, &plan).unwrap_err();
    host.fail_at = Some(0);
    let second = ensure_again(&mut host, &plan, &first).unwrap_err();
    assert_eq!(second.object, plan.steps[0].to_string());
    assert!(second.not_undone.len() == 1 && second.not_undone[0].contains(&stuck), "{second}");
    host.fail_absent = None;
    assert!(ensure_again(&mut host, &plan, &first).unwrap_err().not_undone.is_empty());
    assert!(!host.present.contains(&stuck), "{:?}", host.present);
}

#[test]
fn addresses_stay_for_another_try_until_they_are_given_back() {
    let mut plan = plan();
    let owner = AttachmentKey::new("c0", "eth0");
    plan.steps.insert(0, Step::Leases(Leases { owner, source: LeaseSource::Static, leases: Vec::new() }));
    let mut host = Fake { fail_at: Some(4), ..Fake::default() };
    ensure_or_step_back(&mut host, &plan).unwrap_err();
    let held = plan.steps[0].to_string();
    assert!(host.present.contains(&held), "{:?}", host.present);
    assert_eq!(host.present.len(), 2, "and the shared step: {:?}", host.present);
    assert!(give_back(&mut host, &plan.steps).is_empty());
    assert!(!host.present.contains(&held));
}

#[test]
fn a_plan_that_was_ensured_has_no_drift_and_one_that_was_not_has_all() {
    let plan = plan();
    let mut host = Fake::default();
    assert_eq!(host.probe(&plan.steps).unwrap().len(), plan.steps.len());
    ensure_or_step_back(&mut host, &plan).unwrap();
    assert!(host.probe(&plan.steps).unwrap().is_empty());
}
