//! The picture for Graphviz.

use std::fmt::Write as _;

use crate::view::{Condition, Graph, Health, Node};

use super::{ports, title};

/// The whole picture: `dot -Tsvg` draws it.
pub(in crate::cli) fn dot(graph: &Graph) -> String {
    // Writing to a string cannot fail.
    let mut out = String::from(
        "digraph linkspan {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=monospace, fontsize=10];\n  \
         edge [dir=none, fontname=monospace, fontsize=8];\n  outside [shape=plaintext];\n  host [style=bold];\n",
    );
    for (at, uplink) in graph.uplinks.iter().enumerate() {
        let label = quote(&[vec![uplink.name.clone()], uplink.addresses.clone()].concat());
        let style = if uplink.up { "solid" } else { "dashed" };
        let _ = writeln!(out, "  u{at} [label={label}];\n  outside -> u{at} -> host [style={style}];");
    }
    for (at, bridge) in graph.bridges.iter().enumerate() {
        let walls = bridge.walls.iter().map(|wall| format!("wall: {wall}"));
        let title: Vec<String> =
            std::iter::once(format!("network {}", bridge.network)).chain(walls).collect();
        let style = if bridge.walls.is_empty() { "rounded" } else { "\"rounded,dashed\", color=red" };
        let _ = writeln!(out, "  subgraph cluster{at} {{\n    label={};\n    style={style};", quote(&title));
        let label = quote(&[vec![bridge.name.clone()], bridge.addresses.clone()].concat());
        let colour = if bridge.health == Health::Failed { "red" } else { "black" };
        let _ = writeln!(out, "    b{at} [label={label}, shape=box3d, color={colour}];");
        for (index, node) in bridge.containers.iter().enumerate() {
            let name = format!("c{at}_{index}");
            let _ = writeln!(out, "    {name} [label={}, color={}];", label_of(node), colour_of(node));
            let isolated = if node.isolated { ", style=dashed" } else { "" };
            let veth = quote(std::slice::from_ref(&node.veth));
            let _ = writeln!(out, "    b{at} -> {name} [label={veth}{isolated}];");
        }
        let masquerade = if bridge.masquerade { " [label=masquerade]" } else { "" };
        let _ = writeln!(out, "  }}\n  host -> b{at}{masquerade};");
    }
    out.push_str("}\n");
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

fn colour_of(node: &Node) -> &'static str {
    match node.state {
        Condition::Up | Condition::Attaching => "black",
        Condition::Broken => "red",
        Condition::Dead | Condition::HalfMade | Condition::Leaving => "orange",
    }
}

/// Lines as a string of DOT, broken at the left.
fn quote(lines: &[String]) -> String {
    let escaped: Vec<String> =
        lines.iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", escaped.join("\\n"))
}
