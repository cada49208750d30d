//! The picture for Graphviz.

use std::fmt::Write as _;

use crate::view::{Bridge, Graph, Health, Node, Uplink};

use super::chart::{Language, Mood, chart, mood};

/// The whole picture: `dot -Tsvg` draws it.
pub(in crate::cli) fn dot(graph: &Graph) -> String {
    chart(graph, Dot::default())
}

/// Writing to a string cannot fail.
#[derive(Default)]
struct Dot(String);

impl Language for Dot {
    fn begin(&mut self) {
        self.0.push_str(
            "digraph linkspan {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=monospace, fontsize=10];\n  \
             edge [dir=none, fontname=monospace, fontsize=8];\n  outside [shape=plaintext];\n  host [style=bold];\n",
        );
    }

    fn uplink(&mut self, at: usize, lines: &[String], uplink: &Uplink) {
        let label = quote(lines);
        let style = if uplink.up { "solid" } else { "dashed" };
        let _ = writeln!(self.0, "  u{at} [label={label}];\n  outside -> u{at} -> host [style={style}];");
    }

    fn network(&mut self, at: usize, heading: &[String], lines: &[String], bridge: &Bridge) {
        let style = if bridge.walls.is_empty() { "rounded" } else { "\"rounded,dashed\", color=red" };
        let heading = quote(heading);
        let _ = writeln!(self.0, "  subgraph cluster{at} {{\n    label={heading};\n    style={style};");
        let colour = if bridge.health == Health::Failed { "red" } else { "black" };
        let _ = writeln!(self.0, "    b{at} [label={}, shape=box3d, color={colour}];", quote(lines));
    }

    fn container(&mut self, at: usize, index: usize, lines: &[String], node: &Node) {
        let name = format!("c{at}_{index}");
        let colour = match mood(node) {
            Mood::Good => "black",
            Mood::Doubtful => "orange",
            Mood::Bad => "red",
        };
        let _ = writeln!(self.0, "    {name} [label={}, color={colour}];", quote(lines));
        let isolated = if node.isolated { ", style=dashed" } else { "" };
        let veth = quote(std::slice::from_ref(&node.veth));
        let _ = writeln!(self.0, "    b{at} -> {name} [label={veth}{isolated}];");
    }

    fn joined(&mut self, at: usize, bridge: &Bridge) {
        let masquerade = if bridge.masquerade { " [label=masquerade]" } else { "" };
        let _ = writeln!(self.0, "  }}\n  host -> b{at}{masquerade};");
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

/// Lines as a string of DOT, broken at the left.
fn quote(lines: &[String]) -> String {
    let escaped: Vec<String> =
        lines.iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", escaped.join("\\n"))
}
