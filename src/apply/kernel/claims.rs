//! Host ports: held on disk, or waited for.

use crate::plan::Claims;

use super::{Cause, Drift, Kernel};

impl Kernel {
    pub(super) fn ensure_claims(&mut self, step: &Claims) -> Result<(), Cause> {
        self.state.claim(&step.publications, &step.owner)?;
        Ok(self.state.wait_for(&step.waiting, &step.owner)?)
    }

    pub(super) fn release_claims(&mut self, step: &Claims) -> Result<(), Cause> {
        if !step.waiting.is_empty() {
            self.state.stop_waiting(&step.waiting, &[], &step.owner)?;
            self.state.forget_rewrite(&step.owner)?;
        }
        let (waiters, outcome) = self.state.release(&step.publications, &step.owner);
        self.note_waiters(waiters);
        Ok(outcome?)
    }

    pub(super) fn probe_claims(&mut self, step: &Claims, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        let own = step.owner.to_string();
        for publication in &step.publications {
            match self.state.owner(publication)? {
                Some(owner) if owner == own => {}
                Some(owner) => {
                    drifts.push(Drift::new(format!("host port {publication}"), own.clone(), owner));
                }
                None => drifts.push(Drift::missing(format!("claim of host port {publication}"))),
            }
        }
        for publication in &step.waiting {
            // Who has it may have died while handing it over.
            if self.state.owner(publication)?.is_none_or(|owner| owner == own) {
                drifts.push(Drift::unpublished(publication));
            }
        }
        Ok(())
    }
}
