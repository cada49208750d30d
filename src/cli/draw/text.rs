//! The picture in a terminal: a tree.

use crate::view::{Bridge, Graph, Health, Node};

use super::{ports, title};

/// One line of the tree and what hangs below it.
struct Branch {
    line: String,
    below: Vec<Branch>,
}

impl Branch {
    fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), below: Vec::new() }
    }

    fn draw(&self, before: &str, is_last: bool, out: &mut String) {
        let (corner, wall) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        out.push_str(&format!("{before}{corner}{}\n", self.line));
        let before = format!("{before}{wall}");
        for (at, branch) in self.below.iter().enumerate() {
            branch.draw(&before, at + 1 == self.below.len(), out);
        }
    }
}

/// The whole picture as lines.
pub(in crate::cli) fn text(graph: &Graph) -> String {
    let mut branches: Vec<Branch> = graph
        .uplinks
        .iter()
        .map(|uplink| {
            let state = if uplink.up { "" } else { ", down" };
            Branch::new(format!("uplink {}{state}  {}", uplink.name, uplink.addresses.join(", ")))
        })
        .collect();
    branches.extend(graph.bridges.iter().map(bridge));
    let mut out = "host\n".to_owned();
    for (at, branch) in branches.iter().enumerate() {
        branch.draw("", at + 1 == branches.len(), &mut out);
    }
    out
}

fn bridge(bridge: &Bridge) -> Branch {
    let mut notes = Vec::new();
    if bridge.masquerade {
        notes.push("masqueraded".to_owned());
    }
    notes.extend(bridge.walls.iter().map(|wall| format!("wall: {wall}")));
    if bridge.health != Health::Ok {
        notes.push(bridge.health.to_string());
    }
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
    let mut branch = Branch::new(format!(
        "network {}: bridge {}  {}{notes}",
        bridge.network,
        bridge.name,
        bridge.addresses.join(", ")
    ));
    branch.below = bridge.containers.iter().map(container).collect();
    branch
}

fn container(node: &Node) -> Branch {
    let isolated = if node.isolated { ", isolated" } else { "" };
    let mut branch = Branch::new(format!(
        "{} {}  {}  {}{isolated}  [{}]",
        title(node),
        node.interface,
        node.addresses.join(", "),
        node.state,
        node.veth
    ));
    branch.below = ports(node).into_iter().map(Branch::new).collect();
    branch
}
