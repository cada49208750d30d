//! Doing what mends: each by a verb that is there already.

use crate::agent::client::{self, Contact};
use crate::apply::Reach;
use crate::doctor::Remedy;
use crate::store::State;
use crate::verbs::{self, Collect, VerbError};

use super::super::by_hand;
use super::super::error::Error;
use super::super::mend::recorded;
use super::Session;

/// What was done, and how it ended.
pub(super) struct Done {
    pub(super) remedy: Remedy,
    /// Why it failed, where it did.
    pub(super) failure: Option<String>,
}

/// Does one thing. What it could not do is part of what is told, and keeps nothing else from being done.
pub(super) fn apply(session: &mut Session<'_>, remedy: Remedy) -> Done {
    let failure = perform(session, &remedy).err().map(|error| error.to_string());
    Done { remedy, failure }
}

fn perform(session: &mut Session<'_>, remedy: &Remedy) -> Result<(), Error> {
    match remedy {
        Remedy::Reconcile => with_state(|cx| {
            let found = verbs::reconcile(cx, true, Collect::All)?;
            if found.failures.is_empty() { Ok(()) } else { Err(VerbError::Several(found.failures)) }
        }),
        // Where records are lost, the directory may be too.
        Remedy::Sweep(reach) => {
            if *reach == Reach::Lost {
                recorded::made_context()?;
            }
            with_state(|cx| verbs::sweep(cx, *reach))
        }
        Remedy::Forget(key) => by_hand::del_remembered(session, key),
        Remedy::WakeAgent(key) => match client::attach(&State::default_root(), key) {
            Contact::Acknowledged(reply) if reply.ok => Ok(()),
            Contact::Acknowledged(reply) => Err(Error::Found(reply.error.unwrap_or_default())),
            Contact::Late => Err(Error::Found("the agent did not answer in time".to_owned())),
            Contact::Absent { reason } => Err(Error::Found(reason)),
        },
        Remedy::RemoveSocket(path) => std::fs::remove_file(path).map_err(|source| Error::File {
            action: "remove",
            path: path.clone(),
            source,
        }),
    }
}

fn with_state(work: impl FnOnce(&mut verbs::Context) -> Result<(), VerbError>) -> Result<(), Error> {
    let Some(mut cx) = recorded::context()? else { return Ok(()) };
    let outcome = work(&mut cx);
    // Closing the nf_tables socket after a deletion would wait once more; the end of the process closes it anyway.
    std::mem::forget(cx.kernel);
    Ok(outcome?)
}
