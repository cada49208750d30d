//! What an ADD makes other than its plan says: it is known only once the kernel was asked.

use crate::model::MacAddress;
use crate::plan::{Plan, Readings, Step};

use super::Kernel;

/// What the kernel made of a plan.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The hardware address that was taken in place of the first.
    pub(super) mac: Option<MacAddress>,
    /// The sysctls that are not told of as they were written.
    pub(super) readings: Readings,
    /// The sysctls that another of their list has changed again, in words.
    pub(super) undone: Vec<String>,
}

impl Kernel {
    /// What the last walk has made that did not stay, in words.
    pub fn take_undone(&mut self) -> Vec<String> {
        std::mem::take(&mut self.made.undone)
    }

    /// Writes into a plan that was made a moment ago what is other than it says. `false` where nothing is, as with most.
    pub fn amend(&mut self, plan: &mut Plan) -> bool {
        let Made { mac, readings, undone: _ } = std::mem::take(&mut self.made);
        if mac.is_none() && readings.is_empty() {
            return false;
        }
        for step in &mut plan.steps {
            match step {
                Step::Macvlan(device) => device.mac = mac.unwrap_or(device.mac),
                Step::Interface(interface) => {
                    interface.mac = mac.unwrap_or(interface.mac);
                    interface.readings.clone_from(&readings);
                }
                Step::Settings(settings) => settings.readings.clone_from(&readings),
                _ => {}
            }
        }
        true
    }
}
