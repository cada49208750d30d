//! `probe`: how the host differs from what a step wants.

use crate::plan::Step;

use super::{Cause, Drift, Kernel};

impl Kernel {
    pub(super) fn probe_step(&mut self, step: &Step, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        match step {
            Step::Upon(step) => self.probe_upon(step, drifts),
            Step::Localnet(step) => Self::probe_localnet(step, drifts),
            Step::Leases(step) => self.probe_leases(step, drifts),
            Step::Claims(step) => self.probe_claims(step, drifts),
            Step::Forwarding(step) => Self::probe_forwarding(*step, drifts),
            Step::Bridge(step) => self.probe_bridge(step, drifts),
            Step::Link(step) => self.probe_link(step, drifts),
            Step::Routed(step) => self.probe_routed(step, drifts),
            Step::Macvlan(step) => self.probe_macvlan(step, drifts),
            Step::Interface(step) => self.probe_interface(step, drifts),
            Step::Port(step) => self.probe_port(step, drifts),
            Step::Shape(step) => self.probe_shape(step, drifts),
            Step::Zone(step) => self.probe_zone(step, drifts),
            Step::Firewall(step) => self.probe_firewall(step, drifts),
            Step::Settings(step) => self.probe_settings(step, drifts),
            Step::Sources(step) => self.probe_sources(step, drifts),
        }
    }
}
