//! Keys of the reference `tuning`. The MAC is read with what comes with the call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::bridge::read_mtu;
use super::runtime::Runtime;
use crate::cni::config::Tuning;
use crate::cni::error::Error;
use crate::cni::fields::Fields;

pub(super) fn read(fields: &Fields<'_>, runtime: &Runtime<'_>, interface: &str) -> Result<Tuning, Error> {
    let mut tuning = Tuning {
        mtu: read_mtu(fields, runtime.args.as_ref())?,
        data_dir: fields.text("dataDir")?.map(str::to_owned),
        ..Tuning::default()
    };
    for source in [Some(fields), runtime.args.as_ref()].into_iter().flatten() {
        tuning.promisc = source.boolean("promisc")?.unwrap_or(tuning.promisc);
        tuning.allmulti = source.boolean("allmulti")?.or(tuning.allmulti);
        tuning.tx_queue_len = source.number("txQLen", 0..=u32::MAX.into())?.or(tuning.tx_queue_len);
        tuning.sysctl.extend(read_sysctl(source, interface)?);
        let keys = source.object("sysctl")?.into_iter().flat_map(|entries| entries.entries());
        tuning.sysctl_keys.extend(keys.map(|(key, _)| key.clone()));
    }
    Ok(tuning)
}

fn read_sysctl(source: &Fields<'_>, interface: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut settings = BTreeMap::new();
    let Some(entries) = source.object("sysctl")? else { return Ok(settings) };
    for (key, value) in entries.entries() {
        let path = sysctl_path(key, interface).map_err(|reason| entries.invalid(key, reason))?;
        let Some(text) = value.as_str() else {
            return Err(entries.invalid(key, format!("must be a string: \"{value}\"")));
        };
        if text.contains('\0') {
            return Err(entries.invalid(key, "must not hold a NUL"));
        }
        if settings.insert(path.clone(), text.to_owned()).is_some() {
            return Err(Error::Conflict {
                keys: format!("two keys of {}", source.path_of("sysctl")),
                reason: format!("both are /proc/sys/{path}; remove one of the two"),
            });
        }
    }
    Ok(settings)
}

/// The path below `/proc/sys`. As with sysctl(8), the first separator decides: after a dot, dots separate and slashes
/// stand for dots; after a slash it is the other way round. A slash before all of it says nothing, as in the reference.
/// STATUS and GC are about no interface, and leave the token as it is.
fn sysctl_path(key: &str, interface: &str) -> Result<String, String> {
    let key = key.trim_start_matches('/');
    let dotted = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
    let segments: Vec<String> = key
        .split(if dotted { '.' } else { '/' })
        .map(|segment| if dotted { segment.replace('/', ".") } else { segment.to_owned() })
        .map(|segment| if interface.is_empty() { segment } else { segment.replace("IFNAME", interface) })
        .collect();
    if segments.len() < 2 || segments[0] != "net" {
        return Err("must be under net, such as net.ipv4.conf.IFNAME.arp_filter".to_owned());
    }
    let whole = |segment: &String| {
        !segment.is_empty() && segment != "." && segment != ".." && !segment.contains(['/', '\0'])
    };
    if !segments.iter().all(whole) {
        return Err("must be a plain path: no empty part, '.' or '..'".to_owned());
    }
    Ok(segments.join("/"))
}

/// Refuses a `sysctl` that names a key twice: JSON leaves open which of the two would count.
///
/// # Errors
/// [`Error::Conflict`] with the key.
pub(super) fn refuse_repeated(document: &[u8]) -> Result<(), Error> {
    // A document that is not well formed, or of other types than these, has been refused for that already.
    match serde_json::from_slice::<Repeated>(document) {
        Ok(Repeated(Some(key))) => Err(Error::Conflict {
            keys: format!("two keys '{key}' of sysctl"),
            reason: "duplicated sysctl keys are not allowed; remove one of the two".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The first key that the object `sysctl` of an object has twice.
struct Repeated(Option<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Search { inside: false })
    }
}

/// Walks an object: the document, or `inside` it the object `sysctl`.
struct Search {
    inside: bool,
}

impl<'de> Visitor<'de> for Search {
    type Value = Repeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeated, A::Error> {
        let mut seen = BTreeSet::new();
        let mut repeated = None;
        while let Some(key) = map.next_key::<String>()? {
            if self.inside {
                map.next_value::<IgnoredAny>()?;
                if !seen.insert(key.clone()) {
                    repeated.get_or_insert(key);
                }
            } else if key.eq_ignore_ascii_case("sysctl") {
                let found = map.next_value::<Sysctl>()?;
                repeated = repeated.or(found.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Repeated(repeated))
    }
}

/// The object `sysctl`.
struct Sysctl(Option<String>);

impl<'de> Deserialize<'de> for Sysctl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = deserializer.deserialize_map(Search { inside: true }).map_err(D::Error::custom)?;
        Ok(Self(found.0))
    }
}
