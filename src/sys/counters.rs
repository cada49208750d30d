//! The kernel's counters of a network namespace, by the names that `nstat` gives them: `IpExtInNoRoutes`.
//!
//! They are read from /proc, where alone the kernel has all of them (net/ipv4/proc.c, net/ipv6/proc.c).

use std::collections::BTreeMap;
use std::fs;

/// Pairs of lines: a group's name and its columns, then the values.
const PAIRED: [&str; 2] = ["snmp", "netstat"];

/// All counters of the calling thread's namespace that can be read.
pub fn read() -> BTreeMap<String, u64> {
    let text = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let mut all = BTreeMap::new();
    for file in PAIRED {
        pairs(&text(file), &mut all);
    }
    for line in text("snmp6").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            all.insert(name.to_owned(), value);
        }
    }
    tracking(&text("stat/nf_conntrack"), &mut all);
    all
}

fn pairs(text: &str, all: &mut BTreeMap<String, u64>) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let Some((group, names)) = pair[0].split_once(": ") else { continue };
        let Some((_, values)) = pair[1].split_once(": ") else { continue };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // A value may be negative: a setting, not a counter.
            if let Ok(value) = value.parse() {
                all.insert(format!("{group}{name}"), value);
            }
        }
    }
}

/// The statistics of connection tracking: one line a CPU, in hexadecimal. Older kernels have fewer columns.
fn tracking(text: &str, all: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            if let Ok(value) = u64::from_str_radix(value, 16) {
                *all.entry(format!("Conntrack_{name}")).or_default() += value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_read() {
        let mut all = BTreeMap::new();
        pairs(
            "Ip: Forwarding InReceives\nIp: 1 20\nTcp: MaxConn\nTcp: -1\nIpExt: InNoRoutes\nIpExt: 3\n",
            &mut all,
        );
        assert_eq!(all["IpInReceives"], 20);
        assert_eq!(all["IpExtInNoRoutes"], 3);
        assert!(!all.contains_key("TcpMaxConn"));
        tracking("entries  drop\n00000001 0000000a\n00000001 00000001\n", &mut all);
        assert_eq!(all["Conntrack_drop"], 11);
    }

    #[test]
    fn this_kernel_has_them() {
        let all = read();
        assert!(all.contains_key("IpForwDatagrams") && all.contains_key("TcpExtListenDrops"), "{all:?}");
    }
}
