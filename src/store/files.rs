//! Files written in one piece, by path relative to an open directory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use rustix::fs::RawDir;

use super::{Result, StoreError};

/// Owner only.
const PRIVATE: Mode = Mode::from_bits_truncate(0o600);

/// The lock of whoever claims what is doomed.
pub(super) const REAP_LOCK: &str = "reap.lock";

/// An open directory and the path it was opened by, for messages.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file that has its content but no name yet (`O_TMPFILE`), or a hidden one where the file system has no such
/// thing. Its names are hard links, so they appear with the whole content at once.
#[derive(Debug)]
pub(super) struct Nameless<T = File> {
    file: T,
    hidden: Option<String>,
}

impl Dir {
    /// Opens a directory.
    pub(super) fn open(path: &Path) -> nix::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a directory, made with its parents where it does not exist.
    pub(super) fn open_or_make(path: &Path, mode: u32) -> Result<Self> {
        let failed = |action| move |source| StoreError::Io { action, path: path.to_owned(), source };
        match Self::open(path) {
            Err(Errno::ENOENT) => {
                make_all(path, mode)?;
                Self::open(path).map_err(failed("open"))
            }
            other => other.map_err(failed("open")),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, action: &'static str, name: &str, source: Errno) -> StoreError {
        StoreError::Io { action, path: self.path.join(name), source }
    }

    /// Opens or makes a file to lock it.
    pub(super) fn open_lock(&self, name: &str) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.fd, name, flags, PRIVATE).map(File::from).map_err(|e| self.error("open", name, e))
    }

    /// Opens a file with the flags given; `None` where it does not exist. A FIFO that somebody put there reads as empty, or
    /// not at all: nobody waits for its other end.
    pub(super) fn open_file(&self, name: &str, flags: OFlag) -> Result<Option<File>> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match openat(&self.fd, name, flags, PRIVATE) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.error("open", name, error)),
        }
    }

    /// The content of a file; `None` where it does not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(name, OFlag::O_RDONLY)? else { return Ok(None) };
        self.read_all(name, &file).map(Some)
    }

    /// The content of an open file.
    pub(super) fn read_all(&self, name: &str, file: &File) -> Result<Vec<u8>> {
        let mut content = Vec::with_capacity(4096);
        self.read_into(name, file, &mut content)?;
        Ok(content)
    }

    /// The same, in the place of what a buffer held: for many files in turn.
    pub(super) fn read_into(&self, name: &str, file: &File, content: &mut Vec<u8>) -> Result<()> {
        content.clear();
        // Through `take`, which does not ask for the size first: two system calls less.
        file.take(u64::MAX).read_to_end(content).map_err(|e| self.error("read", name, errno(&e)))?;
        Ok(())
    }

    /// Makes a file with its content, without a name. `beside` is the name it will have first.
    pub(super) fn write_nameless(&self, beside: &str, content: &[u8]) -> Result<Nameless> {
        let parent = beside.rsplit_once('/').map_or(".", |(parent, _)| parent);
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let (fd, hidden) = match self.in_parent(beside, |fd| openat(fd, parent, flags, PRIVATE)) {
            // EISDIR: a kernel, EOPNOTSUPP: a file system without O_TMPFILE.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => self.open_hidden(beside)?,
            other => (other.map_err(|e| self.error("create", beside, e))?, None),
        };
        let mut nameless = Nameless { file: File::from(fd), hidden };
        if let Err(error) = nameless.file.write_all(content) {
            self.abandon(nameless);
            return Err(self.error("write", beside, errno(&error)));
        }
        Ok(nameless)
    }

    /// Whether a file of a name could be made: one without it is made and forgotten.
    pub(super) fn probe_writable(&self, name: &str) -> Result<()> {
        let nameless = self.write_nameless(name, b"probe")?;
        self.abandon(nameless);
        Ok(())
    }

    /// Gives a nameless file a name; false where the name is taken.
    pub(super) fn link<T: Opened>(&self, nameless: &Nameless<T>, name: &str) -> Result<bool> {
        let done = match &nameless.hidden {
            Some(hidden) => linkat(&self.fd, hidden.as_str(), &self.fd, name, AtFlags::empty()),
            // By the descriptor itself, which the kernel allows root, and since Linux 6.10 whoever opened the file; by
            // its path in /proc, which anybody may, it costs three times as much.
            None => {
                let file = nameless.file.opened();
                match linkat(file, "", &self.fd, name, AtFlags::AT_EMPTY_PATH) {
                    Err(Errno::ENOENT | Errno::EPERM | Errno::EINVAL) => {
                        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
                        linkat(AT_FDCWD, source.as_str(), &self.fd, name, AtFlags::AT_SYMLINK_FOLLOW)
                    }
                    done => done,
                }
            }
        };
        match done {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(error) => Err(self.error("create", name, error)),
        }
    }

    /// Drops the hidden name, where there is one, and gives the open file.
    pub(super) fn abandon<T>(&self, nameless: Nameless<T>) -> T {
        if let Some(hidden) = nameless.hidden {
            let _ = unlinkat(&self.fd, hidden.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        nameless.file
    }

    /// Puts a file in the place of another, or where there was none. The file can be readied before it is seen.
    ///
    /// The new content waits under a hidden name that follows from `name`, so that a killed writer leaves one file
    /// at most, which the next writer replaces. One writer at a time.
    pub(super) fn replace<T>(
        &self,
        name: &str,
        content: &[u8],
        before: impl FnOnce(File) -> Result<T>,
    ) -> Result<T> {
        let (fd, hidden) = self.open_hidden(name)?;
        let hidden = hidden.unwrap_or_default();
        let mut file = File::from(fd);
        let written = file
            .write_all(content)
            .map_err(|e| self.error("write", name, errno(&e)))
            .and_then(|()| before(file))
            .and_then(|kept| {
                let renamed = renameat(&self.fd, hidden.as_str(), &self.fd, name);
                renamed.map(|()| kept).map_err(|e| self.error("replace", name, e))
            });
        if written.is_err() {
            let _ = unlinkat(&self.fd, hidden.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// Renames a file; false where it does not exist.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<bool> {
        let failed = |error| self.error("rename", from, error);
        match renameat(&self.fd, from, &self.fd, to) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => {
                // The file, or the directory that it is to go to?
                if !self.exists(from)? {
                    return Ok(false);
                }
                self.make_parent(to).map_err(failed)?;
                renameat(&self.fd, from, &self.fd, to).map(|()| true).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Unlinks a file; false where it does not exist.
    pub(super) fn unlink(&self, name: &str) -> Result<bool> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(self.error("remove", name, error)),
        }
    }

    /// Unlinks what a writer of `name` that was killed may have left of its next content.
    pub(super) fn unlink_remains(&self, name: &str) -> Result<()> {
        self.unlink(&hidden_name(name)).map(drop)
    }

    /// Whether a name exists.
    pub(super) fn exists(&self, name: &str) -> Result<bool> {
        self.stat(name).map(|found| found.is_some())
    }

    /// The attributes of a name, a link itself and not its target; `None` where it does not exist.
    pub(super) fn stat(&self, name: &str) -> Result<Option<libc::stat>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.error("look at", name, error)),
        }
    }

    /// The names in a directory, hidden ones left out; none where it does not exist. `.` is the directory itself.
    pub(super) fn names(&self, directory: &str) -> Result<Vec<String>> {
        let failed = |error: Errno| self.error("list", directory, error);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = match openat(&self.fd, directory, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        // getdents64(2) itself: opendir(3) has the C library take memory for it, and give it back.
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let mut entries = RawDir::new(fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| failed(Errno::from_raw(error.raw_os_error())))?;
            if let Ok(name) = entry.file_name().to_str()
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Runs a call that needs the parent directory of `name`, which is made where the call says it is missing.
    pub(super) fn in_parent<T>(
        &self,
        name: &str,
        call: impl Fn(&OwnedFd) -> nix::Result<T>,
    ) -> nix::Result<T> {
        match call(&self.fd) {
            Err(Errno::ENOENT) => {
                self.make_parent(name)?;
                call(&self.fd)
            }
            other => other,
        }
    }

    fn make_parent(&self, name: &str) -> nix::Result<()> {
        if name.starts_with("pending/") {
            self.make_what_follows()?;
        }
        for (at, _) in name.match_indices('/') {
            match mkdirat(&self.fd, &name[..at], Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes what every record needs later, before the directory that the first one begins in: where there is room for that
    /// one alone, no ADD begins that could not be completed, or taken away again.
    fn make_what_follows(&self) -> nix::Result<()> {
        for directory in ["ready", "doomed"] {
            match mkdirat(&self.fd, directory, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.fd, REAP_LOCK, flags, PRIVATE).map(drop)
    }

    fn open_hidden(&self, name: &str) -> Result<(OwnedFd, Option<String>)> {
        let hidden = hidden_name(name);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let open = |fd: &OwnedFd| match openat(fd, hidden.as_str(), flags, PRIVATE) {
            // What a killed writer left. It may be linked by now: never truncate it.
            Err(Errno::EEXIST) => {
                unlinkat(fd, hidden.as_str(), UnlinkatFlags::NoRemoveDir)?;
                openat(fd, hidden.as_str(), flags, PRIVATE)
            }
            other => other,
        };
        let fd = self.in_parent(name, open).map_err(|e| self.error("create", &hidden, e))?;
        Ok((fd, Some(hidden)))
    }
}

impl std::os::fd::AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file, locked or not.
pub(super) trait Opened {
    /// The file itself.
    fn opened(&self) -> &File;
}

impl Opened for File {
    fn opened(&self) -> &File {
        self
    }
}

impl Opened for Flock<File> {
    fn opened(&self) -> &File {
        self
    }
}

impl Nameless {
    /// Does something with the open file, which stays open, before it gets a name.
    pub(super) fn ready<T>(self, with: impl FnOnce(File) -> Result<T>) -> Result<Nameless<T>> {
        Ok(Nameless { file: with(self.file)?, hidden: self.hidden })
    }
}

/// Where the content of a file waits until it is whole.
fn hidden_name(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((parent, file)) => format!("{parent}/.new-{file}"),
        None => format!(".new-{name}"),
    }
}

/// Makes a directory and its parents.
fn make_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| StoreError::Io {
        action: "create",
        path: path.to_owned(),
        source: errno(&e),
    })
}

/// The number of an error of the standard library.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens where the file system has no `O_TMPFILE`.
    #[test]
    fn a_hidden_file_serves_where_there_are_no_nameless_ones() {
        let base = tempfile::tempdir().unwrap();
        let dir = Dir::open(base.path()).unwrap();
        let make = |content: &[u8]| {
            let (fd, hidden) = dir.open_hidden("sub/name").unwrap();
            let mut file = File::from(fd);
            file.write_all(content).unwrap();
            Nameless { file, hidden }
        };
        let first = make(b"first");
        assert!(dir.link(&first, "sub/name").unwrap());
        // Killed before the hidden name was dropped: the next one must not touch the linked file.
        drop(first);
        let second = make(b"second");
        assert!(!dir.link(&second, "sub/name").unwrap());
        dir.abandon(second);
        assert_eq!(dir.read("sub/name").unwrap().unwrap(), b"first");
        assert_eq!(std::fs::read_dir(base.path().join("sub")).unwrap().count(), 1);
    }
}
