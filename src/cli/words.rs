//! Values as people read them.

use std::net::SocketAddr;

use crate::model::Publication;
use crate::view::Port;

/// An error of the protocol on one line; what its details say of it already is not said twice.
pub(super) fn told(msg: &str, details: &str) -> String {
    match details {
        "" => msg.to_owned(),
        _ if details.contains(msg) => details.to_owned(),
        _ => format!("{msg}: {details}"),
    }
}

/// How long ago, to one unit: `5s`, `3m`, `2h`, `4d`.
pub(super) fn age(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes to three digits: `999`, `1.21K`, `34.5M`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if count < 1000 {
        return count.to_string();
    }
    let (mut hundredths, mut unit) = (u128::from(count) * 100, 0);
    while hundredths >= 100_000 && unit < UNITS.len() {
        hundredths /= 1000;
        unit += 1;
    }
    let whole = hundredths / 100;
    let name = UNITS[unit.saturating_sub(1)];
    match whole {
        0..10 => format!("{whole}.{:02}{name}", hundredths % 100),
        10..100 => format!("{whole}.{}{name}", hundredths % 100 / 10),
        _ => format!("{whole}{name}"),
    }
}

/// A container's ID: twelve digits of the 64 that runtimes give, any other whole.
pub(super) fn container(id: &str, whole: bool) -> String {
    let long = id.len() > 20 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if long && !whole { id[..12].to_owned() } else { id.to_owned() }
}

/// A port, or the first and the last of a range.
pub(super) fn run(first: u16, count: u16) -> String {
    let last = first.saturating_add(count.saturating_sub(1));
    if last == first { first.to_string() } else { format!("{first}-{last}") }
}

/// `0.0.0.0:8080`, `[::]:8000-8010`.
pub(super) fn endpoint(address: SocketAddr, count: u16) -> String {
    let run = run(address.port(), count);
    if address.is_ipv4() { format!("{}:{run}", address.ip()) } else { format!("[{}]:{run}", address.ip()) }
}

/// `0.0.0.0:8080->80/tcp`.
pub(super) fn port(p: &Publication) -> String {
    format!("{}->{}/{}", endpoint(p.host, p.count), run(p.target.port(), p.count), p.protocol)
}

/// Said of a port that another interface of the container has.
pub(super) const WAITS: &str = " (waits: another interface of the container has it)";

/// `80/tcp -> 0.0.0.0:8080`, as `docker port` has it; a range in one line.
pub(super) fn docker_port(port: &Port) -> String {
    let target = run(port.target.port(), port.count);
    let waits = if port.waiting { WAITS } else { "" };
    format!("{target}/{} -> {}{waits}", port.protocol, endpoint(port.host, port.count))
}

/// A list with commas, or `-` for none.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

/// A number, unless nobody wants to read it: an IPv6 subnet's.
pub(super) fn many(count: u64) -> String {
    if count > 99_999_999 { "many".to_owned() } else { count.to_string() }
}

/// A value, or `-` where it is not known.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let ages: Vec<String> = [0, 59, 60, 3599, 3600, 172_799, 172_800, 864_000].map(|s| age(s, 0)).into();
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "47h", "2d", "10d"]);
        assert_eq!(age(5, 10), "0s", "a clock that was set back");
    }

    #[test]
    fn bytes_have_three_digits() {
        let counts = [0, 999, 1000, 1_214, 34_560, 999_999, 1_000_000, u64::MAX];
        let texts: Vec<String> = counts.map(bytes).into();
        assert_eq!(texts, ["0", "999", "1.00K", "1.21K", "34.5K", "999K", "1.00M", "18.4E"]);
    }

    #[test]
    fn a_range_is_its_first_and_last_port() {
        let text = |host: &str, count| endpoint(host.parse().unwrap(), count);
        assert_eq!(text("0.0.0.0:8000", 11), "0.0.0.0:8000-8010");
        assert_eq!(text("[::]:8000", 1), "[::]:8000");
        assert_eq!(run(65_535, 1), "65535");
    }

    #[test]
    fn only_long_hexadecimal_ids_are_cut() {
        let id = "4f1c".repeat(16);
        assert_eq!(container(&id, false), "4f1c4f1c4f1c");
        assert_eq!(container(&id, true), id);
        assert_eq!(container("container-of-a-person-who-names", false), "container-of-a-person-who-names");
    }
}
