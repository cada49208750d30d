//! The picture for Mermaid, which GitHub and GitLab draw in Markdown.

use std::fmt::Write as _;

use crate::view::{Bridge, Graph, Node, Uplink};

use super::chart::{Language, Mood, chart, mood};

/// The whole picture as a flow chart.
pub(in crate::cli) fn mermaid(graph: &Graph) -> String {
    chart(graph, Mermaid::default())
}

/// Writing to a string cannot fail.
#[derive(Default)]
struct Mermaid(String);

impl Language for Mermaid {
    fn begin(&mut self) {
        self.0.push_str("flowchart LR\n  outside([outside])\n  host[host]\n");
    }

    fn uplink(&mut self, at: usize, lines: &[String], uplink: &Uplink) {
        let line = if uplink.up { "---" } else { "-.-" };
        let _ = writeln!(self.0, "  outside {line} u{at}[{}] {line} host", quote(lines));
    }

    fn network(&mut self, at: usize, heading: &[String], lines: &[String], _: &Bridge) {
        let _ = writeln!(self.0, "  subgraph n{at} [{}]", quote(heading));
        let _ = writeln!(self.0, "    b{at}[[{}]]", quote(lines));
    }

    fn container(&mut self, at: usize, index: usize, lines: &[String], node: &Node) {
        let line = if node.isolated { "-.-" } else { "---" };
        let class = match mood(node) {
            Mood::Good => "",
            Mood::Doubtful => ":::doubtful",
            Mood::Bad => ":::bad",
        };
        let _ = writeln!(self.0, "    b{at} {line} c{at}_{index}[{}]{class}", quote(lines));
    }

    fn joined(&mut self, at: usize, bridge: &Bridge) {
        let masquerade = if bridge.masquerade { "|masquerade|" } else { "" };
        let _ = writeln!(self.0, "  end\n  host ---{masquerade} b{at}");
        if !bridge.walls.is_empty() {
            let _ = writeln!(self.0, "  style n{at} stroke:#c0392b,stroke-dasharray:6 4");
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("  classDef bad stroke:#c0392b,stroke-width:2px\n  classDef doubtful stroke:#d68910,stroke-width:2px\n");
        self.0
    }
}

/// Lines in quotes, with what Mermaid would read as markup written as entities.
fn quote(lines: &[String]) -> String {
    let escaped = lines.iter().map(|line| {
        line.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
    });
    format!("\"{}\"", escaped.collect::<Vec<_>>().join("<br/>"))
}
