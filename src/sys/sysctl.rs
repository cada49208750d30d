//! Kernel parameters under /proc/sys, of the calling thread's namespaces.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;

use nix::errno::Errno;

use super::SysError;

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
    let failed = |error: std::io::Error| SysError::io("read the sysctl", path.display().to_string(), &error);
    let mut value = [0; LONGEST];
    let length = File::open(&path).and_then(|mut file| file.read(&mut value)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_end_matches('\n').to_owned())
}

/// Sets a parameter.
///
/// # Errors
/// As [`read`], and where the kernel does not take the value; names both.
pub fn write(key: &str, value: &str) -> Result<(), SysError> {
    let object = |path: &str| format!("{path} to '{value}'");
    let path = path_of(key).ok_or_else(|| SysError::refused("set the sysctl", object(key), Errno::EINVAL))?;
    let failed =
        |error: std::io::Error| SysError::io("set the sysctl", object(&path.display().to_string()), &error);
    let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
    // One write, as the kernel takes each for a value of its own.
    file.write(value.as_bytes()).map(drop).map_err(failed)
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
