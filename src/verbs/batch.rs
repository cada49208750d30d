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
use super::{Context, VerbError, waiting};

/// How long nobody else has come where a batch begins that has another before it.
const LULL: Duration = Duration::from_millis(2);

/// How long a batch asks plugins of attachments that nobody waits for, unless it is there for those.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest that a batch gathers.
const GATHERING: Duration = Duration::from_millis(50);

/// What a batch is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim<'a> {
    /// Whose end is waited for.
    pub wanted: &'a [AttachmentKey],
    /// What is done beside that.
    pub of_others: OfOthers,
}

/// Which attachments a batch takes away that are not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfOthers {
    /// Those that nobody has failed at; and of none, whether wanted or not, what needs a plugin: under the main lock.
    Quick,
    /// Those that nobody has failed at.
    New,
    /// Those too that somebody has failed at.
    All,
}

/// What became of attachments.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Those that are gone.
    pub ended: Vec<AttachmentKey>,
    /// Those that could not be taken away, and why. Their records stay doomed.
    pub failed: Vec<(AttachmentKey, String)>,
    /// How long plugins have taken so far, in all turns.
    pub asking: Duration,
}

/// Something that is left of an attachment: another plugin is to be told that the addresses are free.
struct Rest {
    key: AttachmentKey,
    network: String,
    steps: Vec<Step>,
}

/// Claims what is doomed, and takes it away. Gives whether there is more than could be claimed at a time.
///
/// # Errors
/// Where the state directory cannot be read.
pub(super) fn take_away(
    cx: &mut Context,
    turn: Guard,
    claimed: &mut Claimed<Plan>,
    aim: Aim<'_>,
    outcome: &mut Outcome,
) -> Result<bool, VerbError> {
    let more = gather(cx, claimed, aim)?;
    drop(turn);
    let rests = end_all(cx, claimed, aim, outcome)?;
    let mine = sort_out(cx, claimed, rests, aim)?;
    if !mine.is_empty() {
        // Ports that were let go are not to be nobody's for as long as a plugin takes.
        waiting::hand_over(cx);
    }
    ask_plugins(cx, claimed, mine, aim, outcome)?;
    // Nothing can be done for what is left.
    claimed.let_all_go();
    Ok(more)
}

/// Of those for which another plugin has to be asked, the ones that this batch asks for, those that it wants first; the
/// others are let go. None of them is waited for any more by who holds the main lock, which this one may be about to take.
fn sort_out(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    rests: Vec<Rest>,
    aim: Aim<'_>,
) -> Result<Vec<Rest>, VerbError> {
    rests.iter().for_each(|rest| claimed.note_cleared(&rest.key));
    let (own, others): (Vec<Rest>, Vec<Rest>) =
        rests.into_iter().partition(|rest| aim.wanted.contains(&rest.key));
    // Who waits for one of these runs its plugin: this one has others to wait for, or to let go.
    let (waited_for, others): (Vec<Rest>, Vec<Rest>) =
        others.into_iter().partition(|rest| bell::is_hung(&bell_of(cx, &rest.key)));
    for rest in &waited_for {
        claimed.mark_tried(&cx.state, &rest.key)?;
    }
    let mut left: Vec<AttachmentKey> = waited_for.into_iter().map(|rest| rest.key).collect();
    let mut mine: Vec<Rest> = own.into_iter().chain(others).collect();
    if aim.of_others == OfOthers::Quick {
        // The next batch of anybody has them, or their own.
        left.extend(mine.drain(..).map(|rest| rest.key));
    }
    let_all_go(cx, claimed, &left);
    // The first one is marked as it is asked, at once where there is nothing to hand over.
    let at_once = usize::from(!cx.kernel.has_waiters());
    for rest in mine.iter().skip(at_once) {
        claimed.mark_cleared(&cx.state, &rest.key)?;
    }
    Ok(mine)
}

/// Ends those for which another plugin has to be asked.
fn ask_plugins(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    mine: Vec<Rest>,
    aim: Aim<'_>,
    outcome: &mut Outcome,
) -> Result<(), VerbError> {
    for rest in mine {
        let is_wanted = aim.of_others == OfOthers::All || aim.wanted.contains(&rest.key);
        if !is_wanted && outcome.asking > PATIENCE {
            // One that hangs is enough: the next batch has the next.
            let_all_go(cx, claimed, &[rest.key]);
            continue;
        }
        // From here on others may come to wait for a plugin that hangs.
        claimed.mark_tried(&cx.state, &rest.key)?;
        let begun = Instant::now();
        let errors = cx.kernel.absent(&[&rest.steps], Attempt::Again).into_iter().flatten();
        let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
        outcome.asking += begun.elapsed();
        end(cx, claimed, (&rest.key, Some(&rest.network)), errors, outcome);
        let_all_go(cx, claimed, &[rest.key]);
    }
    Ok(())
}

/// Takes away all that is claimed but for what another plugin has to be asked for, which it gives.
fn end_all(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    aim: Aim<'_>,
    outcome: &mut Outcome,
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
            end(cx, claimed, (&key, Some(&network)), errors, outcome);
            done.push(key);
        }
        let_all_go(cx, claimed, &done);
    }
    end_unread(cx, claimed, aim, outcome);
    Ok(rests)
}

/// Takes away what the names of records tell that cannot be read; what only their content told, GC finds by its owner's
/// mark. What is no record at all is left alone, but for who wants it gone.
fn end_unread(cx: &mut Context, claimed: &mut Claimed<Plan>, aim: Aim<'_>, outcome: &mut Outcome) {
    let broken = std::mem::take(&mut claimed.listed.broken);
    let mut strange = std::mem::take(&mut claimed.strange);
    for one in broken.iter().chain(&strange) {
        cx.journal.note(LogLevel::Warning, || format!("{}: {}", one.path.display(), one.error));
    }
    strange.retain(|one| {
        aim.of_others == OfOthers::All || one.key.as_ref().is_some_and(|key| aim.wanted.contains(key))
    });
    let keys: Vec<AttachmentKey> = broken.into_iter().chain(strange).filter_map(|one| one.key).collect();
    for key in &keys {
        let errors = cx.kernel.remove_stray(key).err().map(|error| error.to_string());
        end(cx, claimed, (key, None), errors.into_iter().collect(), outcome);
    }
    let_all_go(cx, claimed, &keys);
}

/// Lets attachments go that were taken away, or could not be: whoever waits for them is to find it so.
fn let_all_go(cx: &Context, claimed: &mut Claimed<Plan>, keys: &[AttachmentKey]) {
    keys.iter().for_each(|key| claimed.let_go(key));
    let bells: Vec<String> = keys.iter().map(|key| bell_of(cx, key)).collect();
    if !bells.is_empty() {
        bell::ring(bells.iter().map(String::as_str));
    }
}

/// Ends the record of an attachment: gone where nothing went wrong. What goes wrong with one is no other's business.
fn end(
    cx: &mut Context,
    claimed: &mut Claimed<Plan>,
    (key, network): (&AttachmentKey, Option<&str>),
    mut errors: Vec<String>,
    outcome: &mut Outcome,
) {
    if errors.is_empty() {
        match cx.state.forget(key) {
            Ok(()) => {
                let from = || network.map(|network| format!(" from {network}")).unwrap_or_default();
                cx.journal.note(LogLevel::Info, || format!("detached {key}{}", from()));
                outcome.ended.push(key.clone());
                return;
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    if let Err(error) = claimed.mark_tried(&cx.state, key) {
        errors.push(error.to_string());
    }
    let text = format!("{key}: {}", errors.join("; "));
    cx.journal.note(LogLevel::Warning, || text.clone());
    outcome.failed.push((key.clone(), text));
}

/// Takes the steps out of a plan for which a plugin has to be asked.
fn without_plugin(found: &mut Found<Plan>) -> Vec<Step> {
    let is_plugin_s =
        |step: &mut Step| matches!(step, Step::Leases(Leases { source: LeaseSource::Delegated { .. }, .. }));
    found.record.plan.steps.extract_if(.., is_plugin_s).collect()
}

/// Claims what is doomed, and gives whether there is more. Whoever finds nobody else at work goes at once. Who comes while a
/// batch is under way has its own wait for RCU after that one's anyway: it gathers until nobody comes any more. Together
/// links go faster than in small batches, and faster still when no other processes start beside them.
fn gather(cx: &mut Context, claimed: &mut Claimed<Plan>, aim: Aim<'_>) -> Result<bool, VerbError> {
    let retry = if aim.of_others == OfOthers::All { Retry::All } else { Retry::Only(aim.wanted) };
    let begun = Instant::now();
    loop {
        let harvest = cx.state.claim_doomed(retry, claimed)?;
        if harvest.more || claimed.is_empty() || !harvest.others_at_work || begun.elapsed() >= GATHERING {
            return Ok(harvest.more);
        }
        if harvest.claimed == 0 {
            break;
        }
        std::thread::sleep(LULL);
    }
    // Nothing can be done while the batch before has the kernel's lock on links.
    if cx.kernel.await_links() >= LULL {
        return Ok(cx.state.claim_doomed(retry, claimed)?.more);
    }
    Ok(false)
}
