mod legend;

use std::io::{self, Write};

use inferno::flamegraph::{
    self, Options,
    color::{BackgroundColor, Color, PaletteMap},
};

use super::{
    Chosen, Drawing, Fold,
    folded::join,
    label::{Owner, plain},
    units,
};

/// An SVG whose width is the wall time of long polls: searchable and zoomable in a browser.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flamegraph;

impl Drawing for Flamegraph {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        let lines: Vec<String> = fold
            .stacks()
            .map(|(path, weight)| format!("{} {}", join(&path), weight.ns))
            .collect();
        let picture = Picture {
            title: title(fold),
            subtitle: subtitle(fold),
            palette: palette(fold),
            legend: &LEGEND,
        };
        picture.draw(&lines, out)
    }
}

/// A flamegraph but for its lines.
pub(super) struct Picture<'a> {
    pub title: String,
    pub subtitle: String,
    pub palette: PaletteMap,
    pub legend: &'a [(&'a str, Color)],
}

impl Picture<'_> {
    /// Draws folded lines of nanoseconds. No lines give a picture that says so.
    pub fn draw(mut self, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
        let nothing = ["no long polls 1".to_owned()];
        let lines = if lines.is_empty() {
            &nothing[..]
        } else {
            lines
        };
        self.palette.insert("no long polls", color(Owner::Kernel));
        let mut options = Options::default();
        options.title = self.title;
        options.subtitle = Some(self.subtitle);
        options.count_name = "us".to_owned();
        options.factor = 1e-3;
        options.name_type = "Frame:".to_owned();
        options.bgcolors = Some(BackgroundColor::Flat(BACKGROUND));
        options.deterministic = true;
        options.min_width = 0.02;
        options.palette_map = Some(&mut self.palette);
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
        let svg = String::from_utf8_lossy(&svg);
        match legend::add(&svg, self.legend) {
            Some(svg) => out.write_all(svg.as_bytes()),
            None => out.write_all(svg.as_bytes()),
        }
    }
}

const BACKGROUND: Color = rgb(0xfb, 0xfb, 0xfb);
const TASK: Color = rgb(0x8f, 0xcb, 0x8f);
const OWN: Color = rgb(0xf2, 0x8e, 0x4b);
const DEPENDENCY: Color = rgb(0xf4, 0xd0, 0x6f);
const RUNTIME: Color = rgb(0xc4, 0xc8, 0xcf);
const KERNEL: Color = rgb(0x8d, 0xb6, 0xe3);

const LEGEND: [(&str, Color); 5] = [
    ("task type", TASK),
    ("own code", OWN),
    ("dependency", DEPENDENCY),
    ("runtime and std", RUNTIME),
    ("cause, kernel", KERNEL),
];

const fn rgb(r: u8, g: u8, b: u8) -> Color {
    Color { r, g, b }
}

fn color(owner: Owner) -> Color {
    match owner {
        Owner::Task => TASK,
        Owner::Own => OWN,
        Owner::Dependency => DEPENDENCY,
        Owner::Runtime => RUNTIME,
        Owner::Kernel => KERNEL,
    }
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
    format!("Blocked time of long polls: {}", plain(name))
}

fn subtitle(fold: &Fold) -> String {
    let total = units::ns(fold.total_ns());
    let mut text = String::new();
    if let Some(session) = &fold.session {
        text = format!(
            "pid {}, threshold {}: ",
            session.pid,
            Chosen(session.threshold_ns)
        );
    }
    text += &format!("{} long polls blocked {total}", fold.polls);
    if let Some(summary) = &fold.summary {
        text += &format!(
            " in {}, {} events lost",
            units::ns(summary.duration_ns),
            summary.lost.events
        );
    }
    text
}
