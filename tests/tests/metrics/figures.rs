//! Figures, against what the target and the report say.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    counted::{at, counts, monotonic_ns},
    matrix::{Build, Tokio, target},
    session::Session,
    share_machine,
    target::Target,
};

use crate::{free_port, get, scraped};

fn sum(samples: &BTreeMap<String, f64>, prefix: &str) -> f64 {
    let of = samples.iter().filter(|(name, _)| name.starts_with(prefix));
    of.map(|(_, value)| value).sum()
}

#[test]
fn polls_are_as_many_as_the_target_counts() -> Result<()> {
    share_machine!();
    let target = Target::busy("busy", 50_000)?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    // Figures change once a second; when they do tells of when they are.
    let mut changes: Vec<(u64, f64)> = Vec::new();
    let end = Instant::now() + Duration::from_secs(16);
    while Instant::now() < end {
        let polls = scraped(port)?["loopprobe_polls_total"];
        if changes.last().is_none_or(|(_, before)| *before != polls) {
            changes.push((monotonic_ns(), polls));
        }
        thread::sleep(Duration::from_millis(5));
    }
    session.interrupt()?;
    ensure!(
        get(port, "/metrics").is_err(),
        "nobody answers after the end"
    );
    // The first is not a change, and the second may be older than the target's first line.
    let (first, last) = (
        *changes.get(2).context("changes")?,
        changes[changes.len() - 1],
    );
    let counted = last.1 - first.1;
    let truth = counts(&target, last.0)?;
    let own = at(&truth, last.0)? - at(&truth, first.0)?;
    println!("{} changes, {counted} polls of {own:.0}", changes.len());
    ensure!(changes.len() >= 5, "{changes:?}");
    ensure!((counted / own - 1.0).abs() < 0.01, "{counted} of {own}");
    Ok(())
}

#[test]
fn long_polls_are_those_of_the_report() -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 15_000)?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_secs(3));
    let (head, _) = get(port, "/metrics")?;
    ensure!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    ensure!(get(port, "/")?.0.starts_with("HTTP/1.1 404"));
    let before = scraped(port)?;
    let report = session.interrupt()?;
    let ended = report.ended();
    let (long, blocked) = (
        sum(&before, "loopprobe_long_polls_total"),
        sum(&before, "loopprobe_blocked_seconds_total"),
    );
    println!(
        "{long} long polls, {blocked} s, of {} in the report",
        ended.len()
    );
    // The rest came after the scrape.
    let first: Vec<_> = ended.iter().take(long as usize).collect();
    let truth: u64 = first.iter().map(|poll| poll.duration_ns).sum();
    ensure!(long > 100.0 && first.len() == long as usize);
    ensure!(
        (blocked - truth as f64 / 1e9).abs() < 1e-6,
        "{blocked} of {truth}"
    );
    ensure!(
        before.keys().any(|name| name.contains(r#"cause="sleep""#)),
        "{before:?}"
    );
    ensure!(before["loopprobe_threshold_seconds"] == 0.01);
    ensure!(before["loopprobe_workers"] == 2.0);
    // Both workers block all the time; without I/O nobody turns a driver.
    let busy: Vec<f64> = before
        .iter()
        .filter(|(name, _)| name.starts_with("loopprobe_worker_busy_ratio{worker="))
        .map(|(_, share)| *share)
        .collect();
    ensure!(
        busy.len() == 2 && busy.iter().all(|share| (0.8..=1.0).contains(share)),
        "{busy:?}"
    );
    ensure!(!before.contains_key("loopprobe_driver_lag_seconds"));
    // A histogram is cumulative, and holds every poll.
    let bucket =
        |end: &str| before[&format!("loopprobe_poll_duration_seconds_bucket{{le=\"{end}\"}}")];
    ensure!(bucket("+Inf") == before["loopprobe_poll_duration_seconds_count"]);
    let (below, above) = (bucket("0.008388608"), bucket("0.016777216"));
    ensure!(below + 0.5 * long < above, "{below} and {above} of {long}");
    ensure!(
        before
            .iter()
            .any(|(name, _)| name.starts_with("loopprobe_overhead_seconds_total{part="))
    );
    ensure!(before.contains_key(r#"loopprobe_lost_total{kind="events"}"#));
    Ok(())
}

/// Each second has polls of 30 to 70 ms.
#[test]
fn the_driver_lag_is_as_long_as_the_polls() -> Result<()> {
    share_machine!();
    let program = target(Build::DEFAULT, "health")?;
    let target = Target::start(&program, &["lag", "--millis", "60000"])?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_millis(2_500));
    let lag = scraped(port)?["loopprobe_driver_lag_seconds"];
    session.interrupt()?;
    ensure!((0.03..0.2).contains(&lag), "{lag}");
    Ok(())
}

/// One task, two closures that never end and one that has.
#[test]
fn tasks_and_the_blocking_pool_are_those_of_the_target() -> Result<()> {
    share_machine!();
    let build = Build {
        tokio: Tokio::Exactly("1.50.0"),
        ..Build::DEFAULT
    };
    let target = Target::start(&target(build.stripped(), "crowd")?, &["pool"])?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_millis(3_500));
    let samples = scraped(port)?;
    session.interrupt()?;
    let expected = [
        ("loopprobe_active_tasks", 1.0),
        (r#"loopprobe_blocking_pool_threads{state="busy"}"#, 2.0),
        (r#"loopprobe_blocking_pool_threads{state="idle"}"#, 1.0),
    ];
    for (name, value) in expected {
        ensure!(samples.get(name) == Some(&value), "{name}: {samples:?}");
    }
    Ok(())
}
