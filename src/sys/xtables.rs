//! Tables of legacy iptables, read as `iptables-legacy` reads them: `linux/netfilter_ipv4/ip_tables.h`,
//! `linux/netfilter_ipv6/ip6_tables.h`.

mod counts;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::SysError;
use crate::model::errno::is_passing;

pub use counts::{LegacyTable, legacy_tables};

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// The size of `struct ipt_getinfo`, and where it has its hooks, the offsets of chains and policies, and the size of
/// all entries.
const INFO: usize = 84;
const HOOKS: usize = 32;
const STARTS: usize = 36;
const UNDERFLOW: usize = 56;
const SIZE: usize = 80;
/// Where `struct ipt_get_entries` has its entries.
const HEADER: usize = 40;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// How often a table that changes under the reading is read again.
const TRIES: usize = 5;

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// All entries, one after the other: `struct ipt_entry` or `struct ip6t_entry`.
    pub entries: Vec<u8>,
    /// The hooks that it has a chain for, a bit each (`1 << NF_INET_*`).
    pub hooks: u32,
    /// Where in the entries the chain of each hook starts.
    pub starts: [usize; 5],
    /// Where the entry with the policy of each hook's chain starts.
    pub policies: [usize; 5],
}

/// The table `filter` as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTable {
    /// All entries, one after the other: `struct ipt_entry` or `struct ip6t_entry`.
    pub entries: Vec<u8>,
    /// Where in them the chain FORWARD starts.
    pub forward_start: usize,
    /// Where in them the entry with its policy starts.
    pub forward_policy: usize,
}

/// Reads the table `filter` of the calling thread's namespace; `None` where legacy iptables is not in use there. Asking
/// for a table makes it, so the list of tables is looked at first: one system call where the kernel has no legacy iptables, three where nobody uses it.
///
/// # Errors
/// Where the kernel refuses, or the table keeps changing.
pub fn filter_table(ipv6: bool) -> Result<Option<FilterTable>, SysError> {
    let found = table(ipv6, "filter")?;
    Ok(found.map(|table| FilterTable {
        forward_start: table.starts[FORWARD],
        forward_policy: table.policies[FORWARD],
        entries: table.entries,
    }))
}

/// The same for any table: `raw`, `mangle`, `nat`, `filter`, `security`.
///
/// # Errors
/// As [`filter_table`].
pub fn table(ipv6: bool, name: &str) -> Result<Option<Table>, SysError> {
    if !in_use(ipv6)?.lists(name) {
        return Ok(None);
    }
    let failed = |errno| SysError::refused("read", format!("the table {name} of legacy iptables"), errno);
    let (family, level) = if ipv6 { (libc::AF_INET6, libc::SOL_IPV6) } else { (libc::AF_INET, libc::SOL_IP) };
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let fd = Errno::result(fd).map_err(failed)?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let titled = |buffer: &mut [u8]| {
        for (to, from) in buffer.iter_mut().zip(name.bytes().take(31)) {
            *to = from;
        }
    };
    for _ in 0..TRIES {
        let mut info = vec![0; INFO];
        titled(&mut info);
        ask(&socket, level, GET_INFO, &mut info).map_err(failed)?;
        let word = |at: usize| {
            let bytes = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let number = |at: usize| word(at) as usize;
        let each = |first: usize| [0, 1, 2, 3, 4].map(|hook| number(first + 4 * hook));
        let (size, hooks) = (number(SIZE), word(HOOKS));
        let mut entries = vec![0; HEADER + size];
        titled(&mut entries);
        entries[32..36].copy_from_slice(&info[SIZE..SIZE + 4]);
        match ask(&socket, level, GET_ENTRIES, &mut entries) {
            // Another has changed the table meanwhile.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(failed(errno)),
            Ok(()) => {
                entries.drain(..HEADER);
                return Ok(Some(Table { entries, hooks, starts: each(STARTS), policies: each(UNDERFLOW) }));
            }
        }
    }
    Err(failed(Errno::EAGAIN))
}

/// The tables of legacy iptables that are in use, of one family.
#[derive(Debug, Clone, Copy)]
pub struct InUse {
    /// A line each. There are five that could be in it.
    text: [u8; 128],
    length: usize,
}

impl InUse {
    /// Whether a table is.
    pub fn lists(&self, wanted: &str) -> bool {
        self.names().any(|name| name == wanted.as_bytes())
    }

    /// Whether any is.
    pub fn any(&self) -> bool {
        self.names().any(|name| !name.is_empty())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.text[..self.length].split(|byte| *byte == b'\n')
    }
}

/// Asks for the tables in use in the calling thread's namespace; none where the kernel has no legacy iptables, or does
/// not let this process see them. Three system calls.
///
/// # Errors
/// Where that fails for now ([`is_passing`]).
pub fn in_use(ipv6: bool) -> Result<InUse, SysError> {
    match look_in_use(ipv6) {
        Err(errno) if is_passing(errno) => Err(SysError::refused("read", path(ipv6), errno)),
        looked => Ok(looked.unwrap_or(InUse { text: [0; 128], length: 0 })),
    }
}

fn path(ipv6: bool) -> &'static str {
    if ipv6 { "/proc/net/ip6_tables_names" } else { "/proc/net/ip_tables_names" }
}

/// The same, for who must not take what cannot be seen for nothing.
///
/// # Errors
/// Where the list is there and cannot be read.
pub fn look_in_use(ipv6: bool) -> nix::Result<InUse> {
    let mut text = [0; 128];
    // Not open(2): musl's sets the flag once more.
    let length = match openat(AT_FDCWD, path(ipv6), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => nix::unistd::read(file, &mut text)?,
        Err(Errno::ENOENT) => 0,
        Err(errno) => return Err(errno),
    };
    Ok(InUse { text, length })
}

/// getsockopt(2) into a buffer that also holds the question.
fn ask(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EFBIG)?;
    // SAFETY: the kernel reads and writes at most `length` bytes of a buffer that has them.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    Errno::result(done).map(drop)
}
