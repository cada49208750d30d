//! What an error number of the kernel says of trying again.

use nix::errno::Errno;

/// Whether what failed may work the next time as it is: a descriptor, memory or room in a queue was lacking, a signal
/// came, or a device failed. It says nothing of whether what was looked for is there.
pub fn is_passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::ENOBUFS
            | Errno::EIO
            | Errno::EINTR
            | Errno::EAGAIN
    )
}
