//! What would be done, in words.

use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;

use crate::apply;
use crate::cni::{Environment, NetworkConfig, Strictness};
use crate::model::{AttachmentKey, Part};
use crate::plan::Step;
use crate::plugins::{self, Face};
use crate::verbs::{self, Call, Preview};

use super::super::by_hand;

use super::super::conflist::{Network, Plugin};
use super::super::error::Error;
use super::super::exec::Attachment;
use super::super::{Session, inject};
use super::recorded;

/// ADD of a whole list.
pub(in crate::cli) fn add(
    session: &mut Session<'_>,
    network: &Network,
    attachment: &Attachment,
) -> Result<(), Error> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for plugin in &network.plugins {
        let program = session.place.path.find(&plugin.kind)?;
        let Some(face) = face_of(session, &plugin.kind) else {
            writeln!(session.stdout, "run {} with ADD; what it does is its own", program.display())?;
            continue;
        };
        let (environment, config) = request(session, network, plugin, attachment, face)?;
        let call = Call { environment: &environment, config: &config };
        let mut cx = recorded::made_context()?;
        if let Some(part) = face.part() {
            let lines = verbs::parts::announce(&mut cx, &call, part, &addresses)?;
            writeln!(session.stdout, "{} would:", plugin.kind)?;
            tell(session.stdout, lines.into_iter())?;
            continue;
        }
        let preview = verbs::preview(&mut cx, &call)?;
        let leases = preview.plan.leases().map(|step| step.leases.as_slice()).unwrap_or_default();
        addresses.extend(leases.iter().map(|lease| lease.address.ip()));
        interface(session.stdout, &plugin.kind, &preview)?;
    }
    Ok(writeln!(session.stdout, "nothing was changed")?)
}

/// What the plugin that makes the interface would do.
fn interface(out: &mut dyn Write, kind: &str, preview: &Preview) -> Result<(), Error> {
    writeln!(out, "{kind} would, in this order:")?;
    if preview.writes_network {
        let (name, backend) = (&preview.network.name, preview.network.backend);
        writeln!(out, "  write the {backend} rules of network {name}, once for all its containers")?;
    }
    tell(out, preview.plan.steps.iter().flat_map(Step::doing))
}

/// The face of a plugin's type, where it makes an interface or adds a part to one and its program is ours. Others are
/// named only.
fn face_of(session: &Session<'_>, kind: &str) -> Option<Face> {
    let face = Face::of_program(kind.as_ref());
    if face == Face::Linkspan {
        return (kind == face.name()).then_some(face);
    }
    let told = face.part().is_some() || matches!(face, Face::Bridge | Face::Ptp | Face::Macvlan);
    (told && apply::is_own_program(kind, &session.place.path.joined(":"))).then_some(face)
}

/// What a plugin of the list would be called with.
fn request(
    session: &Session<'_>,
    network: &Network,
    plugin: &Plugin,
    attachment: &Attachment,
    face: Face,
) -> Result<(Environment, NetworkConfig), Error> {
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
    let config =
        NetworkConfig::parse(&bytes, &environment, &face.defaults(), Strictness::Strict).map_err(refused)?;
    let config = plugins::delegated(config, &environment, Strictness::Strict).map_err(refused)?;
    Ok((environment, config))
}

/// DEL of one attachment and of what other plugins of ours added to it, from their records; then the plugins of others
/// that libcni remembers. `leaving` are all that are to be detached with it. False where there is neither.
pub(super) fn del(
    session: &mut Session<'_>,
    key: &AttachmentKey,
    leaving: &[AttachmentKey],
) -> Result<bool, Error> {
    let (mut steps, mut heirs) = (Vec::new(), Vec::new());
    if let Some(cx) = recorded::context()? {
        for key in Part::ALL.into_iter().rev().map(|part| key.of_part(part)) {
            steps.extend(verbs::steps_of_del(&cx, &key)?.unwrap_or_default());
            heirs.extend(verbs::heirs(&cx, &key, leaving)?);
        }
    }
    if !steps.is_empty() {
        writeln!(session.stdout, "linkspan would, of {key}:")?;
        let lines = steps.iter().flat_map(|step| match step {
            Step::Claims(claims) => claims.letting_go(&heirs),
            other => other.undoing(),
        });
        tell(session.stdout, lines)?;
    }
    let remembered = by_hand::remembered(session, key)?;
    let kinds = remembered.iter().flat_map(|(network, _)| network.plugins.iter().rev());
    let others: Vec<String> =
        kinds.map(|plugin| plugin.kind.clone()).filter(|kind| face_of(session, kind).is_none()).collect();
    for kind in &others {
        writeln!(session.stdout, "run {kind} with DEL; what it does is its own")?;
    }
    Ok(!steps.is_empty() || !others.is_empty())
}

fn tell(out: &mut dyn Write, lines: impl Iterator<Item = String>) -> Result<(), Error> {
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
