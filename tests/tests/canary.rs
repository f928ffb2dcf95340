//! loopprobe's check of itself: a known block in its own process comes out, and is in no figure of
//! the target.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{session::Session, take_machine, target::Target};

/// Far more than a block of 20 ms takes to come out.
const PATIENCE: Duration = Duration::from_secs(20);

fn metrics(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Waits for a line of the metrics.
fn await_metric(address: &str, line: &str) -> Result<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = metrics(address)?;
        if text.lines().any(|found| found == line) {
            return Ok(text);
        }
        ensure!(Instant::now() < end, "no {line:?} in {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_block_of_loopprobes_own_comes_out_and_is_in_no_figure() -> Result<()> {
    take_machine!();
    // The target's own task never blocks, and one thread polls it at a time.
    let target = Target::busy("pace", 1_000)?;
    for mode in [&[][..], &["--light"], &["--no-stacks"]] {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let mut args = vec!["--metrics", &address, "--threshold", "15ms"];
        args.extend(mode);
        let session = Session::attach(target.pid(), &args)?;
        let text = await_metric(&address, "loopprobe_canary_ok 1")?;
        ensure!(text.contains("loopprobe_canary_checks_total{result=\"ok\"} 1"));
        ensure!(text.contains("loopprobe_root_future_covered "), "{text}");
        await_metric(&address, "loopprobe_sites{state=\"fired\"} 1")?;
        let report = session.interrupt()?;
        let canary = report.summary.canary.context("a check")?;
        ensure!(canary.ok == Some(true) && canary.failed == 0, "{canary:?}");
        ensure!(
            canary.checks >= 1 && canary.block_ns == 30_000_000,
            "{canary:?}"
        );
        let coverage = report.summary.coverage.as_deref().context("a coverage")?;
        ensure!(coverage.sites_fired == 1, "{coverage:?}");
        ensure!(coverage.sites as usize == report.head.sites, "{coverage:?}");
        // A slow machine may make the target's polls long, but loopprobe's own are never among
        // them.
        ensure!(report.polls.iter().all(|poll| poll.pid == target.pid()));
        let tasks = &report.summary.tasks;
        ensure!(tasks.len() == 1, "{tasks:?}");
        ensure!(
            report.summary.workers <= Some(2),
            "{:?}",
            report.summary.workers
        );
        ensure!(
            report
                .notices
                .iter()
                .all(|n| !n.message.contains("check of itself"))
        );
    }
    Ok(())
}

#[test]
fn a_longer_threshold_has_a_longer_block() -> Result<()> {
    take_machine!();
    let target = Target::busy("pace", 1_000)?;
    let session = Session::attach(target.pid(), &["--threshold", "200ms", "--duration", "3s"])?;
    let canary = session.finish()?.summary.canary.context("a check")?;
    ensure!(canary.block_ns == 400_000_000, "{canary:?}");
    ensure!(canary.ok == Some(true), "{canary:?}");
    Ok(())
}

#[test]
fn watching_says_that_there_is_no_check() -> Result<()> {
    take_machine!();
    let target = Target::busy("pace", 1_000)?;
    let args = ["--mode", "watch", "--duration", "1s"];
    let summary = Session::attach(target.pid(), &args)?.finish()?.summary;
    let canary = summary.canary.context("a word of it")?;
    ensure!(canary.ok.is_none() && canary.checks == 0, "{canary:?}");
    ensure!(canary.not_checked.is_some() && summary.coverage.is_none());
    Ok(())
}
