//! The verbs on what has a record, with the state directory of this host.

use std::io::Write;
use std::rc::Rc;

use crate::apply::Kernel;
use crate::cni::{CniResult, LogLevel};
use crate::model::AttachmentKey;
use crate::store::State;
use crate::verbs::{self, Context, Journal, VerbError};

use super::super::error::Error;

/// What verbs work with; `None` where linkspan has never been used on this host.
pub(in crate::cli) fn context() -> Result<Option<Context>, Error> {
    let state = State::open_existing(&State::default_root()).map_err(crate::view::ViewError::from)?;
    Ok(state.map(with))
}

/// The same, with the state directory made where it is missing.
pub(in crate::cli) fn made_context() -> Result<Context, Error> {
    Ok(with(State::open(&State::default_root()).map_err(crate::view::ViewError::from)?))
}

/// Whether an attachment has a record; where that cannot be found out it is taken to have one.
pub(in crate::cli) fn has(key: &AttachmentKey) -> bool {
    match State::open_existing(&State::default_root()) {
        Ok(None) => false,
        Ok(Some(state)) => {
            state.keys().map_or(true, |keys| keys.iter().any(|known| known.attachment() == *key))
        }
        Err(_) => true,
    }
}

fn with(state: State) -> Context {
    let state = Rc::new(state);
    Context { kernel: Kernel::new(Rc::clone(&state)), state, journal: Journal::new(LogLevel::Warning) }
}

/// What CHECK finds of an attachment, in words; that it could not be asked is one of them.
pub(in crate::cli) fn drift(cx: &mut Context, key: &AttachmentKey, last: Option<&CniResult>) -> Vec<String> {
    match verbs::drifts(cx, key, last) {
        Ok(drifts) => drifts.iter().map(ToString::to_string).collect(),
        Err(VerbError::Unknown(_)) => vec!["not attached: its ADD or its DEL did not end".to_owned()],
        Err(error) => vec![error.to_string()],
    }
}

/// Tells what verbs had to tell.
pub(super) fn tell(cx: &Context, stderr: &mut dyn Write) -> Result<(), Error> {
    for (_, line) in cx.journal.lines() {
        writeln!(stderr, "linkspan: {line}")?;
    }
    Ok(())
}
