//! A sink of one's own, fed through [`Background`] by a session in this process: `loopprobe` as a
//! library.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    collect::{Observer, Options, Stop},
    model::{Background, Event, Sink, Summary},
};
use loopprobe_tests::{
    matrix::{Build, target},
    take_machine,
    target::Target,
};

/// Counts long polls by cause; each takes it a while, as it takes a network.
struct Causes {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    each: Duration,
}

impl Sink for Causes {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let Event::LongPoll(poll) = event else {
            return Ok(());
        };
        thread::sleep(self.each);
        if let (true, Some(diagnosis)) = (poll.ended, &poll.diagnosis) {
            let cause = format!("{:?}", diagnosis.cause);
            *self.counts.lock().unwrap().entry(cause).or_default() += 1;
        }
        Ok(())
    }
}

/// 2 workers block about 400 times a second each, for 3 seconds.
fn session(each: Duration, room: usize) -> Result<(BTreeMap<String, u64>, Summary)> {
    let program = target(Build::DEFAULT, "busy")?;
    let busy = Target::start(
        &program,
        &["storm", "--millis", "20000", "--rounds", "2400"],
    )?;
    let options = Options {
        threshold: Duration::from_millis(1),
        duration: Some(Duration::from_secs(3)),
        ..Options::new(busy.pid())
    };
    let counts = Arc::default();
    let causes = Causes {
        counts: Arc::clone(&counts),
        each,
    };
    let mut sink = Background::start("causes", causes, room)?;
    let summary = Observer::attach(&options)?.run(&mut sink, &Stop::new()?)?;
    drop(sink);
    let counts = counts.lock().unwrap().clone();
    Ok((counts, summary))
}

#[test]
fn a_sink_of_a_few_lines_counts_long_polls_by_cause() -> Result<()> {
    take_machine!();
    let (counts, summary) = session(Duration::ZERO, 10_000)?;
    let lost = summary.lost.context("what was lost is known")?;
    println!("{counts:?} of {} long polls; {lost:?}", summary.long_polls);
    ensure!(lost.unwritten_events == 0, "{lost:?}");
    let all: u64 = counts.values().sum();
    ensure!(all > 500, "{counts:?}");
    // Each worker may have one open at the end.
    ensure!((all..=all + 2).contains(&summary.long_polls), "{counts:?}");
    ensure!(
        counts
            .get("Sleep")
            .is_some_and(|sleeps| *sleeps * 10 > all * 9),
        "{counts:?}"
    );
    Ok(())
}

#[test]
fn a_slow_sink_costs_the_session_nothing_but_counted_drops() -> Result<()> {
    take_machine!();
    let (counts, summary) = session(Duration::from_millis(50), 20)?;
    let lost = summary.lost.context("what was lost is known")?;
    let all: u64 = counts.values().sum();
    println!("{counts:?} of {} long polls; {lost:?}", summary.long_polls);
    ensure!(lost.events == 0, "{lost:?}");
    ensure!(lost.unwritten_events > 100, "{lost:?}");
    // The session itself has seen all of them. Findings are dropped as well.
    const FINDINGS: u64 = 20;
    let missed = summary.long_polls - all;
    ensure!(
        missed <= lost.unwritten_events + 2 && missed + FINDINGS >= lost.unwritten_events,
        "{missed}: {lost:?}"
    );
    let seconds = summary.duration_ns as f64 / 1e9;
    ensure!((2.9..3.5).contains(&seconds), "it took {seconds} s");
    Ok(())
}
