//! The verbs of the protocol over a whole list of plugins, by hand: what `cnitool` does.

use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;
use serde_json::Value;

use super::cache::Entry;
use super::conflist::{self, Network};
use super::error::Error;
use super::exec::Attachment;
use super::request::{as_added, attachment};
use super::{Session, install, mend, suggest, survey};
use crate::model::AttachmentKey;

/// A network and the namespace as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) network: String,
    pub(super) netns: String,
}

impl Target {
    /// From the words NETWORK and NETNS.
    pub(super) fn new(network: &str, netns: &str) -> Self {
        Self { network: network.to_owned(), netns: netns.to_owned() }
    }
}

pub(super) fn describe_add() -> Command {
    Command::new("add")
        .about("attach a namespace and print the result")
        .arg(Arg::new("NETWORK").required(true).help("the name in a configuration"))
        .arg(Arg::new("NETNS").required(true).help("a path, or a name of 'ip netns'"))
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("only say in words what would be done"),
        )
        .after_help(
            "Examples:\n  ip netns add blue\n  linkspan add web blue\n  linkspan add web blue --dry-run\n  \
             CAP_ARGS='{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"}]}' \\\n    \
             linkspan add web blue",
        )
}

pub(super) fn describe_status() -> Command {
    Command::new("status")
        .about("could each plugin of a network attach now? Without a network: what there is")
        .arg(Arg::new("NETWORK").help("the name in a configuration"))
        // cnitool wants a namespace, so one is let pass.
        .arg(Arg::new("NETNS").hide(true))
        .after_help(
            "Without a network: networks, addresses, containers, what the agent does, and which plugin names\nare \
             linkspan's.\n\nExample:\n  linkspan status web && echo ready",
        )
}

pub(super) fn add(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let word = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let target = Target::new(word("NETWORK"), word("NETNS"));
    let network = session.place.network(&target.network)?;
    let attachment = attachment(&target, session.env)?;
    warn_unused(&network, &attachment, session.stderr)?;
    if !Path::new(&attachment.netns).try_exists().unwrap_or(true) {
        return Err(Error::NoNamespace { path: attachment.netns });
    }
    if matches.get_flag("dry-run") {
        return mend::dry::add(session, &network, &attachment);
    }
    let result = session.place.chain(&network).add(&attachment)?;
    Ok(session.stdout.write_all(&pretty(&result)?)?)
}

pub(super) fn status(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let Some(network) = matches.get_one::<String>("NETWORK") else {
        survey::print(session.stdout)?;
        let directory = Path::new(install::DIRECTORY);
        return match install::names(directory, session.stdout) {
            // A runtime may have its plugins elsewhere.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(writeln!(session.stdout, "{}: not there", directory.display())?)
            }
            outcome => outcome,
        };
    };
    let network = session.place.network(network)?;
    session.place.chain(&network).status(session.stdout)
}

/// CHECK of one attachment through its whole list.
pub(super) fn check(session: &mut Session<'_>, target: &Target) -> Result<(), Error> {
    let network = session.place.network(&target.network)?;
    let attachment = attachment(target, session.env)?;
    if network.disable_check {
        let path = network.path.display();
        writeln!(session.stderr, "linkspan: disableCheck is set in {path}: nothing was checked")?;
        return Ok(());
    }
    let known = session.place.cache.get(&network.name, &attachment)?;
    session.place.chain(&network).check(&as_added(attachment, known.as_ref(), session.env))
}

/// DEL works from the configuration on disk, as libcni does, and from the one that ADD used where that is gone.
pub(super) fn del(session: &mut Session<'_>, target: &Target) -> Result<(), Error> {
    let place = &session.place;
    let attachment = attachment(target, session.env)?;
    // An entry that cannot be read is of no use, and DEL has to work without one.
    let known = place.cache.get(&target.network, &attachment).unwrap_or_default();
    let network = match (place.network(&target.network), known.as_ref().filter(|k| !k.config.is_empty())) {
        (Err(Error::UnknownNetwork { directory, .. }), Some(entry)) => {
            let path = place.cache.path(&entry.network_name, &entry.container_id, &entry.if_name);
            let (name, directory) = (&entry.network_name, directory.display());
            writeln!(
                session.stderr,
                "linkspan: {name} is gone from {directory}: deleting by what ADD was given"
            )?;
            conflist::list(&entry.config, &path)?
        }
        (found, _) => found?,
    };
    let key = AttachmentKey::new(&attachment.container_id, &attachment.interface);
    let is_known = known.is_some() || mend::recorded::has(&key);
    let netns = attachment.netns.clone();
    place.chain(&network).del(&as_added(attachment, known.as_ref(), session.env), known.as_ref())?;
    if is_known { Ok(()) } else { tell_unknown(session, &network.name, &key, &netns) }
}

/// DEL of what nobody knows succeeds, as it has to, and may be a word that was typed wrong: says what is known instead.
fn tell_unknown(
    session: &mut Session<'_>,
    network: &str,
    key: &AttachmentKey,
    netns: &str,
) -> Result<(), Error> {
    let known = session.place.cache.all()?.unwrap_or_default();
    let there = known.entries.iter().find(|entry| entry.network_name == network && entry.netns == netns);
    let hint = there.map_or_else(String::new, |entry| {
        let (id, interface) = (&entry.container_id, &entry.if_name);
        format!(
            "; libcni's cache knows {id}:{interface} there: 'CNI_CONTAINERID={id} CNI_IFNAME={interface} linkspan del \
             {network} {netns}'"
        )
    });
    Ok(writeln!(
        session.stderr,
        "linkspan: neither a record nor libcni's cache knows {key} in {network}: nothing of it was there{hint}"
    )?)
}

/// DEL through every plugin of the list that libcni remembers an attachment to be made from; nothing where it
/// remembers none.
pub(super) fn del_remembered(session: &mut Session<'_>, key: &AttachmentKey) -> Result<(), Error> {
    let Some((network, entry)) = remembered(session, key)? else { return Ok(()) };
    session.place.chain(&network).del(&entry.attachment(), Some(&entry))
}

/// The list of plugins that libcni remembers an attachment to be made from, with what it remembers.
pub(super) fn remembered(
    session: &Session<'_>,
    key: &AttachmentKey,
) -> Result<Option<(Network, Entry)>, Error> {
    let known = session.place.cache.all()?.unwrap_or_default();
    let same = |e: &Entry| e.container_id == key.container_id && e.if_name == key.interface;
    let Some(entry) = known.entries.into_iter().find(same) else { return Ok(None) };
    let path = session.place.cache.path(&entry.network_name, &entry.container_id, &entry.if_name);
    Ok(Some((conflist::list(&entry.config, &path)?, entry)))
}

/// A capability that no plugin declares reaches nobody, which is easily taken for a fault of the plugin.
fn warn_unused(network: &Network, attachment: &Attachment, stderr: &mut dyn Write) -> Result<(), Error> {
    let declared: Vec<&str> =
        network.plugins.iter().flat_map(|plugin| &plugin.capabilities).map(String::as_str).collect();
    for given in attachment.capabilities.keys().filter(|key| !declared.contains(&key.as_str())) {
        let name = &network.name;
        let hint = suggest::nearest(given, declared.iter().copied())
            .map(|found| format!(": did you mean '{found}'?"))
            .unwrap_or_default();
        writeln!(
            stderr,
            "linkspan: no plugin of {name} declares the capability '{given}' of CAP_ARGS{hint}"
        )?;
    }
    Ok(())
}

/// Four spaces, as the Go plugins indent.
fn pretty(value: &Value) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    bytes.push(b'\n');
    Ok(bytes)
}
