//! Queueing disciplines and filters that shape a link. Kernel: `include/uapi/linux/pkt_sched.h`, `pkt_cls.h`.

use nix::errno::Errno;

use crate::model::attributes::Attributes;
use crate::sys::netlink::{CREATE, EXCL, Message};

use super::kernel::*;

/// `TCA_KIND`.
pub(super) const KIND: u16 = 1;
/// `TCA_OPTIONS`.
pub(super) const OPTIONS: u16 = 2;
/// `TC_H_ROOT`.
pub(super) const ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS`.
pub(super) const INGRESS: u32 = 0xffff_fff1;
/// The handle of an ingress qdisc, `ffff:`.
pub(super) const INGRESS_HANDLE: u32 = 0xffff_0000;
/// What filters of packets that come in hang on (`TC_H_CLSACT`, `TC_H_MIN_INGRESS`), and of those that leave.
pub(super) const CLSACT_IN: u32 = 0xffff_fff2;
pub(super) const CLSACT_OUT: u32 = 0xffff_fff3;
/// The size of `tcmsg`.
pub(super) const HEADER: usize = 20;

pub(super) const TBF_PARMS: u16 = 1;
const TBF_RTAB: u16 = 2;
pub(super) const TBF_RATE64: u16 = 4;
pub(super) const TBF_BURST: u16 = 6;
/// Nanoseconds in a tick of the packet scheduler (`PSCHED_SHIFT`, 6 since Linux 2.6.31).
const NS_PER_TICK: u64 = 64;
/// How long a packet may wait, as in the reference's bandwidth plugin.
const LATENCY_MS: u64 = 25;
/// One cell of the rate table covers 8 bytes: 256 cells then reach the 2,047 bytes that tbf assumes.
const CELL_LOG: u8 = 3;

pub(super) const U32_SEL: u16 = 5;
pub(super) const U32_ACT: u16 = 7;
pub(super) const ACT_KIND: u16 = 1;
pub(super) const ACT_OPTIONS: u16 = 2;
pub(super) const MIRRED_PARMS: u16 = 2;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapedRate {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u32,
}

impl ShapedRate {
    /// What may be queued, in bytes: what passes in the latency, and the burst.
    pub(super) fn limit(self) -> u32 {
        let waiting = u128::from(self.rate) * u128::from(LATENCY_MS) / 1000;
        u32::try_from(waiting + u128::from(self.burst)).unwrap_or(u32::MAX)
    }

    /// How long `bytes` take, in ticks.
    fn ticks(self, bytes: u64) -> u32 {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        u32::try_from(ns / u128::from(NS_PER_TICK)).unwrap_or(u32::MAX)
    }

    /// `tc_tbf_qopt`: rate, no peak rate, limit, buffer, mtu.
    fn parameters(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36);
        let small = u32::try_from(self.rate).unwrap_or(u32::MAX);
        // tc_ratespec: cell_log, linklayer (Ethernet), overhead, cell_align, mpu, rate.
        bytes.extend_from_slice(&[CELL_LOG, 1, 0, 0]);
        bytes.extend_from_slice(&(-1i16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&small.to_ne_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&self.limit().to_ne_bytes());
        bytes.extend_from_slice(&self.ticks(u64::from(self.burst)).to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    fn table(self) -> Vec<u8> {
        (1..=256u64).flat_map(|cell| self.ticks(cell << CELL_LOG).to_ne_bytes()).collect()
    }
}

/// Shapes what leaves a link; a token bucket that is there is changed.
pub fn set_tbf(index: u32, rate: ShapedRate) -> Message {
    let mut attributes = Attributes::after(&header(index, 0x0001_0000, ROOT, 0));
    attributes.put_str(KIND, "tbf");
    attributes.nest(OPTIONS, |options| {
        options.put(TBF_PARMS, &rate.parameters());
        options.put_u32(TBF_BURST, rate.burst);
        if rate.rate > u64::from(u32::MAX) {
            options.put(TBF_RATE64, &rate.rate.to_ne_bytes());
        }
        options.put(TBF_RTAB, &rate.table());
    });
    let flags = CREATE | NLM_F_REPLACE;
    Message::new(RTM_NEWQDISC, flags, attributes.into_bytes(), "limit the rate of", format!("link {index}"))
}

/// Gives a link the hook that filters of incoming packets hang on.
pub fn add_ingress(index: u32) -> Message {
    let mut attributes = Attributes::after(&header(index, INGRESS_HANDLE, INGRESS, 0));
    attributes.put_str(KIND, "ingress");
    let object = format!("link {index}");
    Message::new(RTM_NEWQDISC, CREATE | EXCL, attributes.into_bytes(), "hook the incoming packets of", object)
        .tolerating(Errno::EEXIST)
}

/// Sends every packet that comes in by a link out through another: a u32 filter that matches all (which every
/// kernel with filters has; `matchall` is often missing) and a `mirred` action.
pub fn redirect_ingress(index: u32, to: u32) -> Message {
    // Priority 1, any Ethernet protocol.
    let info = 1 << 16 | u32::from(0x0003_u16.to_be());
    let mut attributes = Attributes::after(&header(index, 0, INGRESS_HANDLE, info));
    attributes.put_str(KIND, "u32");
    attributes.nest(OPTIONS, |options| {
        options.nest(U32_ACT, |actions| {
            actions.nest(1, |action| {
                action.put_str(ACT_KIND, "mirred");
                action.nest(ACT_OPTIONS, |mirred| {
                    mirred.put(MIRRED_PARMS, &redirect_parameters(to));
                });
            });
        });
        // tc_u32_sel: terminal, one key; tc_u32_key: all bits masked out.
        let mut selector = [0; 32];
        selector[0] = 1;
        selector[2] = 1;
        options.put(U32_SEL, &selector);
    });
    let object = format!("link {index}");
    let bytes = attributes.into_bytes();
    Message::new(RTM_NEWTFILTER, CREATE | EXCL, bytes, "redirect the incoming packets of", object)
}

/// Takes the shaping of what leaves a link away; that there is none (`ENOENT`, `EINVAL`) or no link is as good.
pub fn delete_root(index: u32) -> Message {
    delete(&header(index, 0, ROOT, 0), index)
}

/// Takes the hook for incoming packets away, with its filters; that there is none, or no link, is as good.
pub fn delete_ingress(index: u32) -> Message {
    delete(&header(index, INGRESS_HANDLE, INGRESS, 0), index)
}

fn delete(header: &[u8], index: u32) -> Message {
    let bytes = Attributes::after(header).into_bytes();
    Message::new(RTM_DELQDISC, 0, bytes, "end the shaping of", format!("link {index}"))
        .tolerating(Errno::ENOENT)
        .tolerating(Errno::EINVAL)
        .tolerating(Errno::ENODEV)
}

/// `tcmsg`.
pub(super) fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (at, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// `tc_mirred`: index, capab, action (`TC_ACT_STOLEN`), refcnt, bindcnt, eaction (`TCA_EGRESS_REDIR`), ifindex.
fn redirect_parameters(to: u32) -> Vec<u8> {
    [0, 0, 4, 0, 0, 1, to].iter().flat_map(|value: &u32| value.to_ne_bytes()).collect()
}
