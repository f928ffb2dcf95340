//! How many tasks live, as a session tells it, against what the program itself knows.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{FindingKind, Interval, ThreadState};
use loopprobe_tests::{
    matrix::{self, Build, Tokio, VERSIONS},
    session::{Report, Session},
    share_machine,
    target::Target,
};

/// A number that the target says.
fn asked(target: &mut Target, field: &str) -> Result<u64> {
    target.send("count")?;
    let answer = target.until("alive", Duration::from_mins(1))?;
    let number = answer.last().and_then(|line| line[field].as_u64());
    number.context("a count")
}

fn known(report: &Report) -> Vec<&Interval> {
    let intervals = report.intervals.iter();
    intervals.filter(|i| i.active_tasks.is_some()).collect()
}

/// Whether this version counts what it spawns, and its name.
fn counts_spawned(tokio: Tokio) -> bool {
    !matches!(tokio, Tokio::Exactly(version) if ["1.23.1", "1.28.2", "1.32.1", "1.38.2"].contains(&version))
}

/// Each task that was spawned and each that ended is in one of the intervals, also on a runtime
/// that comes later.
#[test]
fn what_comes_and_goes_is_counted_exactly() -> Result<()> {
    share_machine!();
    for (index, tokio) in VERSIONS.into_iter().enumerate() {
        let build = Build {
            tokio,
            stripped: index % 2 == 1,
            ..Build::DEFAULT
        };
        matrix::loopprobe()?;
        let mut target = Target::start(&matrix::target(build, "crowd")?, &["paced"])?;
        // Both runtimes have tasks then, so that both are found.
        asked(&mut target, "tasks")?;
        let mut session = Session::attach(target.pid(), &["--interval", "200ms"])?;
        session.next_interval(1000, Duration::from_mins(1))?;
        // The loop of a thread is looked for once that has polled in the session; the second of
        // these lets it.
        asked(&mut target, "tasks")?;
        let alive = asked(&mut target, "tasks")?;
        let counted = counts_spawned(tokio);
        // An interval may end just before the thread is seen to poll, and the tasks be unknown in
        // the next one.
        let mut before = 0;
        for _ in 0..if counted { 3 } else { 0 } {
            let interval = session.next_interval(alive, Duration::from_mins(1))?;
            before = interval.time_ns;
        }
        asked(&mut target, "tasks")?;
        let alive = asked(&mut target, "tasks")?;
        match counted {
            true => drop(session.next_interval(alive, Duration::from_mins(1))?),
            false => thread::sleep(Duration::from_millis(2500)),
        }
        let report = session.interrupt()?;
        // Whatever is said is one of the numbers that were true, but for looks while tasks were
        // being spawned.
        let all = known(&report);
        let strange = all
            .iter()
            .filter(|i| i.active_tasks.is_some_and(|n| n % 500 != 0));
        ensure!(!all.is_empty() && strange.count() <= 2, "{tokio}: {all:?}");
        if !counted {
            ensure!(all.iter().all(|i| i.spawned.is_none()), "{tokio}: {all:?}");
            continue;
        }
        let intervals = report.intervals.iter();
        let known: Vec<_> = intervals
            .filter(|interval| interval.time_ns > before)
            .collect();
        let sum = |of: fn(&Interval) -> Option<u64>| -> u64 {
            known.iter().filter_map(|interval| of(interval)).sum()
        };
        // Twice 500 that stay and 300 that end.
        let turnover = (sum(|i| i.spawned), sum(|i| i.completed));
        ensure!(turnover == (1600, 600), "{tokio}: {turnover:?}: {known:?}");
        ensure!(target.is_alive()?, "the target ended");
    }
    Ok(())
}

/// What the pools are said to be in one interval: busy, idle, queued, cap.
fn pools(report: &Report) -> Vec<[Option<u64>; 4]> {
    let pools = report.intervals.iter().filter_map(|i| i.pool);
    pools
        .map(|pool| [Some(pool.busy), pool.idle, pool.queued, pool.cap])
        .collect()
}

/// The pool whose four threads are busy, with those that wait in a closure just then; they sleep,
/// with moments between.
fn is_found_once(report: &Report) -> Result<()> {
    const KIND: FindingKind = FindingKind::PoolExhausted;
    let mut found = report.findings.iter().filter(|found| found.kind == KIND);
    let evidence = &found.next().context("a finding")?.evidence;
    // It is said again where the pools were not known for a second.
    ensure!(found.count() <= 1, "{:?}", report.findings);
    let pool = evidence.pool.context("a pool")?;
    ensure!(
        evidence.duration_ns >= 500_000_000
            && (pool.busy, pool.queued, pool.cap) == (4, Some(5), Some(4)),
        "{evidence:?}"
    );
    let sleeps = |state: &ThreadState| {
        let call = state.syscall.as_deref().unwrap_or_default();
        call.contains("nanosleep")
    };
    ensure!(
        (1..=4).contains(&evidence.threads.len()) && evidence.threads.iter().all(sleeps),
        "{evidence:?}"
    );
    Ok(())
}

/// Busy, idle and waiting are told apart from workers, which are threads of the pool too.
#[test]
fn the_blocking_pools_are_what_the_program_made_of_them() -> Result<()> {
    share_machine!();
    for (index, tokio) in VERSIONS.into_iter().enumerate() {
        let build = Build {
            tokio,
            stripped: index % 2 == 0,
            ..Build::DEFAULT
        };
        matrix::loopprobe()?;
        let mut target = Target::start(&matrix::target(build, "crowd")?, &["pool"])?;
        let mut session = Session::attach(target.pid(), &["--interval", "200ms"])?;
        thread::sleep(Duration::from_secs(1));
        target.send("more")?;
        session.next_finding(FindingKind::PoolExhausted, Duration::from_secs(20))?;
        target.send("another")?;
        thread::sleep(Duration::from_millis(3500));
        let report = session.interrupt()?;
        let pools = pools(&report);
        println!("{tokio}: {pools:?}");
        let known = |busy, idle, queued, cap| [Some(busy), Some(idle), Some(queued), Some(cap)];
        let states = [
            known(2, 1, 0, 4),
            known(4, 0, 5, 4),
            // The other runtime has a loop too, and that is found once it has polled.
            known(5, 0, 5, 11),
        ];
        for state in states {
            ensure!(pools.contains(&state), "{tokio}: no {state:?} in {pools:?}");
        }
        // A look may fall between two closures that are spawned.
        let strange = pools.iter().filter(|pool| !states.contains(pool));
        ensure!(strange.count() <= 2, "{tokio}: {pools:?}");
        is_found_once(&report)?;
        let oldest = report.intervals.iter().filter_map(|i| i.pool?.oldest_ns);
        let oldest = oldest.max().context("a closure waits")?;
        ensure!((1_500_000_000..6_000_000_000).contains(&oldest), "{oldest}");
    }
    Ok(())
}

#[test]
fn under_churn_it_is_within_a_hundredth() -> Result<()> {
    share_machine!();
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let build = Build {
            tokio,
            stripped: true,
            ..Build::DEFAULT
        };
        matrix::loopprobe()?;
        let mut target = Target::start(&matrix::target(build, "crowd")?, &["churn"])?;
        let args = ["--interval", "250ms", "--light"];
        let session = Session::attach(target.pid(), &args)?;
        let mut truth = Vec::new();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(300));
            truth.push(asked(&mut target, "tasks")?);
        }
        let report = session.interrupt()?;
        let known = known(&report);
        ensure!(known.len() >= 3, "{:?}", report.intervals);
        let (low, high) = (truth.iter().min(), truth.iter().max());
        let (low, high) = (low.context("a count")?, high.context("a count")?);
        println!("{tokio}: {low} to {high}");
        for interval in known {
            let active = interval.active_tasks.context("known")?;
            ensure!(
                active * 100 >= low * 99 && active * 100 <= high * 101,
                "{active} of {low} to {high}"
            );
        }
    }
    Ok(())
}

/// A runtime that is dropped waits for its closure; one that is ended in the background does not,
/// though its closure runs on.
#[test]
fn the_end_of_a_runtime_waits_for_a_closure() -> Result<()> {
    share_machine!();
    const KIND: FindingKind = FindingKind::Shutdown;
    for (tokio, stripped) in [(Tokio::Newest, true), (Tokio::Exactly("1.44.2"), false)] {
        let build = Build {
            tokio,
            stripped,
            ..Build::DEFAULT
        };
        matrix::loopprobe()?;
        let mut target = Target::start(&matrix::target(build, "crowd")?, &["shutdown"])?;
        let mut session = Session::attach(target.pid(), &["--interval", "200ms"])?;
        thread::sleep(Duration::from_millis(1500));
        target.send("end")?;
        target.until("drops", Duration::from_secs(20))?;
        let found = session.next_finding(KIND, Duration::from_secs(20))?;
        target.until("down", Duration::from_secs(20))?;
        let evidence = &found.evidence;
        let pool = evidence.pool.context("a pool")?;
        ensure!(
            evidence.certain && (500_000_000..3_200_000_000).contains(&evidence.duration_ns),
            "{tokio}: {evidence:?}"
        );
        ensure!(
            (pool.busy, pool.queued) == (1, Some(0)),
            "{tokio}: {evidence:?}"
        );
        ensure!(evidence.threads.len() <= 1, "{tokio}: {evidence:?}");
        let report = session.interrupt()?;
        let all = report.findings.iter().filter(|found| found.kind == KIND);
        ensure!(all.count() == 1, "{tokio}: {:?}", report.findings);
    }
    Ok(())
}
