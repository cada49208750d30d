//! The plugin's word to the agent, once the attachment is ready or gone. It never fails a call.

use crate::agent::client::{self, Contact};
use crate::agent::names;
use crate::cni::{CniResult, LogLevel};
use crate::model::AttachmentKey;
use crate::verbs::{Attached, Call, Context};

/// Tells the agent of a new attachment where there is work for it, and completes the result by what it does.
///
/// Where nobody answers for names, the container is not told to ask there: it resolves what the host's name servers
/// know, and the journal says what it misses.
pub(super) fn attached(cx: &mut Context, call: &Call, key: &AttachmentKey, attached: Attached) -> CniResult {
    let Attached { mut result, name_servers } = attached;
    if call.config.naming.is_none() {
        return result;
    }
    let mut warn = |line: String| cx.journal.note(LogLevel::Warning, || line);
    let served = match client::attach(cx.state.root(), key) {
        Contact::Acknowledged(reply) => {
            reply.degraded.iter().for_each(|degraded| warn(degraded.to_string()));
            if let Some(error) = &reply.error {
                warn(format!("the agent refused the attachment: {error}"));
            }
            reply.ok && reply.degraded.iter().all(|degraded| degraded.service != names::SERVICE)
        }
        Contact::Late => {
            warn(
                "the agent did not answer within 200 ms: names will resolve when it has caught up".to_owned(),
            );
            true
        }
        Contact::Absent { reason } => {
            warn(format!("there is no agent, so no container names resolve: {reason}"));
            false
        }
    };
    if served {
        result.dns.nameservers = name_servers.iter().map(ToString::to_string).collect();
    }
    result
}

/// Tells the agent of an attachment that is gone. By the configuration, not the record, which is gone as well: an agent
/// that is not told sees it by itself.
pub(super) fn detached(cx: &mut Context, call: &Call, key: &AttachmentKey) {
    if call.config.naming.is_none() {
        return;
    }
    if client::detach(cx.state.root(), key) == Contact::Late {
        let line = || "the agent did not answer within 200 ms: names may resolve a little longer".to_owned();
        cx.journal.note(LogLevel::Warning, line);
    }
}
