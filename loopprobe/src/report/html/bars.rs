use std::fmt::Write as _;

use super::super::{Chosen, Histogram, units};

/// A picture of the bars; its size is in `viewBox` units.
pub fn svg(histogram: &Histogram) -> String {
    const BAR: usize = 56;
    const HEIGHT: usize = 150;
    let bars = histogram.bars();
    let most = bars.iter().map(|bar| bar.2).max().unwrap_or(1).max(1);
    let width = (bars.len() * BAR).max(200);
    let mut svg = format!(
        "<svg class=\"histogram\" role=\"img\" aria-label=\"Long polls by duration\" viewBox=\"0 0 {width} {}\" style=\"max-width:{width}px\">",
        HEIGHT + 40
    );
    for (i, (low, high, count)) in bars.iter().enumerate() {
        let tall = (*count as f64 / most as f64 * (HEIGHT - 20) as f64).ceil() as usize;
        let (x, y) = (i * BAR, HEIGHT - tall);
        let middle = x + BAR / 2;
        let _ = write!(
            svg,
            "<g><title>{count} polls from {} to {}</title><rect class=\"bar\" x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{tall}\"/>\
             <text x=\"{middle}\" y=\"{}\">{count}</text><text class=\"axis\" x=\"{middle}\" y=\"{}\">{}</text></g>",
            units::ns(*low),
            units::ns(*high),
            x + 3,
            BAR - 6,
            y - 5,
            HEIGHT + 16,
            Chosen(*low),
        );
    }
    svg.push_str("</svg>");
    svg
}
