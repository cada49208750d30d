//! The picture as a chart of boxes and lines for a language that lays it out itself: the walk over the graph, which
//! Graphviz and Mermaid share.

use crate::view::{Bridge, Condition, Graph, Node, Uplink};

use super::{ports, title};

/// A language of charts. Boxes have the names `outside`, `host`, `u0` (uplinks), `b0` (bridges), `c0_0` (containers).
pub(super) trait Language {
    /// What stands before everything, with the boxes `outside` and `host`.
    fn begin(&mut self);
    /// An uplink, between outside and host.
    fn uplink(&mut self, at: usize, lines: &[String], uplink: &Uplink);
    /// The frame of a network begins; its bridge is in it.
    fn network(&mut self, at: usize, heading: &[String], lines: &[String], bridge: &Bridge);
    /// A container, which hangs on the bridge.
    fn container(&mut self, at: usize, index: usize, lines: &[String], node: &Node);
    /// The frame ends, and the host has a line to the bridge.
    fn joined(&mut self, at: usize, bridge: &Bridge);
    /// What stands behind everything; the whole text.
    fn end(self) -> String;
}

/// How a container is, as far as its box shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Nothing is wrong.
    Good,
    /// It is to be cleaned up.
    Doubtful,
    /// Its network does not work.
    Bad,
}

/// How a container is.
pub(super) fn mood(node: &Node) -> Mood {
    match node.state {
        Condition::Up | Condition::Attaching => Mood::Good,
        Condition::Dead | Condition::HalfMade | Condition::Leaving => Mood::Doubtful,
        Condition::Broken => Mood::Bad,
    }
}

/// The whole picture in a language.
pub(super) fn chart(graph: &Graph, mut language: impl Language) -> String {
    language.begin();
    for (at, uplink) in graph.uplinks.iter().enumerate() {
        language.uplink(at, &[vec![uplink.name.clone()], uplink.addresses.clone()].concat(), uplink);
    }
    for (at, bridge) in graph.bridges.iter().enumerate() {
        let walls = bridge.walls.iter().map(|wall| format!("wall: {wall}"));
        let heading: Vec<String> =
            std::iter::once(format!("network {}", bridge.network)).chain(walls).collect();
        let lines = [vec![bridge.name.clone()], bridge.addresses.clone()].concat();
        language.network(at, &heading, &lines, bridge);
        for (index, node) in bridge.containers.iter().enumerate() {
            language.container(at, index, &lines_of(node), node);
        }
        language.joined(at, bridge);
    }
    language.end()
}

fn lines_of(node: &Node) -> Vec<String> {
    let mut lines = vec![title(node), format!("{} {}", node.interface, node.addresses.join(" "))];
    lines.extend(ports(node));
    if node.state != Condition::Up {
        lines.push(node.state.to_string());
    }
    lines
}
