//! The administrator's list of sysctls that a network may set: regular expressions, one a line.

use std::fs;
use std::io::ErrorKind;

use regex_lite::Regex;

use crate::cni::{Code, Tuning};

use super::VerbError;

/// Where the list is (reference `tuning`). Without the file everything under `net` is allowed.
const PATH: &str = "/etc/cni/tuning/allowlist.conf";

/// Refuses a sysctl that matches no line of the list. A key is compared as it is written, `IFNAME` included, and an
/// expression may match any part of it, as with the reference.
///
/// # Errors
/// [`VerbError::Config`] with the key and the list; also where the list cannot be read.
pub(super) fn require_allowed(tuning: &Tuning) -> Result<(), VerbError> {
    if tuning.sysctl_keys.is_empty() {
        return Ok(());
    }
    let text = match fs::read_to_string(PATH) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(VerbError::Config(format!(
                "the list of allowed sysctls {PATH} cannot be read: {error}"
            )));
        }
    };
    judge(&tuning.sysctl_keys, &text)
}

fn judge(keys: &[String], text: &str) -> Result<(), VerbError> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for key in keys {
        if !matches_any(key, &lines)? {
            // With the list as Go prints one of texts.
            let words = format!(
                "Sysctl {key} is not allowed. Only the following sysctls are allowed: [{}]",
                lines.join(" ")
            );
            return Err(VerbError::known(Code::InvalidConfig, words, format!("the list is {PATH}")));
        }
    }
    Ok(())
}

fn matches_any(key: &str, lines: &[&str]) -> Result<bool, VerbError> {
    for line in lines {
        let expression = Regex::new(line).map_err(|error| {
            VerbError::Config(format!("{PATH}: '{line}' is not a regular expression: {error}"))
        })?;
        if expression.is_match(key) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(key: &str, list: &str) -> Option<String> {
        judge(&[key.to_owned()], list).err().map(|error| error.to_string())
    }

    #[test]
    fn a_line_allows_what_it_matches_anywhere() {
        let list = "\n  ^net.ipv4.conf.IFNAME.arp_filter$ \nnet/core\n";
        assert_eq!(refusal("net.ipv4.conf.IFNAME.arp_filter", list), None);
        assert_eq!(refusal("net/core/somaxconn", list), None);
        let text = refusal("net.ipv4.conf.IFNAME.arp_filters", list).unwrap();
        assert!(text.starts_with("Sysctl net.ipv4.conf.IFNAME.arp_filters is not allowed."), "{text}");
        assert!(refusal("net.ipv4.ip_forward", "").unwrap().ends_with("allowlist.conf"));
        assert!(refusal("net.ipv4.ip_forward", "(").unwrap().contains("not a regular expression"));
    }
}
