//! Two sessions told for a minute of each: as a table, as JSON, or as a red and blue flamegraph.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    io::{self, Write},
};

use inferno::flamegraph::color::{Color, PaletteMap, StrokeColor};
use serde::Serialize;
use serde_json::json;

use crate::model::{Cause, Event};

use super::{
    Chosen, EachOnce, Fold, Measured, Ranking, Row, clean, flamegraph::Picture, fold::Weight,
    folded::join, label::plain, ranking::Key, words,
};

/// A session as it is compared with another.
#[derive(Debug, Default)]
pub struct Side {
    fold: Fold,
    ranking: Ranking,
    once: EachOnce,
}

impl Side {
    /// Takes the session's next event.
    pub fn event(&mut self, event: &Event) {
        self.fold.event(event);
        match event {
            Event::LongPoll(poll) => {
                if let Some(poll) = self.once.settle(poll) {
                    self.ranking.add(poll);
                }
            }
            Event::Summary(_) => {
                for poll in self.once.rest() {
                    self.ranking.add(&poll);
                }
            }
            Event::Session(_) | Event::Notice(_) | Event::Interval(_) | Event::Finding(_) => {}
        }
    }

    fn duration_ns(&self) -> u64 {
        let summary = self.fold.summary.as_ref();
        summary.map_or(0, |summary| summary.duration_ns).max(1)
    }

    fn threshold_ns(&self) -> u64 {
        self.fold.thresholds.most_ns()
    }

    fn name(&self) -> &str {
        let session = self.fold.session.as_ref();
        session.map_or("?", |session| &session.name)
    }

    /// What there would be in a minute of such a session.
    fn per_minute(&self, value: u64) -> f64 {
        value as f64 * 60e9 / self.duration_ns() as f64
    }
}

/// What changed for one task type, cause and call.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "change")]
pub struct Change {
    /// The task type's name.
    pub task: String,
    /// Why its polls were long.
    pub cause: Cause,
    /// The blocking call.
    pub call: Option<String>,
    /// Long polls a minute, before and after.
    pub polls_per_minute: [f64; 2],
    /// Nanoseconds in long polls a minute, before and after.
    pub ns_per_minute: [u64; 2],
    /// The longest poll in nanoseconds, before and after.
    pub max_ns: [u64; 2],
}

impl Change {
    /// How many more nanoseconds a minute than before.
    pub fn growth(&self) -> i64 {
        let [before, after] = self
            .ns_per_minute
            .map(|ns| i64::try_from(ns).unwrap_or(i64::MAX));
        after.saturating_sub(before)
    }
}

/// Two sessions side by side. They may differ in length, so everything is told for a minute.
#[derive(Debug)]
pub struct Diff {
    before: Side,
    after: Side,
}

impl Diff {
    /// Compares two whole sessions.
    pub fn new(before: Side, after: Side) -> Self {
        Self { before, after }
    }

    /// What changed, what got worse first.
    pub fn changes(&self) -> Vec<Change> {
        let (before, after) = (self.before.ranking.by_key(), self.after.ranking.by_key());
        let keys: HashSet<&Key> = before.keys().chain(after.keys()).collect();
        let mut changes: Vec<_> = keys
            .into_iter()
            .map(|key| self.change(key, before.get(key), after.get(key)))
            .collect();
        changes.sort_by(|a, b| {
            let by_name = || (&a.task, a.cause, &a.call).cmp(&(&b.task, b.cause, &b.call));
            b.growth().cmp(&a.growth()).then_with(by_name)
        });
        changes
    }

    fn change(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> Change {
        let both = |of: fn(&Row) -> u64| [before.map_or(0, of), after.map_or(0, of)];
        let rates = |[b, a]: [u64; 2]| [self.before.per_minute(b), self.after.per_minute(a)];
        Change {
            task: key.0.clone(),
            cause: key.1,
            call: key.2.clone(),
            polls_per_minute: rates(both(|row| row.count)),
            ns_per_minute: rates(both(|row| row.total_ns)).map(|ns| ns.round() as u64),
            max_ns: both(|row| row.max_ns),
        }
    }

    /// Writes the changes as a table for people.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (before, after) = (&self.before, &self.after);
        for (what, side) in [("before", before), ("after", after)] {
            writeln!(
                out,
                "{what:7} {}: {} >= {}, {} blocked in {}",
                clean(side.name()),
                words::count(side.fold.polls, "poll"),
                side.fold.thresholds,
                Measured(side.fold.total_ns()),
                Measured(side.duration_ns()),
            )?;
        }
        if let Some(remark) = self.remark() {
            writeln!(out, "note: {remark}")?;
        }
        writeln!(
            out,
            "\n{:^33}  {:^19}\n{:>10} {:>10} {:>11}  {:>9} {:>9}  task, cause, call",
            "blocked a minute", "polls a minute", "before", "after", "change", "before", "after"
        )?;
        for change in self.changes() {
            write_change(&change, out)?;
        }
        Ok(())
    }

    /// Writes the changes as JSON, an object a line.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let [before, after] = [&self.before, &self.after].map(|side| {
            json!({
                "name": side.name(),
                "threshold_ns": side.threshold_ns(),
                "duration_ns": side.duration_ns(),
                "long_polls": side.fold.polls,
                "long_ns": side.fold.total_ns(),
            })
        });
        let head =
            json!({"type": "diff", "before": before, "after": after, "remark": self.remark()});
        writeln!(out, "{head}")?;
        for change in self.changes() {
            serde_json::to_writer(&mut *out, &change)?;
            writeln!(out)?;
        }
        Ok(())
    }

    /// Why the two cannot quite be compared.
    fn remark(&self) -> Option<String> {
        let (before, after) = (self.before.threshold_ns(), self.after.threshold_ns());
        let (low, high, only) = match before.cmp(&after) {
            Ordering::Equal => return None,
            Ordering::Less => (before, after, "before"),
            Ordering::Greater => (after, before, "after"),
        };
        Some(format!(
            "the thresholds differ: polls from {} to {} are counted {only} alone, so what has many of them seems to have changed",
            Chosen(low),
            Chosen(high)
        ))
    }

    /// Draws a flamegraph of the later session, with what got worse in red and what got better in
    /// blue.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub fn flamegraph(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut stacks: BTreeMap<String, [Weight; 2]> = BTreeMap::new();
        let scale = self.after.duration_ns() as f64 / self.before.duration_ns() as f64;
        for (path, weight) in self.before.fold.stacks() {
            add(&mut stacks.entry(join(&path)).or_default()[0], weight);
        }
        for (path, weight) in self.after.fold.stacks() {
            add(&mut stacks.entry(join(&path)).or_default()[1], weight);
        }
        let total_ns = self.after.fold.total_ns();
        let lines: Vec<String> = match self.after.fold.polls {
            0 => Vec::new(),
            _ => stacks
                .iter()
                .map(|(path, [before, after])| {
                    // The colours' scale ends at the largest change, and would show chance in full
                    // red otherwise.
                    let was = if is_chance(*before, *after, scale, total_ns, DEVIATIONS) {
                        after.ns
                    } else {
                        (before.ns as f64 * scale) as u64
                    };
                    format!("{path} {was} {}", after.ns)
                })
                .collect(),
        };
        let picture = Picture {
            title: format!("Blocked time that changed: {}", plain(self.after.name())),
            subtitle: format!(
                "width: {} of long polls after; before, as long a session had {}; white: no change beyond chance",
                Measured(self.after.fold.total_ns()),
                Measured((self.before.fold.total_ns() as f64 * scale) as u64),
            ),
            palette: PaletteMap::default(),
            legend: &LEGEND,
            // What did not change is nearly white.
            stroke: StrokeColor::Color(GREY),
        };
        picture.draw(&lines, out)
    }
}

const GREY: Color = Color {
    r: 190,
    g: 190,
    b: 190,
};

const LEGEND: [(&str, Color); 2] = [
    (
        "more than before",
        Color {
            r: 255,
            g: 100,
            b: 100,
        },
    ),
    (
        "less than before",
        Color {
            r: 100,
            g: 100,
            b: 255,
        },
    ),
];

fn add(sum: &mut Weight, value: Weight) {
    sum.ns = sum.ns.saturating_add(value.ns);
    sum.count += value.count;
}

/// In a picture of many stacks, chance may show now and then.
const DEVIATIONS: f64 = 2.0;

/// Whether something changed by no more than chance explains: by less than a hundredth of the
/// whole, or by less than so many standard deviations of how often something comes that comes now
/// and then (a Poisson process), each time as long as on average. `scale` is how much longer the
/// later session was.
pub(super) fn is_chance(
    before: Weight,
    after: Weight,
    scale: f64,
    total_ns: u64,
    deviations: f64,
) -> bool {
    let change = (after.ns as f64 - before.ns as f64 * scale).abs();
    let each =
        before.ns.saturating_add(after.ns) as f64 / (before.count + after.count).max(1) as f64;
    let count = after.count as f64 + before.count as f64 * scale * scale;
    change < (total_ns / 100) as f64 || change < deviations * count.sqrt() * each
}

fn write_change(change: &Change, out: &mut dyn Write) -> io::Result<()> {
    let [before, after] = change.ns_per_minute;
    let growth = change.growth();
    let sign = if growth < 0 { '-' } else { '+' };
    let difference = format!("{sign}{}", Measured(growth.unsigned_abs()));
    write!(
        out,
        "{:>10} {:>10} {difference:>11}  {:>9.1} {:>9.1}  {}, {}",
        Measured(before),
        Measured(after),
        change.polls_per_minute[0],
        change.polls_per_minute[1],
        clean(&change.task),
        words::cause(change.cause),
    )?;
    match &change.call {
        Some(call) => writeln!(out, ", {}", clean(call)),
        None => writeln!(out),
    }
}
