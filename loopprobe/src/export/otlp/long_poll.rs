//! A long poll as a span and as a log record, and a finding as a log record.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
    trace::v1::{Span, span::SpanKind},
};

use super::attributes::{flag, number, text};
use crate::{
    clock::nanoseconds,
    export::alert::Level,
    model::{Cause, Finding, LongPoll, Session},
    report::{WallClock, clean, words},
};

/// A poll with the times and ids that its span and its records share.
pub(super) struct Told<'a> {
    poll: &'a LongPoll,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    start_unix_ns: u64,
    end_unix_ns: u64,
}

impl<'a> Told<'a> {
    /// Of a session's poll.
    pub(super) fn new(poll: &'a LongPoll, session: &Session) -> Self {
        let (trace_id, span_id) = ids(poll, session);
        let start_unix_ns = WallClock::of(session).unix_ns(poll.start_ns);
        Self {
            poll,
            trace_id,
            span_id,
            start_unix_ns,
            end_unix_ns: start_unix_ns.saturating_add(poll.duration_ns),
        }
    }

    /// From its beginning to its end, or as far as it was seen.
    pub(super) fn span(&self) -> Span {
        Span {
            trace_id: self.trace_id.clone(),
            span_id: self.span_id.clone(),
            // Sampled, as W3C's Trace Context has it.
            flags: 1,
            name: self.task(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.start_unix_ns,
            end_time_unix_nano: self.end_unix_ns,
            attributes: attributes(self.poll),
            ..Span::default()
        }
    }

    /// One that says so, with the span's ids.
    pub(super) fn record(&self, level: Option<Level>) -> LogRecord {
        let (verb, event) = if self.poll.ended {
            ("was blocked for", "loopprobe.long_poll")
        } else {
            ("has been blocked for", "loopprobe.open_poll")
        };
        let duration = Duration::from_nanos(self.poll.duration_ns);
        let body = format!(
            "{} {verb} {duration:.1?} ({})",
            self.task(),
            cause(self.poll)
        );
        let mut attributes = attributes(self.poll);
        attributes.push(text("loopprobe.task", &self.poll.task.name));
        attributes.push(number("loopprobe.duration_ns", self.poll.duration_ns));
        LogRecord {
            time_unix_nano: self.end_unix_ns,
            attributes,
            trace_id: self.trace_id.clone(),
            span_id: self.span_id.clone(),
            flags: 1,
            ..record(level, event, body)
        }
    }

    fn task(&self) -> String {
        clean(&self.poll.task.name).into_owned()
    }
}

/// A finding as a log record.
pub(super) fn finding(finding: &Finding, session: &Session, level: Option<Level>) -> LogRecord {
    LogRecord {
        time_unix_nano: WallClock::of(session).unix_ns(finding.time_ns),
        attributes: vec![
            text("loopprobe.finding", finding.kind.name()),
            text("loopprobe.advice", &finding.advice),
            number("loopprobe.duration_ns", finding.evidence.duration_ns),
        ],
        ..record(level, "loopprobe.finding", words::finding(finding))
    }
}

fn record(level: Option<Level>, event: &str, body: String) -> LogRecord {
    let (severity, name) = match level {
        None => (SeverityNumber::Info, "INFO"),
        Some(Level::Warning) => (SeverityNumber::Warn, "WARN"),
        Some(Level::Critical) => (SeverityNumber::Error, "ERROR"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    LogRecord {
        observed_time_unix_nano: nanoseconds(now.unwrap_or_default()),
        severity_number: severity.into(),
        severity_text: name.to_owned(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(body)),
        }),
        event_name: event.to_owned(),
        ..LogRecord::default()
    }
}

fn cause(poll: &LongPoll) -> String {
    let diagnosis = poll.diagnosis.as_ref();
    diagnosis.map_or(Cause::Unknown, |found| found.cause).name()
}

/// What is known of it. `thread.*` and `code.*` are of OpenTelemetry's semantic conventions.
fn attributes(poll: &LongPoll) -> Vec<KeyValue> {
    let mut attributes = vec![
        number("thread.id", poll.tid.into()),
        text("thread.name", &poll.thread),
        text("loopprobe.cause", &cause(poll)),
    ];
    if let Some(id) = poll.task_id {
        attributes.push(number("loopprobe.task_id", id));
    }
    if let Some(split) = poll.split {
        attributes.extend([
            number("loopprobe.on_cpu_ns", split.on_cpu_ns),
            number("loopprobe.runnable_ns", split.runnable_ns),
            number("loopprobe.blocked_ns", split.blocked_ns),
        ]);
    }
    if let Some(found) = &poll.diagnosis {
        attributes.push(text("loopprobe.advice", &found.advice));
        if let Some(call) = &found.call {
            attributes.push(text("loopprobe.call", &call.function));
            attributes.push(text("code.function.name", &call.function));
            if let Some(place) = &call.location {
                attributes.push(text("code.file.path", &place.file));
                attributes.push(number("code.line.number", place.line.into()));
            }
        }
    }
    for (key, holds) in [
        ("loopprobe.still_open", !poll.ended),
        ("loopprobe.since_before_attach", poll.since_before_attach),
        ("loopprobe.block_in_place", poll.block_in_place),
    ] {
        if holds {
            attributes.push(flag(key, true));
        }
    }
    attributes
}

/// Each long poll is a trace of its own. Its ids are the same whenever it is told of, and look
/// random, as samplers want them.
fn ids(poll: &LongPoll, session: &Session) -> (Vec<u8>, Vec<u8>) {
    let part = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, session.start_unix_ns, session.pid).hash(&mut hasher);
        (poll.tid, poll.start_ns, poll.task_id).hash(&mut hasher);
        // All zeroes are no id.
        hasher.finish().max(1).to_be_bytes()
    };
    ([part(0), part(1)].concat(), part(2).to_vec())
}
