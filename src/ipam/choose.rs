//! The order in which addresses are tried.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Pool;
use crate::model::{Range, names};

/// How many neighbours of the last reserved address are tried one after another.
pub const LINEAR_PROBES: u32 = 32;
/// How many addresses are tried at all before the taken ones are read from the directory.
pub const PROBES_MAX: u32 = 256;
/// Where the last reserved address is unknown, the start of the pool is likely full: few neighbours are tried.
const LINEAR_PROBES_BLIND: u32 = 8;

/// Takes the first free address of a range set, round robin after `last` (as the reference's host-local).
///
/// Three phases keep it cheap in a full pool: the neighbours after `last`; then leaps of doubling length and
/// pseudo-random ones that follow from `seed`; and only after [`PROBES_MAX`] refusals an exact sweep, which asks
/// `all_taken` once. So a /16 with 60,000 leases costs tens of probes, and exhaustion is still told exactly.
///
/// `take` tries to reserve an address and says whether it did; `Ok(None)` means that nothing is free.
///
/// # Errors
/// The first error of `take` or `all_taken`.
pub fn choose<E>(
    range_set: &[Range],
    last: Option<IpAddr>,
    seed: u64,
    mut take: impl FnMut(IpAddr) -> Result<bool, E>,
    all_taken: impl FnOnce() -> Result<HashSet<IpAddr>, E>,
) -> Result<Option<IpAddr>, E> {
    let pool = Pool::new(range_set);
    let length = pool.len();
    if length == 0 {
        return Ok(None);
    }
    let known = last.and_then(|address| pool.number(address));
    let start = known.map_or(0, |number| add(number, 1, length));
    let linear = if known.is_some() { LINEAR_PROBES } else { LINEAR_PROBES_BLIND };
    let quick = u128::from(PROBES_MAX).min(length);
    for offset in offsets(linear, length, seed).take(usize::try_from(quick).unwrap_or(usize::MAX)) {
        if let Some(address) = pool.address(add(start, offset, length))
            && take(address)?
        {
            return Ok(Some(address));
        }
    }
    sweep(&pool, start, &all_taken()?, take)
}

/// Tries every address that is not in `taken`, so at most as many steps as there are taken ones before a free one.
fn sweep<E>(
    pool: &Pool,
    start: u128,
    taken: &HashSet<IpAddr>,
    mut take: impl FnMut(IpAddr) -> Result<bool, E>,
) -> Result<Option<IpAddr>, E> {
    let length = pool.len();
    let mut offset = 0;
    while offset < length {
        if let Some(address) = pool.address(add(start, offset, length))
            && !taken.contains(&address)
            && take(address)?
        {
            return Ok(Some(address));
        }
        offset += 1;
    }
    Ok(None)
}

/// Offsets from the start: neighbours, then doubling leaps, then anywhere.
fn offsets(linear: u32, length: u128, seed: u64) -> impl Iterator<Item = u128> {
    let neighbours = (0..u128::from(linear)).take_while(move |offset| *offset < length);
    let leaps = std::iter::successors(Some(u128::from(linear)), |leap| leap.checked_mul(2))
        .take_while(move |leap| *leap < length)
        .take(24);
    let anywhere = (0u64..).map(move |turn| scatter(seed, turn) % length);
    neighbours.chain(leaps).chain(anywhere)
}

/// 128 bits that follow from a seed and a turn.
fn scatter(seed: u64, turn: u64) -> u128 {
    let half = |salt: u64| {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        bytes[8..16].copy_from_slice(&turn.to_be_bytes());
        bytes[16..].copy_from_slice(&salt.to_be_bytes());
        u128::from(names::hash(&bytes))
    };
    (half(0) << 64) | half(1)
}

/// `a + b` modulo `length`, where both are below it.
fn add(a: u128, b: u128, length: u128) -> u128 {
    if b >= length - a { b - (length - a) } else { a + b }
}
