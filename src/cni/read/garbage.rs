//! The attachments that a GC leaves alone.

use serde_json::Value;

use crate::cni::environment::{container_id_fault, known_interface_fault};
use crate::cni::error::Error;
use crate::cni::fields::{Fields, elements};
use crate::model::AttachmentKey;

/// The key of specification 1.1.0, and the one that libcni wrote before it.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Reads the list; where both keys are there, what either calls valid is valid. `null` is an empty list, as nil is in
/// Go, while no key at all means that nobody said what is valid.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Vec<AttachmentKey>>, Error> {
    let mut valid = None;
    for key in KEYS {
        let Some(value) = fields.raw(key) else { continue };
        let valid = valid.get_or_insert_with(Vec::new);
        if value.is_null() {
            continue;
        }
        for (path, entry) in elements(value, key)? {
            valid.push(read_attachment(&Fields::of(entry, path)?)?);
        }
    }
    Ok(valid)
}

/// What `gcAfter` is where it is absent: a runtime that was restarted has sent its DELs by then.
pub(super) const GRACE: Option<u64> = Some(300);

/// Reads `gcAfter`.
pub(super) fn read_grace(fields: &Fields<'_>) -> Result<Option<u64>, Error> {
    Ok(match fields.number("gcAfter", 0..=u64::from(u32::MAX))? {
        None => GRACE,
        Some(0) => None,
        seconds => seconds,
    })
}

/// A key that is not a possible attachment would protect nothing, and so is an error rather than passed by.
fn read_attachment(entry: &Fields<'_>) -> Result<AttachmentKey, Error> {
    let read = |key: &str, fault: fn(&str) -> Option<String>| {
        let text = entry.text(key)?.ok_or_else(|| entry.missing(key, "an attachment needs it"))?;
        match fault(text) {
            None => Ok(text),
            Some(reason) => Err(Error::invalid(entry.path_of(key), &Value::from(text), reason)),
        }
    };
    Ok(AttachmentKey::new(read("containerID", container_id_fault)?, read("ifname", known_interface_fault)?))
}
