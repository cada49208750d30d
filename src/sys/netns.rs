//! Network namespaces, held by a file descriptor and known by identity.

use std::cell::{Cell, OnceCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{getpid, gettid};

use super::SysError;

/// The calling thread's own network namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// `NS_GET_NSTYPE`, `_IO(0xb7, 3)` (`linux/nsfs.h`): the `CLONE_NEW*` flag of a namespace's kind.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// `SIOCGSKNS` (`linux/sockios.h`): a file descriptor of the network namespace that a socket is in.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// Why a path is no network namespace to work in.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is there.
    #[error("there is no network namespace at {path}")]
    Missing {
        /// The path that was asked for.
        path: String,
    },
    /// Something is there, but it is no namespace: a bind mount that is gone leaves an empty file behind.
    #[error("{path} is not a namespace")]
    NotANamespace {
        /// The path that was asked for.
        path: String,
    },
    /// A namespace of another kind (mount, PID, ...).
    #[error("{path} is a {kind} namespace, not a network namespace")]
    AnotherKind {
        /// The path that was asked for.
        path: String,
        /// Its kind in a word.
        kind: &'static str,
    },
    /// It could not be opened or looked at.
    #[error("cannot open the network namespace {path}: {}", .errno.desc())]
    Unusable {
        /// The path that was asked for.
        path: String,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl NetnsError {
    /// The kernel's reason, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Missing { .. } => Some(Errno::ENOENT),
            Self::Unusable { errno, .. } => Some(*errno),
            Self::NotANamespace { .. } | Self::AnotherKind { .. } => None,
        }
    }
}

/// What tells one namespace from another while either is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// The device of nsfs.
    pub device: u64,
    /// The namespace's inode.
    pub inode: u64,
}

/// A network namespace, kept alive as long as this value lives.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    path: String,
}

impl Netns {
    /// Opens the namespace at `path`, after making sure that it is one and of the right kind.
    ///
    /// # Errors
    /// Says whether nothing is there, no namespace, or one of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        let text = path.display().to_string();
        // Never block on a FIFO that someone put there.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        // openat(2): the C library's open(2) sets the close-on-exec flag once more.
        let fd = match openat(AT_FDCWD, path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(NetnsError::Missing { path: text }),
            // A socket, a link to itself.
            Err(Errno::ENXIO | Errno::ELOOP) => return Err(NetnsError::NotANamespace { path: text }),
            Err(errno) => return Err(NetnsError::Unusable { path: text, errno }),
        };
        let unusable = |errno| NetnsError::Unusable { path: text.clone(), errno };
        if fstatfs(&fd).map_err(unusable)?.filesystem_type() != FsType(libc::NSFS_MAGIC as _) {
            return Err(NetnsError::NotANamespace { path: text });
        }
        // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
        match Errno::result(kind) {
            Ok(libc::CLONE_NEWNET) => Ok(Self { fd, path: text }),
            Ok(other) => Err(NetnsError::AnotherKind { path: text, kind: kind_name(other) }),
            Err(errno) => Err(unusable(errno)),
        }
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// Where /proc is not there.
    pub fn current() -> Result<Self, NetnsError> {
        match namespace_of_new_socket() {
            Ok(fd) => Ok(Self { fd, path: CURRENT.to_owned() }),
            // Without CAP_NET_ADMIN the kernel does not tell, and /proc does.
            Err(_) => Self::open(CURRENT),
        }
    }

    /// Device and inode of what is at `path` now, without opening it; `None` where nothing is.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    pub fn identity_at(path: impl AsRef<Path>) -> Result<Option<NetnsId>, NetnsError> {
        match nix::sys::stat::stat(path.as_ref()) {
            Ok(status) => Ok(Some(NetnsId { device: status.st_dev, inode: status.st_ino })),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(NetnsError::Unusable { path: path.as_ref().display().to_string(), errno }),
        }
    }

    /// Device and inode.
    ///
    /// # Errors
    /// Where the kernel refuses fstat.
    pub fn identity(&self) -> Result<NetnsId, NetnsError> {
        let status =
            fstat(&self.fd).map_err(|errno| NetnsError::Unusable { path: self.path.clone(), errno })?;
        Ok(NetnsId { device: status.st_dev, inode: status.st_ino })
    }

    /// Whether the calling thread is in it, or outside of any [`Netns::enter`] started in it.
    ///
    /// # Errors
    /// Where /proc is not there.
    pub fn is_current(&self) -> Result<bool, NetnsError> {
        if DEPTH.get() > 0 {
            return Ok(Self::current()?.identity()? == self.identity()?);
        }
        at_home(|home| Ok(home?.identity()? == self.identity()?))
    }

    /// Looks the thread's own namespace up by a socket that it has anyway, which was opened there: the question needs
    /// one. Where it is known already, or the kernel does not tell, nothing happens.
    pub fn remember_home(socket: &impl AsFd) {
        if DEPTH.get() > 0 {
            return;
        }
        in_place(|place| {
            if place.get().is_none()
                && let Ok(fd) = namespace_of(socket)
            {
                place.get_or_init(|| Self { fd, path: CURRENT.to_owned() });
            }
        });
    }

    /// Runs `work` with the calling thread inside this namespace, and returns to where the thread was, also when
    /// `work` panics. If the way back is barred the process aborts: going on in the wrong namespace could only do harm.
    ///
    /// The thread's own namespace is looked up once and remembered; a thread that calls `unshare` or `setns` by
    /// itself does so before its first `enter`.
    ///
    /// # Errors
    /// Where the namespace cannot be entered; `work` has not run then.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T, SysError> {
        let _way_back = WayBack::from_here_into(self)?;
        Ok(work())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` on a thread with a network namespace of its own, which goes with all that was made in it: for trying what
/// the kernel can do, where no packet of anybody passes.
///
/// # Errors
/// Where no namespace can be made: `EPERM` without CAP_SYS_ADMIN, `ENOSPC` past `user.max_net_namespaces`.
pub fn in_scratch<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, SysError> {
    let refused = |errno| SysError::refused("make", "a network namespace to try things in", errno);
    std::thread::scope(|scope| {
        let inside = || unshare(CloneFlags::CLONE_NEWNET).map_err(refused).map(|()| work());
        match scope.spawn(inside).join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The namespace that the first thread started in. Not the thread's own storage: to give that back at the end of the
/// thread the standard library takes memory from the C library, six system calls and two page faults.
static FIRST: OnceLock<Netns> = OnceLock::new();

thread_local! {
    /// The namespace that this thread started in, where it is not the first.
    static HOME: OnceCell<Netns> = const { OnceCell::new() };
    /// Whether this thread is the process's first, once that was asked.
    static IS_FIRST: Cell<Option<bool>> = const { Cell::new(None) };
    /// How many `enter`s this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Where a thread's home is remembered.
enum Place<'a> {
    First(&'a OnceLock<Netns>),
    Other(&'a OnceCell<Netns>),
}

impl<'a> Place<'a> {
    fn get(&self) -> Option<&'a Netns> {
        match self {
            Self::First(home) => home.get(),
            Self::Other(home) => home.get(),
        }
    }

    fn get_or_init(&self, make: impl FnOnce() -> Netns) -> &'a Netns {
        match self {
            Self::First(home) => home.get_or_init(make),
            Self::Other(home) => home.get_or_init(make),
        }
    }
}

fn in_place<T>(work: impl FnOnce(&Place<'_>) -> T) -> T {
    let is_first = IS_FIRST.get().unwrap_or_else(|| gettid() == getpid());
    IS_FIRST.set(Some(is_first));
    if is_first { work(&Place::First(&FIRST)) } else { HOME.with(|home| work(&Place::Other(home))) }
}

/// Does something with the thread's home, looked up where nobody has yet.
fn at_home<T>(work: impl FnOnce(Result<&Netns, NetnsError>) -> T) -> T {
    in_place(|place| match place.get() {
        Some(home) => work(Ok(home)),
        None => match Netns::current() {
            Ok(current) => work(Ok(place.get_or_init(|| current))),
            Err(error) => work(Err(error)),
        },
    })
}

/// The namespace of a socket that is made for the question: a tenth of what a walk through /proc costs.
fn namespace_of_new_socket() -> nix::Result<OwnedFd> {
    namespace_of(&socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// The namespace that a socket is in.
fn namespace_of(socket: &impl AsFd) -> nix::Result<OwnedFd> {
    // SAFETY: SIOCGSKNS takes no argument and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS as _) })?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec) for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Brings the thread back when it is dropped.
struct WayBack {
    /// Where to, unless it is the thread's home.
    outer: Option<Netns>,
}

impl WayBack {
    fn from_here_into(target: &Netns) -> Result<Self, SysError> {
        let nested = DEPTH.get() > 0;
        let outer = if nested { Some(Netns::current()?) } else { None };
        if !nested {
            at_home(|home| home.map(drop))?;
        }
        setns(&target.fd, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| SysError::refused("enter the network namespace", &target.path, errno))?;
        DEPTH.set(DEPTH.get() + 1);
        Ok(Self { outer })
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        let back = |netns: &Netns| setns(&netns.fd, CloneFlags::CLONE_NEWNET).is_ok();
        let returned = match &self.outer {
            Some(outer) => back(outer),
            None => in_place(|place| place.get().is_some_and(back)),
        };
        if !returned {
            std::process::abort();
        }
    }
}

fn kind_name(flag: libc::c_int) -> &'static str {
    match flag {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "PID",
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWUTS => "UTS",
        libc::CLONE_NEWIPC => "IPC",
        libc::CLONE_NEWCGROUP => "cgroup",
        _ => "strange",
    }
}

#[cfg(test)]
mod tests;
