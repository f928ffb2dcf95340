//! The report for people.

mod long_poll;
mod stack;
mod style;
mod summary;
mod table;

use std::io::{self, Write};

use super::{Chosen, Sink, WallClock, clean};
use crate::model::{Event, Notice, Session};

/// What to leave out of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextOptions {
    /// No head and no remarks.
    pub quiet: bool,
}

/// Writes a session for people to read. Its colours are ANSI codes: give it a writer that drops them where they do not
/// belong, such as `anstream::AutoStream`.
#[derive(Debug)]
pub struct TextSink<W> {
    out: W,
    options: TextOptions,
    session: Option<Session>,
}

impl<W: Write> TextSink<W> {
    /// Writes to `out`, each event at once.
    pub fn new(out: W, options: TextOptions) -> Self {
        Self {
            out,
            options,
            session: None,
        }
    }

    fn clock(&self) -> WallClock {
        self.session
            .as_ref()
            .map(WallClock::of)
            .unwrap_or(WallClock::UTC_EPOCH)
    }
}

impl<W: Write> Sink for TextSink<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let clock = self.clock();
        match event {
            Event::Session(session) => {
                if !self.options.quiet {
                    head(&mut self.out, session)?;
                }
                self.session = Some(session.clone());
            }
            Event::LongPoll(poll) => long_poll::write(&mut self.out, poll, clock)?,
            Event::Notice(notice) => {
                if !self.options.quiet {
                    remark(&mut self.out, notice, clock)?;
                }
            }
            Event::Summary(summary) => {
                let threshold_ns = self
                    .session
                    .as_ref()
                    .map_or(0, |session| session.threshold_ns);
                summary::write(&mut self.out, summary, threshold_ns)?;
            }
        }
        self.out.flush()
    }
}

fn head(out: &mut impl Write, session: &Session) -> io::Result<()> {
    let Session {
        version,
        pid,
        sites,
        task_types,
        ..
    } = session;
    let runtime = match session.tokio.as_slice() {
        [] => "tokio of unknown version".to_owned(),
        versions => format!("tokio {}", versions.join(" and ")),
    };
    let reported = match session.threshold_ns {
        0 => "every poll is reported".to_owned(),
        threshold => format!("polls >= {} are reported", Chosen(threshold)),
    };
    writeln!(
        out,
        "loopprobe {version}: attached to {} (pid {pid}), {}, {sites} poll sites, {task_types} task types; {reported}",
        clean(&session.name),
        clean(&runtime),
    )?;
    for limit in &session.limits {
        writeln!(out, "{}note:{0:#} {}", style::NOTE, clean(limit))?;
    }
    Ok(())
}

fn remark(out: &mut impl Write, notice: &Notice, clock: WallClock) -> io::Result<()> {
    let time = clock.time_of_day(notice.time_ns);
    writeln!(
        out,
        "{time}  {}note:{0:#} {}",
        style::NOTE,
        clean(&notice.message)
    )
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
                "LONG POLL  812.4ms  task 1423  api::handle  src/upload.rs:42  thread worker/9",
                "    file I/O in api::store (src/upload.rs:57); 811.9ms blocked, 300.0us on CPU, 200.0us waiting for a CPU; \
                 path /var/data/big.bin",
                "    811.9ms blocked in read",
                "      std::fs::read",
                "      api::store  src/upload.rs:57",
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
        assert_eq!(text(&[session()], TextOptions { quiet: true }), "");
    }
}
