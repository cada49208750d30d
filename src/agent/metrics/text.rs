//! The numbers as text (Prometheus exposition format 0.0.4).

use std::fmt::{Display, Write as _};

use crate::agent::Shared;
use crate::agent::counters::{BOUNDS, Histogram};
use crate::model::Publication;
use crate::verbs::Survey;

/// A page that grows metric by metric.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP linkspan_{name} {help}\n# TYPE linkspan_{name} {kind}");
    }

    /// One value of a metric.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "linkspan_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// A metric of one value.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }

    fn histogram(&mut self, name: &str, verb: &str, histogram: &Histogram) {
        let (cumulative, count) = histogram.cumulative();
        let bucket = format!("{name}_bucket");
        for (bound, below) in BOUNDS.iter().zip(cumulative) {
            self.value(&bucket, &[("verb", verb), ("le", &bound.to_string())], below);
        }
        self.value(&bucket, &[("verb", verb), ("le", "+Inf")], count);
        self.value(&format!("{name}_sum"), &[("verb", verb)], histogram.seconds());
        self.value(&format!("{name}_count"), &[("verb", verb)], count);
    }
}

/// The whole page.
pub(super) fn render(shared: &Shared, survey: &Survey) -> String {
    let mut page = Page::default();
    page.metric("build_info", "gauge", "The version of the agent.");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    networks(&mut page, survey);
    traffic(&mut page, survey);
    published(&mut page, survey);
    verbs(&mut page, shared);
    names(&mut page, shared);
    ports(&mut page, shared);
    repairs(&mut page, shared);
    page.0
}

fn networks(page: &mut Page, survey: &Survey) {
    page.metric("attachments", "gauge", "Attachments that are ready.");
    for network in &survey.networks {
        page.value("attachments", &[("network", &network.network.name)], network.attachments);
    }
    page.metric("leases", "gauge", "Addresses of a network's pools, held and free.");
    for network in &survey.networks {
        for pool in &network.pools {
            let free = pool.capacity.saturating_sub(pool.used);
            for (state, count) in [("used", pool.used), ("free", free)] {
                let labels =
                    [("network", network.network.name.as_str()), ("range", &pool.ranges), ("state", state)];
                page.value("leases", &labels, count);
            }
        }
    }
}

/// What the host receives at a container's link is what the container sends.
fn traffic(page: &mut Page, survey: &Survey) {
    let metrics = [
        ("container_receive_bytes_total", "Bytes that a container has received."),
        ("container_receive_packets_total", "Packets that a container has received."),
        ("container_transmit_bytes_total", "Bytes that a container has sent."),
        ("container_transmit_packets_total", "Packets that a container has sent."),
    ];
    for (at, (name, help)) in metrics.into_iter().enumerate() {
        page.metric(name, "counter", help);
        for attachment in &survey.attachments {
            let Some(traffic) = attachment.traffic else { continue };
            let value = match at {
                0 => traffic.tx_bytes,
                1 => traffic.tx_packets,
                2 => traffic.rx_bytes,
                _ => traffic.rx_packets,
            };
            let labels = [
                ("network", attachment.network.as_str()),
                ("container", &attachment.key.container_id),
                ("interface", &attachment.key.interface),
            ];
            page.value(name, &labels, value);
        }
    }
}

/// What has gone through each published port, headers of IP and above included.
fn published(page: &mut Page, survey: &Survey) {
    let metrics = [
        ("port_receive_bytes_total", "Bytes that a container has received through a published port."),
        ("port_receive_packets_total", "Packets that a container has received through a published port."),
        ("port_transmit_bytes_total", "Bytes that a container has sent through a published port."),
        ("port_transmit_packets_total", "Packets that a container has sent through a published port."),
    ];
    for (at, (name, help)) in metrics.into_iter().enumerate() {
        page.metric(name, "counter", help);
        for attachment in &survey.attachments {
            for port in &attachment.ports {
                let value = match at {
                    0 => port.received.bytes,
                    1 => port.received.packets,
                    2 => port.sent.bytes,
                    _ => port.sent.packets,
                };
                let publication = &port.publication;
                let labels = [
                    ("network", attachment.network.as_str()),
                    ("container", &attachment.key.container_id),
                    ("interface", &attachment.key.interface),
                    ("protocol", publication.protocol.name()),
                    ("host", &publication.host.ip().to_string()),
                    ("port", &numbers(publication)),
                ];
                page.value(name, &labels, value);
            }
        }
    }
}

/// `8080`, or `8100-8109` of a range.
fn numbers(publication: &Publication) -> String {
    let first = publication.host.port();
    if publication.is_range() {
        format!("{first}-{}", publication.last_host_port())
    } else {
        first.to_string()
    }
}

fn verbs(page: &mut Page, shared: &Shared) {
    let verbs = &shared.services.events.verbs;
    page.metric("verbs_total", "counter", "What the plugin did since the agent was started.");
    for (verb, outcome, count) in
        [("add", "done", &verbs.adds), ("add", "failed", &verbs.failed_adds), ("del", "done", &verbs.dels)]
    {
        page.value("verbs_total", &[("verb", verb), ("outcome", outcome)], count.get());
    }
    page.metric("verb_seconds", "histogram", "How long ADD and DEL took, as the agent saw it.");
    page.histogram("verb_seconds", "add", &verbs.add_took);
    page.histogram("verb_seconds", "del", &verbs.del_took);
}

fn names(page: &mut Page, shared: &Shared) {
    let counters = &shared.services.names.counters;
    page.metric("dns_queries_total", "counter", "Questions for names, by what became of them.");
    let outcomes = [
        ("local", &counters.local),
        ("forwarded", &counters.forwarded),
        ("cached", &counters.cached),
        ("failed", &counters.failed),
        ("refused", &counters.refused),
    ];
    for (outcome, count) in outcomes {
        page.value("dns_queries_total", &[("outcome", outcome)], count.get());
    }
}

fn ports(page: &mut Page, shared: &Shared) {
    let counters = &shared.services.ports.counters;
    page.single("held_ports", "gauge", "Sockets that hold published ports.", shared.services.ports.count());
    page.single("proxy_open", "gauge", "Connections and UDP clients of the proxy.", counters.open.get());
    let passed = counters.passed.get();
    page.single("proxy_passed_total", "counter", "Connections and UDP clients that were passed on.", passed);
    page.single(
        "proxy_failed_total",
        "counter",
        "Connections that no container took.",
        counters.failed.get(),
    );
    page.single(
        "proxy_bytes_total",
        "counter",
        "Bytes that the proxy passed on, both ways.",
        counters.bytes.get(),
    );
}

fn repairs(page: &mut Page, shared: &Shared) {
    let repair = &shared.services.repair;
    page.single("repairs_total", "counter", "Repairs that put something back.", repair.runs.get());
    page.single("repaired_objects_total", "counter", "Objects that were put back.", repair.objects.get());
    page.single("repair_failures_total", "counter", "What could not be put back.", repair.failures.get());
    let collected = repair.collected.get();
    page.single(
        "collected_total",
        "counter",
        "Attachments of dead containers that were taken away.",
        collected,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out() {
        let mut page = Page::default();
        page.value("x", &[("a", "q\"u\\o\nte"), ("b", "")], 7);
        assert_eq!(page.0, "linkspan_x{a=\"q\\\"u\\\\o\\nte\",b=\"\"} 7\n");
    }
}
