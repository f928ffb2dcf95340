//! What the colours mean, added below the picture: inferno draws no legend.

use std::fmt::Write as _;

use inferno::flamegraph::color::Color;

const HEIGHT: usize = 26;
/// Pixels a character of the legend takes, with some room: it is drawn in the same 12 pixel
/// monospace as the frames.
const CHARACTER: usize = 8;

/// Adds a row of coloured squares with their names at the bottom of an SVG of inferno's.
pub(super) fn add(svg: &str, legend: &[(&str, Color)]) -> Option<String> {
    let height = height(svg)?;
    let body = svg.strip_suffix("</svg>")?;
    let tall = height + HEIGHT;
    let body = body
        .replacen(&attribute(height), &attribute(tall), 1)
        .replacen(
            &format!("0 0 1200 {height}\""),
            &format!("0 0 1200 {tall}\""),
            1,
        );
    let mut svg = body;
    let y = height + 8;
    let _ = write!(
        svg,
        "<rect x=\"0\" y=\"{height}\" width=\"100%\" height=\"{HEIGHT}\" fill=\"url(#background)\"/>"
    );
    let mut x = 10;
    for (name, color) in legend {
        let Color { r, g, b } = color;
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"rgb({r},{g},{b})\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            y - 8,
            x + 17,
            y + 2
        );
        x += 17 + CHARACTER * name.len() + 14;
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn height(svg: &str) -> Option<usize> {
    let (_, rest) = svg.split_once("<svg version=\"1.1\" width=\"1200\" height=\"")?;
    rest.split('"').next()?.parse().ok()
}

fn attribute(height: usize) -> String {
    format!("width=\"1200\" height=\"{height}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_svg_of_another_shape_is_left_alone() {
        assert_eq!(add("<svg></svg>", &[]), None);
    }
}
