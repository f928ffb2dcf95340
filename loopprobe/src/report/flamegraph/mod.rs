//! An SVG in which a box's width is wall time of long polls, coloured by whose code it is.

mod legend;
mod theme;
mod times;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use inferno::flamegraph::{
    self, Options,
    color::{BackgroundColor, Color, PaletteMap, StrokeColor},
};

use super::{
    Drawing, Fold, Node,
    fold::task_of,
    label::{Owner, plain},
    units, words,
};

/// An SVG whose width is the wall time of long polls: searchable and zoomable in a browser.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flamegraph {
    /// Whether polls below the threshold are drawn too. They have no stacks: all of a task type's
    /// are one box.
    pub all_polls: bool,
    /// Whether the frames of the runtime and the standard library are left out. Their time is that
    /// of what they call.
    pub hide_runtime: bool,
}

/// Follows the name of a task type while the picture is drawn, since colours go by name and a
/// function may have the same. No name has it: it is a formatting character, which [`plain`]
/// escapes.
const TASK_MARK: char = '\u{2063}';

/// The box of polls below the threshold.
const SHORT: &str = "[polls below the threshold]";

impl Drawing for Flamegraph {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        let mut lines: Vec<String> = fold
            .stacks()
            .map(|(path, weight)| format!("{} {}", self.line(&path), weight.ns))
            .collect();
        let mut palette = palette(fold);
        let mut subtitle = subtitle(fold);
        if self.all_polls {
            let short = short_polls(fold);
            let total = short
                .values()
                .fold(0, |sum: u64, ns| sum.saturating_add(*ns));
            for (task, ns) in short {
                let task = format!("{task}{TASK_MARK}");
                palette.insert(&task, color(Owner::Task));
                lines.push(format!("{task};{SHORT} {ns}"));
            }
            palette.insert(SHORT, color(Owner::Kernel));
            subtitle += &format!("; {} in shorter polls", units::ns(total));
        }
        let picture = Picture {
            title: title(fold, self.all_polls),
            subtitle,
            palette,
            legend: &LEGEND,
            stroke: StrokeColor::None,
        };
        picture.draw(&lines, out)
    }
}

impl Flamegraph {
    fn line(self, path: &[&Node]) -> String {
        let shown = path
            .iter()
            .filter(|node| !(self.hide_runtime && node.owner == Owner::Runtime));
        let names: Vec<String> = shown.map(|node| marked(node)).collect();
        names.join(";")
    }
}

fn marked(node: &Node) -> String {
    match node.owner {
        Owner::Task => format!("{}{TASK_MARK}", node.name),
        _ => node.name.clone(),
    }
}

/// A flamegraph but for its lines.
pub(super) struct Picture<'a> {
    pub title: String,
    pub subtitle: String,
    pub palette: PaletteMap,
    pub legend: &'a [(&'a str, Color)],
    pub stroke: StrokeColor,
}

impl Picture<'_> {
    /// Draws folded lines of nanoseconds. No lines give a picture that says so.
    pub(super) fn draw(mut self, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
        let nothing = ["no long polls 1".to_owned()];
        let lines = if lines.is_empty() {
            &nothing[..]
        } else {
            lines
        };
        self.palette.insert("no long polls", color(Owner::Kernel));
        // The box below all others is of no kind. It is called `all`, and has no name.
        self.palette.insert("", RUNTIME);
        let mut options = Options::default();
        options.title = self.title;
        options.subtitle = Some(self.subtitle);
        options.count_name = times::UNIT.to_owned();
        options.name_type = "Frame:".to_owned();
        options.bgcolors = Some(BackgroundColor::Flat(BACKGROUND));
        options.deterministic = true;
        options.stroke_color = self.stroke;
        options.min_width = 0.02;
        options.palette_map = Some(&mut self.palette);
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
        let svg = String::from_utf8_lossy(&svg).replace(TASK_MARK, "");
        let svg = times::in_units(&svg);
        // A picture of another shape than expected is as good without these.
        let svg = legend::add(&svg, self.legend).unwrap_or(svg);
        let svg = theme::add(&svg).unwrap_or(svg);
        out.write_all(svg.as_bytes())
    }
}

const BACKGROUND: Color = rgb(0xfb, 0xfb, 0xfb);
const TASK: Color = rgb(0x8f, 0xcb, 0x8f);
const OWN: Color = rgb(0xf2, 0x8e, 0x4b);
const DEPENDENCY: Color = rgb(0xf4, 0xd0, 0x6f);
const RUNTIME: Color = rgb(0xc4, 0xc8, 0xcf);
const KERNEL: Color = rgb(0x8d, 0xb6, 0xe3);

const UNKNOWN: Color = rgb(0xec, 0xe4, 0xdc);

const LEGEND: [(&str, Color); 6] = [
    ("task type", TASK),
    ("own code", OWN),
    ("dependency", DEPENDENCY),
    ("runtime and std", RUNTIME),
    ("unnamed", UNKNOWN),
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
        Owner::Unknown => UNKNOWN,
        Owner::Kernel => KERNEL,
    }
}

fn palette(fold: &Fold) -> PaletteMap {
    let mut palette = PaletteMap::default();
    for node in fold.nodes() {
        palette.insert(marked(node), color(node.owner));
    }
    palette
}

fn title(fold: &Fold, all_polls: bool) -> String {
    let name = fold.session.as_ref().map_or("?", |session| &session.name);
    let what = if all_polls {
        "Time of all polls"
    } else {
        "Blocked time of long polls"
    };
    format!("{what}: {}", plain(name))
}

/// The time in polls below the threshold by task type: the type's total but for its long polls.
fn short_polls(fold: &Fold) -> BTreeMap<String, u64> {
    let mut short: BTreeMap<String, u64> = BTreeMap::new();
    for task in fold.summary.iter().flat_map(|summary| &summary.tasks) {
        let total = short.entry(plain(&task.task.name)).or_default();
        *total = total.saturating_add(task.total_ns.unwrap_or(0));
    }
    for (path, weight) in fold.stacks() {
        let task = path.first().map_or("", |node| task_of(&node.name));
        if let Some(total) = short.get_mut(task) {
            *total = total.saturating_sub(weight.ns);
        }
    }
    short.retain(|_, ns| *ns > 0);
    short
}

fn subtitle(fold: &Fold) -> String {
    let total = units::ns(fold.total_ns());
    let mut text = String::new();
    if let Some(session) = &fold.session {
        text = format!("pid {}, threshold {}: ", session.pid, fold.thresholds);
    }
    let polls = words::count(fold.polls, "long poll");
    text += &format!("{polls} blocked {total}");
    if let Some(summary) = &fold.summary {
        text += &format!(
            " in {}, {} lost",
            units::ns(summary.duration_ns),
            units::known(summary.lost, |lost| words::count(lost.events, "event"))
        );
    }
    text
}
