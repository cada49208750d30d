//! Whether a file is linkspan, and which, without running it: the version stands in it between two marks.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What an earlier or later linkspan holds somewhere in its text, and no other program.
const WORDS: &[u8] = b"linkspan gives containers their network";
/// The program that runs.
const SELF: &str = "/proc/self/exe";
/// What stands before the version, and after it.
const BEFORE: &[u8] = b"<linkspan version ";
const AFTER: u8 = b'>';
/// The longest version that is believed.
const LONGEST: usize = 40;

/// The mark of this program.
#[used]
static MARK: &str = concat!("<linkspan version ", env!("CARGO_PKG_VERSION"), ">");

/// What a program is, beside this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Build {
    /// This very program.
    This,
    /// Another build of linkspan; its version, where it says one.
    Other(Option<String>),
}

/// Whether a program is linkspan, of whatever version and under whatever name.
///
/// # Errors
/// Where it cannot be read.
pub fn is_linkspan(path: &Path) -> io::Result<bool> {
    let file = fs::metadata(path)?;
    let is_this = fs::metadata(SELF).is_ok_and(|own| (own.dev(), own.ino()) == (file.dev(), file.ino()));
    // Nobody waits for what a FIFO has to say.
    Ok(is_this || (file.is_file() && bears_words(path)?))
}

/// Compares a file with the program that runs; `None` where it cannot be read.
pub(super) fn build(path: &Path) -> Option<Build> {
    let own = Path::new(SELF);
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino(), file.len()));
    let (theirs, ours) = (identity(path)?, identity(own)?);
    if (theirs.0, theirs.1) == (ours.0, ours.1) {
        return Some(Build::This);
    }
    let content = fs::read(path).ok()?;
    if theirs.2 == ours.2 && fs::read(own).ok()? == content {
        return Some(Build::This);
    }
    Some(Build::Other(version(&content)))
}

/// Whether a file holds the words of a linkspan of some version.
fn bears_words(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        let first = WORDS[0];
        let mut rest = &buffer[..filled];
        while let Some(at) = rest.iter().position(|byte| *byte == first) {
            if rest[at..].starts_with(WORDS) {
                return Ok(true);
            }
            rest = &rest[at + 1..];
        }
        // They may lie across two readings.
        kept = filled.min(WORDS.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// The version in a program's text.
fn version(content: &[u8]) -> Option<String> {
    let starts = content.windows(BEFORE.len()).enumerate().filter(|(_, window)| *window == BEFORE);
    // The words that are looked for stand in the program by themselves too.
    starts.map(|(at, _)| &content[at + BEFORE.len()..]).find_map(|rest| {
        let end = rest.iter().take(LONGEST).position(|byte| *byte == AFTER)?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let is_version = text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
        is_version.then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_and_the_question_is_not() {
        let text = b"xx<linkspan version concat!>..<linkspan version 1.2.3-rc1>yy";
        assert_eq!(version(text).as_deref(), Some("1.2.3-rc1"));
        assert_eq!(version(b"<linkspan version "), None);
        assert_eq!(version(MARK.as_bytes()).as_deref(), Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_copy_is_linkspan_and_another_program_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bridge");
        assert!(is_linkspan(&file).is_err());
        assert!(is_linkspan(Path::new(SELF)).unwrap());
        fs::write(&file, [&vec![b'l'; (1 << 20) - 3], WORDS, b".".as_slice()].concat()).unwrap();
        assert!(is_linkspan(&file).unwrap());
        fs::write(&file, &WORDS[1..]).unwrap();
        assert!(!is_linkspan(&file).unwrap());
        assert!(!is_linkspan(directory.path()).unwrap());
    }

    #[test]
    fn this_program_knows_itself_and_others() {
        assert_eq!(build(Path::new("/proc/self/exe")), Some(Build::This));
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("linkspan");
        fs::write(&other, "<linkspan version 0.0.9>").unwrap();
        assert_eq!(build(&other), Some(Build::Other(Some("0.0.9".to_owned()))));
        fs::write(&other, "#!/bin/sh\n").unwrap();
        assert_eq!(build(&other), Some(Build::Other(None)));
        assert_eq!(build(&directory.path().join("none")), None);
    }
}
