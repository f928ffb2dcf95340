//! Long polls as trace events in microseconds, for Perfetto and the Firefox Profiler.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::json;

use crate::model::{Event, LongPoll, Sink, Stack, StackKind};

use super::{
    EachOnce,
    label::{frame_name, leaf_name, waiting_name},
    words,
};

/// A timeline in the trace event format, which Perfetto and the Firefox Profiler open: one track
/// per worker, on it the long polls, and inside each the stretches in which it was blocked or
/// waited for a CPU.
///
/// Events are written as they come; the format (its "JSON array format") allows a file that was cut
/// off.
pub struct Timeline<W> {
    out: W,
    origin_ns: u64,
    named: HashSet<u32>,
    once: EachOnce,
    empty: bool,
}

/// A complete event. Times are microseconds since the session began.
#[derive(Serialize)]
struct Slice<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: serde_json::Value,
}

impl<W: Write> Timeline<W> {
    /// A timeline that goes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            origin_ns: 0,
            named: HashSet::new(),
            once: EachOnce::default(),
            empty: true,
        }
    }

    fn write(&mut self, event: &impl Serialize) -> io::Result<()> {
        let separator: &[u8] = if self.empty { b"[\n" } else { b",\n" };
        self.empty = false;
        self.out.write_all(separator)?;
        Ok(serde_json::to_writer(&mut self.out, event)?)
    }

    fn name_thread(&mut self, poll: &LongPoll) -> io::Result<()> {
        if !self.named.insert(poll.tid) {
            return Ok(());
        }
        let name = format!("{} {}", poll.thread, poll.tid);
        self.write(
            &json!({"name": "thread_name", "ph": "M", "pid": poll.pid, "tid": poll.tid, "args": {"name": name}}),
        )
    }

    fn poll(&mut self, poll: &LongPoll) -> io::Result<()> {
        self.name_thread(poll)?;
        let (ts, dur) = self.span(poll.start_ns, poll.duration_ns);
        self.write(&Slice {
            name: &poll.task.name,
            cat: "poll",
            ph: "X",
            ts,
            dur,
            pid: poll.pid,
            tid: poll.tid,
            args: args_of(poll),
        })?;
        let end = poll.start_ns.saturating_add(poll.duration_ns);
        let exact = poll.stacks.iter().filter(|s| s.kind != StackKind::OnCpu);
        for stack in exact {
            // Slices of one track must nest.
            let start = start_of(poll, stack).clamp(poll.start_ns, end);
            let (ts, dur) = self.span(start, stack.ns.min(end - start));
            let frames: Vec<_> = stack.frames.iter().map(frame_name).collect();
            self.write(&Slice {
                name: &leaf_name(poll, stack),
                cat: "blocked",
                ph: "X",
                ts,
                dur,
                pid: poll.pid,
                tid: poll.tid,
                args: json!({"stack": frames}),
            })?;
        }
        self.unplaced(poll)
    }

    /// A poll that only waited for a CPU, and of which no stack was taken, shows how long. When in
    /// the poll is not known.
    fn unplaced(&mut self, poll: &LongPoll) -> io::Result<()> {
        let waited = poll.split.map_or(0, |split| split.runnable_ns);
        if waited == 0 || poll.stacks.iter().any(|s| s.kind != StackKind::OnCpu) {
            return Ok(());
        }
        let (ts, dur) = self.span(poll.start_ns, waited.min(poll.duration_ns));
        self.write(&Slice {
            name: &format!("{} (when in the poll is not known)", waiting_name(poll)),
            cat: "blocked",
            ph: "X",
            ts,
            dur,
            pid: poll.pid,
            tid: poll.tid,
            args: json!({}),
        })
    }

    fn span(&self, start_ns: u64, ns: u64) -> (f64, f64) {
        let since = start_ns.saturating_sub(self.origin_ns);
        (since as f64 / 1e3, ns as f64 / 1e3)
    }

    fn finish(&mut self) -> io::Result<()> {
        for poll in self.once.rest() {
            self.poll(&poll)?;
        }
        let end: &[u8] = if self.empty { b"[]\n" } else { b"\n]\n" };
        self.out.write_all(end)?;
        self.out.flush()
    }
}

impl<W: Write> Sink for Timeline<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Session(session) => {
                self.origin_ns = session.start_ns;
                self.write(&json!({"name": "process_name", "ph": "M", "pid": session.pid, "tid": session.pid,
                    "args": {"name": session.name}}))
            }
            Event::LongPoll(poll) => match self.once.settle(poll) {
                Some(poll) => self.poll(poll),
                None => Ok(()),
            },
            Event::Notice(notice) => {
                let (ts, _) = self.span(notice.time_ns, 0);
                self.write(&json!({"name": notice.message, "ph": "i", "s": "g", "ts": ts, "pid": 0, "tid": 0}))
            }
            Event::Interval(_) | Event::Finding(_) => Ok(()),
            Event::Summary(_) => self.finish(),
        }
    }
}

/// When a stretch began. One stack stands for a wait and for the wait for a CPU that follows it, so
/// both have its time.
fn start_of(poll: &LongPoll, stack: &Stack) -> u64 {
    let wait = poll.stacks.iter().find(|other| {
        stack.kind == StackKind::Runnable
            && other.kind == StackKind::Blocked
            && other.start_ns == stack.start_ns
    });
    wait.map_or(stack.start_ns, |wait| wait.start_ns.saturating_add(wait.ns))
}

fn args_of(poll: &LongPoll) -> serde_json::Value {
    let mut args = json!({
        "task_id": poll.task_id,
        "ended": poll.ended,
        "block_in_place": poll.block_in_place,
        "start_ns": poll.start_ns,
        "duration_ns": poll.duration_ns,
    });
    if let Some(place) = &poll.task.location {
        args["defined"] = json!(place.to_string());
    }
    if let Some(diagnosis) = &poll.diagnosis {
        args["cause"] = json!(words::cause(diagnosis.cause));
        args["advice"] = json!(diagnosis.advice);
        args["call"] = json!(diagnosis.call.as_ref().map(|call| &call.function));
    }
    if let Some(split) = &poll.split {
        args["split"] = json!(split);
    }
    args
}
