//! One batch of attachments that are taken away together: see [`super::reap`].
//!
//! Firewalls and links go together, and every attachment ends as soon as its own work is done. What another plugin has to
//! be asked for comes last, since that may take its time, or never end: nobody waits for the plugin of an attachment that
//! is not theirs.

use std::time::{Duration, Instant};

use crate::apply::{Attempt, Host};
use crate::cni::LogLevel;
use crate::model::{AttachmentKey, LeaseSource};
use crate::plan::{Leases, Plan, Step};
use crate::store::{Claimed, Found, Guard, Retry};
use crate::sys::bell;

use super::reap::bell_of;
use super::{Context, VerbError};

/// How long nobody else has come where a batch begins that has another before it.
const LULL: Duration = Duration::from_millis(2);

/// The longest that a batch gathers.
const GATHERING: Duration = Duration::from_millis(50);

/// What a batch is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim<'a> {
    /// Whose end is waited for, and whose failures are told.
    pub wanted: &'a [AttachmentKey],
    /// What is done beside that.
    pub of_others: OfOthers,
}

/// Which attachments a batch takes away that are not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfOthers {
    /// Those that nobody has failed at, but for what needs a plugin: under the main lock.
    Quick,
    /// Those that nobody has failed at.
    New,
    /// Those too that somebody has failed at.
    All,
}

/// Something that is left of an attachment: another plugin is to be told that the addresses are free.
struct Rest {
    key: AttachmentKey,
    network: String,
    steps: Vec<Step>,
}

/// Claims what is doomed, and takes it away. Gives what went wrong with those that are wanted and were claimed.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn take_away(cx: &mut Context, turn: Guard, aim: Aim<'_>) -> Result<Vec<String>, VerbError> {
    let mut claimed = gather(cx, aim)?;
    drop(turn);
    let mut failures = Vec::new();
    let rests = end_all(cx, &mut claimed, aim, &mut failures)?;
    let (own, others): (Vec<Rest>, Vec<Rest>) =
        rests.into_iter().partition(|rest| aim.wanted.contains(&rest.key));
    // Who waits for one of these runs its plugin: this one has others to wait for, or to let go.
    let (waited_for, others): (Vec<Rest>, Vec<Rest>) =
        others.into_iter().partition(|rest| bell::is_hung(&bell_of(cx, &rest.key)));
    for rest in &waited_for {
        claimed.mark_tried(&cx.state, &rest.key)?;
    }
    let mut left: Vec<AttachmentKey> = waited_for.into_iter().map(|rest| rest.key).collect();
    let others = match aim.of_others {
        OfOthers::Quick => {
            // The next batch of anybody has them, or their own.
            left.extend(others.into_iter().map(|rest| rest.key));
            Vec::new()
        }
        OfOthers::New | OfOthers::All => others,
    };
    let_all_go(cx, &mut claimed, &left);
    for rest in own.into_iter().chain(others) {
        // From here on others may come to wait for a plugin that hangs.
        claimed.mark_tried(&cx.state, &rest.key)?;
        let errors = cx.kernel.absent(&[&rest.steps], Attempt::Again).into_iter().flatten();
        let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
        end(cx, &mut claimed, (&rest.key, &rest.network), &errors, aim, &mut failures)?;
        let_all_go(cx, &mut claimed, &[rest.key]);
    }
    Ok(failures)
}

/// Takes away all that is claimed but for what another plugin has to be asked for, which it gives.
fn end_all(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    aim: Aim<'_>,
    failures: &mut Vec<String>,
) -> Result<Vec<Rest>, VerbError> {
    let first = std::mem::take(&mut claimed.listed.found);
    let again = std::mem::take(&mut claimed.again);
    let mut rests = Vec::new();
    for (mut found, attempt) in [(first, Attempt::First), (again, Attempt::Again)] {
        if found.is_empty() {
            continue;
        }
        let plugins: Vec<Vec<Step>> = found.iter_mut().map(without_plugin).collect();
        let steps: Vec<&[Step]> = found.iter().map(|f| f.record.plan.steps.as_slice()).collect();
        let outcomes = cx.kernel.absent(&steps, attempt);
        let mut done = Vec::new();
        for ((found, steps), errors) in found.into_iter().zip(plugins).zip(outcomes) {
            let (key, network) = (found.record.key, found.record.network);
            if errors.is_empty() && !steps.is_empty() {
                rests.push(Rest { key, network, steps });
                continue;
            }
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            end(cx, claimed, (&key, &network), &errors, aim, failures)?;
            done.push(key);
        }
        let_all_go(cx, claimed, &done);
    }
    let mut done = Vec::new();
    for broken in std::mem::take(&mut claimed.listed.broken) {
        // What its name tells can still be taken away; what only its content told, GC finds by its owner's mark.
        let Some(key) = broken.key else { continue };
        cx.journal.note(LogLevel::Warning, || format!("{}: {}", broken.path.display(), broken.error));
        cx.kernel.remove_stray(&key)?;
        cx.state.forget(&key)?;
        done.push(key);
    }
    let_all_go(cx, claimed, &done);
    Ok(rests)
}

/// Lets attachments go that were taken away, or could not be: whoever waits for them is to find it so.
fn let_all_go(cx: &Context, claimed: &mut Claimed<Plan>, keys: &[AttachmentKey]) {
    keys.iter().for_each(|key| claimed.let_go(key));
    let bells: Vec<String> = keys.iter().map(|key| bell_of(cx, key)).collect();
    if !bells.is_empty() {
        bell::ring(bells.iter().map(String::as_str));
    }
}

/// Ends the record of an attachment: gone where nothing went wrong.
fn end(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    (key, network): (&AttachmentKey, &str),
    errors: &[String],
    aim: Aim<'_>,
    failures: &mut Vec<String>,
) -> Result<(), VerbError> {
    if errors.is_empty() {
        cx.state.forget(key)?;
        cx.journal.note(LogLevel::Info, || format!("detached {key} from {network}"));
        return Ok(());
    }
    claimed.mark_tried(&cx.state, key)?;
    let text = format!("{key}: {}", errors.join("; "));
    cx.journal.note(LogLevel::Warning, || text.clone());
    if aim.wanted.contains(key) {
        failures.push(text);
    }
    Ok(())
}

/// Takes the steps out of a plan for which a plugin has to be asked.
fn without_plugin(found: &mut Found<Plan>) -> Vec<Step> {
    let is_plugin_s =
        |step: &mut Step| matches!(step, Step::Leases(Leases { source: LeaseSource::Delegated { .. }, .. }));
    found.record.plan.steps.extract_if(.., is_plugin_s).collect()
}

/// Claims what is doomed. Whoever finds nobody else at work goes at once. Who comes while a batch is under way has its own
/// wait for RCU after that one's anyway: it gathers until nobody comes any more. Together links go faster than in small
/// batches, and faster still when no other processes start beside them.
fn gather(cx: &mut Context, aim: Aim<'_>) -> Result<Claimed<Plan>, VerbError> {
    let retry = if aim.of_others == OfOthers::All { Retry::All } else { Retry::Only(aim.wanted) };
    let begun = Instant::now();
    let mut claimed = Claimed::default();
    loop {
        let harvest = cx.state.claim_doomed(retry, &mut claimed)?;
        if claimed.is_empty() || !harvest.others_at_work || begun.elapsed() >= GATHERING {
            return Ok(claimed);
        }
        if harvest.claimed == 0 {
            break;
        }
        std::thread::sleep(LULL);
    }
    // Nothing can be done while the batch before has the kernel's lock on links.
    if cx.kernel.await_links() >= LULL {
        cx.state.claim_doomed(retry, &mut claimed)?;
    }
    Ok(claimed)
}
