use std::io::{self, Write};

use inferno::flamegraph::{
    self, Options,
    color::{BackgroundColor, Color, PaletteMap},
};

use crate::model::Lost;

use super::{Drawing, Fold, folded::join, label::Owner, units};

/// An SVG whose width is the wall time of long polls: searchable and zoomable in a browser.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flamegraph;

impl Drawing for Flamegraph {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        let lines: Vec<String> = fold
            .stacks()
            .map(|(path, weight)| format!("{} {}", join(&path), weight.ns))
            .collect();
        draw(&lines, title(fold), subtitle(fold), palette(fold), out)
    }
}

/// Draws folded lines of nanoseconds. No lines give a picture that says so.
pub(super) fn draw(
    lines: &[String],
    title: String,
    subtitle: String,
    mut palette: PaletteMap,
    out: &mut dyn Write,
) -> io::Result<()> {
    let nothing = ["no long polls 1".to_owned()];
    let lines = if lines.is_empty() {
        palette.insert("no long polls", color(Owner::Kernel));
        &nothing[..]
    } else {
        lines
    };
    let mut options = Options::default();
    options.title = title;
    options.subtitle = Some(subtitle);
    options.count_name = "us".to_owned();
    options.factor = 1e-3;
    options.name_type = "Frame:".to_owned();
    options.notes = LEGEND.to_owned();
    options.bgcolors = Some(BackgroundColor::Flat(Color {
        r: 0xfb,
        g: 0xfb,
        b: 0xfb,
    }));
    options.deterministic = true;
    options.min_width = 0.02;
    options.palette_map = Some(&mut palette);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// What the colours of [`color`] mean.
pub(super) const LEGEND: &str = "orange: the program's own code; yellow: dependencies; grey: the runtime and std; \
     blue: the kernel, waiting; green: task types";

fn color(owner: Owner) -> Color {
    let (r, g, b) = match owner {
        Owner::Task => (0x8f, 0xcb, 0x8f),
        Owner::Own => (0xf2, 0x8e, 0x4b),
        Owner::Dependency => (0xf4, 0xd0, 0x6f),
        Owner::Runtime => (0xc4, 0xc8, 0xcf),
        Owner::Kernel => (0x8d, 0xb6, 0xe3),
    };
    Color { r, g, b }
}

fn palette(fold: &Fold) -> PaletteMap {
    let mut palette = PaletteMap::default();
    for node in fold.nodes() {
        palette.insert(&node.name, color(node.owner));
    }
    palette
}

fn title(fold: &Fold) -> String {
    let name = fold.session.as_ref().map_or("?", |session| &session.name);
    format!("Blocked time of long polls: {}", super::label::plain(name))
}

fn subtitle(fold: &Fold) -> String {
    let mut parts = Vec::new();
    if let Some(session) = &fold.session {
        parts.push(format!("pid {}", session.pid));
    }
    if let Some(summary) = &fold.summary {
        parts.push(format!("{} observed", units::ns(summary.duration_ns)));
    }
    if let Some(session) = &fold.session {
        let threshold = units::ns(session.threshold_ns);
        parts.push(format!("{} polls >= {threshold}", fold.polls));
    }
    parts.push(format!("{} of worker time", units::ns(fold.total_ns())));
    if let Some(summary) = &fold.summary {
        parts.push(lost(&summary.lost));
    }
    parts.push(LEGEND.to_owned());
    parts.join(", ")
}

fn lost(lost: &Lost) -> String {
    format!("{} events lost", lost.events)
}
