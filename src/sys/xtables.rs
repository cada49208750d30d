//! Tables of legacy iptables, read as `iptables-legacy` reads them: `linux/netfilter_ipv4/ip_tables.h`,
//! `linux/netfilter_ipv6/ip6_tables.h`.

mod counts;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::SysError;

pub use counts::{LegacyTable, legacy_tables};

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// The size of `struct ipt_getinfo`, and where it has the offsets of chains and of their policies, and the size
/// of all entries.
const INFO: usize = 84;
const ENTRY: usize = 36;
const UNDERFLOW: usize = 56;
const SIZE: usize = 80;
/// Where `struct ipt_get_entries` has its entries.
const HEADER: usize = 40;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// How often a table that changes under the reading is read again.
const TRIES: usize = 5;

/// The table `filter` as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTable {
    /// All entries, one after the other: `struct ipt_entry` or `struct ip6t_entry`.
    pub entries: Vec<u8>,
    /// Where in them the first rule of FORWARD starts.
    pub forward_start: usize,
    /// Where in them the entry with the policy of FORWARD starts.
    pub forward_policy: usize,
}

/// Reads the table `filter` of the calling thread's namespace; `None` where legacy iptables is not in use there. Asking
/// for a table makes it, so the list of tables is looked at first: one system call where the kernel has no legacy iptables, three where nobody uses it.
///
/// # Errors
/// Where the kernel refuses, or the table keeps changing.
pub fn filter_table(ipv6: bool) -> Result<Option<FilterTable>, SysError> {
    let names = if ipv6 { "/proc/net/ip6_tables_names" } else { "/proc/net/ip_tables_names" };
    if !lists_filter(names) {
        return Ok(None);
    }
    let failed = |errno| SysError::refused("read", "the table filter of legacy iptables", errno);
    let (family, level) = if ipv6 { (libc::AF_INET6, libc::SOL_IPV6) } else { (libc::AF_INET, libc::SOL_IP) };
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let fd = Errno::result(fd).map_err(failed)?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for _ in 0..TRIES {
        let mut info = vec![0; INFO];
        info[..6].copy_from_slice(b"filter");
        ask(&socket, level, GET_INFO, &mut info).map_err(failed)?;
        let number = |at: usize| {
            let bytes = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes) as usize
        };
        let (size, forward_policy) = (number(SIZE), number(UNDERFLOW + 4 * FORWARD));
        let forward_start = number(ENTRY + 4 * FORWARD);
        let mut entries = vec![0; HEADER + size];
        entries[..6].copy_from_slice(b"filter");
        entries[32..36].copy_from_slice(&info[SIZE..SIZE + 4]);
        match ask(&socket, level, GET_ENTRIES, &mut entries) {
            // Another has changed the table meanwhile.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(failed(errno)),
            Ok(()) => {
                entries.drain(..HEADER);
                return Ok(Some(FilterTable { entries, forward_start, forward_policy }));
            }
        }
    }
    Err(failed(Errno::EAGAIN))
}

/// Whether the list of tables in use names `filter`. There are five that could be in it.
fn lists_filter(names: &str) -> bool {
    let mut text = [0; 128];
    let length = File::open(names).and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    text[..length].split(|byte| *byte == b'\n').any(|name| name == b"filter")
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
