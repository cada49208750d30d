//! Programs of the kernel's own kind that drop every packet.

use std::os::fd::{FromRawFd, OwnedFd};

use super::Space;

/// `BPF_PROG_LOAD`, `BPF_LINK_CREATE` (`linux/bpf.h`).
const LOAD: libc::c_int = 5;
const LINK: libc::c_int = 28;
/// `XDP_FLAGS_SKB_MODE`.
const SKB_MODE: u32 = 2;

/// Where a program can be hung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// XDP.
    Xdp,
    /// tcx, of what comes in.
    In,
    /// tcx, of what leaves.
    Out,
}

#[repr(C, align(8))]
#[derive(Default)]
struct Program {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_at: u64,
    rest: [u64; 16],
}

#[repr(C, align(8))]
#[derive(Default)]
struct Attachment {
    program: u32,
    index: u32,
    place: u32,
    flags: u32,
    rest: [u64; 8],
}

fn call<T>(command: libc::c_int, given: &mut T) -> std::io::Result<OwnedFd> {
    // SAFETY: the kernel reads the value, and as much of it as is said.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(given), size_of::<T>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

/// Drops all packets at a place of a link, for as long as what is given is kept. An error where the kernel has no such
/// place.
pub fn drop_all(space: &Space, link: &str, place: Place) -> std::io::Result<OwnedFd> {
    // `BPF_PROG_TYPE_XDP` and `XDP_DROP`; `BPF_PROG_TYPE_SCHED_CLS` and `TCX_DROP`; `enum bpf_attach_type`.
    let (kind, verdict, place, flags) = match place {
        Place::Xdp => (6, 1_u64, 37, SKB_MODE),
        Place::In => (3, 2, 46, 0),
        Place::Out => (3, 2, 47, 0),
    };
    // r0 = verdict; exit.
    let instructions = [0xb7 | verdict << 32, 0x95_u64];
    let mut program = Program {
        kind,
        count: 2,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        ..Program::default()
    };
    let program = call(LOAD, &mut program)?;
    space.in_ns(|| {
        use std::os::fd::AsRawFd as _;
        let index = nix::net::if_::if_nametoindex(link).map_err(std::io::Error::from)?;
        let program = u32::try_from(program.as_raw_fd()).unwrap();
        call(LINK, &mut Attachment { program, index, place, flags, rest: [0; 8] })
    })
}
