//! Settings of an interface that another plugin made.

use std::path::{Path, PathBuf};

use crate::apply::ApplyError;
use crate::cni::CniResult;
use crate::model::{AttachmentKey, LinkSettings};
use crate::plan::{Plan, Readings, Sandbox, Settings, Step};
use crate::store;

use crate::verbs::{Call, Context, VerbError, allowlist};

/// Where the reference plugin saves what it changes.
const DATA_DIR: &str = "/run/cni/tuning";

/// The settings that are asked for, with those that they replace.
pub(super) fn build(
    cx: &mut Context,
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
    mut previous: CniResult,
) -> Result<(Plan, CniResult), VerbError> {
    allowlist::require_allowed(&call.config.tuning)?;
    let wanted = wanted(call);
    if wanted.is_empty() && call.config.tuning.sysctl.is_empty() {
        return Ok((Plan::default(), previous));
    }
    let name = &key.interface;
    let mut before = LinkSettings::default();
    if !wanted.is_empty() {
        let failed = |cause| ApplyError::new(format!("interface {name}"), cause);
        let found = cx.kernel.link_settings(sandbox, name).map_err(failed)?;
        before = found.ok_or_else(|| super::no_interface(name))?.only_those_of(&wanted);
    }
    for interface in previous.interfaces.iter_mut().filter(|i| i.name == *name && !i.sandbox.is_empty()) {
        if let Some(mac) = wanted.mac {
            interface.mac = mac.to_string();
        }
        // Who says nothing of the MTU says nothing wrong.
        interface.mtu = interface.mtu.map(|mtu| wanted.mtu.unwrap_or(mtu));
    }
    Ok((plan(call, key, sandbox, before), previous))
}

/// What the reference plugin saved of the interface, or ours before its records were lost.
pub(super) fn left_by_reference(
    call: &Call,
    key: &AttachmentKey,
    sandbox: &Sandbox,
) -> Result<Plan, VerbError> {
    match store::saved_settings(&saved_in(call, key))? {
        Some(before) => {
            let Plan { mut steps } = plan(call, key, sandbox, before);
            for step in &mut steps {
                if let Step::Settings(step) = step {
                    step.sysctl.clear();
                }
            }
            Ok(Plan { steps })
        }
        None => Ok(Plan::default()),
    }
}

/// What CHECK may expect of an interface that the reference plugin tuned.
pub(super) fn expected(call: &Call, key: &AttachmentKey, sandbox: &Sandbox) -> Plan {
    plan(call, key, sandbox, LinkSettings::default())
}

fn plan(call: &Call, key: &AttachmentKey, sandbox: &Sandbox, before: LinkSettings) -> Plan {
    let settings = Settings {
        sandbox: sandbox.clone(),
        name: key.interface.clone(),
        sysctl: call.config.tuning.sysctl.clone(),
        readings: Readings::new(),
        wanted: wanted(call),
        before,
        saved_in: saved_in(call, key).display().to_string(),
    };
    Plan { steps: vec![Step::Settings(Box::new(settings))] }
}

pub(super) fn wanted(call: &Call) -> LinkSettings {
    let tuning = &call.config.tuning;
    LinkSettings {
        mac: call.config.mac,
        promisc: tuning.promisc.then_some(true),
        mtu: tuning.mtu,
        allmulti: tuning.allmulti,
        tx_queue_len: tuning.tx_queue_len,
    }
}

fn saved_in(call: &Call, key: &AttachmentKey) -> PathBuf {
    saved(call.config.tuning.data_dir.as_deref().unwrap_or(DATA_DIR), key)
}

fn saved(directory: &str, key: &AttachmentKey) -> PathBuf {
    Path::new(directory).join(format!("{}_{}.json", key.container_id, key.interface))
}

/// What the reference plugin replaced of an attachment's interface, in the directory that it has by default.
pub(in crate::verbs) fn replaced_by_reference(key: &AttachmentKey) -> Result<LinkSettings, VerbError> {
    Ok(store::saved_settings(&saved(DATA_DIR, key))?.unwrap_or_default())
}
