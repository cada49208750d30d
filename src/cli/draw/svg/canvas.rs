//! Rectangles, lines and texts of an SVG, as large as what is on it.

use std::fmt::Write as _;

/// How a rectangle is painted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) fill: &'static str,
    pub(super) stroke: &'static str,
    pub(super) dashed: bool,
    pub(super) thick: bool,
}

/// What is drawn so far.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    /// What everything else lies on.
    back: String,
    front: String,
    width: usize,
    height: usize,
}

// Writing to a string cannot fail.
impl Canvas {
    pub(super) fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize, paint: Paint) {
        self.grow(x + width, y + height);
        rectangle(&mut self.front, (x, y, width, height), paint);
    }

    /// A rectangle behind everything that is in front, whenever that was drawn.
    pub(super) fn behind(&mut self, x: usize, y: usize, width: usize, height: usize, paint: Paint) {
        self.grow(x + width, y + height);
        rectangle(&mut self.back, (x, y, width, height), paint);
    }

    pub(super) fn line(
        &mut self,
        from: (usize, usize),
        to: (usize, usize),
        colour: &str,
        width: usize,
        dashed: bool,
    ) {
        self.grow(from.0.max(to.0), from.1.max(to.1));
        let dashes = if dashed { " stroke-dasharray=\"3 3\"" } else { "" };
        let _ = writeln!(
            self.front,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A text whose base line begins at a point.
    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, colour: &str, bold: bool) {
        self.grow(x + text.chars().count() * (super::CHAR + usize::from(bold)), y);
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            self.front,
            "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{weight}>{}</text>",
            escape(text)
        );
    }

    /// The document, with a margin.
    pub(super) fn finish(self, margin: usize) -> String {
        let (width, height) = (self.width + margin, self.height + margin);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" \
             font-size=\"11.5\">\n<title>linkspan networks of this host</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}{}</svg>\n",
            self.back, self.front
        )
    }

    fn grow(&mut self, x: usize, y: usize) {
        self.width = self.width.max(x);
        self.height = self.height.max(y);
    }
}

fn rectangle(out: &mut String, (x, y, width, height): (usize, usize, usize, usize), paint: Paint) {
    let dashes = if paint.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let (fill, stroke, thickness) = (paint.fill, paint.stroke, if paint.thick { 2 } else { 1 });
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\" fill=\"{fill}\" \
         stroke=\"{stroke}\" stroke-width=\"{thickness}\"{dashes}/>"
    );
}

/// Text as XML holds it; characters that XML has no place for are left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}
