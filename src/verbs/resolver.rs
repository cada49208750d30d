//! `resolvConf`: the DNS part of a result from a file in the format of resolv.conf(5).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};

use crate::cni::{Code, Dns};

use super::VerbError;

/// The longest file that is read, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// Reads a file: a regular one, or the null device.
///
/// # Errors
/// Where it cannot be read, is of another kind, or exceeds 1 MiB.
pub(super) fn read(path: &str) -> Result<Dns, VerbError> {
    match text(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) => {
            let reason = match error.kind() {
                ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            let why = "the file of ipam.resolvConf cannot be read";
            Err(VerbError::known(Code::InvalidConfig, format!("open {path}: {reason}"), why))
        }
    }
}

/// The text of a file, which the host's lock is not held up for: what is no file is not waited for.
fn text(path: &str) -> std::io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    let is_null = about.file_type().is_char_device() && about.rdev() == libc::makedev(1, 3);
    if !about.is_file() && !is_null {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    // One byte past the limit shows that it is exceeded.
    if file.take(SIZE_MAX + 1).read_to_string(&mut text)? as u64 > SIZE_MAX {
        return Err(std::io::Error::other(format!("it is longer than {SIZE_MAX} bytes")));
    }
    Ok(text)
}

/// The last `domain` counts, `nameserver`, `search` and `options` add up, and a word alone says nothing, as in the
/// reference. Other than there a comment may begin within a line.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or(dns.domain),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_read_and_comments_are_not() {
        let dns = parse(
            "# x\nnameserver 1.1.1.1\nnameserver ::1 ; y\nsearch a b\ndomain c\noptions ndots:2 rotate\nsortlist 1\n",
        );
        assert_eq!(dns.nameservers, ["1.1.1.1", "::1"]);
        assert_eq!((dns.domain.as_str(), dns.search), ("c", vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
    }

    #[test]
    fn lists_add_up_and_the_last_domain_counts() {
        let dns =
            parse("search a b\ndomain c\ndomain d\nsearch c # x\noptions e\ndomain\noptions f\nsearch\n");
        assert_eq!(dns.search, ["a", "b", "c"]);
        assert_eq!((dns.domain.as_str(), dns.options), ("d", vec!["e".to_owned(), "f".to_owned()]));
    }
}
