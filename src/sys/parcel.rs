//! Open files in a parcel: a socket whose queue holds them (unix(7), `SCM_RIGHTS`), each group with a label. Whoever has
//! the parcel, be it a process that knows nothing of sockets, keeps all of them open; whoever opens it has them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    sendmsg, socketpair,
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

/// Sends bytes, and open files with them: 253 at most.
///
/// # Errors
/// The system's.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
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
    let numbers: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, Some(to))?;
    Ok(())
}

/// Receives one message: bytes, and open files, which are not inherited by programs that this one starts. Both are
/// empty at a stream's end.
///
/// # Errors
/// The system's. `InvalidData` where not all could be taken: too many descriptors are open here.
pub fn receive(socket: &impl AsFd, flags: MsgFlags) -> io::Result<Group> {
    let mut label = vec![0; LONGEST_LABEL];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(&mut label)];
    let raw = socket.as_fd().as_raw_fd();
    let received = loop {
        match recvmsg::<()>(raw, &mut parts, Some(&mut space), flags | MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel has just opened them for this process, and nobody else here knows the numbers.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let (length, cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC));
    label.truncate(length);
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many files are open"));
    }
    Ok((label, descriptors))
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
                .map(|(label, mut files)| {
                    (label, TcpListener::from(files.remove(0)).local_addr().unwrap())
                })
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
