//! What the agent does for attachments, and whether it is there to do it.

use std::path::Path;

use crate::agent::client::{self, Contact};
use crate::plan::{Plan, Step};
use crate::store::{Found, Record, Stage};

use super::Health;

/// What an attachment is without while there is no agent, in words, and how bad that is; `None` where it needs none.
pub fn lacks_without_agent(record: &Record<Plan>) -> Option<(Health, &'static str)> {
    let claims = record.plan.steps.iter().find_map(|step| match step {
        Step::Claims(claims) => Some(claims),
        _ => None,
    });
    if record.naming.is_some() {
        return Some((Health::Failed, "names of containers do not resolve"));
    }
    let claims = claims?;
    if claims.hold {
        return Some((Health::Warning, "published ports are not held against processes of the host"));
    }
    let what = "published ports do not answer where the kernel does not translate";
    claims.proxy.then_some((Health::Failed, what))
}

/// Whether the agent, which some of these need, is not there. It is not asked where none does.
pub(super) fn is_agent_missing(root: &Path, attachments: &[Found<Plan>]) -> bool {
    let mut ready = attachments.iter().filter(|found| found.stage == Stage::Ready);
    ready.any(|found| lacks_without_agent(&found.record).is_some())
        && matches!(client::status(root), Contact::Absent { .. })
}
