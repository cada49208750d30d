//! The first and the last steps of the process: those of the standard library that a plugin needs, and no others.
//!
//! Its own start also looks up the stack, makes a second one for the handler of stack overflows, and installs that:
//! thirteen system calls and three page faults of a call that has a millisecond.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

/// Makes the process a safe place: standard descriptors that are closed become `/dev/null`, or else the next file that
/// is opened would take what is printed; and writing to a pipe that nobody reads, or past the limit of a file's size, is an
/// error, not the end. The thread that calls it has the [arena](super::arena).
pub fn settle() {
    // First of all: what is asked for before comes from the C library.
    super::arena::settle();
    for fd in 0..=2 {
        // SAFETY: fcntl with F_GETFD and open with a constant path touch no memory of ours; the lowest descriptor that
        // is free is the one that was asked for, since those below are open by now.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != fd {
                libc::abort();
            }
        }
    }
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: to ignore a signal installs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The words that the process was started with.
///
/// # Safety
/// The arguments are those that the C library gave to `main`.
#[must_use]
pub unsafe fn words(count: libc::c_int, words: *const *const libc::c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise: that many pointers to strings that last as long as the process.
    let word = |at| unsafe { CStr::from_ptr(*words.add(at)) };
    (0..count).map(|at| OsString::from_vec(word(at).to_bytes().to_vec())).collect()
}

/// Ends the process. What is buffered has to be flushed before.
pub fn end(status: i32) -> ! {
    // SAFETY: nothing of ours has to run at the end.
    unsafe { libc::_exit(status) }
}

/// The start of the program without that of the standard library: a function that takes the words and gives the status.
/// The crate is to be `#![no_main]`.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        /// Where the C library goes to.
        #[unsafe(no_mangle)]
        #[allow(
            clippy::not_unsafe_ptr_arg_deref,
            reason = "the C library alone calls it, with words of its own"
        )]
        pub extern "C" fn main(
            count: std::ffi::c_int,
            words: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            $crate::sys::start::settle();
            // SAFETY: these are the words of the C library.
            $crate::sys::start::end($run(unsafe { $crate::sys::start::words(count, words) }))
        }
    };
}
