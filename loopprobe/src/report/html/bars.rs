//! The page's picture of how many polls took how long, as inline SVG.

use std::fmt::Write as _;

use super::super::{Chosen, Count, Histogram, words};

/// A picture of the bars; its size is in `viewBox` units.
pub(super) fn svg(histogram: &Histogram) -> String {
    const BAR: usize = 56;
    const HEIGHT: usize = 150;
    // Half of an edge's label stands outside of the bars.
    const EDGE: usize = 24;
    let bars = histogram.bars();
    let most = bars.iter().map(|bar| bar.2).max().unwrap_or(1).max(1);
    let width = (bars.len() * BAR + 2 * EDGE).max(200);
    let mut svg = format!(
        "<svg class=\"histogram\" role=\"img\" aria-label=\"Long polls by duration\" viewBox=\"0 0 {width} {}\" style=\"max-width:{width}px\">",
        HEIGHT + 40
    );
    for (i, (low, high, count)) in bars.iter().enumerate() {
        let tall = (*count as f64 / most as f64 * (HEIGHT - 20) as f64).ceil() as usize;
        let (x, y) = (EDGE + i * BAR, HEIGHT - tall);
        let middle = x + BAR / 2;
        let _ = write!(
            svg,
            "<g><title>{} from {} to {}</title><rect class=\"bar\" x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{tall}\"/>\
             <text x=\"{middle}\" y=\"{}\">{}</text><text class=\"axis\" x=\"{}\" y=\"{}\">{}</text></g>",
            words::count(*count, "poll"),
            Chosen(*low),
            Chosen(*high),
            x + 3,
            BAR - 6,
            y - 5,
            Count(*count),
            EDGE + i * BAR,
            HEIGHT + 16,
            Chosen(*low),
        );
    }
    if let Some((_, high, _)) = bars.last() {
        let _ = write!(
            svg,
            "<text class=\"axis\" x=\"{}\" y=\"{}\">{}</text>",
            EDGE + bars.len() * BAR,
            HEIGHT + 16,
            Chosen(*high),
        );
    }
    svg.push_str("</svg>");
    svg
}
