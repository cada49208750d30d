//! The picture for Mermaid, which GitHub and GitLab draw in Markdown.

use std::fmt::Write as _;

use crate::view::{Condition, Graph, Node};

use super::{ports, title};

/// The whole picture as a flow chart.
pub(in crate::cli) fn mermaid(graph: &Graph) -> String {
    // Writing to a string cannot fail.
    let mut out = String::from("flowchart LR\n  outside([outside])\n  host[host]\n");
    for (at, uplink) in graph.uplinks.iter().enumerate() {
        let label = quote(&[vec![uplink.name.clone()], uplink.addresses.clone()].concat());
        let line = if uplink.up { "---" } else { "-.-" };
        let _ = writeln!(out, "  outside {line} u{at}[{label}] {line} host");
    }
    for (at, bridge) in graph.bridges.iter().enumerate() {
        let mut lines = vec![format!("network {}", bridge.network)];
        lines.extend(bridge.walls.iter().map(|wall| format!("wall: {wall}")));
        let _ = writeln!(out, "  subgraph n{at} [{}]", quote(&lines));
        let label = quote(&[vec![bridge.name.clone()], bridge.addresses.clone()].concat());
        let _ = writeln!(out, "    b{at}[[{label}]]");
        for (index, node) in bridge.containers.iter().enumerate() {
            let line = if node.isolated { "-.-" } else { "---" };
            let _ = writeln!(out, "    b{at} {line} c{at}_{index}[{}]{}", label_of(node), class_of(node));
        }
        let masquerade = if bridge.masquerade { "|masquerade|" } else { "" };
        let _ = writeln!(out, "  end\n  host ---{masquerade} b{at}");
        if !bridge.walls.is_empty() {
            let _ = writeln!(out, "  style n{at} stroke:#c0392b,stroke-dasharray:6 4");
        }
    }
    out.push_str("  classDef bad stroke:#c0392b,stroke-width:2px\n  classDef doubtful stroke:#d68910,stroke-width:2px\n");
    out
}

fn label_of(node: &Node) -> String {
    let mut lines = vec![title(node), format!("{} {}", node.interface, node.addresses.join(" "))];
    lines.extend(ports(node));
    if node.state != Condition::Up {
        lines.push(node.state.to_string());
    }
    quote(&lines)
}

fn class_of(node: &Node) -> &'static str {
    match node.state {
        Condition::Up | Condition::Attaching => "",
        Condition::Broken => ":::bad",
        Condition::Dead | Condition::HalfMade | Condition::Leaving => ":::doubtful",
    }
}

/// Lines in quotes, with what Mermaid would read as markup written as entities.
fn quote(lines: &[String]) -> String {
    let escaped = lines.iter().map(|line| {
        line.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
    });
    format!("\"{}\"", escaped.collect::<Vec<_>>().join("<br/>"))
}
