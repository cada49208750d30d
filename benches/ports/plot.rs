//! A plot, drawn by hand: time over the number of published ports.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Room for the labels around the plot: left, right, top, bottom.
const MARGINS: [f64; 4] = [64.0, 170.0, 48.0, 56.0];
const COLOURS: [&str; 3] = ["#0b6e4f", "#b3541e", "#3a5a9b"];

/// The drawing. Numbers of ports go from left to right by their logarithm, microseconds upwards.
pub(crate) fn svg(sizes: &[usize], series: &[(&str, Vec<f64>)]) -> String {
    let [left, right, top, bottom] = MARGINS;
    let highest = series.iter().flat_map(|(_, cells)| cells).copied().fold(1.0, f64::max);
    let step = nice_step(highest / 5.0);
    let steps = (highest / step).ceil();
    let last = *sizes.last().unwrap_or(&10) as f64;
    let x = |size: usize| left + (WIDTH - left - right) * (size as f64).log10() / last.log10();
    let y = |time: f64| HEIGHT - bottom - (HEIGHT - top - bottom) * time / (steps * step);
    let mut text = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="14">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{left}" y="26" font-size="16" font-weight="bold">A new connection through a published port, µs (median)</text>
"##
    );
    let mut line = 0.0;
    while line <= steps {
        let at = y(line * step);
        let _ = writeln!(
            text,
            r##"<line x1="{left}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end" fill="#444">{}</text>"##,
            WIDTH - right,
            left - 8.0,
            at + 5.0,
            line * step
        );
        line += 1.0;
    }
    for size in sizes {
        let _ = writeln!(
            text,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#444">{size}</text>"##,
            x(*size),
            HEIGHT - bottom + 22.0
        );
    }
    let _ = writeln!(
        text,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#444">published ports on the host</text>"##,
        left + (WIDTH - left - right) / 2.0,
        HEIGHT - 10.0
    );
    let mut labels: Vec<f64> = Vec::new();
    for ((name, cells), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> =
            sizes.iter().zip(cells).map(|(size, time)| (x(*size), y(*time))).collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            text,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.5"/>"##,
            line.join(" ")
        );
        for ((x, y), time) in points.iter().zip(cells) {
            let _ = writeln!(
                text,
                r##"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"><title>{time:.1} µs</title></circle>"##
            );
        }
        let (Some((end, height)), Some(time)) = (points.last(), cells.last()) else { continue };
        // Labels of lines that end at the same height are written one above the other.
        let mut height = *height + 5.0;
        while labels.iter().any(|other| (height - other).abs() < 18.0) {
            height -= 18.0;
        }
        labels.push(height);
        let _ = writeln!(
            text,
            r##"<text x="{:.1}" y="{height:.1}" fill="{colour}">{name}: {time:.0}</text>"##,
            end + 10.0
        );
    }
    text + "</svg>\n"
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}
