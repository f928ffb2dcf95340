//! Receivers that refuse, hang or are not there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    otlp::{Received, Transport},
    receiver::Answer,
    session::Session,
    share_machine,
    target::Target,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use prost::Message as _;

use crate::watched;

over_both! {
    what_is_refused_for_now_is_sent_again_and_what_is_refused_for_good_is_counted,
    a_receiver_that_hangs_costs_the_session_nothing_but_counted_drops,
    nobody_there_is_said,
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
