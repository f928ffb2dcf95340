//! The picture of blocked time in a sandboxed frame, searched from the page outside.

use std::io;

use super::{
    super::{Drawing as _, Flamegraph, Fold},
    escape::data_url,
};

/// Searches for what the page asks it to.
const SCRIPT: &str = include_str!("flamegraph.js");
/// Of use only when something is found: what to search for is typed into the page, since a
/// sandboxed frame may not ask.
const STYLE: &str = "#search:not(.show){display:none}";

/// The flamegraph in a frame of its own: its script knows only its own document, and nothing in it
/// reaches the page.
pub(super) fn section(fold: &Fold) -> io::Result<String> {
    let mut svg = Vec::new();
    Flamegraph::default().draw(fold, &mut svg)?;
    let svg = embeddable(&String::from_utf8_lossy(&svg));
    Ok(format!(
        "<h2>Flamegraph</h2><p class=\"note\">Width is blocked wall time. Choose a box to zoom in. \
         <input id=\"search\" type=\"search\" placeholder=\"search\" aria-label=\"Search the flamegraph\"></p>\
         <iframe id=\"flamegraph\" title=\"Flamegraph\" sandbox=\"allow-scripts\" style=\"height:{}px\" data-src=\"{}\"></iframe>",
        height(&svg).unwrap_or(600),
        data_url("image/svg+xml", svg.as_bytes())
    ))
}

/// A zoomed picture writes its state to its address, which a sandboxed frame has not got.
fn embeddable(svg: &str) -> String {
    let svg = svg.replace("history.replaceState(", "void (");
    match svg.strip_suffix("</svg>") {
        Some(body) => {
            format!("{body}<style>{STYLE}</style><script><![CDATA[{SCRIPT}]]></script></svg>")
        }
        None => svg,
    }
}

fn height(svg: &str) -> Option<u32> {
    let (_, rest) = svg.split_once(" height=\"")?;
    rest.split('"').next()?.parse().ok()
}
