//! The threshold that `--threshold auto` comes to.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::LongPoll;
use loopprobe_tests::{session::Session, share_machine, target::Target};

use crate::{free_port, scraped};

/// The threshold that `--threshold auto` comes to, once it is another one than at the beginning,
/// and the session's report.
fn fitted(target: &Target) -> Result<(f64, loopprobe_tests::session::Report)> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let args = ["--threshold", "auto", "--metrics", &address];
    let session = Session::attach(target.pid(), &args)?;
    ensure!(session.head.threshold_ns == 10_000_000);
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        thread::sleep(Duration::from_millis(200));
        if scraped(port)?["loopprobe_threshold_seconds"] != 0.01 {
            break;
        }
        ensure!(Instant::now() < end, "nothing was fitted");
    }
    thread::sleep(Duration::from_millis(1_500));
    let threshold = scraped(port)?["loopprobe_threshold_seconds"];
    Ok((threshold, session.interrupt()?))
}

/// Polls of 12 ms are what this program does all the time, so they are not long any more.
#[test]
fn a_threshold_is_fitted_to_long_polls_that_are_common() -> Result<()> {
    share_machine!();
    let (threshold, report) = fitted(&Target::busy("block", 12_000)?)?;
    let changes = report.notices.iter();
    let changes: Vec<_> = changes.filter(|n| n.threshold_ns.is_some()).collect();
    let last = changes.last().context("a notice")?;
    println!("{threshold}: {last:?}");
    ensure!(threshold > 0.012 && threshold <= 0.1, "{threshold}");
    let told = last.threshold_ns.context("a threshold")?;
    ensure!((told as f64 / 1e9 - threshold).abs() < 1e-9, "{last:?}");
    ensure!(last.message.contains("are reported"), "{last:?}");
    let ended = report.ended();
    let is_before = |poll: &&LongPoll| poll.start_ns + poll.duration_ns < changes[0].time_ns;
    let (before, after): (Vec<&LongPoll>, Vec<&LongPoll>) =
        ended.iter().copied().partition(is_before);
    // Those before are all of 6 s, some thousand on an idle machine.
    ensure!(before.len() > 200, "{}", before.len());
    let least = changes.iter().filter_map(|n| n.threshold_ns).min();
    // The probes' own time is taken off what the kernel side compares.
    let least = least.context("a threshold")? - 200_000;
    let short = after.iter().find(|poll| poll.duration_ns < least);
    ensure!(short.is_none(), "{short:?}");
    Ok(())
}

/// Polls of some microseconds: ten milliseconds are far above what is usual there.
#[test]
fn a_threshold_is_fitted_to_a_program_of_short_polls() -> Result<()> {
    share_machine!();
    let (threshold, report) = fitted(&Target::busy("pace", 4_000)?)?;
    println!("{threshold}: {:?}", report.notices);
    ensure!((0.001..0.01).contains(&threshold), "{threshold}");
    Ok(())
}
