//! Keys of the reference `bandwidth`, and its capability.

use super::runtime::Runtime;
use crate::cni::config::Bandwidth;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::{Rate, Shaping};

const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];

/// The static keys; without any of them the capability.
pub(super) fn read(fields: &Fields<'_>, runtime: &Runtime<'_>) -> Result<Bandwidth, Error> {
    if KEYS.iter().any(|key| fields.get(key).is_some()) {
        return read_shaping(fields);
    }
    let Some(capabilities) = &runtime.capabilities else { return Ok(Shaping::default()) };
    capabilities.object("bandwidth")?.map_or_else(|| Ok(Shaping::default()), |entry| read_shaping(&entry))
}

fn read_shaping(entry: &Fields<'_>) -> Result<Shaping, Error> {
    let [ingress_rate, ingress_burst, egress_rate, egress_burst] = KEYS;
    Ok(Shaping {
        ingress: read_rate(entry, ingress_rate, ingress_burst)?,
        egress: read_rate(entry, egress_rate, egress_burst)?,
    })
}

/// A direction without limit has neither key, or 0 in both.
fn read_rate(entry: &Fields<'_>, rate_key: &str, burst_key: &str) -> Result<Option<Rate>, Error> {
    let rate = entry.number::<u64>(rate_key, 0..=u64::MAX)?.unwrap_or_default();
    let burst = entry.number::<u64>(burst_key, 0..=u64::MAX)?.unwrap_or_default();
    match (rate, burst) {
        (0, 0) => Ok(None),
        (_, 0) => Err(entry.missing(burst_key, format!("{rate_key} needs it, in bits"))),
        (0, _) => Err(entry.missing(rate_key, format!("{burst_key} needs it, in bits a second"))),
        (_, 1..8) => Err(entry.invalid(burst_key, "must be at least 8 bits: one byte")),
        (1..8, _) => Err(entry.invalid(rate_key, "must be at least 8 bits a second: one byte")),
        (_, burst) if burst / 8 >= u64::from(u32::MAX) => {
            Err(entry.invalid(burst_key, "must be under 4 GiB: below 34359738360 bits"))
        }
        (rate, burst) => Ok(Some(Rate { rate, burst })),
    }
}
