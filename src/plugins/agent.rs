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
    if !has_work(call) {
        return result;
    }
    let names = call.config.naming.is_some();
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
            let line = "the agent did not answer within 200 ms: names resolve, and ports are held, when it has caught up";
            warn(line.to_owned());
            true
        }
        Contact::Absent { reason } => {
            if names {
                warn(format!("there is no agent, so no container names resolve: {reason}"));
            }
            if serves_ports(call) {
                warn(format!(
                    "there is no agent, so nobody holds the published ports or serves [::1]: {reason}"
                ));
            }
            false
        }
    };
    if served && names {
        result.dns.nameservers = name_servers.iter().map(ToString::to_string).collect();
    }
    result
}

fn has_work(call: &Call) -> bool {
    call.config.naming.is_some() || serves_ports(call)
}

fn serves_ports(call: &Call) -> bool {
    let keys = &call.config.portmap;
    (keys.hold || keys.proxy) && !keys.mappings.is_empty()
}

/// Tells the agent of an attachment that is gone. By the configuration, not the record, which is gone as well: an agent
/// that is not told sees it by itself.
pub(super) fn detached(cx: &mut Context, call: &Call, key: &AttachmentKey) {
    if !has_work(call) {
        return;
    }
    if client::detach(cx.state.root(), key) == Contact::Late {
        let line = || "the agent did not answer within 200 ms: names may resolve a little longer".to_owned();
        cx.journal.note(LogLevel::Warning, line);
    }
}
