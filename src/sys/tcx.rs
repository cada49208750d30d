//! Programs of tcx, which filters of tc are not: they hang on a link by bpf(2) alone. Kernel: `include/uapi/linux/bpf.h`.

/// `BPF_PROG_QUERY`.
const QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS` (since Linux 6.6).
const ATTACHED_TO: (u32, u32) = (46, 47);

/// The part of `union bpf_attr` that this command takes.
#[repr(C, align(8))]
#[derive(Default)]
struct Query {
    index: u32,
    attached_to: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// How many see what comes in by a link of the calling thread's namespace, or what leaves by it. None where the kernel
/// does not have them, or does not tell this process.
pub fn count(index: u32, incoming: bool) -> u32 {
    let attached_to = if incoming { ATTACHED_TO.0 } else { ATTACHED_TO.1 };
    let mut query = Query { index, attached_to, ..Query::default() };
    // SAFETY: the kernel reads and writes as much of the value as is said, and no room for numbers is promised.
    let done = unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut query, size_of::<Query>()) };
    if done == 0 { query.count } else { 0 }
}
