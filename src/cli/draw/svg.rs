//! The picture as SVG: the host's rail at the left, a panel for each network, its bridge at the panel's left and its
//! containers in rows, each row on a line that comes from the bridge.
//!
//! Texts are set in a monospaced font and measured by their number of characters, so that no box is too small for what is
//! in it; what would be wider than [`WIDEST`] characters is cut.

mod canvas;

use crate::view::{Bridge, Condition, Graph, Health, Node, Uplink};

use super::{ports, title};
use canvas::{Canvas, Paint};

/// Width of a character and height of a line, in pixels: font size 12.
const CHAR: usize = 7;
const LINE: usize = 16;
/// Between things, and between a box and its text.
const GAP: usize = 18;
const PAD: usize = 8;
/// No text is longer, and no container has more lines of ports.
const WIDEST: usize = 42;
const MOST_PORTS: usize = 5;
/// No row of containers is wider, where there are few of them and where there are many.
const ROW: usize = 1180;
const LONG_ROW: usize = 1700;
const MANY: usize = 24;

const INK: &str = "#1f2933";
const FAINT: &str = "#52606d";
const RAIL: &str = "#7b8794";
const BLUE: &str = "#0b69a3";
const GREEN: &str = "#207227";
const AMBER: &str = "#b44d12";
const RED: &str = "#ba2525";

/// A box before it has a place.
struct Box {
    lines: Vec<(String, &'static str, bool)>,
    paint: Paint,
}

impl Box {
    fn width(&self) -> usize {
        let longest = self.lines.iter().map(|(text, ..)| text.chars().count()).max().unwrap_or_default();
        longest * CHAR + 2 * PAD + CHAR
    }

    fn height(&self) -> usize {
        self.lines.len() * LINE + 2 * PAD
    }

    fn draw(&self, canvas: &mut Canvas, x: usize, y: usize, width: usize, height: usize) {
        canvas.rectangle(x, y, width, height, self.paint);
        for (at, (text, colour, bold)) in self.lines.iter().enumerate() {
            canvas.text(x + PAD, y + PAD + at * LINE + 12, text, colour, *bold);
        }
    }
}

/// The whole picture.
pub(in crate::cli) fn svg(graph: &Graph) -> String {
    let mut canvas = Canvas::default();
    let bottom = draw_ways_out(&mut canvas, &graph.uplinks);
    // The host's rail goes down at the left, from under the host.
    let rail = 3 * GAP;
    let mut top = bottom + 2 * GAP;
    let panel = rail + 2 * GAP;
    let mut last = bottom;
    for bridge in &graph.bridges {
        last = draw_bridge(&mut canvas, bridge, rail, panel, &mut top);
    }
    if graph.bridges.is_empty() {
        canvas.text(panel, top, "no network yet: the first container makes one", FAINT, false);
    } else {
        canvas.line((rail, bottom), (rail, last), RAIL, 2, false);
    }
    canvas.finish(GAP)
}

/// The host, its ways out one below the other, and the world outside; gives the height at which they end.
fn draw_ways_out(canvas: &mut Canvas, uplinks: &[Uplink]) -> usize {
    let grey = Paint { fill: "#f5f7fa", stroke: RAIL, dashed: false, thick: false };
    let host = Box { lines: vec![("this host".to_owned(), INK, true)], paint: grey };
    let outside = Box { lines: vec![("outside".to_owned(), FAINT, true)], paint: grey };
    let boxes: Vec<Box> = uplinks.iter().map(uplink).collect();
    let width = boxes.iter().map(Box::width).max().unwrap_or_default();
    let stack = boxes.iter().map(|one| one.height() + GAP).sum::<usize>().saturating_sub(GAP);
    let height = stack.max(host.height());
    host.draw(canvas, GAP, GAP, host.width(), height);
    if boxes.is_empty() {
        return GAP + height;
    }
    let left = GAP + host.width() + 2 * GAP;
    let right = left + width + 2 * GAP;
    let mut y = GAP;
    for one in &boxes {
        let middle = y + one.height() / 2;
        canvas.line((left - 2 * GAP, middle), (left, middle), RAIL, 2, false);
        canvas.line((left + width, middle), (right, middle), RAIL, 2, false);
        one.draw(canvas, left, y, width, one.height());
        y += one.height() + GAP;
    }
    outside.draw(canvas, right, GAP, outside.width(), height);
    GAP + height
}

fn uplink(uplink: &Uplink) -> Box {
    let state = if uplink.up { "" } else { " (down)" };
    let mut lines = vec![(cut(&format!("uplink {}{state}", uplink.name)), INK, true)];
    lines.extend(uplink.addresses.iter().map(|address| (cut(address), FAINT, false)));
    let stroke = if uplink.up { BLUE } else { RED };
    Box { lines, paint: Paint { fill: "#e6f6ff", stroke, dashed: false, thick: false } }
}

/// One panel; gives the height at which the rail branches into it, and moves `top` below it.
fn draw_bridge(canvas: &mut Canvas, bridge: &Bridge, rail: usize, left: usize, top: &mut usize) -> usize {
    let heading = heading(bridge);
    let own = bridge_box(bridge);
    let nodes: Vec<Box> = bridge.containers.iter().map(node).collect();
    let width = nodes.iter().map(Box::width).max().unwrap_or_default();
    let inner = left + GAP + own.width() + 2 * GAP;
    let row = if nodes.len() > MANY { LONG_ROW } else { ROW };
    let columns = (row / (width + GAP)).clamp(1, nodes.len().max(1));
    let body = *top + heading.len() * LINE + PAD + GAP;
    let branch = body + own.height() / 2;
    let bus = inner - GAP;
    let mut y = body;
    let mut last_bus = None;
    for row in nodes.chunks(columns) {
        let height = row.iter().map(Box::height).max().unwrap_or_default();
        let isolated = |at: usize| bridge.containers.get(at).is_some_and(|node| node.isolated);
        for (at, one) in row.iter().enumerate() {
            let x = inner + at * (width + GAP);
            let index = last_bus.map_or(0, |(_, first)| first) + at;
            canvas.line((x + width / 2, y), (x + width / 2, y + GAP), RAIL, 1, isolated(index));
            one.draw(canvas, x, y + GAP, width, height);
        }
        let end = inner + (row.len() - 1) * (width + GAP) + width / 2;
        canvas.line((bus, y), (end, y), RAIL, 1, false);
        last_bus = Some((y, last_bus.map_or(0, |(_, first)| first) + row.len()));
        y += GAP + height + GAP;
    }
    own.draw(canvas, left + GAP, body, own.width(), own.height());
    let edge = left + GAP + own.width();
    if let Some((bottom, _)) = last_bus {
        canvas.line((edge, branch), (bus, branch), RAIL, 2, false);
        canvas.line((bus, body), (bus, bottom.max(branch)), RAIL, 2, false);
    }
    canvas.line((rail, branch), (left + GAP, branch), RAIL, 2, false);
    let bottom = y.max(body + own.height() + GAP);
    let longest = heading.iter().map(|(text, _)| text.chars().count()).max().unwrap_or_default();
    let across = (inner + columns.min(nodes.len()) * (width + GAP))
        .max(edge + GAP)
        .max(left + longest * (CHAR + 1) + 2 * PAD)
        - left;
    let walled = !bridge.walls.is_empty();
    let stroke = if walled { RED } else { "#cbd2d9" };
    canvas.behind(
        left,
        *top,
        across,
        bottom - *top,
        Paint { fill: "#fafbfc", stroke, dashed: walled, thick: walled },
    );
    for (at, (text, colour)) in heading.iter().enumerate() {
        canvas.text(left + PAD, *top + PAD + at * LINE + 12, text, colour, at == 0);
    }
    *top = bottom + GAP;
    branch
}

fn heading(bridge: &Bridge) -> Vec<(String, &'static str)> {
    let count = bridge.containers.len();
    let noun = if count == 1 { "attachment" } else { "attachments" };
    let colour = match bridge.health {
        Health::Ok => INK,
        Health::Warning => AMBER,
        Health::Failed => RED,
    };
    let health = if bridge.health == Health::Ok { String::new() } else { format!(", {}", bridge.health) };
    let masquerade = if bridge.masquerade { ", masqueraded" } else { "" };
    let mut lines = vec![(format!("network {}: {count} {noun}{masquerade}{health}", bridge.network), colour)];
    lines.extend(bridge.walls.iter().map(|wall| (format!("wall: {wall}"), RED)));
    lines
}

fn bridge_box(bridge: &Bridge) -> Box {
    let mut lines = vec![("bridge".to_owned(), FAINT, false), (cut(&bridge.name), INK, true)];
    lines.extend(bridge.addresses.iter().map(|address| (cut(address), FAINT, false)));
    let stroke = if bridge.health == Health::Failed { RED } else { GREEN };
    Box { lines, paint: Paint { fill: "#e3f9e5", stroke, dashed: false, thick: true } }
}

fn node(node: &Node) -> Box {
    let (colour, fill) = match node.state {
        Condition::Up | Condition::Attaching => (RAIL, "#ffffff"),
        Condition::Broken => (RED, "#ffe3e3"),
        Condition::Dead | Condition::HalfMade | Condition::Leaving => (AMBER, "#fff3c4"),
    };
    let mut lines = vec![(cut(&title(node)), INK, true)];
    if node.state != Condition::Up {
        lines.push((node.state.to_string(), colour, true));
    }
    lines.extend(node.addresses.iter().map(|address| (cut(address), INK, false)));
    let ports = ports(node);
    let shown = if ports.len() > MOST_PORTS { MOST_PORTS - 1 } else { ports.len() };
    lines.extend(ports.iter().take(shown).map(|port| (cut(port), BLUE, false)));
    if ports.len() > shown {
        lines.push((format!("and {} ports more", ports.len() - shown), BLUE, false));
    }
    if node.isolated {
        lines.push(("isolated".to_owned(), RED, false));
    }
    lines.push((cut(&format!("{} - {}", node.interface, node.veth)), FAINT, false));
    Box { lines, paint: Paint { fill, stroke: colour, dashed: node.isolated, thick: false } }
}

/// A text that is not too long.
fn cut(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    let head: String = text.chars().take(WIDEST - 1).collect();
    format!("{head}…")
}
