//! What the agent tells people: lines on standard error, with the priorities of syslog(3) in front where the journal
//! reads them (`JOURNAL_STREAM`, systemd.exec(5)).

use std::io::Write as _;

/// Something works less well than it should.
pub(super) fn warn(line: &str) {
    print(4, line);
}

/// Something that was expected has happened.
pub(super) fn info(line: &str) {
    print(6, line);
}

fn print(priority: u8, line: &str) {
    let by_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let prefix = if by_journal { format!("<{priority}>") } else { "linkspan agent: ".to_owned() };
    // There is nobody left to tell.
    let _ = std::io::stderr().write_all(format!("{prefix}{line}\n").as_bytes());
}
