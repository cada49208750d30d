//! `linkspan reconcile`: once, what the agent does all the time.

use std::io::Write;
use std::rc::Rc;

use crate::apply::Kernel;
use crate::cni::LogLevel;
use crate::store::State;
use crate::verbs::{self, Collect, Context, Journal, VerbError};

use super::arguments::Reconcile;
use super::error::Error;

/// Prints a line for each thing that was found.
///
/// # Errors
/// Where something could not be put back; the rest is, and is said.
pub(super) fn reconcile(how: Reconcile, stdout: &mut dyn Write) -> Result<(), Error> {
    let Some(state) = State::open_existing(&State::default_root()).map_err(VerbError::from)? else {
        writeln!(stdout, "nothing is attached")?;
        return Ok(());
    };
    let state = Rc::new(state);
    let kernel = Kernel::new(Rc::clone(&state));
    let mut cx = Context { state, kernel, journal: Journal::new(LogLevel::Warning) };
    let collect = if how.collect { Collect::All } else { Collect::None };
    let found = verbs::reconcile(&mut cx, !how.dry_run, collect)?;
    let word = if how.dry_run { "differs" } else { "put back" };
    for drift in &found.drifts {
        writeln!(stdout, "{word}: {drift}")?;
    }
    for dead in &found.dead {
        let (key, network) = (&dead.key, &dead.network);
        writeln!(
            stdout,
            "dead: {key} of network {network} died without DEL; --collect deletes what it left"
        )?;
    }
    for key in &found.collected {
        writeln!(stdout, "deleted: {key}")?;
    }
    if found.is_clean() {
        writeln!(stdout, "nothing differs")?;
    }
    // Closing the nf_tables socket after a deletion would wait once more; the end of the process closes it anyway.
    std::mem::forget(cx.kernel);
    match found.failures.as_slice() {
        [] => Ok(()),
        failures => Err(VerbError::Several(failures.to_vec()).into()),
    }
}
