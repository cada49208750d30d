//! The agent, where something needs it.

use crate::agent::client::{self, Contact};
use crate::model::AttachmentKey;
use crate::store::{Stage, State};
use crate::view;

use super::finding::{Findings, Remedy, Severity, Word};
use super::sight::Sight;

/// The socket's name in the state directory.
const SOCKET: &str = "agent.sock";

/// Asks the agent, where somebody needs it or one has left its socket.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let root = &sight.reading.records.root;
    let socket = root.join(SOCKET);
    let needed = needed(sight);
    if needed.is_none() && !socket.exists() {
        return;
    }
    let reason = match client::status(root) {
        Contact::Acknowledged(_) => return,
        Contact::Late => "it does not answer within two seconds".to_owned(),
        Contact::Absent { reason } => reason,
    };
    if let Some((key, what)) = needed {
        return findings.add_mendable(
            Severity::Fault,
            Word::AgentMissing,
            format!("the agent is needed and is not there: {reason}"),
            format!("{what} ({key} and perhaps others)"),
            Remedy::WakeAgent(key),
        );
    }
    let is_held = State::open_existing(root).ok().flatten().is_some_and(|state| state.agent_pid().is_some());
    if !is_held {
        findings.add_mendable(
            Severity::Remark,
            Word::AgentSocket,
            format!("an agent that was killed left {}", socket.display()),
            "nothing needs an agent now, and the next one takes the socket over",
            Remedy::RemoveSocket(socket),
        );
    }
}

/// An attachment that the agent does something for, and what.
fn needed(sight: &Sight<'_>) -> Option<(AttachmentKey, &'static str)> {
    let mut ready = sight.reading.records.attachments.iter().filter(|found| found.stage == Stage::Ready);
    ready.find_map(|found| {
        let (_, what) = view::lacks_without_agent(&found.record)?;
        Some((found.record.key.clone(), what))
    })
}
