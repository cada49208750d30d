//! Which boot of the host this is, how long it has lasted, and what time it is.

use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::{SysError, sysctl};

/// The identity of this boot, a UUID: what was written down under another one describes kernel objects that are gone.
///
/// # Errors
/// Where /proc is not there.
pub fn boot_id() -> Result<String, SysError> {
    sysctl::read("kernel/random/boot_id")
}

/// Time since boot, sleep counted (`CLOCK_BOOTTIME`): without it a host that slept would seem to have booted later.
///
/// # Errors
/// None in practice; the kernel always has this clock.
pub fn age() -> Result<Duration, SysError> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Errno::result(done).map_err(|errno| SysError::refused("read", "the clock since boot", errno))?;
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Ok(Duration::new(now.tv_sec.cast_unsigned(), nanoseconds))
}

/// The time of day, as [`SystemTime::now`] gives it, by a system call: the C library asks the page that the kernel lends
/// for it, and to find that takes two page faults the first time, twenty times as long.
pub fn now() -> SystemTime {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now) };
    match (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec)) {
        (Ok(seconds), Ok(nanoseconds)) if done == 0 => {
            SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
        }
        // A clock before 1970, or an architecture whose call has another layout.
        _ => SystemTime::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_identity_and_a_growing_age() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(age().unwrap() <= age().unwrap());
    }

    #[test]
    fn the_time_of_day_is_the_librarys() {
        let (before, asked, after) = (SystemTime::now(), now(), SystemTime::now());
        assert!(before <= asked && asked <= after, "{before:?} {asked:?} {after:?}");
    }
}
