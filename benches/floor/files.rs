//! The files of the floor.

use std::ffi::CString;
use std::fs;
use std::io::Read;

use crate::die;

pub(crate) fn read_stdin() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    if std::io::stdin().lock().read_to_end(&mut bytes).is_err() {
        die("stdin");
    }
    bytes
}

pub(crate) fn open(path: &str, flags: i32) -> i32 {
    let path = CString::new(path).expect("no NUL in a path");
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) };
    if fd < 0 {
        die("open");
    }
    fd
}

/// An exclusive lock; the descriptor is never closed, so it is held until exit.
pub(crate) fn lock(path: &str) {
    let fd = open(path, libc::O_RDWR | libc::O_CREAT);
    if unsafe { libc::flock(fd, libc::LOCK_EX) } != 0 {
        die("flock");
    }
}

pub(crate) fn write(path: &str, bytes: &[u8], flags: i32) {
    let fd = open(path, libc::O_WRONLY | libc::O_CREAT | flags);
    if unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } != bytes.len() as isize {
        die("write");
    }
    unsafe { libc::close(fd) };
}

pub(crate) fn unlink(path: &str) {
    if fs::remove_file(path).is_err() {
        die("unlink");
    }
}
