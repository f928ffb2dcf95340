//! Values over time, a line an interval.

use std::io::{self, Write};

use super::{WallClock, style, width::Width};
use crate::{
    model::{Interval, WorkerLoad},
    report::{Chosen, Measured, clean, words},
};

/// More workers than this are not listed one by one.
const MOST_LISTED: usize = 8;

pub(super) fn line(
    out: &mut impl Write,
    interval: &Interval,
    clock: WallClock,
    width: Width,
) -> io::Result<()> {
    let time = clock.time_of_day(interval.time_ns);
    let mut parts = vec![words::count(interval.polls, "poll")];
    if interval.long_polls > 0 {
        parts.push(format!("{} long", interval.long_polls));
    }
    parts.extend(busy(&interval.workers));
    parts.push(match interval.driver_lag_ns {
        Some(lag) => format!(
            "driver lag {} (mean {})",
            Measured(lag.max),
            Measured(lag.mean)
        ),
        None => "driver lag unknown".to_owned(),
    });
    if let Some(tasks) = interval.active_tasks {
        parts.push(words::count(tasks, "task"));
    }
    let (label, duration) = (
        "interval",
        Chosen(interval.duration_ns / 1_000_000 * 1_000_000),
    );
    let text = width.wrap(&format!("{duration}: {}", parts.join(", ")), 4);
    writeln!(
        out,
        "{time}  {}{label}{1:#} {text}",
        style::NOTE,
        style::NOTE
    )
}

/// How busy the workers were, and for how long one did not park at most.
fn busy(workers: &[WorkerLoad]) -> Vec<String> {
    let Some(longest) = workers.iter().max_by_key(|worker| worker.longest_ns) else {
        return Vec::new();
    };
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let shares: Vec<String> = if workers.len() <= MOST_LISTED {
        workers.iter().map(|worker| percent(worker.busy)).collect()
    } else {
        let all = workers.iter().map(|worker| worker.busy);
        let mean = all.clone().sum::<f64>() / workers.len() as f64;
        let most = all.fold(0.0, f64::max);
        vec![format!(
            "{} on average, {} at most",
            percent(mean),
            percent(most)
        )]
    };
    let count = words::count(workers.len() as u64, "worker");
    vec![
        format!("{count} busy {}", shares.join(" ")),
        format!(
            "{}/{} awake for {}",
            clean(&longest.thread),
            longest.tid,
            Measured(longest.longest_ns)
        ),
    ]
}
