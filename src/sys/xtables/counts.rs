//! How many entries the tables of legacy iptables have, which tells nobody of changes: two system calls a table, and
//! no process.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{GET_INFO, in_use};
use crate::sys::SysError;

/// `struct ipt_getinfo` and `struct ip6t_getinfo`.
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// A table of legacy iptables and what it holds; another value means that somebody changed it. One that has as many
/// rules of the same length again is not seen to have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyTable {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// `filter`, `nat`.
    pub name: String,
    /// How many rules, policies included.
    pub entries: u32,
    /// Their length in bytes.
    pub size: u32,
}

/// All tables that are in use in the calling thread's namespace; none where the kernel has no legacy iptables.
///
/// # Errors
/// Where the kernel refuses, as it does without `CAP_NET_ADMIN`.
pub fn legacy_tables() -> Result<Vec<LegacyTable>, SysError> {
    let mut tables = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // Asking for a table that is not in use would load it.
        let names = in_use(family == libc::AF_INET6)?;
        if !names.any() {
            continue;
        }
        let refused = |errno| SysError::refused("ask for the tables of", "legacy iptables", errno);
        let socket = open(family).map_err(refused)?;
        for name in
            names.names().filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty())
        {
            match info(&socket, family, name) {
                Ok(info) => {
                    let (entries, size) = (info.entries, info.size);
                    tables.push(LegacyTable { family, name: name.to_owned(), entries, size });
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
    }
    Ok(tables)
}

fn open(family: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    // SAFETY: the descriptor is new and nobody else's.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(socket: &OwnedFd, family: libc::c_int, name: &str) -> Result<Info, Errno> {
    let mut info =
        Info { name: [0; 32], valid_hooks: 0, hook_entry: [0; 5], underflow: [0; 5], entries: 0, size: 0 };
    for (to, from) in info.name.iter_mut().zip(name.bytes().take(31)) {
        *to = from;
    }
    let level = if family == libc::AF_INET { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).unwrap_or_default();
    // SAFETY: both pointers are to live values, and the length is the value's own.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), &raw mut length)
    };
    Errno::result(done).map(|_| info)
}
