//! A [`Graph`](crate::view::Graph) in four languages: for the terminal, SVG, Graphviz's DOT, Mermaid.

mod chart;
mod dot;
mod mermaid;
mod svg;
mod text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

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
    let mut texts: Vec<(u16, String)> = Vec::new();
    for port in &node.ports {
        let host = if port.host.ip().is_unspecified() {
            format!("*:{}", words::run(port.host.port(), port.count))
        } else {
            words::endpoint(port.host, port.count)
        };
        let text = format!("{host} -> {}/{}", words::run(port.target.port(), port.count), port.protocol);
        if !texts.iter().any(|(_, known)| *known == text) {
            texts.push((port.host.port(), text));
        }
    }
    texts.sort_by_key(|(port, _)| *port);
    texts.into_iter().map(|(_, text)| text).collect()
}
