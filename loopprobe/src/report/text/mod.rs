//! The report for people.

mod calls;
mod delays;
mod doubts;
mod finding;
mod fold;
mod interval;
mod kinds;
mod long_poll;
mod no_polls;
mod stack;
mod style;
mod summary;
mod table;
mod threads;
mod width;

use std::io::{self, Write};

pub use self::threads::write_threads;
use self::{
    kinds::{Kinds, Say},
    long_poll::Look,
    width::Width,
};
use super::{Chosen, Thresholds, WallClock, clean, words};
use crate::model::{Event, LongPoll, Notice, Session, Sink};

/// What to leave out of the text, and how much room there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextOptions {
    /// No head and no remarks.
    pub quiet: bool,
    /// Every long poll with all that is known of it, not only the first of a kind.
    pub verbose: bool,
    /// How many columns a line has; `None` for lines of any length.
    pub columns: Option<usize>,
}

/// Writes a session for people to read. Its colours are ANSI codes: give it a writer that drops
/// them where they do not belong, such as `anstream::AutoStream`.
#[derive(Debug)]
pub struct TextSink<W> {
    out: W,
    options: TextOptions,
    session: Option<Session>,
    thresholds: Thresholds,
    kinds: Kinds,
}

impl<W: Write> TextSink<W> {
    /// Writes to `out`, each event at once.
    pub fn new(out: W, options: TextOptions) -> Self {
        Self {
            out,
            options,
            session: None,
            thresholds: Thresholds::default(),
            kinds: Kinds::default(),
        }
    }

    fn width(&self) -> Width {
        Width::new(self.options.columns)
    }

    fn long_poll(&mut self, poll: &LongPoll) -> io::Result<()> {
        let look = Look {
            clock: self.clock(),
            width: self.width(),
            session: self.session.as_ref(),
        };
        match self.kinds.hear(poll) {
            _ if self.options.verbose => long_poll::block(&mut self.out, poll, look),
            Say::Block => long_poll::block(&mut self.out, poll, look),
            Say::Line(sums) => long_poll::line(&mut self.out, poll, sums, look),
            Say::Nothing => Ok(()),
        }
    }

    fn clock(&self) -> WallClock {
        self.session
            .as_ref()
            .map_or(WallClock::UTC_EPOCH, WallClock::of)
    }
}

impl<W: Write> Sink for TextSink<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let (clock, width) = (self.clock(), self.width());
        self.thresholds.event(event);
        match event {
            Event::Session(session) => {
                if !self.options.quiet {
                    head(&mut self.out, session, width)?;
                }
                self.session = Some(session.clone());
            }
            Event::LongPoll(poll) => self.long_poll(poll)?,
            Event::Notice(notice) => {
                if !self.options.quiet {
                    remark(&mut self.out, notice, clock, width)?;
                }
            }
            Event::Interval(interval) => interval::line(&mut self.out, interval, clock, width)?,
            Event::Finding(finding) => finding::block(&mut self.out, finding, clock, width)?,
            Event::Summary(summary) => {
                summary::write(&mut self.out, summary, self.thresholds, width)?;
            }
        }
        self.out.flush()
    }
}

fn head(out: &mut impl Write, session: &Session, width: Width) -> io::Result<()> {
    let Session { version, pid, .. } = session;
    let mut runtimes = session.runtimes.clone();
    match session.tokio.as_slice() {
        [] if runtimes.is_empty() => runtimes.push("tokio of unknown version".to_owned()),
        [] => {}
        versions => runtimes.insert(0, format!("tokio {}", versions.join(" and "))),
    }
    let runtime = runtimes.join(", ");
    let reported = match session.threshold_ns {
        0 => "every poll is reported".to_owned(),
        threshold => format!("polls >= {} are reported", Chosen(threshold)),
    };
    let found = match session.sites {
        _ if let Some(watched) = words::watched(session.mode) => {
            format!("{}, {watched}", clean(&runtime))
        }
        // A program that has not begun: its libraries are to come.
        0 => "no Tokio so far".to_owned(),
        sites => format!(
            "{}, {}, {}",
            clean(&runtime),
            words::count(sites as u64, "poll site"),
            words::count(session.task_types as u64, "task type"),
        ),
    };
    let head = format!(
        "loopprobe {version}: attached to {} (pid {pid}), {found}; {reported}",
        clean(&session.name),
    );
    writeln!(out, "{}", width.wrap(&head, 4))?;
    for limit in &session.limits {
        note(out, "", limit, width)?;
    }
    Ok(())
}

fn remark(out: &mut impl Write, notice: &Notice, clock: WallClock, width: Width) -> io::Result<()> {
    let time = format!("{}  ", clock.time_of_day(notice.time_ns));
    note(out, &time, &notice.message, width)
}

fn note(out: &mut impl Write, before: &str, text: &str, width: Width) -> io::Result<()> {
    const LABEL: &str = "note: ";
    let text = width.wrap(&clean(text), before.len() + LABEL.len());
    writeln!(out, "{before}{}note:{0:#} {text}", style::NOTE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(json: serde_json::Value) -> Event {
        serde_json::from_value(json).unwrap()
    }

    fn session() -> Event {
        event(json!({
            "type": "session", "schema": 1, "version": "0.1.0", "pid": 7, "name": "api\u{1b}[2J", "start_ns": 0,
            "start_unix_ns": 0, "threshold_ns": 10_000_000, "sites": 122, "task_types": 61, "tokio": ["1.44.2"],
            "limits": ["the root future is not covered"],
        }))
    }

    fn long_poll(ended: bool) -> Event {
        event(json!({
            "type": "long_poll", "pid": 7, "tid": 9, "thread": "worker", "task_id": 1423, "start_ns": 5_000_000_000_u64,
            "task": {"name": "api::handle", "name_source": "v0", "certain": true, "kind": "async",
                     "file": "src/upload.rs", "line": 42},
            "duration_ns": 812_400_000, "ended": ended,
            "on_cpu_ns": 300_000, "runnable_ns": 200_000, "blocked_ns": 811_900_000,
            "cause": "file_io", "call": {"function": "api::store", "file": "src/upload.rs", "line": 57},
            "evidence": {"path": "/var/data/big.bin"}, "advice": "use tokio::fs",
            "stacks": [{"ns": 811_900_000, "start_ns": 0, "kind": "blocked", "outcome": "complete", "syscall": "read",
                        "frames": [{"function": "std::fs::read", "module": null, "offset": null, "runtime": true},
                                   {"function": "api::store", "file": "src/upload.rs", "line": 57, "module": null,
                                    "offset": null}]}],
        }))
    }

    fn text(events: &[Event], options: TextOptions) -> String {
        let mut out = Vec::new();
        let mut sink = TextSink::new(anstream::StripStream::new(&mut out), options);
        for event in events {
            sink.event(event).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_long_poll_says_where_why_and_what_to_do() {
        let text = text(&[long_poll(true)], TextOptions::default());
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.split_once(":05.000  ").map_or(line, |(_, rest)| rest))
            .collect();
        assert_eq!(
            lines,
            [
                "LONG POLL  812.4ms  file I/O in api::store",
                "    task 1423  api::handle  src/upload.rs:42",
                "    thread worker/9: 811.9ms blocked, 300.0us on CPU, 200.0us waiting for a CPU; path /var/data/big.bin",
                "      std::fs::read",
                "    > api::store  src/upload.rs:57",
                "    fix: use tokio::fs",
            ]
        );
    }

    #[test]
    fn a_poll_that_still_runs_says_so() {
        assert!(
            text(&[long_poll(false)], TextOptions::default()).contains("STILL POLLING for 812.4ms")
        );
    }

    #[test]
    fn the_head_names_the_target_its_runtime_and_the_limits() {
        let head = text(&[session()], TextOptions::default());
        assert_eq!(
            head,
            "loopprobe 0.1.0: attached to api\\u{1b}[2J (pid 7), tokio 1.44.2, 122 poll sites, 61 task types; \
             polls >= 10ms are reported\nnote: the root future is not covered\n"
        );
        assert_eq!(
            text(
                &[session()],
                TextOptions {
                    quiet: true,
                    ..TextOptions::default()
                }
            ),
            ""
        );
    }
}
