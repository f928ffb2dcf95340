//! A timeline of long polls, a lane for each of up to 64 threads, coloured by cause.

use std::fmt::Write as _;

use crate::{
    diagnose::Colour,
    model::{Cause, LongPoll},
};

use super::{
    super::{Count, units, words},
    escape::Escaped,
    gather::{Gathered, MAX_POLLS},
};

const LANE: f64 = 26.0;
const LABEL: f64 = 190.0;
const WIDTH: f64 = 1160.0;
const AXIS: f64 = 24.0;
/// So many threads get a lane, those with the most blocked time.
const MAX_LANES: usize = 64;

/// The long polls on a lane for each worker.
pub(super) fn section(gathered: &Gathered) -> String {
    let polls = gathered.polls();
    let Some(window) = Window::of(gathered, &polls) else {
        return String::new();
    };
    let mut threads: Vec<_> = gathered.threads.iter().collect();
    threads.sort_by_key(|(_, thread)| std::cmp::Reverse(thread.total_ns));
    threads.truncate(MAX_LANES);
    threads.sort_by_key(|(tid, _)| **tid);

    let height = LANE * threads.len() as f64 + AXIS;
    let mut html = format!(
        "<h2>Timeline</h2><p class=\"note\">A lane for each worker, its long polls coloured by cause. Choose one for its \
         stack.{}</p>{}<div class=\"wide\"><svg id=\"lanes\" viewBox=\"0 0 {WIDTH} {height}\">",
        left_out(gathered, threads.len()),
        legend(&polls),
    );
    for (row, (tid, thread)) in threads.iter().enumerate() {
        let y = row as f64 * LANE;
        let _ = write!(
            html,
            "<text class=\"lane\" x=\"0\" y=\"{}\">{} {tid}</text><rect class=\"track\" x=\"{LABEL}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            y + 17.0,
            Escaped(&thread.name),
            y + 2.0,
            WIDTH - LABEL,
            LANE - 4.0,
        );
        let own = polls.iter().enumerate().filter(|(_, p)| p.tid == **tid);
        for (i, poll) in own {
            html += &bar(i, poll, &window, y);
        }
    }
    html += &axis(&window, height - AXIS);
    html + "</svg></div><div id=\"detail\" hidden></div>"
}

fn bar(i: usize, poll: &LongPoll, window: &Window, y: f64) -> String {
    let x = window.x(poll.start_ns);
    let end = window.x(poll.start_ns.saturating_add(poll.duration_ns));
    format!(
        "<rect class=\"poll c-{}\" data-poll=\"{i}\" tabindex=\"0\" x=\"{x:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{}\"><title>{} {}</title></rect>",
        class(poll),
        y + 2.0,
        (end - x).max(1.5),
        LANE - 4.0,
        units::ns(poll.duration_ns),
        Escaped(&poll.task.name),
    )
}

fn cause(poll: &LongPoll) -> Cause {
    let diagnosis = poll.diagnosis.as_ref();
    diagnosis.map_or(Cause::Unknown, |diagnosis| diagnosis.cause)
}

fn class(poll: &LongPoll) -> &'static str {
    cause_class(cause(poll))
}

/// The style sheet's name of a cause's colour.
pub(super) fn cause_class(cause: Cause) -> &'static str {
    // A disk that is asked to write at once is another thing than a file that is read.
    if cause == Cause::Fsync {
        return "sync";
    }
    match cause.rule().colour {
        Colour::Cpu => "cpu",
        Colour::Sleep => "sleep",
        Colour::File => "file",
        Colour::Net => "net",
        Colour::Lock => "lock",
        Colour::Other => "other",
        Colour::Wait => "wait",
        Colour::Unknown => "unknown",
    }
}

fn legend(polls: &[&LongPoll]) -> String {
    let mut causes: Vec<_> = polls.iter().map(|poll| cause(poll)).collect();
    causes.sort();
    causes.dedup();
    let mut html = "<p class=\"legend\">".to_owned();
    for cause in causes {
        let _ = write!(
            html,
            "<span><i class=\"c-{}\"></i>{}</span>",
            cause_class(cause),
            words::cause(cause)
        );
    }
    html + "</p>"
}

fn left_out(gathered: &Gathered, lanes: usize) -> String {
    let mut text = String::new();
    if gathered.fold.polls > MAX_POLLS as u64 {
        let all = Count(gathered.fold.polls);
        text = format!(" The {MAX_POLLS} longest of {all} polls are shown.");
    }
    let more = gathered.threads.len() - lanes;
    if more > 0 {
        text += &format!(" {more} threads with less blocked time are not shown.");
    }
    text
}

/// The stretch of time that the lanes show.
struct Window {
    start_ns: u64,
    length_ns: u64,
}

impl Window {
    fn of(gathered: &Gathered, polls: &[&LongPoll]) -> Option<Self> {
        let first = polls.iter().map(|poll| poll.start_ns).min()?;
        let ends = polls
            .iter()
            .map(|p| p.start_ns.saturating_add(p.duration_ns));
        let session = gathered.session();
        let start_ns = session.map_or(first, |session| session.start_ns.min(first));
        let observed = gathered.summary().map_or(0, |summary| summary.duration_ns);
        let end_ns = ends.max()?.max(start_ns.saturating_add(observed));
        Some(Self {
            start_ns,
            length_ns: (end_ns - start_ns).max(1),
        })
    }

    fn x(&self, at_ns: u64) -> f64 {
        let since = at_ns.saturating_sub(self.start_ns) as f64;
        LABEL + since / self.length_ns as f64 * (WIDTH - LABEL)
    }
}

fn axis(window: &Window, y: f64) -> String {
    const MARKS: u64 = 6;
    let mut html = String::new();
    for mark in 0..=MARKS {
        let since = (u128::from(window.length_ns) * u128::from(mark) / u128::from(MARKS)) as u64;
        let anchor = match mark {
            0 => "start",
            MARKS => "end",
            _ => "middle",
        };
        let _ = write!(
            html,
            "<text class=\"axis\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{}\">{}</text>",
            window.x(window.start_ns.saturating_add(since)),
            y + 16.0,
            units::ns(since),
        );
    }
    html
}
