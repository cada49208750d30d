//! What a runtime tells libcni, from the command line and the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::by_hand::Target;
use super::cache::Entry;
use super::error::Error;
use super::exec::Attachment;
use super::names;

/// Reads one variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The attachment that the command line and the environment name.
pub(super) fn attachment(target: &Target, env: Environment<'_>) -> Result<Attachment, Error> {
    let current = std::env::current_dir().map_err(|source| Error::File {
        action: "find",
        path: PathBuf::from("."),
        source,
    })?;
    let netns = names::namespace(&target.netns, &current).display().to_string();
    let container_id = text(env, "CNI_CONTAINERID")?.unwrap_or_else(|| names::container_id(&netns));
    let interface = text(env, "CNI_IFNAME")?.unwrap_or_else(|| "eth0".to_owned());
    names::check_container_id(&container_id)?;
    names::check_interface(&interface)?;
    Ok(Attachment {
        container_id,
        netns,
        interface,
        args: text(env, "CNI_ARGS")?.map(|args| pairs(&args)).transpose()?.unwrap_or_default(),
        capabilities: text(env, "CAP_ARGS")?.map(|args| object(&args)).transpose()?.unwrap_or_default(),
    })
}

/// CHECK and DEL need the arguments of ADD; those that are not given again are the remembered ones.
pub(super) fn as_added(
    mut attachment: Attachment,
    known: Option<&Entry>,
    env: Environment<'_>,
) -> Attachment {
    if let Some(entry) = known {
        if env("CNI_ARGS").is_none() {
            attachment.args.clone_from(&entry.cni_args);
        }
        if env("CAP_ARGS").is_none() {
            attachment.capabilities.clone_from(&entry.capability_args);
        }
    }
    attachment
}

/// A variable that is set and not empty.
fn text(env: Environment<'_>, variable: &'static str) -> Result<Option<String>, Error> {
    let Some(value) = env(variable).filter(|value| !value.is_empty()) else { return Ok(None) };
    let unreadable = |_| Error::Environment { variable, reason: "it is not UTF-8".to_owned() };
    value.into_string().map(Some).map_err(unreadable)
}

fn pairs(args: &str) -> Result<Vec<(String, String)>, Error> {
    let pair = |text: &str| match text.split('=').collect::<Vec<_>>()[..] {
        [key, value] if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::Environment {
            variable: "CNI_ARGS",
            reason: format!("{text:?} is not KEY=VALUE; pairs are separated by ';'"),
        }),
    };
    args.split(';').map(pair).collect()
}

fn object(args: &str) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(args).map_err(|error| Error::Environment {
        variable: "CAP_ARGS",
        reason: format!("it is no JSON object like {{\"portMappings\": [...]}}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Result<Attachment, Error> {
        let env = |key: &str| variables.iter().find(|(name, _)| *name == key).map(|(_, value)| value.into());
        attachment(&Target { network: "web".into(), netns: "/var/run/netns/testing".into() }, &env)
    }

    #[test]
    fn defaults_are_those_of_cnitool() {
        let attachment = asked(&[]).unwrap();
        assert_eq!(attachment.container_id, "cnitool-77383ca0a0715733ca6f");
        assert_eq!(attachment.interface, "eth0");
        assert!(attachment.args.is_empty() && attachment.capabilities.is_empty());
    }

    #[test]
    fn arguments_are_read_and_mistakes_name_their_variable() {
        let attachment =
            asked(&[("CNI_ARGS", "IP=10.0.0.9;MAC=02:00:00:00:00:01"), ("CNI_IFNAME", "net1")]).unwrap();
        assert_eq!(attachment.args[0], ("IP".to_owned(), "10.0.0.9".to_owned()));
        assert_eq!((attachment.args.len(), attachment.interface.as_str()), (2, "net1"));
        for (variable, value) in [
            ("CNI_ARGS", "IP"),
            ("CNI_ARGS", "A=1;"),
            ("CNI_ARGS", "A=b=c"),
            ("CAP_ARGS", "[]"),
            ("CAP_ARGS", "{"),
        ] {
            assert!(asked(&[(variable, value)]).unwrap_err().to_string().contains(variable), "{value}");
        }
        assert!(asked(&[("CNI_IFNAME", "far-too-long-a-name")]).is_err());
        assert!(asked(&[("CNI_CONTAINERID", "a/b")]).is_err());
    }
}
