//! Keys of the reference `tuning`. MAC and MTU are read with the bridge's.

use std::collections::BTreeMap;

use super::runtime::Runtime;
use crate::cni::config::Tuning;
use crate::cni::error::Error;
use crate::cni::fields::Fields;

pub(super) fn read(fields: &Fields<'_>, runtime: &Runtime<'_>, interface: &str) -> Result<Tuning, Error> {
    let mut tuning = Tuning::default();
    for source in [Some(fields), runtime.args.as_ref()].into_iter().flatten() {
        tuning.promisc = source.boolean("promisc")?.unwrap_or(tuning.promisc);
        tuning.allmulti = source.boolean("allmulti")?.or(tuning.allmulti);
        tuning.tx_queue_len = source.number("txQLen", 0..=u32::MAX.into())?.or(tuning.tx_queue_len);
        tuning.sysctl.extend(read_sysctl(source, interface)?);
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
/// stand for dots; after a slash it is the other way round.
/// STATUS and GC are about no interface, and leave the token as it is.
fn sysctl_path(key: &str, interface: &str) -> Result<String, String> {
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
