//! A dark page for readers who want one: inferno draws a light one only.

/// Adds a style sheet to an SVG of inferno's.
pub(super) fn add(svg: &str) -> Option<String> {
    let body = svg.strip_suffix("</svg>")?;
    Some(format!(
        "{body}<style>{}</style></svg>",
        include_str!("dark.css")
    ))
}
