//! What would be done, in words.

use std::ffi::OsString;
use std::io::Write;

use crate::cni::{Defaults, Environment, NetworkConfig, Strictness};
use crate::model::AttachmentKey;
use crate::plan::Step;
use crate::verbs::{self, Call, Preview};

use super::super::conflist::{Network, Plugin};
use super::super::error::Error;
use super::super::exec::Attachment;
use super::super::{Session, inject};
use super::recorded;

/// The plugin whose plans can be told; others are named.
const OURS: &str = "linkspan";

/// ADD of a whole list.
pub(in crate::cli) fn add(
    session: &mut Session<'_>,
    network: &Network,
    attachment: &Attachment,
) -> Result<(), Error> {
    for plugin in &network.plugins {
        let program = session.place.path.find(&plugin.kind)?;
        if plugin.kind != OURS {
            writeln!(session.stdout, "run {} with ADD; what it does is its own", program.display())?;
            continue;
        }
        let preview = preview(session, network, plugin, attachment)?;
        writeln!(session.stdout, "{OURS} would, in this order:")?;
        if preview.writes_network {
            let (name, backend) = (&preview.network.name, preview.network.backend);
            writeln!(
                session.stdout,
                "  write the {backend} rules of network {name}, once for all its containers"
            )?;
        }
        tell(session.stdout, preview.plan.steps.iter().flat_map(Step::doing))?;
    }
    Ok(writeln!(session.stdout, "nothing was changed")?)
}

fn preview(
    session: &Session<'_>,
    network: &Network,
    plugin: &Plugin,
    attachment: &Attachment,
) -> Result<Preview, Error> {
    let configuration = inject::with_result(network, plugin, attachment, None);
    let args: Vec<String> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let variable = |name: &str| -> Option<OsString> {
        Some(match name {
            "CNI_COMMAND" => "ADD".into(),
            "CNI_CONTAINERID" => attachment.container_id.clone().into(),
            "CNI_NETNS" => attachment.netns.clone().into(),
            "CNI_IFNAME" => attachment.interface.clone().into(),
            "CNI_PATH" => session.place.path.joined(":").into(),
            "CNI_ARGS" => args.join(";").into(),
            _ => return None,
        })
    };
    let refused = |error: crate::cni::Error| Error::Verb(error.into());
    let environment = Environment::from_lookup(variable).map_err(refused)?;
    let bytes = configuration.to_string().into_bytes();
    let config = NetworkConfig::parse(&bytes, &environment, &Defaults::LINKSPAN, Strictness::Strict)
        .map_err(refused)?;
    let mut cx = recorded::made_context()?;
    Ok(verbs::preview(&mut cx, &Call { environment: &environment, config: &config })?)
}

/// DEL of one attachment from its record. False where it has none.
pub(super) fn del(session: &mut Session<'_>, key: &AttachmentKey) -> Result<bool, Error> {
    let steps = match recorded::context()? {
        Some(cx) => verbs::steps_of_del(&cx, key)?,
        None => None,
    };
    let Some(steps) = steps else { return Ok(false) };
    writeln!(session.stdout, "{OURS} would, of {key}:")?;
    tell(session.stdout, steps.iter().flat_map(Step::undoing))?;
    Ok(true)
}

fn tell(out: &mut dyn Write, lines: impl Iterator<Item = String>) -> Result<(), Error> {
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
