//! The verbs of the protocol: short functions that read top-down. Every change of state goes through here.

mod add;
mod addressing;
mod allowlist;
mod batch;
mod check;
mod del;
mod error;
mod family;
mod gc;
mod host;
pub mod ipam;
mod journal;
mod left;
pub mod loopback;
mod lower;
mod network;
pub mod parts;
mod ports;
mod preview;
mod reap;
mod reconcile;
mod recorded;
mod reference;
pub mod resolver;
mod room;
pub mod status;
mod survey;
mod sweep;
mod waiting;

pub use add::{Attached, add};
pub use check::check;
pub use del::del;
pub use error::VerbError;
pub use gc::gc;
pub use journal::Journal;
pub use preview::{Preview, preview};
pub use reconcile::{Collect, Collected, Dead, Leaving, Reconciled, collect, mend, reconcile};
pub use recorded::{detach, drifts, heirs, retire, steps_of_del};
pub use status::{status, stopped_questions};
pub use survey::{AttachmentSurvey, NetworkSurvey, Pool, PortSurvey, Survey, survey};
pub use sweep::sweep;

use std::rc::Rc;
use std::time::Duration;

use crate::apply::Kernel;
use crate::cni::{Environment, NetworkConfig};
use crate::model::AttachmentKey;
use crate::store::{Deadline, State};

/// How long a call waits for another to end before it says "try again later" (code 11).
fn deadline() -> Deadline {
    Deadline(Duration::from_secs(60))
}

/// One call of the plugin.
#[derive(Debug)]
pub struct Call<'a> {
    /// What the environment says.
    pub environment: &'a Environment,
    /// What standard input says.
    pub config: &'a NetworkConfig,
}

impl Call<'_> {
    /// The attachment that the call is about.
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey::new(&self.environment.container_id, &self.environment.interface)
    }
}

/// What a verb works with.
#[derive(Debug)]
pub struct Context {
    /// The state directory.
    pub state: Rc<State>,
    /// The host.
    pub kernel: Kernel,
    /// What is worth telling.
    pub journal: Journal,
}
