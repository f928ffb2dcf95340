//! Signals: spans, log records and metrics are what the target and the report say.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    otlp::{Received, Transport, number, text, total},
    session::Report,
    share_machine,
    truth::Poll,
};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    metrics::v1::{AggregationTemporality, metric::Data},
    trace::v1::Span,
};

use crate::watched;

const MS: u64 = 1_000_000;

over_both! {
    long_polls_are_spans_and_records_at_their_true_time,
}

/// What lies between the target's clock and Unix time.
fn unix_minus_monotonic() -> Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live value.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let monotonic_ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(unix.as_nanos())? - monotonic_ns)
}

fn long_polls_are_spans_and_records_at_their_true_time(transport: Transport) -> Result<()> {
    share_machine!();
    let receiver = transport.willing()?;
    let url = receiver.url();
    let args = [
        "--otlp",
        &url,
        "--otlp-interval",
        "1s",
        "--critical",
        "30ms",
    ];
    let header = ["--otlp-header", "x-team=loop=1"];
    let (report, truth) = watched("40", &[&args[..], &header].concat())?;
    let all = receiver.sent();
    ensure!(
        all.iter()
            .all(|sent| sent.header("x-team") == Some("loop=1")),
        "{all:?}"
    );
    let received = Received::of(&all, transport)?;
    for resource in &received.resources {
        let own = &resource.attributes;
        ensure!(text(own, "service.name") == report.head.name, "{own:?}");
        ensure!(number(own, "process.pid") == Some(report.head.pid.into()));
        ensure!(!text(own, "host.name").is_empty(), "{own:?}");
    }
    spans_are_true(&received, &truth)?;
    spans_are_those_of_the_report(&received, &report)?;
    records_belong_to_spans(&received)?;
    metrics_are_true(&received, &report, &truth)?;
    ensure!(report.errors.contains("otlp: "), "{}", report.errors);
    ensure!(!report.errors.contains(" lost"), "{}", report.errors);
    Ok(())
}

/// Each poll that the target knows to be long has its span, and there is no other one.
fn spans_are_true(received: &Received, truth: &[Poll]) -> Result<()> {
    // A preemption beside a poll belongs to it from outside; see `accuracy`.
    const CLOSE_NS: u64 = 300_000;
    let offset = unix_minus_monotonic()?;
    let threshold = 10 * MS;
    let mut left: Vec<&Span> = received.spans.iter().collect();
    let mut found = 0;
    for poll in truth.iter().filter(|poll| poll.kind == "async") {
        let start = poll.start_ns + offset;
        let at = left.iter().position(|span| {
            number(&span.attributes, "thread.id") == Some(poll.tid.into())
                && span.start_time_unix_nano.abs_diff(start) < MS
        });
        let Some(at) = at else {
            ensure!(
                poll.duration_ns() < threshold + CLOSE_NS,
                "no span of {poll:?}"
            );
            continue;
        };
        let span = left.remove(at);
        found += 1;
        let duration = span.end_time_unix_nano - span.start_time_unix_nano;
        ensure!(
            duration.abs_diff(poll.duration_ns()) < 2 * MS,
            "{span:?} is {poll:?}"
        );
        ensure!(number(&span.attributes, "loopprobe.task_id") == poll.task_id);
    }
    println!("{found} spans of {} true polls", truth.len());
    ensure!(found > 40, "{found}");
    // The root future only waits; a machine without a CPU for it makes it long.
    left.retain(|span| text(&span.attributes, "loopprobe.cause") != "preempted");
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn spans_are_those_of_the_report(received: &Received, report: &Report) -> Result<()> {
    let spans: BTreeMap<(u64, u64), &Span> = received
        .spans
        .iter()
        .map(|span| {
            let tid = number(&span.attributes, "thread.id").unwrap_or_default();
            ((tid, span.start_time_unix_nano), span)
        })
        .collect();
    ensure!(spans.len() == received.spans.len(), "one is there twice");
    ensure!(spans.len() == report.ended().len(), "{}", report.errors);
    for poll in report.ended() {
        let start = report.head.start_unix_ns + poll.start_ns - report.head.start_ns;
        let span = spans.get(&(poll.tid.into(), start)).context("a span")?;
        let own = &span.attributes;
        ensure!(span.name == poll.task.name, "{span:?}");
        ensure!(span.end_time_unix_nano - start == poll.duration_ns);
        ensure!(span.trace_id.len() == 16 && span.span_id.len() == 8);
        let diagnosis = poll.diagnosis.as_ref().context("a diagnosis")?;
        ensure!(text(own, "loopprobe.cause") == diagnosis.cause.name());
        ensure!(text(own, "loopprobe.advice") == diagnosis.advice);
        let call = diagnosis.call.as_ref().map(|call| call.function.as_str());
        ensure!(text(own, "loopprobe.call") == call.unwrap_or_default());
        let split = poll.split.context("a split")?;
        ensure!(number(own, "loopprobe.on_cpu_ns") == Some(split.on_cpu_ns));
        ensure!(number(own, "loopprobe.runnable_ns") == Some(split.runnable_ns));
        ensure!(number(own, "loopprobe.blocked_ns") == Some(split.blocked_ns));
    }
    let sleeps = spans.values().filter(|span| {
        let own = &span.attributes;
        text(own, "loopprobe.cause") == "sleep" && !text(own, "loopprobe.call").is_empty()
    });
    ensure!(sleeps.count() * 10 > spans.len() * 8);
    Ok(())
}

fn records_belong_to_spans(received: &Received) -> Result<()> {
    let records = received.ended();
    ensure!(records.len() == received.spans.len());
    for record in records {
        let span = received
            .spans
            .iter()
            .find(|span| span.span_id == record.span_id && span.trace_id == record.trace_id)
            .context("a span")?;
        ensure!(record.time_unix_nano == span.end_time_unix_nano);
        let duration = span.end_time_unix_nano - span.start_time_unix_nano;
        let severity = if duration >= 30 * MS { "ERROR" } else { "WARN" };
        ensure!(record.severity_text == severity, "{record:?}");
        ensure!(text(&record.attributes, "loopprobe.task") == span.name);
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        let Some(Value::StringValue(body)) = body else {
            anyhow::bail!("no text: {record:?}");
        };
        ensure!(
            body.starts_with(&span.name) && body.contains("blocked for"),
            "{body}"
        );
    }
    Ok(())
}

fn metrics_are_true(received: &Received, report: &Report, truth: &[Poll]) -> Result<()> {
    let polls = total(received.last("loopprobe_polls_total")?)?;
    ensure!(Some(polls as u64) == report.summary.polls, "{polls}");
    let observed = truth.iter().filter(|poll| poll.kind == "async");
    let observed: Vec<_> = observed
        .filter(|poll| poll.start_ns > report.head.start_ns)
        .collect();
    ensure!(
        (polls / observed.len() as f64 - 1.0).abs() < 0.02,
        "{polls} of {}",
        observed.len()
    );
    let long = total(received.last("loopprobe_long_polls_total")?)?;
    ensure!(long as usize == report.ended().len(), "{long}");
    let durations = received.last("loopprobe_poll_duration_seconds")?;
    ensure!(durations.unit == "s");
    let Some(Data::Histogram(histogram)) = &durations.data else {
        anyhow::bail!("no histogram: {durations:?}");
    };
    ensure!(histogram.aggregation_temporality() == AggregationTemporality::Cumulative);
    let point = histogram.data_points.first().context("a point")?;
    ensure!(point.count as f64 == polls);
    ensure!(point.start_time_unix_nano == report.head.start_unix_ns);
    ensure!(point.bucket_counts.len() == point.explicit_bounds.len() + 1);
    // The kernel side's buckets end where these do.
    for (at, &bound) in point.explicit_bounds.iter().enumerate() {
        let below: u64 = point.bucket_counts[..=at].iter().sum();
        let near = |poll: &&&Poll| (poll.duration_ns() as f64 / 1e9 / bound - 1.0).abs() < 0.03;
        let close = observed.iter().filter(near).count() + observed.len() / 50 + 1;
        let own = observed.iter();
        let own = own.filter(|poll| (poll.duration_ns() as f64) < bound * 1e9);
        // What takes microseconds is longer from outside, as the target's clock reads are in it.
        if bound > 0.001 {
            ensure!(
                own.count().abs_diff(below as usize) <= close,
                "{below} below {bound}"
            );
        }
    }
    ensure!(received.last("loopprobe_lost_total").is_ok());
    ensure!(received.metrics.len() >= 2, "each second, and at the end");
    Ok(())
}
