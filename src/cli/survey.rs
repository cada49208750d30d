//! `linkspan status` of the whole host.

use std::io::{self, Write};
use std::rc::Rc;

use serde_json::Value;

use super::error::Error;
use crate::agent::client::{self, Contact};
use crate::apply::Kernel;
use crate::model::Part;
use crate::store::State;
use crate::verbs::{self, Survey, VerbError};

/// Says what there is on the host, for people.
///
/// # Errors
/// Where it cannot be looked at.
pub(super) fn print(out: &mut dyn Write) -> Result<(), Error> {
    let root = State::default_root();
    let Some(state) = State::open_existing(&root).map_err(VerbError::from)? else {
        writeln!(out, "nothing is attached")?;
        return Ok(());
    };
    let state = Rc::new(state);
    let survey = verbs::survey(&state, &mut Kernel::new(Rc::clone(&state)))?;
    networks(&survey, out)?;
    attachments(&survey, out)?;
    match client::status(&root) {
        Contact::Acknowledged(reply) => agent(&reply.status.unwrap_or_default(), out)?,
        Contact::Late => writeln!(out, "agent: does not answer")?,
        Contact::Absent { .. } => writeln!(out, "agent: none")?,
    }
    Ok(())
}

fn networks(survey: &Survey, out: &mut dyn Write) -> io::Result<()> {
    for each in &survey.networks {
        let network = &each.network;
        let (name, bridge, backend) = (&network.name, &network.bridge, network.backend);
        writeln!(out, "network {name}: bridge {bridge}, {backend}, {} attached", each.attachments)?;
        for pool in &each.pools {
            let free = pool.capacity.saturating_sub(pool.used);
            writeln!(out, "  addresses {}: {} used, {} free", pool.ranges, pool.used, count(free))?;
        }
    }
    Ok(())
}

fn attachments(survey: &Survey, out: &mut dyn Write) -> io::Result<()> {
    for each in &survey.attachments {
        let (key, network) = (&each.key, &each.network);
        match each.traffic {
            // What the host receives is what the container sends.
            Some(traffic) => {
                let (received, sent) = (size(traffic.tx_bytes), size(traffic.rx_bytes));
                writeln!(out, "container {key} on {network}: received {received}, sent {sent}")?;
            }
            None if each.has_link => writeln!(out, "container {key} on {network}: its link is gone")?,
            // Its link is another plugin's, or in the container alone.
            None if key.part == Part::Interface => writeln!(out, "container {key} on {network}")?,
            None => {}
        }
        for port in &each.ports {
            let (received, sent) = (size(port.received.bytes), size(port.sent.bytes));
            writeln!(out, "  port {} of {key}: received {received}, sent {sent}", port.publication)?;
        }
    }
    Ok(())
}

/// Each service's numbers on a line, as the agent names them.
fn agent(status: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "agent: process {}, version {}", status["pid"], status["version"].as_str().unwrap_or("?"))?;
    for (service, numbers) in status["services"].as_object().into_iter().flatten() {
        let mut words = Vec::new();
        flatten("", numbers, &mut words);
        writeln!(out, "  {service}: {}", words.join(", "))?;
    }
    Ok(())
}

fn flatten(prefix: &str, value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix} {key}") };
                flatten(&key, value, words);
            }
        }
        Value::Array(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            words.push(format!(
                "{prefix} {}",
                if values.is_empty() { "none".to_owned() } else { values.join(" ") }
            ));
        }
        value => words.push(format!("{prefix} {value}")),
    }
}

/// How many addresses, as people say it: those of an IPv6 subnet by the nearest power of two.
fn count(addresses: u128) -> String {
    if addresses <= u128::from(u32::MAX) {
        return addresses.to_string();
    }
    let below = addresses.ilog2();
    let exponent = if addresses - (1 << below) > 1 << (below - 1) { below + 1 } else { below };
    format!("about 2^{exponent}")
}

/// Bytes in the unit that people read.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let mut rest = bytes;
    let mut tenths = 0;
    for name in UNITS {
        if rest < 1024 {
            break;
        }
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        unit = Some(name);
    }
    unit.map_or_else(|| format!("{bytes} B"), |unit| format!("{rest}.{tenths} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn addresses_are_counted_as_people_say_it() {
        for (addresses, text) in [
            (0, "0"),
            (252, "252"),
            (u128::from(u32::MAX), "4294967295"),
            (1 << 32, "about 2^32"),
            ((1 << 64) - 6, "about 2^64"),
            (u128::MAX, "about 2^128"),
        ] {
            assert_eq!(count(addresses), text);
        }
    }

    #[test]
    fn what_the_agent_says_is_one_line_a_service() {
        let mut out = Vec::new();
        let status = serde_json::json!({"pid": 7, "version": "1", "services": {"names": {"queries": {"local": 3}, "listening": []}}});
        agent(&status, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "agent: process 7, version 1\n  names: queries local 3, listening none\n"
        );
    }
}
