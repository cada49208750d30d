//! A [`Graph`](crate::view::Graph) in four languages: for the terminal, SVG, Graphviz's DOT, Mermaid.

mod dot;
mod mermaid;
mod svg;
mod text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::view::Node;

use super::words;

pub(super) use dot::dot;
pub(super) use mermaid::mermaid;
pub(super) use svg::svg;
pub(super) use text::text;

/// What a container is called in a picture: its name, else its ID.
fn title(node: &Node) -> String {
    node.name.clone().unwrap_or_else(|| words::container(&node.container, false))
}

/// Published ports, one text each; both families of the same port are one.
fn ports(node: &Node) -> Vec<String> {
    let mut hosts: BTreeMap<(u16, String, u16), Vec<String>> = BTreeMap::new();
    for port in &node.ports {
        let key = (port.host.port(), port.protocol.to_string(), port.target.port());
        let host = if port.host.ip().is_unspecified() { "*".to_owned() } else { port.host.ip().to_string() };
        let known = hosts.entry(key).or_default();
        if !known.contains(&host) {
            known.push(host);
        }
    }
    let one = |((host_port, protocol, target), hosts): ((u16, String, u16), Vec<String>)| {
        hosts.into_iter().map(move |host| {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            format!("{host}:{host_port} -> {target}/{protocol}")
        })
    };
    hosts.into_iter().flat_map(one).collect()
}
