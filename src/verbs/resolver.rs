//! `resolvConf`: the DNS part of a result from a file in the format of resolv.conf(5).

use std::io::ErrorKind;

use crate::cni::{Code, Dns};

use super::VerbError;

/// Reads a file.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read(path: &str) -> Result<Dns, VerbError> {
    match std::fs::read_to_string(path) {
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

/// The last `domain` and `search` count, `nameserver` and `options` add up, as in the reference.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search = words.collect(),
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
}
