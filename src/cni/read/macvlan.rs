//! Keys of the reference `macvlan`. MAC and MTU are read with the bridge's.

use crate::cni::config::MacvlanKeys;
use crate::cni::environment::interface_name_fault;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::MacvlanMode;

pub(super) fn read(fields: &Fields<'_>) -> Result<MacvlanKeys, Error> {
    let mode = fields.parsed("mode", |word| {
        let known = MacvlanMode::ALL.into_iter().find(|mode| mode.word() == word);
        known.ok_or_else(|| "unknown macvlan mode: must be bridge, private, vepa or passthru".to_owned())
    })?;
    let master = fields
        .parsed("master", |name| interface_name_fault(name).map_or_else(|| Ok(name.to_owned()), Err))?;
    Ok(MacvlanKeys {
        master,
        mode: mode.unwrap_or_default(),
        link_in_container: fields.boolean("linkInContainer")?.unwrap_or_default(),
        broadcast_queue: fields.number("bcqueuelen", 0..=u32::MAX.into())?.filter(|length| *length != 0),
    })
}
