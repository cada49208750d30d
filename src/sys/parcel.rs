//! Open files in a parcel: a socket whose queue holds them (unix(7), `SCM_RIGHTS`), each group with a label. Whoever has
//! the parcel, be it a process that knows nothing of sockets, keeps all of them open; whoever opens it has them.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike as _, UnixAddr, socketpair,
};

/// As many as one message takes (`SCM_MAX_FD`).
const MOST: usize = 253;
/// The longest label, in bytes.
pub const LONGEST_LABEL: usize = 256;

/// What a parcel holds: a label, and what is under it.
pub type Group = (Vec<u8>, Vec<OwnedFd>);

/// Packs open files. They stay open here too, and in the parcel for as long as that is open anywhere.
///
/// It is one of two datagram sockets whose other end is closed: nobody can put anything in, and nobody who watches it
/// sees an end.
///
/// # Errors
/// The system's: no descriptors are left (`EMFILE`), too many are under way (`ETOOMANYREFS`), or too many are packed at
/// once (`EAGAIN`: some sixty thousand).
pub fn pack(contents: &[(&[u8], Vec<BorrowedFd<'_>>)]) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (into, parcel) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags)?;
    for (label, descriptors) in contents {
        for some in descriptors.chunks(MOST) {
            send(&into, label, some)?;
        }
    }
    Ok(parcel)
}

/// Empties a parcel.
///
/// # Errors
/// Where it is no socket, or no descriptors are left.
pub fn unpack(parcel: &impl AsFd) -> io::Result<Vec<Group>> {
    let mut groups = Vec::new();
    loop {
        match receive(parcel, MsgFlags::MSG_DONTWAIT) {
            Ok((label, descriptors)) if descriptors.is_empty() && label.is_empty() => return Ok(groups),
            Ok(group) => groups.push(group),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(groups),
            Err(error) => return Err(error),
        }
    }
}

/// Control data with open files in it (cmsg(3)), aligned as the kernel writes it.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    numbers: [RawFd; MOST],
}

impl Rights {
    fn of(descriptors: &[BorrowedFd<'_>]) -> Self {
        // SAFETY: all zeros is a value of this plain structure.
        let mut rights: Self = unsafe { mem::zeroed() };
        for (to, descriptor) in rights.numbers.iter_mut().zip(descriptors) {
            *to = descriptor.as_raw_fd();
        }
        rights.header.cmsg_len = Self::length(descriptors.len()) as _;
        rights.header.cmsg_level = libc::SOL_SOCKET;
        rights.header.cmsg_type = libc::SCM_RIGHTS;
        rights
    }

    /// How long it is with so many of them.
    const fn length(count: usize) -> usize {
        mem::offset_of!(Self, numbers) + count * size_of::<RawFd>()
    }
}

/// Sends bytes, and open files with them: 253 at most.
///
/// # Errors
/// The system's.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_message(socket, None, bytes, descriptors, MsgFlags::empty())
}

/// The same to an address, by a socket without one, and without waiting.
///
/// # Errors
/// The system's; `WouldBlock` where the other side has to catch up first.
pub fn send_to(
    socket: &impl AsFd,
    to: &UnixAddr,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    send_message(socket, Some(to), bytes, descriptor.as_slice(), MsgFlags::MSG_DONTWAIT)
}

fn send_message(
    socket: &impl AsFd,
    to: Option<&UnixAddr>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let mut rights = Rights::of(descriptors);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = message(&mut part);
    if let Some(to) = to {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
    }
    if !descriptors.is_empty() {
        header.msg_control = (&raw mut rights).cast();
        header.msg_controllen = Rights::length(descriptors.len().min(MOST)) as _;
    }
    let flags = (flags | MsgFlags::MSG_NOSIGNAL).bits();
    loop {
        // SAFETY: the header points to the address, the bytes and the control data, which live until the call has
        // returned, with their sizes; the kernel reads them.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, flags) };
        match Errno::result(sent) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message: bytes, and open files, which are not inherited by programs that this one starts. Both are
/// empty at a stream's end.
///
/// # Errors
/// The system's. `InvalidData` where not all could be taken: too many descriptors are open here.
pub fn receive(socket: &impl AsFd, flags: MsgFlags) -> io::Result<Group> {
    let mut label = vec![0; LONGEST_LABEL];
    let mut rights = Rights::of(&[]);
    let mut part = libc::iovec { iov_base: label.as_mut_ptr().cast(), iov_len: label.len() };
    let mut header = message(&mut part);
    header.msg_control = (&raw mut rights).cast();
    header.msg_controllen = size_of::<Rights>() as _;
    let flags = (flags | MsgFlags::MSG_CMSG_CLOEXEC).bits();
    let length = loop {
        // SAFETY: the header points to the room for bytes and control data, which lives until the call has returned,
        // with their sizes, to which the kernel keeps.
        let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
        match Errno::result(received) {
            Ok(length) => break usize::try_from(length).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    // Of different types, as the C library has it.
    let (all, bytes): (usize, usize) = (header.msg_controllen as _, rights.header.cmsg_len as _);
    let there = all >= Rights::length(1)
        && (rights.header.cmsg_level, rights.header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let count = if there { bytes.saturating_sub(Rights::length(0)) / size_of::<RawFd>() } else { 0 };
    // SAFETY: the kernel has just opened them for this process, and nobody else here knows the numbers.
    let taken = rights.numbers.iter().take(count).map(|number| unsafe { OwnedFd::from_raw_fd(*number) });
    let descriptors = taken.collect();
    label.truncate(length);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many files are open"));
    }
    Ok((label, descriptors))
}

fn message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all zeros is a value of this plain structure: no name, no parts, no control data.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut *part;
    header.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;

    #[test]
    fn a_parcel_keeps_sockets_open_and_gives_them_back() {
        crate::sys::testing::isolated(|| {
            let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
            let (one, two) = (bind(), bind());
            let at = [one.local_addr().unwrap(), two.local_addr().unwrap()];
            let parcel = pack(&[(b"first", vec![one.as_fd()]), (b"second", vec![two.as_fd()])]).unwrap();
            // In a parcel in a parcel.
            let outer = pack(&[(b"parcel", vec![parcel.as_fd()])]).unwrap();
            drop((one, two, parcel));
            assert!(TcpListener::bind(at[0]).is_err() && TcpListener::bind(at[1]).is_err());
            let [(label, inner)] = unpack(&outer).unwrap().try_into().unwrap();
            assert_eq!(label, b"parcel");
            let groups = unpack(&inner[0]).unwrap();
            let found: Vec<_> = groups
                .into_iter()
                .map(|(label, mut files)| (label, TcpListener::from(files.remove(0)).local_addr().unwrap()))
                .collect();
            assert_eq!(found, [(b"first".to_vec(), at[0]), (b"second".to_vec(), at[1])]);
            assert!(unpack(&outer).unwrap().is_empty());
            assert!(TcpListener::bind(at[0]).is_ok(), "nobody has it any more");
        });
    }

    #[test]
    fn more_than_a_message_takes_are_several() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x").unwrap();
        let parcel = pack(&[(b"many", vec![file.as_fd(); 600])]).unwrap();
        let groups = unpack(&parcel).unwrap();
        assert_eq!(groups.iter().map(|(_, files)| files.len()).collect::<Vec<_>>(), [253, 253, 94]);
        assert!(groups.iter().all(|(label, _)| label == b"many"));
    }

    #[test]
    fn what_is_no_parcel_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(unpack(&file).unwrap_err().raw_os_error(), Some(Errno::ENOTSOCK as i32));
    }
}
