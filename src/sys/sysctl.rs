//! Kernel parameters under /proc/sys, of the calling thread's namespaces.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::SysError;
use crate::model::errno::is_passing;

mod private;

/// Whether the host forwards IPv4.
pub const FORWARDING4: &str = "net/ipv4/ip_forward";
/// Whether it forwards IPv6.
pub const FORWARDING6: &str = "net/ipv6/conf/all/forwarding";

/// Where proc is mounted.
const PROC: &str = "/proc";

/// The longest value that is read: a page, as the kernel's own handlers have it.
const LONGEST: usize = 4096;

/// The value of a parameter, without the line's end.
///
/// The key's words are joined by dots or by slashes; the first of either decides, as with sysctl(8), so that
/// `net/ipv4/conf/eth0.5/arp_notify` and `net.ipv4.conf.eth0/5.arp_notify` both name the interface `eth0.5`.
///
/// # Errors
/// Where there is no such parameter, or the key leads out of /proc/sys (`EINVAL`).
pub fn read(key: &str) -> Result<String, SysError> {
    let path = path_of(key).ok_or_else(|| SysError::refused("read the sysctl", key, Errno::EINVAL))?;
    take(AT_FDCWD, &path).map_err(|error| SysError::io("read the sysctl", path.display().to_string(), &error))
}

/// Sets a parameter. An empty value empties it, where it can be empty.
///
/// # Errors
/// As [`read`], and where the kernel does not take the value; names both.
pub fn write(key: &str, value: &str) -> Result<(), SysError> {
    let object = |path: &str| format!("{path} to '{value}'");
    let path = path_of(key).ok_or_else(|| SysError::refused("set the sysctl", object(key), Errno::EINVAL))?;
    // The kernel takes a write of no bytes for none.
    put(AT_FDCWD, &path, if value.is_empty() { "\n" } else { value })
        .map_err(|error| SysError::io("set the sysctl", object(&path.display().to_string()), &error))
}

/// The same of one that this kernel may not have, which is passed over. Where it is refused, the parameter may have the value
/// already.
///
/// # Errors
/// As [`write()`], but for a parameter that is not there.
pub fn write_if_there(key: &str, value: &str) -> Result<(), SysError> {
    match write(key, value) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        Err(_) if read(key).is_ok_and(|found| found == value) => Ok(()),
        other => other,
    }
}

/// Whether this process is kept from setting a parameter that there is, as by a read-only /proc/sys: it is opened for it,
/// and nothing is written. What keeps it for now alone ([`is_passing`]) says nothing of that.
pub fn is_locked(key: &str) -> bool {
    let opened = path_of(key).map(|path| open(AT_FDCWD, &path, OFlag::O_WRONLY));
    opened.is_some_and(|opened| opened.is_err_and(|errno| errno != Errno::ENOENT && !is_passing(errno)))
}

/// By which way directories of parameters are looked up.
#[derive(Debug)]
pub struct Root {
    /// A proc file system of this process's own.
    own: Option<OwnedFd>,
}

impl Root {
    /// The host's /proc; with `crowded`, where the caller says that the host has many network namespaces, a proc file
    /// system that is mounted for this value alone, nowhere in the tree, where no look-up has to walk what was found in
    /// all of them (see the module `private`). Where it cannot be had (before Linux 5.2, in user namespaces, under a
    /// policy), the host's serves.
    pub fn new(crowded: bool) -> Self {
        Self { own: crowded.then(|| private::mount().ok()).flatten() }
    }

    /// A directory below /proc/sys, by its path there, as the calling thread's network namespace has it. `None` where
    /// the kernel has none of that name.
    ///
    /// # Errors
    /// Where the path leads out of /proc/sys (`EINVAL`), or it cannot be opened.
    pub fn directory(&self, key: &str) -> Result<Option<Directory>, SysError> {
        let refused = |errno| SysError::refused("look up the sysctls", key, errno);
        let path = path_of(key).ok_or_else(|| refused(Errno::EINVAL))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let opened = match &self.own {
            Some(proc) => open(proc, path.strip_prefix(PROC).unwrap_or(&path), flags),
            None => open(AT_FDCWD, &path, flags),
        };
        match opened {
            Ok(fd) => Ok(Some(Directory { fd, path })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }
}

/// The parameters of one directory, such as `net/ipv6/conf/eth0`, which is looked up once for all of them: the kernel
/// keeps what it found for every namespace in one list, and each look-up from the root walks it.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// As [`write_if_there`], of a parameter of the directory.
    ///
    /// # Errors
    /// As [`write_if_there`].
    pub fn write_if_there(&self, name: &str, value: &str) -> Result<(), SysError> {
        let file = Path::new(name);
        match put(&self.fd, file, value) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(_) if take(&self.fd, file).is_ok_and(|found| found == value) => Ok(()),
            other => other.map_err(|error| {
                let object = format!("{} to '{value}'", self.path.join(name).display());
                SysError::io("set the sysctl", object, &error)
            }),
        }
    }
}

/// openat(2): the C library's open(2) sets the close-on-exec flag once more.
fn open(at: impl std::os::fd::AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(at, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// One read, without the line's end.
fn take(at: impl std::os::fd::AsFd, path: &Path) -> std::io::Result<String> {
    let mut value = [0; LONGEST];
    let length = File::from(open(at, path, OFlag::O_RDONLY)?).read(&mut value)?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_end_matches('\n').to_owned())
}

/// One write, as the kernel takes each for a value of its own.
fn put(at: impl std::os::fd::AsFd, path: &Path, value: &str) -> std::io::Result<()> {
    let fd = open(at, path, OFlag::O_WRONLY)?;
    File::from(fd).write(value.as_bytes()).map(drop)
}

/// The file of a key, or `None` where the key is empty or leads elsewhere.
fn path_of(key: &str) -> Option<PathBuf> {
    let by_slash = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let relative = if by_slash {
        key.to_owned()
    } else {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    };
    let strange = |word: &str| word.is_empty() || word == "." || word == "..";
    if relative.contains('\0') || relative.split('/').any(strange) {
        return None;
    }
    Some(PathBuf::from("/proc/sys").join(relative))
}

#[cfg(test)]
mod tests;
