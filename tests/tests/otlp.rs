//! OpenTelemetry: what a receiver decodes with the protocol's own definitions is what the target
//! says of itself.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{self, Build, target},
    otlp::{Received, Transport, number, text, total},
    receiver::Answer,
    session::{Report, Session},
    share_machine, take_machine,
    target::Target,
    truth::Poll,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
    common::v1::any_value::Value,
    metrics::v1::{AggregationTemporality, metric::Data},
    trace::v1::Span,
};
use prost::Message as _;

const MS: u64 = 1_000_000;

/// Makes a test of each function for each transport.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod http {
            $(#[test] fn $name() -> anyhow::Result<()> { super::$name(super::Transport::Http) })*
        }
        mod grpc {
            $(#[test] fn $name() -> anyhow::Result<()> { super::$name(super::Transport::Grpc) })*
        }
    };
}

over_both! {
    long_polls_are_spans_and_records_at_their_true_time,
    what_is_refused_for_now_is_sent_again_and_what_is_refused_for_good_is_counted,
    a_receiver_that_hangs_costs_the_session_nothing_but_counted_drops,
    nobody_there_is_said,
    serve_sends_for_each_process,
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

/// A session over all that a target with a record of its own does: some 40 ms a round.
fn watched(rounds: &str, args: &[&str]) -> Result<(Report, Vec<Poll>)> {
    matrix::loopprobe()?;
    let program = target(Build::DEFAULT, "truth")?;
    let all = ["sleep", "--gate", "inside", "--rounds", rounds, "--hold"];
    let mut target = Target::start(&program, &all)?;
    let session = Session::attach(target.pid(), args)?;
    let truth = target.work()?;
    Ok((session.interrupt()?, truth))
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

/// The first request of each kind is refused for a second; logs are refused for good after that, or
/// in part.
fn what_is_refused_for_now_is_sent_again_and_what_is_refused_for_good_is_counted(
    transport: Transport,
) -> Result<()> {
    share_machine!();
    let receiver = transport.start(|number, sent| {
        let partial = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 1,
                error_message: "one is too old".to_owned(),
            }),
        };
        match (number, sent.url.as_str()) {
            (0, _) => Answer::Refuse(503, Some(1)),
            (_, "/v1/metrics") => Answer::Refuse(400, None),
            (_, "/v1/logs") => Answer::Take(partial.encode_to_vec()),
            _ => Answer::Take(Vec::new()),
        }
    })?;
    let url = receiver.url();
    // Long enough that something is lost before the summary is made.
    let (report, _) = watched("120", &["--otlp", &url, "--otlp-interval", "1s"])?;
    let all = receiver.sent();
    let (first, second) = (&all[0], &all[1]);
    ensure!(first.url == second.url && first.body == second.body);
    let waited = second.at - first.at;
    ensure!(waited >= Duration::from_millis(990), "{waited:?}");
    ensure!(waited < Duration::from_secs(5), "{waited:?}");
    // Without the one that was refused for now, whichever it was.
    let of = |url: &'static str| all[1..].iter().filter(move |sent| sent.url == url);
    let mut metrics: Vec<_> = of("/v1/metrics").collect();
    let exports = metrics.len();
    metrics.dedup_by_key(|sent| &sent.body);
    ensure!(metrics.len() == exports, "none of them is sent again");
    let received = Received::of(&all[1..], transport)?;
    ensure!(received.spans.len() == report.ended().len());
    let logs = of("/v1/logs").count();
    for (lost, what) in [(logs, "log record"), (exports, "metrics export")] {
        ensure!(
            report.errors.contains(&format!("{lost} {what}")),
            "{}",
            report.errors
        );
    }
    ensure!(report.errors.contains(" lost"), "{}", report.errors);
    let lost = report.summary.lost.context("what was lost")?;
    ensure!(lost.unwritten_events > 0, "{lost:?}");
    Ok(())
}

/// Two workers with some 800 long polls a second each: what waits for the receiver is full after a
/// second.
fn a_receiver_that_hangs_costs_the_session_nothing_but_counted_drops(
    transport: Transport,
) -> Result<()> {
    share_machine!();
    let receiver = transport.start(|_, _| Answer::Hang)?;
    let url = receiver.url();
    let target = Target::busy("block", 1_000)?;
    let args = ["--threshold", "500us", "--duration", "4s", "--otlp", &url];
    let session = Session::attach(target.pid(), &args)?;
    let began = Instant::now();
    let report = session.finish()?;
    let took = began.elapsed();
    let seconds = report.summary.duration_ns as f64 / 1e9;
    ensure!(report.status.success(), "{}", report.errors);
    ensure!((3.9..4.6).contains(&seconds), "it took {seconds} s");
    ensure!(took < Duration::from_secs(20), "{took:?}");
    let lost = report.summary.lost.context("what was lost")?;
    let long = report.summary.long_polls;
    println!("{long} long polls, {lost:?}: {}", report.errors);
    ensure!(long > 2_000, "{long}");
    ensure!(lost.events == 0, "{lost:?}");
    ensure!(
        report.ended().len() as u64 + 4 >= long,
        "the report has all"
    );
    ensure!(lost.unwritten_events > 100, "{lost:?}");
    ensure!(
        report.errors.contains("the receiver was too slow"),
        "{}",
        report.errors
    );
    Ok(())
}

fn nobody_there_is_said(transport: Transport) -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 30_000)?;
    // Nobody listens at port 1.
    let url = transport.url(1);
    let args = ["--duration", "1s", "--otlp", &url];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    ensure!(report.status.success(), "{}", report.errors);
    ensure!(report.ended().len() > 30);
    for said in ["warning: otlp: nothing sent; ", &url, "onnection refused"] {
        ensure!(report.errors.contains(said), "{said}: {}", report.errors);
    }
    Ok(())
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() -> Result<()> {
    let refused = |args: &[&str], said: &str| -> Result<()> {
        let mut command = Command::new(matrix::loopprobe()?);
        let output = command.args(["attach", "--pid", "1"]).args(args).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{errors}");
        ensure!(errors.contains(said), "{errors}");
        Ok(())
    };
    refused(&["--otlp", "127.0.0.1:4318"], "grpc://HOST:4317")?;
    let url = "http://127.0.0.1:4318/v1/traces";
    refused(&["--otlp", url], "give 'http://127.0.0.1:4318'")?;
    let url = "grpc://127.0.0.1:4317/v1/traces";
    refused(&["--otlp", url], "give 'grpc://127.0.0.1:4317'")?;
    for header in ["x-bin=1", "grpc-timeout=1S"] {
        let args = ["--otlp", "grpc://127.0.0.1", "--otlp-header", header];
        refused(&args, "cannot be sent over gRPC")?;
    }
    Ok(())
}

/// The other way round is tried by the unit tests of `export::otlp::grpc`.
#[test]
fn a_port_for_grpc_is_told_from_what_it_answers_to_http() -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 30_000)?;
    let receiver = Transport::Grpc.willing()?;
    let url = receiver.url().replace("grpc://", "http://");
    let args = ["--duration", "1s", "--otlp", &url];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let hint = format!("give --otlp {}", receiver.url());
    ensure!(report.errors.contains(&hint), "{hint}: {}", report.errors);
    ensure!(report.errors.contains("nothing sent"), "{}", report.errors);
    Ok(())
}

/// gRPC's "too many" may pass only where the receiver says when.
#[test]
fn a_receiver_over_grpc_that_is_exhausted_is_asked_again_only_if_it_says_when() -> Result<()> {
    share_machine!();
    for after in [None, Some(1)] {
        let receiver = Transport::Grpc.start(move |number, _| match number {
            0 => Answer::Refuse(429, after),
            _ => Answer::Take(Vec::new()),
        })?;
        let url = receiver.url();
        let args = ["--otlp", &url, "--otlp-only", "traces"];
        let (report, _) = watched("40", &args)?;
        let all = receiver.sent();
        let again = all.iter().skip(1).any(|sent| sent.body == all[0].body);
        ensure!(again == after.is_some(), "{}", report.errors);
        let said = "ResourceExhausted: no";
        ensure!(
            report.errors.contains(said) == after.is_none(),
            "{}",
            report.errors
        );
    }
    Ok(())
}

fn serve_sends_for_each_process(transport: Transport) -> Result<()> {
    take_machine!();
    let receiver = transport.willing()?;
    let url = receiver.url();
    let targets = [
        Target::busy("block", 20_000)?,
        Target::busy("block", 30_000)?,
    ];
    let mut child = Command::new(matrix::loopprobe()?)
        .args([
            "serve",
            "--name",
            "busy",
            "--quiet",
            "--output",
            "/dev/null",
        ])
        .args([
            "--otlp",
            &url,
            "--otlp-only",
            "traces",
            "--look-every",
            "300ms",
        ])
        .spawn()?;
    let end = Instant::now() + Duration::from_mins(1);
    let mut seen = BTreeMap::new();
    while seen.len() < targets.len() && Instant::now() < end {
        let Ok(sent) = receiver.next(Duration::from_secs(10)) else {
            continue;
        };
        ensure!(sent.url == "/v1/traces", "{}", sent.url);
        let received = Received::of(&[sent], transport)?;
        let pid = number(&received.resources[0].attributes, "process.pid");
        seen.insert(pid, received.spans.len());
    }
    // SAFETY: the pid is our own child's, which has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let status = loopprobe_tests::target::wait(&mut child, Duration::from_mins(1))?;
    ensure!(status.success());
    for target in &targets {
        ensure!(seen.contains_key(&Some(target.pid().into())), "{seen:?}");
    }
    Ok(())
}
